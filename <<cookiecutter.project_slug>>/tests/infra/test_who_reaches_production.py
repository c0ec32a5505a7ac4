"""A push alone, or a start alone, reaches nothing that production relies on: no way in a graph read off the templates.

The graph is tests/helpers/reach.py's; AWS is asked nothing. So that an empty answer means something, faults are put
into the templates one by one: each must be found, and not without any kind of edge that its way consists of.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

import reach
from enforcement import arn
from rare_players import BUCKET, role
from reach import PROJECT, PUSH, START, Reach
from stacks import ACCOUNT, REGION, Stack, Toolchain

Patch = Callable[[Toolchain, Mapping[str, Stack]], None]
ELSEWHERE = {"StagingAccount": "444455556666", "ProductionAccount": "777788889999"}


@cache
def found_with(*patches: Patch, **given: str) -> Reach:
    """The graph of the templates with these changes."""
    whole, later = reach.toolchain(**given)
    for patch in patches:
        patch(whole, later)
    return Reach(whole, later)


# -- what can be put back ---------------------------------------------------------------------------------------------


def allow(actor: str, actions: str | list[str], resource: str) -> Patch:
    """A role may do something more."""

    def patch(whole: Toolchain, later: Mapping[str, Stack]) -> None:
        start = "${SageMakerProjectName}-${AWS::Region}-"
        for about in whole.body["Resources"].values():
            properties = about.get("Properties", {})
            if properties.get("RoleName") == {"Fn::Sub": f"{start}{actor}"}:
                statement = {"Effect": "Allow", "Action": actions, "Resource": resource}
                properties["Policies"][0]["PolicyDocument"]["Statement"].append(statement)
                return
        raise AssertionError(f"no role {actor}")

    return patch


def without_denial(sid: str) -> Patch:
    """The policies of the buckets lack a statement."""

    def patch(whole: Toolchain, later: Mapping[str, Stack]) -> None:
        found = 0
        for policy in ("BucketPolicy", "ArtifactsPolicy"):
            document = whole.body["Resources"][policy]["Properties"]["PolicyDocument"]
            kept = [statement for statement in document["Statement"] if statement.get("Sid") != sid]
            found += len(document["Statement"]) - len(kept)
            document["Statement"] = kept
        assert found == 1, sid

    return patch


def project_role(project: str, actor: str) -> Patch:
    """A CodeBuild project runs with another role."""

    def patch(whole: Toolchain, later: Mapping[str, Stack]) -> None:
        whole.body["Resources"][project]["Properties"]["ServiceRole"] = role(actor)

    return patch


def action_role(stage: str, actor: str) -> Patch:
    """A stage of the deploy pipeline gives its stack another role."""

    def patch(whole: Toolchain, later: Mapping[str, Stack]) -> None:
        for action in stage_of(whole, stage)["Actions"]:
            if "RoleArn" in action.get("Configuration", {}):
                action["Configuration"]["RoleArn"] = role(actor)

    return patch


def stage_of(whole: Toolchain, name: str) -> dict[str, Any]:
    stages = whole.body["Resources"]["DeployPipeline"]["Properties"]["Stages"]
    return next(stage for stage in stages if stage["Name"] == name)


def action_of(whole: Toolchain, stage: str, name: str) -> dict[str, Any]:
    return next(action for action in stage_of(whole, stage)["Actions"] if action["Name"] == name)


def not_compared(whole: Toolchain, later: Mapping[str, Stack]) -> None:
    """The function that checks is not told the digest of what this execution has prepared."""
    asked = action_of(whole, "Production", "CheckApproval")["Configuration"]
    asked["UserParameters"] = whole.resolve(asked["UserParameters"]).replace("#{Prepare.PREPARED}", "0" * 64)


def not_handed_on(whole: Toolchain, later: Mapping[str, Stack]) -> None:
    """Production takes what lies under Prepare's name, and not what was checked."""
    action_of(whole, "Production", "Endpoint")["InputArtifacts"] = [{"Name": "DeploySrc"}, {"Name": "DeployOut"}]


def ask_nobody(whole: Toolchain, later: Mapping[str, Stack]) -> None:
    """The deploy pipeline has no stage Approve."""
    whole.body["Resources"]["DeployPipeline"]["Properties"]["Stages"].remove(stage_of(whole, "Approve"))


BUILD_WRITES_FUNCTIONS = (
    allow("build", "s3:PutObject", f"{BUCKET}/functions/register-*"),
    without_denial("NoRoleOfTheProjectWritesFunctions"),
)
PUSHED_STACK_UPDATES_REGISTER = (
    allow("stack-pipeline", "lambda:UpdateFunctionCode", arn("lambda", f"function:{PROJECT}-register")),
)
REGISTER_APPROVES = (allow("register", "sagemaker:UpdateModelPackage", "*"),)


# -- as it is ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [PUSH, START])
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({}, id="CodeCommit"),
        pytest.param(
            {
                "Repository": "acme/rare",
                "ConnectionArn": f"arn:aws:codeconnections:{REGION}:{ACCOUNT}:connection/0a1b",
                "VpcId": "vpc-1",
                "SubnetIds": "subnet-1",
                "SecurityGroupIds": "sg-1",
                "DataBucketName": "data",
                "DataPrefix": "players/",
            },
            id="connection, VPC, data bucket",
        ),
        pytest.param(ELSEWHERE, id="accounts of their own"),
        pytest.param({"StagingAccount": "444455556666", "ProductionAccount": "444455556666"}, id="one other account"),
        pytest.param({"ProductionAccount": "777788889999"}, id="production elsewhere"),
    ],
)
def test_nothing_that_production_relies_on_is_reached_past_the_approval(source: str, given: dict[str, str]) -> None:
    ways = found_with(**given).ways(source)
    assert not ways, "\n\n".join(map(reach.as_text, ways.values()))


def test_the_roles_that_run_what_was_pushed_are_these() -> None:
    """No more than these may be taken for harmless; what they may do is in test_roles.py."""
    edges = found_with().edges
    reached, before = {PUSH}, set()
    while reached != before:
        before = set(reached)
        reached |= {edge.end for edge in edges if edge.start in reached}
    assert {node.removeprefix("role ") for node in reached if node.startswith("role ")} == {
        *("build", "pipeline", "job", "stack-pipeline"),
        *("prepare", "stack-staging", "serve-staging", "count-staging"),
    }


def test_in_stages_accounts_what_was_pushed_runs_as_stagings_roles_and_looks_at_production() -> None:
    edges = found_with(**ELSEWHERE).edges
    reached, before = {PUSH}, set()
    while reached != before:
        before = set(reached)
        reached |= {edge.end for edge in edges if edge.start in reached}
    assert {node.removeprefix("role ") for node in reached if node.endswith(reach.ELSEWHERE)} == {
        f"{actor}{reach.ELSEWHERE}"
        for actor in (
            "look-staging",
            "ask-staging",
            "stack-staging",
            "serve-staging",
            "count-staging",
            "look-production",
        )
    }


@pytest.mark.parametrize("actor", ["enter-production", "stack-production"])
def test_who_may_become_a_role_of_production_in_another_account_before_the_approval_is_found(actor: str) -> None:
    there = f"arn:aws:iam::{ELSEWHERE['ProductionAccount']}:role/{PROJECT}-{REGION}-{actor}"
    way = found_with(allow("prepare", "sts:AssumeRole", there), **ELSEWHERE).ways(PUSH)[
        "changing production's endpoint"
    ]
    assert reach.as_text(way).splitlines()[:5] == [
        "a push to the branch",
        "  -> CodePipeline rare-players-deploy  "
        "(event: rare-players-model-package-approved starts it with the newest commit)",
        "  -> action Prepare in rare-players-deploy  (stage: before anybody has approved)",
        "  -> role prepare  (build: infra/prepare.buildspec.yml of the commit runs as it)",
        f"  -> role {actor} elsewhere  (raised rights: sts:AssumeRole)",
    ]


def test_behind_the_approval_production_in_another_account_is_reached_or_the_graph_would_miss_it() -> None:
    assert {"changing production's endpoint", "changing production's function"} <= set(
        found_with(ask_nobody, **ELSEWHERE).ways(PUSH)
    )


def test_behind_the_approval_everything_is_reached_or_the_graph_would_be_of_another_project() -> None:
    ways = found_with(ask_nobody).ways(PUSH)
    assert {"writing the champion", "changing production's endpoint", "writing the scoring pipeline"} <= set(ways)


# -- today's two ways, put back ---------------------------------------------------------------------------------------


def test_the_way_over_the_register_function_is_found_when_its_mend_is_taken_back() -> None:
    """The build wrote its code, the role of the pushed stack updated it, and it could replace and approve packages."""
    ways = found_with(*BUILD_WRITES_FUNCTIONS, *PUSHED_STACK_UPDATES_REGISTER, *REGISTER_APPROVES).ways(PUSH)
    assert {"writing packages", "approving a package", "writing functions"} == set(ways)
    over_the_build = found_with(*BUILD_WRITES_FUNCTIONS, *REGISTER_APPROVES).ways(PUSH)["approving a package"]
    assert reach.as_text(over_the_build) == (
        """a push to the branch
  -> CodePipeline rare-players-build  (event: rare-players-push starts it with the newest commit)
  -> action TestAndPublish in rare-players-build  (stage: before anybody has approved)
  -> role build  (build: infra/build.buildspec.yml of the commit runs as it)
  -> s3 functions/register-*  (function's code: s3:PutObject functions/register-*)
  -> function rare-players-register  (function's code: it loads what lies there)
  -> role register  (function's role: its code runs as it)
  -> approving a package  (right: sagemaker:UpdateModelPackage model-package/rare-group/7)"""
    )
    over_the_stack = found_with(*PUSHED_STACK_UPDATES_REGISTER).ways(PUSH)["writing packages"]
    assert reach.as_text(over_the_stack) == (
        """a push to the branch
  -> CodePipeline rare-players-build  (event: rare-players-push starts it with the newest commit)
  -> action Surroundings of rare-players-pipeline in rare-players-build  (stage: before anybody has approved)
  -> role stack-pipeline  (template: deploys BuildSrc::infra/pipeline.yaml of the commit)
  -> function rare-players-register  (function's update: lambda:UpdateFunctionCode)
  -> role register  (function's role: its code runs as it)
  -> writing packages  (right: s3:PutObject packages/set/best_ranking/model.tar.gz)"""
    )


def test_the_way_over_prepare_and_staging_is_found_when_its_mend_is_taken_back() -> None:
    """Both ran what was pushed, with roles that may write the champion and production."""
    ways = found_with(project_role("PrepareProject", "promote"), action_role("Staging", "stack-production")).ways(PUSH)
    assert {
        *("writing the champion", "naming the champion", "writing the scoring pipeline", "writing scores"),
        *("changing production's endpoint", "changing production's function"),
    } == set(ways)
    assert reach.as_text(ways["writing the champion"]) == (
        """a push to the branch
  -> CodePipeline rare-players-deploy  (event: rare-players-model-package-approved starts it with the newest commit)
  -> action Prepare in rare-players-deploy  (stage: before anybody has approved)
  -> role promote  (build: infra/prepare.buildspec.yml of the commit runs as it)
  -> writing the champion  (right: s3:PutObject champion/package.tar.gz)"""
    )
    assert reach.as_text(ways["changing production's endpoint"]) == (
        """a push to the branch
  -> CodePipeline rare-players-deploy  (event: rare-players-model-package-approved starts it with the newest commit)
  -> action Endpoint of rare-players-staging in rare-players-deploy  (stage: before anybody has approved)
  -> role stack-production  (template: deploys DeploySrc::infra/endpoint.yaml of the commit)
  -> changing production's endpoint  (right: sagemaker:CreateEndpoint endpoint/rare-players-production)"""
    )


# -- every kind of edge ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """patches: what is put into the templates; source, goal: between which a way then is; kinds: of its edges."""

    patches: tuple[Patch, ...]
    goal: str
    kinds: set[str]
    source: str = PUSH


BY_THE_BUILD = {"event", "stage", "build", "right"}
BY_THE_STACK = {"event", "stage", "template", "right"}
FAULTS = {
    "the build writes a function's code": Fault(
        BUILD_WRITES_FUNCTIONS, "writing packages", BY_THE_BUILD | {"function's code", "function's role"}
    ),
    "a pushed template updates a function": Fault(
        PUSHED_STACK_UPDATES_REGISTER, "writing packages", BY_THE_STACK | {"function's update", "function's role"}
    ),
    "prepare is promote": Fault((project_role("PrepareProject", "promote"),), "naming the champion", BY_THE_BUILD),
    "prepare is promote, for who starts": Fault(
        (project_role("PrepareProject", "promote"),), "naming the champion", {"start", "stage", "build", "right"}, START
    ),
    "staging's stack is production's": Fault(
        (action_role("Staging", "stack-production"),), "changing production's endpoint", BY_THE_STACK
    ),
    "prepare passes scoring's role to a pipeline of its own": Fault(
        (
            allow("prepare", "iam:PassRole", role("scoring-pipeline")),
            allow("prepare", "sagemaker:CreatePipeline", arn("sagemaker", "pipeline/another")),
        ),
        "writing scores",
        BY_THE_BUILD | {"passed role"},
    ),
    "the build gives promote's role a policy": Fault(
        (allow("build", "iam:PutRolePolicy", role("promote")),),
        "writing the champion",
        BY_THE_BUILD | {"raised rights"},
    ),
    "the build changes what promote's project runs": Fault(
        (allow("build", "codebuild:UpdateProject", arn("codebuild", f"project/{PROJECT}-promote")),),
        "writing the champion",
        BY_THE_BUILD | {"definition"},
    ),
    "prepare replaces the source that a person has approved": Fault(
        (
            allow("prepare", "s3:PutObject", "arn:aws:s3:::made-artifacts/*/DeploySrc/*"),
            without_denial("OnlyItsPipelineFetchesDeploySrc"),
        ),
        "changing production's endpoint",
        BY_THE_BUILD | {"artifact", "template"},
    ),
    "a later Prepare replaces what is checked, which is compared with no digest": Fault(
        (not_compared,), "changing production's endpoint", BY_THE_BUILD | {"artifact", "handed on", "template"}
    ),
    "a later Prepare replaces what was checked before production takes it": Fault(
        (not_handed_on,), "changing production's endpoint", BY_THE_BUILD | {"artifact", "template"}
    ),
    "prepare writes in the name of the check": Fault(
        (
            allow("prepare", "s3:PutObject", "arn:aws:s3:::made-artifacts/*/Checked/*"),
            without_denial("OnlyCheckApprovalHandsOverChecked"),
        ),
        "changing production's endpoint",
        BY_THE_BUILD | {"artifact", "template"},
    ),
    "the build replaces code under its digest": Fault(
        (without_denial("WrittenOnce"),), "writing scores", BY_THE_BUILD | {"jobs' code"}
    ),
    "the build changes the policy of the bucket": Fault(
        (allow("build", "s3:PutBucketPolicy", BUCKET),), "writing the champion", BY_THE_BUILD - {"right"} | {"bucket"}
    ),
    "the build changes a stack of the toolchain": Fault(
        (allow("build", "cloudformation:UpdateStack", arn("cloudformation", f"stack/{PROJECT}-toolchain/x")),),
        "naming the champion",
        BY_THE_BUILD - {"right"} | {"administrator"},
    ),
    "a pushed template publishes names": Fault(
        (allow("stack-pipeline", "ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/*")),),
        "changing production's function",
        {"event", "stage", "template", "published name"},
    ),
}


# Right (actions, the resource) -> one of the goals that it reaches when a role that a push reaches has it.
BUCKET_GOALS = {"writing packages", "writing the champion", "writing functions", "writing records of releases"}
MADE_ARTIFACTS = "arn:aws:s3:::made-artifacts"
RIGHTS = {
    "everything of S3": ("s3:*", "*", BUCKET_GOALS),
    "a bucket's policy": ("s3:PutBucketPolicy", BUCKET, BUCKET_GOALS),
    "a bucket's policy, removed": ("s3:DeleteBucketPolicy", "*", BUCKET_GOALS),
    "policies by a wildcard": ("s3:*BucketPolicy", "*", BUCKET_GOALS),
    "the policy of the artifacts": ("s3:PutBucketPolicy", MADE_ARTIFACTS, {"changing production's endpoint"}),
    "a lifecycle": ("s3:PutLifecycleConfiguration", BUCKET, BUCKET_GOALS),
    **{
        f"a change of the {name} stack": (
            "cloudformation:UpdateStack",
            arn("cloudformation", f"stack/{PROJECT}-{name}/*"),
            {"approving a package", "naming the champion"},
        )
        for name in ("storage", "roles-models", "roles-release", "security", "toolchain")
    },
    "a change set": (
        ["cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet"],
        arn("cloudformation", f"stack/{PROJECT}-toolchain/*"),
        {"letting itself into production"},
    ),
    "a change set of production": (
        ["cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet"],
        arn("cloudformation", f"stack/{PROJECT}-production/*"),
        {"changing production's endpoint"},
    ),
    "a version of a policy": ("iam:CreatePolicyVersion", "*", {"naming the champion"}),
    "another version of a policy": ("iam:SetDefaultPolicyVersion", "*", {"naming the champion"}),
    "a user's key": ("iam:CreateAccessKey", f"arn:aws:iam::{ACCOUNT}:user/*", {"naming the champion"}),
    "a role with a policy": (
        ["iam:CreateRole", "iam:AttachRolePolicy"],
        f"arn:aws:iam::{ACCOUNT}:role/new",
        {"naming the champion"},
    ),
    "a policy for itself": ("iam:PutRolePolicy", role("build"), {"naming the champion"}),
    "everything of IAM": ("iam:*", "*", {"naming the champion"}),
    "an administrator's role passed on": (
        ["iam:PassRole", "events:PutTargets"],
        "*",
        {"naming the champion"},
    ),
    "an administrator's role taken": ("sts:AssumeRole", "*", {"naming the champion"}),
    "a function's layers": (
        "lambda:UpdateFunctionConfiguration",
        arn("lambda", f"function:{PROJECT}-register"),
        {"writing packages"},
    ),
    "the key's policy": ("kms:PutKeyPolicy", "*", {"changing the key"}),
    "rules": (["events:PutRule", "events:PutTargets"], "*", {"changing what is told or started"}),
    "everything of all services": ("*", "*", set(reach.goals(BUCKET))),
}


@pytest.mark.parametrize("actor", ["build", "stack-pipeline"])
@pytest.mark.parametrize("name", RIGHTS)
def test_a_right_that_decides_about_others_is_found_as_a_way_when_what_was_pushed_has_it(name: str, actor: str) -> None:
    actions, resource, reached = RIGHTS[name]
    resource = role(actor) if name == "a policy for itself" else resource
    assert reached <= set(found_with(allow(actor, actions, resource)).ways(PUSH))


def test_half_a_change_set_is_no_way() -> None:
    half = allow("build", "cloudformation:CreateChangeSet", arn("cloudformation", f"stack/{PROJECT}-toolchain/*"))
    assert found_with(half).ways(PUSH) == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_templates_is_found_and_not_without_any_kind_of_edge_of_its_way(name: str) -> None:
    fault = FAULTS[name]
    graph = found_with(*fault.patches)
    way = graph.ways(fault.source)[fault.goal]
    assert {edge.kind for edge in way} == fault.kinds, reach.as_text(way)
    for kind in fault.kinds:
        assert fault.goal not in graph.ways(fault.source, without={kind}), kind


def test_the_faults_need_every_kind_of_edge_there_is() -> None:
    known = {edge.kind for fault in FAULTS.values() for edge in found_with(*fault.patches).edges}
    assert set().union(*(fault.kinds for fault in FAULTS.values())) == known
