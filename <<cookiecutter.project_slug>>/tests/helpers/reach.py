"""Who can reach whom in AWS, as a graph read off the templates, and the ways through it.

An edge says: whoever decides what its start does can decide what its end does. It errs on the side of reaching: that
somebody could is enough, whether or not a service would ask for more. Parts that pass Approve are the exception: a
stage behind the approval is reached by a person's decision only, which no edge stands for.

Calling a function is no edge. Who calls it chooses what it is asked, not what it does; its code decides that.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from enforcement import Roles, arn, like, several
from scarcegan.aws.names import PIPELINE_ACTORS
from scarcegan.aws.toolchain import STACKS
from stacks import ACCOUNT, PUBLISHED, Stack, Toolchain, body_of

PROJECT, GROUP = "rare-players", "rare-group"
GIVEN = {"SageMakerProjectName": PROJECT, "Repository": "rare-players", "ModelPackageGroupName": GROUP}
PUSH = "a push to the branch"
START = "whoever may start a CodePipeline, with a commit of their choice"
ELSEWHERE = " elsewhere"  # ends the actor of a role in a stage's own account

NEW = {"s3:if-none-match": "*"}  # an upload that S3 refuses when the key is taken
# Service -> calls by which something comes to run there with a role that the caller passes.
RUNS_WITH_A_ROLE = {
    "sagemaker": (
        *("CreatePipeline", "UpdatePipeline", "CreateProcessingJob", "CreateTrainingJob", "CreateTransformJob"),
        *("CreateModel", "CreateNotebookInstance", "CreateDomain", "CreateAutoMLJob"),
    ),
    "lambda": ("CreateFunction", "UpdateFunctionConfiguration"),
    "cloudformation": ("CreateStack", "UpdateStack", "CreateChangeSet"),
    "codebuild": ("CreateProject", "UpdateProject", "StartBuild"),
    "codepipeline": ("CreatePipeline", "UpdatePipeline"),
    "scheduler": ("CreateSchedule", "UpdateSchedule"),
    "events": ("PutTargets",),
    "states": ("CreateStateMachine", "UpdateStateMachine"),
    "ec2": ("RunInstances",),
}
ADMINISTRATOR = "an administrator of the account"
# Sets of actions: who may do all of one, on whatever it is, gives itself every right there is.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_actions-resources-contextkeys.html
MAKES_ADMINISTRATORS = tuple(
    tuple(f"iam:{action}" for action in actions.split())
    for actions in (
        *("CreatePolicyVersion", "SetDefaultPolicyVersion", "CreateAccessKey", "CreateLoginProfile"),
        *("UpdateLoginProfile", "AddUserToGroup", "PutUserPolicy", "AttachUserPolicy", "PutGroupPolicy"),
        *("AttachGroupPolicy", "CreateRole PutRolePolicy", "CreateRole AttachRolePolicy"),
    )
)
SOMEBODY_ELSES = f"arn:aws:iam::{ACCOUNT}:role/administrator"  # stands for a role that is none of the project's
CHANGES_A_BUCKET = ("PutBucketPolicy", "DeleteBucketPolicy", "PutBucketAcl", "PutLifecycleConfiguration")
CHANGES_A_STACK = (("UpdateStack",), ("CreateChangeSet", "ExecuteChangeSet"))
RUNS_CODE_IN_A_FUNCTION = ("lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration")  # the latter adds layers
RAISES_RIGHTS = ("iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:UpdateAssumeRolePolicy", "sts:AssumeRole")


@dataclass(frozen=True)
class Edge:
    """kind: of the edge, a short word; start, end: names of nodes; why: what makes it so."""

    kind: str
    start: str
    end: str
    why: str


def role(actor: str) -> str:
    return f"role {actor}"


def as_text(way: Collection[Edge]) -> str:
    """A way as a line per edge, to be read from its first to its last."""
    first = next(iter(way))
    return "\n".join([first.start, *(f"  -> {edge.end}  ({edge.kind}: {edge.why})" for edge in way)])


# -- what must not be reached -----------------------------------------------------------------------------------------


def goals(bucket: str, account: str = ACCOUNT) -> dict[str, list[tuple[str, str, Mapping[str, str]]]]:
    """What must not be reached -> the calls that each would do it: action, resource, context.

    bucket: ARN of the project's bucket; account: of production.
    """

    def s3(actions: str, key: str, *contexts: Mapping[str, str]) -> list[tuple[str, str, Mapping[str, str]]]:
        return [
            (f"s3:{action}", f"{bucket}/{key}", context) for action in actions.split() for context in contexts or ({},)
        ]

    def call(service: str, actions: str, resource: str, context: Mapping[str, str] | None = None) -> list:
        where = account if production in resource else ACCOUNT
        return [(f"{service}:{action}", arn(service, resource, where), context or {}) for action in actions.split()]

    write, approved = "PutObject DeleteObject DeleteObjectVersion", {"sagemaker:ModelApprovalStatus": "Approved"}
    deploy, production = f"{PROJECT}-deploy", f"{PROJECT}-production"
    return {
        "writing packages": [
            *s3(write, "packages/set/best_ranking/model.tar.gz", {}, NEW),
            *s3(write, "packages/set/best_ranking/package.json", {}, NEW),
        ],
        "writing the champion": s3(write, "champion/package.tar.gz", {}, NEW),
        "writing functions": [
            s for name in ("register", "rare-share") for s in s3(write, f"functions/{name}-1.zip", NEW)
        ],
        "replacing code under its digest": [
            *s3(write, "code/abc/source.tar.gz"),
            *s3(write, "wheels/abc/numpy.whl"),
        ],
        "writing scores": [
            *s3("PutObject", "scored/scored.parquet", {}, NEW),
            *s3("PutObject", "scoring/e1/features/features/part-0.parquet", {}, NEW),
        ],
        "writing records of releases": s3(write, "releases/7/e1.json", {}, NEW),
        "naming the champion": call("ssm", "PutParameter DeleteParameter", f"parameter/{PROJECT}/champion"),
        "approving a package": [
            *call("sagemaker", "UpdateModelPackage", f"model-package/{GROUP}/7", approved),
            *call("sagemaker", "CreateModelPackage", f"model-package-group/{GROUP}", approved),
        ],
        "changing production's endpoint": call(
            "sagemaker",
            "CreateEndpoint UpdateEndpoint UpdateEndpointWeightsAndCapacities DeleteEndpoint",
            f"endpoint/{production}",
        ),
        "changing production's stack": call(
            "cloudformation",
            "CreateStack UpdateStack DeleteStack CreateChangeSet ExecuteChangeSet SetStackPolicy",
            f"stack/{production}/x",
        ),
        "changing production's function": call(
            "lambda",
            "CreateFunction UpdateFunctionCode UpdateFunctionConfiguration DeleteFunction",
            f"function:{production}-rare-share",
        ),
        "writing the scoring pipeline": call(
            "sagemaker", "CreatePipeline UpdatePipeline DeletePipeline", f"pipeline/{PROJECT}-scoring"
        ),
        "letting itself into production": [
            *call("codepipeline", "PutApprovalResult", f"{deploy}/Approve/Approve"),
            *call("codepipeline", "UpdatePipeline", deploy),
            ("codepipeline:PutJobSuccessResult", "*", {}),
        ],
    }


# -- the graph --------------------------------------------------------------------------------------------------------


class Reach:
    """The graph of a toolchain and of the stacks that its CodePipelines deploy.

    toolchain: all its stacks as one; later: the other stacks by name. Their `body` may have been changed. A stage in an
    account of its own has the stack target-<stage> too.

    Between accounts both sides must allow a call. Here the side of the caller is enough.
    """

    def __init__(self, toolchain: Toolchain, later: Mapping[str, Stack]) -> None:
        self.toolchain, self.later, self.roles = toolchain, later, Roles(toolchain)
        self.bucket = toolchain.attribute("Bucket", "Arn")
        self.artifacts = toolchain.attribute("Artifacts", "Arn")
        self.production = later["production"].values["AWS::AccountId"]
        self.known = {actor: (self.roles, actor) for actor in self.roles.properties}
        for roles in (Roles(stack) for name, stack in later.items() if name.startswith("target-")):
            roles.denials += self.roles.denials
            self.known |= {f"{actor}{ELSEWHERE}": (roles, actor) for actor in roles.properties}
        self.actors = {roles.arn(actor): name for name, (roles, actor) in self.known.items()}
        self.goals = goals(self.bucket, self.production) | self.goals_of_the_toolchain()
        self.edges = list(self.all_edges())

    def ways(self, source: str, without: Collection[str] = ()) -> dict[str, list[Edge]]:
        """What is reached from a source that must not be -> the shortest way. without: kinds of edges to leave out."""
        leaving: dict[str, list[Edge]] = {}
        for edge in self.edges:
            if edge.kind not in without:
                leaving.setdefault(edge.start, []).append(edge)
        came_by: dict[str, Edge | None] = {source: None}
        queue = deque([source])
        while queue:
            for edge in leaving.get(queue.popleft(), []):
                if edge.end not in came_by:
                    came_by[edge.end] = edge
                    queue.append(edge.end)
        return {goal: self.way_to(goal, came_by) for goal in self.goals if goal in came_by}

    def goals_of_the_toolchain(self) -> dict[str, list[tuple[str, str, Mapping[str, str]]]]:
        """As `goals`, of what is read off the templates: the key, and who is told."""
        rules = [about["Name"] for about in self.toolchain.of_type("AWS::Events::Rule").values()]
        silencing = "DisableRule DeleteRule PutRule PutTargets RemoveTargets"
        keys = "PutKeyPolicy ScheduleKeyDeletion DisableKey"
        return {
            "changing the key": [(f"kms:{a}", self.toolchain.attribute("Key", "Arn"), {}) for a in keys.split()],
            "changing what is told or started": [
                (f"events:{a}", arn("events", f"rule/{rule}"), {}) for rule in rules for a in silencing.split()
            ],
        }

    def way_to(self, node: str, came_by: Mapping[str, Edge | None]) -> list[Edge]:
        way: list[Edge] = []
        while edge := came_by[node]:
            way.insert(0, edge)
            node = edge.start
        return way

    def all_edges(self) -> Iterator[Edge]:
        yield from self.starts()
        yield from self.stages()
        yield from self.functions()
        yield from self.handed_on()
        yield from self.rights_of_administrators()
        yield from self.rights_over_buckets()
        for actor in self.known:
            yield from self.passed_roles(actor)
            yield from self.raised_rights(actor)
            yield from self.changed_functions(actor)
            yield from self.definitions(actor)
            yield from self.handed_over(actor)
            yield from self.code_of_jobs(actor)
            yield from self.published_names(actor)
            yield from self.rights(actor)
            yield from self.administrators(actor)
            yield from self.buckets(actor)

    # -- CodePipelines: what starts them, which actions a commit reaches by itself ------------------------------------

    @cached_property
    def pipelines(self) -> dict[str, dict[str, Any]]:
        return {about["Name"]: about for about in self.toolchain.of_type("AWS::CodePipeline::Pipeline").values()}

    @cached_property
    def projects(self) -> dict[str, dict[str, Any]]:
        return {about["Name"]: about for about in self.toolchain.of_type("AWS::CodeBuild::Project").values()}

    def starts(self) -> Iterator[Edge]:
        """What starts a CodePipeline, whatever it was: the commit it takes is the branch's newest."""
        rules = [
            rule
            for stack in (self.toolchain, *self.later.values())
            for rule in stack.of_type("AWS::Events::Rule").values()
        ]
        for name, about in self.pipelines.items():
            started = arn("codepipeline", name)
            by = [rule["Name"] for rule in rules for target in rule.get("Targets", []) if target["Arn"] == started]
            by += ["its own trigger"] if about.get("Triggers") else []
            for one in by:
                yield Edge("event", PUSH, f"CodePipeline {name}", f"{one} starts it with the newest commit")
            yield Edge(
                "start", START, f"CodePipeline {name}", "codepipeline:StartPipelineExecution with sourceRevisions"
            )

    def stages(self) -> Iterator[Edge]:
        """Actions before the approval run what was pushed. Those behind it a person has to let go on."""
        for name, about in self.pipelines.items():
            for action in before_the_approval(about["Stages"]):
                yield Edge("stage", f"CodePipeline {name}", node(name, action), "before anybody has approved")
            for stage in about["Stages"]:
                for action in stage["Actions"]:
                    yield from self.what_runs(name, action)

    def what_runs(self, pipeline: str, action: Mapping[str, Any]) -> Iterator[Edge]:
        """With which role an action runs what its input artifact holds: a buildspec and code, or a template."""
        asked, provider = action["Configuration"], action["ActionTypeId"]["Provider"]
        if provider == "CodeBuild":
            project = self.projects[asked["ProjectName"]]
            runs = asked.get("BuildspecOverride", project["Source"]["BuildSpec"])
            actor = self.actors[project["ServiceRole"]]
            yield Edge("build", node(pipeline, action), role(actor), f"{runs} of the commit runs as it")
        if provider == "CloudFormation" and "TemplatePath" in asked:
            actor = self.actors[asked["RoleArn"]]
            yield Edge(
                "template", node(pipeline, action), role(actor), f"deploys {asked['TemplatePath']} of the commit"
            )

    # -- what a role reaches ------------------------------------------------------------------------------------------

    def may(self, actor: str, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
        roles, name = self.known[actor]
        return roles.may(name, action, resource, context or {})

    def may_somewhere(self, actor: str, action: str) -> bool:
        """Whether any statement allows the action, on whatever it is."""
        return any(
            statement["Effect"] == "Allow"
            and any(like(pattern.lower(), action.lower()) for pattern in several(statement["Action"]))
            for statement in self.statements(actor)
        )

    def statements(self, actor: str) -> list[dict[str, Any]]:
        roles, name = self.known[actor]
        return roles.statements(name)

    def passed_roles(self, actor: str) -> Iterator[Edge]:
        """A role that may be passed to a service which then runs what the passer says."""
        for passed, other in self.actors.items():
            for service, calls in RUNS_WITH_A_ROLE.items():
                principal = f"{service}.amazonaws.com"
                roles, name = self.known[other]
                trusted = [statement["Principal"].get("Service") for statement in roles.trust(name)]
                if principal not in trusted:
                    continue
                if self.may(actor, "iam:PassRole", passed, {"iam:PassedToService": principal}):
                    for call in calls:
                        if self.may_somewhere(actor, f"{service}:{call}"):
                            why = f"iam:PassRole to {service}, and {service}:{call}"
                            yield Edge("passed role", role(actor), role(other), why)

    def raised_rights(self, actor: str) -> Iterator[Edge]:
        for resource, other in self.actors.items():
            for action in RAISES_RIGHTS:
                if other != actor and self.may(actor, action, resource):
                    yield Edge("raised rights", role(actor), role(other), action)

    # -- what reaches everything at once ------------------------------------------------------------------------------

    def administrators(self, actor: str) -> Iterator[Edge]:
        """Who gives itself every right, passes a role of an administrator on, or deploys a stack of the toolchain."""
        found = [" and ".join(each) for each in MAKES_ADMINISTRATORS if all(self.may_somewhere(actor, a) for a in each)]
        ours = self.known[actor][0].arn(self.known[actor][1])
        found += [f"{a} to itself" for a in ("iam:PutRolePolicy", "iam:AttachRolePolicy") if self.may(actor, a, ours)]
        if self.may(actor, "sts:AssumeRole", SOMEBODY_ELSES):
            found.append("sts:AssumeRole of a role that is none of the project's")
        for service, calls in RUNS_WITH_A_ROLE.items():
            possible = [f"{service}:{call}" for call in calls if self.may_somewhere(actor, f"{service}:{call}")]
            if self.may(actor, "iam:PassRole", SOMEBODY_ELSES, {"iam:PassedToService": f"{service}.amazonaws.com"}):
                found += [f"iam:PassRole and {action}" for action in possible]
        for name in STACKS:
            if self.may_change_stack(actor, arn("cloudformation", f"stack/{PROJECT}-{name}/x")):
                found.append(f"a change of the stack {PROJECT}-{name}")
        for why in found:
            yield Edge("administrator", role(actor), ADMINISTRATOR, why)

    def rights_of_administrators(self) -> Iterator[Edge]:
        for goal in self.goals:
            yield Edge("administrator", ADMINISTRATOR, goal, "may do everything")

    def may_change_stack(self, actor: str, stack: str) -> bool:
        """Whether a role may deploy a template of its own as a stack that is there. stack: its ARN."""
        return any(all(self.may(actor, f"cloudformation:{a}", stack) for a in each) for each in CHANGES_A_STACK)

    def buckets(self, actor: str) -> Iterator[Edge]:
        """Who may change a bucket's policy, ACL or lifecycle decides about every object in it."""
        for bucket in (self.bucket, self.artifacts):
            for action in CHANGES_A_BUCKET:
                if self.may(actor, f"s3:{action}", bucket):
                    yield Edge("bucket", role(actor), f"bucket {bucket}", f"s3:{action}")

    def rights_over_buckets(self) -> Iterator[Edge]:
        """All that lies in the project's bucket, and every artifact that an action takes."""
        for goal, calls in self.goals.items():
            if any(resource.startswith(f"{self.bucket}/") for _, resource, _ in calls):
                yield Edge("bucket", f"bucket {self.bucket}", goal, "lies in it")
        for _, _, start in self.loaded_functions:
            yield Edge("bucket", f"bucket {self.bucket}", f"s3 {start}*", "lies in it")
        for name, about in self.pipelines.items():
            for action in (action for stage in about["Stages"] for action in stage["Actions"]):
                if action.get("InputArtifacts"):
                    yield Edge("bucket", f"bucket {self.artifacts}", node(name, action), "takes an artifact from it")

    @cached_property
    def loaded_functions(self) -> list[tuple[str, str, str]]:
        """(name, the role it runs as, the start of the keys that its code may have) of every function."""
        stacks = (self.toolchain, *self.later.values())
        found = [about for stack in stacks for about in stack.of_type("AWS::Lambda::Function").values()]
        return [
            (about["FunctionName"], self.actors[about["Role"]], f"{about['Code']['S3Key'].rpartition('-')[0]}-")
            for about in found
        ]

    def account(self, actor: str) -> str:
        return str(self.known[actor][0].account)

    def functions(self) -> Iterator[Edge]:
        """A function runs what lies under its key in S3, or what it is updated with."""
        for name, runs_as, start in self.loaded_functions:
            yield Edge("function's code", f"s3 {start}*", f"function {name}", "it loads what lies there")
            yield Edge("function's role", f"function {name}", role(runs_as), "its code runs as it")

    def changed_functions(self, actor: str) -> Iterator[Edge]:
        for name, runs_as, start in self.loaded_functions:
            if self.may(actor, "s3:PutObject", f"{self.bucket}/{start}1.zip", NEW):
                yield Edge("function's code", role(actor), f"s3 {start}*", f"s3:PutObject {start}*")
            for action in RUNS_CODE_IN_A_FUNCTION:
                if self.may(actor, action, arn("lambda", f"function:{name}", self.account(runs_as))):
                    yield Edge("function's update", role(actor), f"function {name}", action)

    def definitions(self, actor: str) -> Iterator[Edge]:
        """What is there keeps its role when somebody changes what it does, without iam:PassRole."""
        for pipeline, (runs_as, _) in PIPELINE_ACTORS.items():
            if runs_as in self.roles.properties:
                resource = arn("sagemaker", f"pipeline/{PROJECT}-{pipeline}")
                if self.may(actor, "sagemaker:UpdatePipeline", resource):
                    yield Edge("definition", role(actor), role(runs_as), f"sagemaker:UpdatePipeline {pipeline}")
        for name, project in self.projects.items():
            runs_as = self.actors[project["ServiceRole"]]
            for action in ("codebuild:UpdateProject", "codebuild:StartBuild"):
                if self.may(actor, action, arn("codebuild", f"project/{name}")):
                    yield Edge("definition", role(actor), role(runs_as), f"{action} {name}")
        for name, about in self.pipelines.items():
            if self.may(actor, "codepipeline:UpdatePipeline", arn("codepipeline", name)):
                yield Edge("definition", role(actor), role(self.actors[about["RoleArn"]]), f"UpdatePipeline {name}")
            for stage in about["Stages"]:
                for action in stage["Actions"]:
                    asked = action["Configuration"]
                    if "StackName" in asked:
                        runs_as = self.actors[asked["RoleArn"]]
                        resource = arn("cloudformation", f"stack/{asked['StackName']}/x", self.account(runs_as))
                        if self.may_change_stack(actor, resource):
                            why = f"a change of the stack {asked['StackName']}"
                            yield Edge("definition", role(actor), role(runs_as), why)

    def handed_over(self, actor: str) -> Iterator[Edge]:
        """An artifact that a later action takes, whoever has approved it before.

        Its key in S3 has a random part, but no secret: CodePipeline lists it to whoever may look at its executions.
        """
        for name, about in self.pipelines.items():
            for action in (action for stage in about["Stages"] for action in stage["Actions"]):
                for artifact in (each["Name"] for each in action.get("InputArtifacts", [])):
                    key = f"{self.artifacts}/{name[:20]}/{artifact}/a.zip"
                    if not is_compared(action) and self.may(actor, "s3:PutObject", key):
                        why = f"s3:PutObject */{artifact}/*"
                        yield Edge("artifact", role(actor), node(name, action), why)

    def handed_on(self) -> Iterator[Edge]:
        """What a function makes of its artifact, a later action takes."""
        for name, about in self.pipelines.items():
            ordered = [action for stage in about["Stages"] for action in stage["Actions"]]
            for action in ordered:
                made = [each["Name"] for each in action.get("OutputArtifacts", [])]
                for later in ordered if action["ActionTypeId"]["Provider"] == "Lambda" else ():
                    for artifact in (each["Name"] for each in later.get("InputArtifacts", [])):
                        if artifact in made:
                            yield Edge("handed on", node(name, action), node(name, later), f"it takes {artifact}")

    def code_of_jobs(self, actor: str) -> Iterator[Edge]:
        """Jobs run what lies under the digests that their pipeline names."""
        for key in ("code/abc/source.tar.gz", "wheels/abc/numpy.whl"):
            for action in ("s3:PutObject", "s3:DeleteObject"):
                if self.may(actor, action, f"{self.bucket}/{key}"):
                    for runs_as in (job for _, job in PIPELINE_ACTORS.values() if job in self.roles.properties):
                        yield Edge("jobs' code", role(actor), role(runs_as), f"{action} {key}, which is there")

    def published_names(self, actor: str) -> Iterator[Edge]:
        """A name in SSM by which a release finds the code of production's function."""
        if self.may(actor, "ssm:PutParameter", arn("ssm", f"parameter/{PROJECT}/rare-share-code")):
            yield Edge(
                "published name", role(actor), "changing production's function", "ssm:PutParameter rare-share-code"
            )

    def rights(self, actor: str) -> Iterator[Edge]:
        for goal, calls in self.goals.items():
            for action, resource, context in calls:
                if self.may(actor, action, resource, context):
                    about = resource.removeprefix(f"{self.bucket}/").rpartition(":")[2]
                    yield Edge("right", role(actor), goal, f"{action} {about}")


def node(pipeline: str, action: Mapping[str, Any]) -> str:
    stack = action["Configuration"].get("StackName", "")
    return f"action {action['Name']}{f' of {stack}' if stack else ''} in {pipeline}"


def is_compared(action: Mapping[str, Any]) -> bool:
    """Whether an action is told the digest of its artifact by CodePipeline, which keeps what Prepare has exported.

    That the function then refuses another one, test_check_approval.py shows.
    """
    return "#{Prepare.PREPARED}" in action["Configuration"].get("UserParameters", "")


def before_the_approval(stages: list[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The actions that run before a person is asked; all of them in a pipeline that asks nobody."""
    for stage in stages:
        ordered = sorted(stage["Actions"], key=lambda action: action.get("RunOrder", 1))
        for action in ordered:
            if action["ActionTypeId"]["Category"] == "Approval":
                return
            yield action


def toolchain(**given: str) -> tuple[Toolchain, dict[str, Stack]]:
    """A toolchain and the stacks that its CodePipelines deploy, to be changed before Reach reads them."""
    whole = Toolchain({**GIVEN, **given})
    fixed = {"SageMakerProjectName": PROJECT, "RareShareCodeKey": PUBLISHED["RareShareCodeKey"]}
    later = {"pipeline": example_stack("pipeline.yaml", fixed)}
    for stage in ("staging", "production"):
        more = {**fixed, "Stage": stage, "Serverless": "false"}
        account = given.get(f"{stage.capitalize()}Account", "")
        if account:
            later[f"target-{stage}"] = target(whole, stage, account)
            buckets = {"CodeBucketName": whole.reference("Bucket"), "CaptureBucketName": f"captures-of-{stage}"}
            later[stage] = example_stack("endpoint.yaml", {**more, **buckets}, account)
        else:
            later[stage] = example_stack("endpoint.yaml", more)
    return whole, later


def target(whole: Toolchain, stage: str, account: str, **given: str) -> Stack:
    """What a stage's own account holds before the first release, filled as `scarcegan toolchain deploy-target` does."""
    ours = {name: whole.reference(name) for name in ("KeyArn", "BucketName", "ArtifactsBucketName", "ToolchainAccount")}
    named = {"SageMakerProjectName": PROJECT, "ModelPackageGroupName": GROUP, "Stage": stage}
    return Stack("target.yaml", {**named, **ours, **given}, account)


def example_stack(template: str, given: Mapping[str, str], account: str = ACCOUNT) -> Stack:
    """A template with some value for every parameter that is not given."""
    declared = body_of(template)["Parameters"]
    values = {
        name: given.get(name, about.get("AllowedValues", [about.get("MinValue", "x")])[0])
        for name, about in declared.items()
        if name in given or "Default" not in about
    }
    return Stack(template, values | {name: value for name, value in given.items() if name in declared}, account)
