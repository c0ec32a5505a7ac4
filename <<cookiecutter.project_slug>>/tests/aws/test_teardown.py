"""Taking a project down in AWS: the plan, the walk, and what stays. AWS is a small account in memory behind botocore.

botocore checks each call's arguments and answers. The account keeps what CloudFormation, SageMaker, CodePipeline, SSM
and the tagging API would.
"""

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

import pages
from canned_aws import MISSING, NAMES, Refusal, connected
from enforcement import allowed
from scarcegan.aws import teardown, toolchain
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from stacks import Stack

CONFIG = Config.model_validate({"project": {"name": NAMES.project, "region": NAMES.region}})
MOMENT = datetime(2026, 12, 1, tzinfo=UTC)
NO_STACK = Refusal("ValidationError", "Stack with id x does not exist")
STORAGE = Stack(
    "storage.yaml",
    {"SageMakerProjectName": NAMES.project, "ModelPackageGroupName": NAMES.project},
    account=NAMES.account,
)
BUCKET_POLICY = STORAGE.resources["BucketPolicy"]["PolicyDocument"]["Statement"]
KEY = NAMES.arn("kms", "key/1234")
ALL = (*toolchain.STACKS, "pipeline", "staging", "production")
EXECUTION = NAMES.arn("sagemaker", "pipeline/rare-players-training/execution/abc123")
COPY, OTHERS = "rare-players-training-faster", "rare-players-training-x-training-other"  # of rare-players-training-x
COPYS = NAMES.arn("sagemaker", f"pipeline/{COPY}/execution/copy123")


STACK_ID = NAMES.arn("cloudformation", "stack/")
BUCKETS = {NAMES.region: ["1x"], None: ["1x", "of-another-region"]}


class Account:
    """An account with a whole project in it. `broken`: stack -> the reason for which it cannot be deleted."""

    def __init__(self):
        self.stacks = {NAMES.stack(name): "CREATE_COMPLETE" for name in ALL}
        self.pipelines = {NAMES.pipeline("training"), NAMES.pipeline("scoring"), COPY, OTHERS}
        self.copies = {COPY: "faster", OTHERS: "other"}  # pipeline -> its tag
        self.executions = {EXECUTION: "Executing", COPYS: "Executing"}
        self.stale = 0  # descriptions after a deletion has begun that still have the status before it
        self.before = {}
        self.code_executions = {
            "rare-players-deploy": {"e-1": "InProgress", "e-0": "Succeeded"},
            "rare-players-build": {},
            "rare-players-update": {"u-1": "InProgress"},
        }
        self.parameters = {"/rare-players/champion", "/rare-players/key", "/rare-players/staging/version"}
        self.owned = {
            NAMES.stack("toolchain"): ["/rare-players/key"],
            NAMES.stack("staging"): ["/rare-players/staging/version", NAMES.arn("sagemaker", "model/now")],
        }
        self.tagged = [
            KEY,
            NAMES.arn("sagemaker", "model/now"),
            NAMES.arn("sagemaker", "model/old"),
            NAMES.arn("sagemaker", "endpoint-config/old"),
        ]
        self.broken = {}
        self.done = []

    def answers(self):
        return {
            "cloudformation:DescribeStacks": self.describe,
            "cloudformation:DeleteStack": self.delete_stack,
            "cloudformation:DescribeStackEvents": self.events,
            "cloudformation:ListStackResources": self.resources,
            "codepipeline:ListPipelineExecutions": self.list_code,
            "codepipeline:StopPipelineExecution": self.stop_code,
            "codepipeline:GetPipelineExecution": self.get_code,
            "sagemaker:ListPipelines": lambda asked: {
                "PipelineSummaries": [
                    {"PipelineName": name}
                    for name in sorted(self.pipelines)
                    if name.startswith(asked["PipelineNamePrefix"])
                ]
            },
            "sagemaker:ListTags": lambda asked: {
                "Tags": [{"Key": "scarcegan:copy", "Value": self.copies[asked["ResourceArn"].rpartition("/")[2]]}]
            },
            "sagemaker:ListPipelineExecutions": self.list_executions,
            "sagemaker:StopPipelineExecution": self.stop,
            "sagemaker:DescribePipelineExecution": self.describe_execution,
            "sagemaker:DescribePipeline": lambda asked: {} if asked["PipelineName"] in self.pipelines else MISSING,
            "sagemaker:DeletePipeline": self.delete_pipeline,
            "sagemaker:DescribeModelPackageGroup": {
                "ModelPackageGroupName": "g",
                "ModelPackageGroupArn": NAMES.arn("sagemaker", "model-package-group/g"),
                "CreationTime": MOMENT,
                "CreatedBy": {},
                "ModelPackageGroupStatus": "Completed",
            },
            "ssm:GetParametersByPath": self.list_parameters,
            "ssm:DeleteParameters": self.delete_parameters,
            "s3:HeadBucket": {},
            "s3:ListBuckets": lambda asked: {
                "Buckets": [{"Name": f"rare-players-storage-artifacts-{n}"} for n in BUCKETS[asked.get("BucketRegion")]]
            },
            "resourcegroupstaggingapi:GetResources": lambda asked: {
                "ResourceTagMappingList": [{"ResourceARN": arn} for arn in self.tagged]
            },
        }

    def describe(self, asked):
        name, by_id = asked["StackName"].rpartition("/")[2], "/" in asked["StackName"]
        status = self.stacks.get(name)
        if status is None and not by_id:
            return NO_STACK
        if status == "DELETE_IN_PROGRESS" and self.stale:
            self.stale -= 1
            status = self.before[name]
        elif status == "DELETE_IN_PROGRESS":
            self.stacks = {**self.stacks, name: "DELETE_FAILED" if name in self.broken else None}
        about = {
            "StackName": name,
            "StackId": STACK_ID + name,
            "CreationTime": MOMENT,
            "StackStatus": status or "DELETE_COMPLETE",
        }
        if name == NAMES.stack("storage"):
            outputs = {"KeyArn": KEY, "ArtifactsBucketName": "rare-players-storage-artifacts-1x"}
            about["Outputs"] = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        return {"Stacks": [about]}

    def delete_stack(self, asked):
        name = asked["StackName"].rpartition("/")[2]
        self.done.append(f"delete {name}")
        self.before[name] = self.stacks[name]
        self.stacks[name] = "DELETE_IN_PROGRESS"
        self.parameters -= set(self.owned.get(name, ()))
        return {}

    def events(self, asked):
        about = {"StackId": "1", "EventId": "1", "StackName": asked["StackName"], "Timestamp": MOMENT}
        failed = {
            "LogicalResourceId": "Endpoint",
            "ResourceType": "AWS::SageMaker::Endpoint",
            "ResourceStatus": "DELETE_FAILED",
            "ResourceStatusReason": self.broken[asked["StackName"]],
        }
        begun = {
            "LogicalResourceId": "s",
            "ResourceType": "AWS::CloudFormation::Stack",
            "ResourceStatus": "DELETE_IN_PROGRESS",
        }
        earlier = {**failed, "LogicalResourceId": "Model", "ResourceStatusReason": "of an earlier change"}
        return {"StackEvents": [{**about, **one} for one in (failed, begun, earlier)]}

    def resources(self, asked):
        if not self.stacks.get(asked["StackName"]):
            return NO_STACK
        made = [
            {
                "LogicalResourceId": "R",
                "ResourceType": "AWS::SSM::Parameter",
                "PhysicalResourceId": physical,
                "LastUpdatedTimestamp": MOMENT,
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for physical in self.owned.get(asked["StackName"], ())
        ]
        return {"StackResourceSummaries": made}

    def list_code(self, asked):
        if not self.stacks.get(NAMES.stack("toolchain")):
            return Refusal("PipelineNotFoundException", "no such pipeline")
        found = self.code_executions[asked["pipelineName"]]
        return {
            "pipelineExecutionSummaries": [
                {"pipelineExecutionId": id, "status": status} for id, status in found.items()
            ]
        }

    def get_code(self, asked):
        return {
            "pipelineExecution": {"status": self.code_executions[asked["pipelineName"]][asked["pipelineExecutionId"]]}
        }

    def stop_code(self, asked):
        self.done.append(f"stop {asked['pipelineExecutionId']}")
        self.code_executions[asked["pipelineName"]][asked["pipelineExecutionId"]] = "Stopped"
        return {"pipelineExecutionId": asked["pipelineExecutionId"]}

    def list_executions(self, asked):
        if asked["PipelineName"] not in self.pipelines:
            return MISSING
        made = [
            {"PipelineExecutionArn": arn, "PipelineExecutionStatus": status}
            for arn, status in self.executions.items()
            if f"/{asked['PipelineName']}/" in arn
        ]
        return {"PipelineExecutionSummaries": made}

    def stop(self, asked):
        self.done.append(f"stop {asked['PipelineExecutionArn'].rpartition('/')[2]}")
        self.executions[asked["PipelineExecutionArn"]] = "Stopping"
        return {"PipelineExecutionArn": asked["PipelineExecutionArn"]}

    def describe_execution(self, asked):
        arn = asked["PipelineExecutionArn"]
        status = self.executions[arn]
        if status == "Stopping":
            self.executions[arn] = "Stopped"
        return {"PipelineExecutionArn": arn, "PipelineExecutionStatus": status}

    def delete_pipeline(self, asked):
        if asked["PipelineName"] not in self.pipelines:
            return MISSING
        self.done.append(f"delete {asked['PipelineName']}")
        self.pipelines.remove(asked["PipelineName"])
        return {}

    def list_parameters(self, asked):
        return {"Parameters": [{"Name": name} for name in sorted(self.parameters)]}

    def delete_parameters(self, asked):
        self.done.append(f"delete {', '.join(asked['Names'])}")
        self.parameters -= set(asked["Names"])
        return {"DeletedParameters": asked["Names"]}


@pytest.fixture
def account(monkeypatch):
    monkeypatch.setattr(toolchain, "STACK_POLL_SECONDS", 0.0)
    return Account()


IN_ORDER = [
    "stop e-1",
    "stop u-1",
    "stop abc123",
    "stop copy123",
    "delete rare-players-scoring",
    "delete rare-players-training",
    "delete rare-players-training-faster",
    "delete rare-players-production",
    "delete rare-players-staging",
    "delete rare-players-pipeline",
    *(f"delete {NAMES.stack(name)}" for name in reversed(toolchain.STACKS)),
    "delete /rare-players/champion",
]


def planned(account):
    aws, session = connected(account.answers())
    return teardown.plan_teardown(aws, CONFIG), aws, session


def taken_down(account):
    plan, aws, session = planned(account)
    said = []
    teardown.carry_out(plan, aws, said.append)
    return said, aws, session


def test_making_the_plan_only_reads(account):
    _, _, session = planned(account)
    operations = {name.split(":")[1] for name in session.made}
    assert {name for name in operations if not name.startswith(("Describe", "List", "Get", "Head"))} == set()
    assert {name for name in operations if name.startswith(("Get", "Head"))} <= {
        "GetParametersByPath",
        "GetResources",
        "HeadBucket",
    }
    assert account.done == []


def test_the_walk_stops_what_runs_then_deletes_pipelines_then_stacks_each_before_those_that_it_needs(account):
    said, _, session = taken_down(account)
    assert account.done == IN_ORDER
    assert sorted(session.actions - pages.actions("Take it down")) == []
    assert said[0] == f"1/{len(IN_ORDER)} stop execution e-1 of rare-players-deploy" and len(said) == len(IN_ORDER)
    assert not any(account.stacks.values()) and account.pipelines == {OTHERS} and not account.parameters


def test_the_stacks_of_the_toolchain_are_those_that_a_deployment_makes(account):
    plan, _, _ = planned(account)
    names = [one.name for one in plan.removals if one.kind == "stack"]
    assert names[3:] == [NAMES.stack(name) for name in reversed(toolchain.STACKS)]


def test_a_second_teardown_finds_nothing_to_remove(account):
    taken_down(account)
    plan, _, _ = planned(account)
    assert plan.removals == [] and "  nothing is there to remove" in teardown.plan_lines(plan)


@pytest.mark.parametrize("calls", range(1, len(IN_ORDER)))
def test_a_teardown_that_was_interrupted_anywhere_is_finished_by_the_next(account, calls):
    plan, aws, _ = planned(account)

    def interrupt(line):
        if line.startswith(f"{calls + 1}/"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teardown.carry_out(plan, aws, interrupt)
    assert account.done == IN_ORDER[:calls]
    taken_down(account)
    assert account.done == IN_ORDER


def test_a_deletion_that_goes_on_already_is_waited_for(account):
    account.stacks[NAMES.stack("production")] = "DELETE_IN_PROGRESS"
    taken_down(account)
    assert not any(account.stacks.values())


def test_a_stack_that_cannot_be_deleted_stops_the_walk_with_the_resource_and_the_reason(account):
    account.broken[NAMES.stack("staging")] = "no permission to delete it"
    with pytest.raises(UserError) as refused:
        taken_down(account)
    assert str(refused.value) == (
        "stack rare-players-staging is DELETE_FAILED: Endpoint (AWS::SageMaker::Endpoint): no permission to delete it. "
        "Correct the cause, then type the same command again."
    )
    assert account.stacks[NAMES.stack("toolchain")], "a later stack has the role that deletes it"


def test_a_stack_with_termination_protection_is_refused_in_a_sentence(account):
    refusal = Refusal("ValidationError", "Stack [x] cannot be deleted while TerminationProtection is enabled")
    aws, _ = connected({**account.answers(), "cloudformation:DeleteStack": refusal})
    with pytest.raises(UserError, match=r"refuses to delete stack rare-players-production: .*TerminationProtection"):
        teardown.delete_stack(aws, teardown.Removal("stack", NAMES.stack("production")))


def test_a_change_that_goes_on_is_waited_for_before_the_stack_is_deleted(account):
    answers = iter(["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"])

    def describe(asked):
        status = next(answers)
        about = {"StackName": "s", "StackId": STACK_ID + "s", "CreationTime": MOMENT, "StackStatus": status}
        return {"Stacks": [about]}

    aws, session = connected({"cloudformation:DescribeStacks": describe, "cloudformation:DeleteStack": {}})
    teardown.delete_stack(aws, teardown.Removal("stack", NAMES.stack("staging")))
    assert [name.split(":")[1] for name in session.made] == ["DescribeStacks"] * 2 + ["DeleteStack"] + [
        "DescribeStacks"
    ] * 2


def test_an_answer_that_does_not_know_of_the_deletion_yet_is_not_taken_for_its_end(account):
    account.stale = 1
    taken_down(account)
    assert account.done == IN_ORDER


def test_a_deletion_that_failed_before_is_tried_again(account):
    account.stacks[NAMES.stack("staging")] = "UPDATE_ROLLBACK_FAILED"
    account.stale = 2
    taken_down(account)
    assert account.done == IN_ORDER


def test_a_deletion_that_does_not_end_is_not_waited_for_for_ever(account, monkeypatch):
    monkeypatch.setattr(toolchain, "LONGEST_WAIT", 0.002)
    monkeypatch.setattr(toolchain, "STACK_POLL_SECONDS", 0.001)
    account.stale = 10**9
    with pytest.raises(UserError, match="delete stack rare-players-production: it has not ended after"):
        taken_down(account)


def test_a_copy_of_another_project_whose_name_begins_alike_is_left_alone(account):
    plan, _, _ = planned(account)
    assert OTHERS not in [one.name for one in plan.removals]


def test_a_bucket_of_another_region_is_not_named_as_left(account):
    account.stacks[NAMES.stack("storage")] = None
    assert not [one for one in planned(account)[0].left if "another-region" in one.what]


def test_an_execution_that_does_not_end_is_not_waited_for_for_ever(monkeypatch):
    monkeypatch.setattr(toolchain, "STACK_POLL_SECONDS", 0.001)
    monkeypatch.setattr(toolchain, "LONGEST_WAIT", 0.002)
    with pytest.raises(UserError, match="it has not ended after"):
        toolchain.wait_until(lambda: False, "stop execution e-1")


def test_a_code_execution_that_has_ended_meanwhile_is_left_alone(account):
    refusal = Refusal("PipelineExecutionNotStoppableException", "it has ended")
    account.code_executions["rare-players-deploy"]["e-1"] = "Succeeded"
    aws, _ = connected({**account.answers(), "codepipeline:StopPipelineExecution": refusal})
    teardown.stop_code_execution(aws, teardown.Removal("code execution", "e-1", "rare-players-deploy"))


def test_a_call_that_the_user_may_not_make_is_an_error_of_aws_that_names_the_action(account):
    answers = account.answers()
    del answers["sagemaker:DeletePipeline"]
    aws, _ = connected(answers)
    from scarcegan.aws.client import errors_as_sentences

    with pytest.raises(UserError, match="may not sagemaker:DeletePipeline"), errors_as_sentences(CONFIG):
        teardown.carry_out(teardown.plan_teardown(aws, CONFIG), aws, lambda line: None)


# -- what stays -----------------------------------------------------------------------------------------------------


def test_what_stays_is_named_with_the_way_to_delete_it(account):
    plan, _, _ = planned(account)
    left = {one.what.split(":")[0]: one.by_hand for one in plan.left}
    assert left[f"bucket {NAMES.bucket}"] == teardown.bucket_commands(NAMES.bucket, NAMES.region)
    assert "bucket rare-players-storage-artifacts-1x" in left
    assert left["SageMaker model old"] == "aws sagemaker delete-model --region eu-west-1 --model-name old"
    assert "delete-endpoint-config" in left["SageMaker endpoint-config old"]
    assert "SageMaker model now" not in left, "it goes with its stack"
    assert [one.by_hand for one in plan.left if KEY in one.what] == [
        f"aws kms schedule-key-deletion --region eu-west-1 --key-id {KEY} --pending-window-in-days 30"
    ]
    assert any("delete-model-package-group" in way for way in left.values())
    assert "log group /aws/sagemaker/Endpoints/rare-players-production" in left


def test_what_stays_is_still_found_when_the_stacks_are_gone(account):
    _, aws, _ = taken_down(account)
    text = "\n".join(teardown.left_lines(list(teardown.what_stays(aws, CONFIG))))
    for name in (NAMES.bucket, "rare-players-storage-artifacts-1x", KEY, "model old"):
        assert name in text


def test_who_may_not_look_is_still_told_the_names(account):
    answers = account.answers()
    for call in (
        "s3:HeadBucket",
        "s3:ListBuckets",
        "resourcegroupstaggingapi:GetResources",
        "sagemaker:DescribeModelPackageGroup",
    ):
        del answers[call]
    aws, _ = connected(answers)
    text = "\n".join(teardown.left_lines(list(teardown.what_stays(aws, CONFIG))))
    assert NAMES.bucket in text and "rare-players-storage-artifacts-1x" in text and KEY in text


def test_the_commands_by_hand_are_commands_of_the_aws_cli():
    """Statically: each is an operation of the service, with members of its arguments as options."""
    import botocore.session

    aws, _ = connected(Account().answers())
    session = botocore.session.get_session()
    checked = 0
    for one in teardown.what_stays(aws, CONFIG):
        for service, command, options in re.findall(
            r"aws (kms|sagemaker|logs) ([\w-]+)((?: --[\w-]+(?: [^-\s][^\s;|]*)?)*)", one.by_hand
        ):
            model = session.get_service_model(service)
            operation = model.operation_model("".join(word.title() for word in command.split("-")))
            known = {re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() for name in operation.input_shape.members}
            given = set(re.findall(r"--([\w-]+)", options)) - {"region", "query", "output"}
            assert given <= known, (command, given - known)
            checked += 1
    assert checked >= 6


@pytest.fixture
def full_bucket(monkeypatch):
    """moto's S3 as a server, with the project's bucket: a policy, two versions of an object and its delete marker."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "no-real-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-real-secret")
    s3 = boto3.client("s3", region_name=NAMES.region)
    s3.create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration={"LocationConstraint": NAMES.region})
    s3.put_bucket_versioning(Bucket=NAMES.bucket, VersioningConfiguration={"Status": "Enabled"})
    for body in (b"one", b"two"):
        s3.put_object(Bucket=NAMES.bucket, Key="code/a.tar.gz", Body=body)
    s3.delete_object(Bucket=NAMES.bucket, Key="code/a.tar.gz")
    s3.put_bucket_policy(Bucket=NAMES.bucket, Policy=json.dumps({"Statement": BUCKET_POLICY}))
    yield s3
    server.stop()


AWS_CLI = """#!{python}
import sys, boto3
s3 = boto3.client("s3")
match sys.argv[1:]:
    case ["s3api", "delete-bucket-policy", "--region", region, "--bucket", bucket]:
        s3.delete_bucket_policy(Bucket=bucket)
    case ["s3", "rb", "--region", region, address]:
        s3.delete_bucket(Bucket=address.removeprefix("s3://"))
    case other:
        sys.exit(f"no such command: {{other}}")
"""


def test_a_shell_that_runs_the_commands_for_a_bucket_deletes_it_with_every_version(full_bucket, tmp_path, monkeypatch):
    """In moto, which refuses what the policy forbids, and to delete a bucket that holds anything.

    A stand-in for the AWS CLI makes its calls.
    """
    (tmp_path / "aws").write_text(AWS_CLI.format(python=sys.executable))
    (tmp_path / "aws").chmod(0o755)
    path = [str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    monkeypatch.setenv("AWS_DEFAULT_REGION", NAMES.region)
    commands = teardown.bucket_commands(NAMES.bucket, NAMES.region)
    done = subprocess.run(["bash", "-c", commands], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert full_bucket.list_buckets()["Buckets"] == []


def test_the_policy_forbids_deleting_code_and_models_but_not_deleting_the_policy():
    """Statically: so the commands for a bucket begin with the policy. Who calls is an administrator."""
    context = {"aws:PrincipalArn": NAMES.arn("iam", "role/Admin"), "aws:SecureTransport": "true"}
    statements = [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}, *BUCKET_POLICY]
    bucket = f"arn:aws:s3:::{NAMES.bucket}"
    for kept in ("code/a.tar.gz", "packages/s/a/model.tar.gz", "releases/1/e.json"):
        for action in ("s3:DeleteObject", "s3:DeleteObjectVersion"):
            assert not allowed(statements, action, f"{bucket}/{kept}", context)
    for action in ("s3:DeleteBucketPolicy", "s3:DeleteBucket", "s3:ListBucketVersions"):
        assert allowed(statements, action, bucket, context)
    assert re.findall(r"aws (s3\w* [\w-]+)", teardown.bucket_commands(NAMES.bucket, NAMES.region)) == [
        "s3api delete-bucket-policy",
        "s3 rb",
    ]


def test_docs_show_the_commands_that_delete_a_bucket():
    shown = teardown.bucket_commands("BUCKET", "REGION").replace(" && ", "\n    ")
    assert f"    {shown}\n" in pages.chapter("Take it down", "docs/toolchain.md")


def test_the_stack_that_hands_changes_of_roles_on_from_another_region_stays_and_is_named(account):
    stack = "rare-players-eu-west-1-forward"
    assert not [one for one in planned(account)[0].left if stack in one.what]
    account.stacks[stack] = "CREATE_COMPLETE"
    [left] = [one for one in planned(account)[0].left if stack in one.what]
    assert left.by_hand == f"aws cloudformation delete-stack --region us-east-1 --stack-name {stack}"
