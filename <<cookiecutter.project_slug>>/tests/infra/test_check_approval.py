"""The function that checks an approval. S3 is moto's; CodePipeline and SageMaker are botocore's Stubber."""

import hashlib
import io
import json
import zipfile
from datetime import UTC, datetime

import boto3
import pytest
from botocore.stub import Stubber
from botocore.validate import ParamValidator
from moto import mock_aws

import lambdas
from scarcegan.registry.contract import FIGURES, Decision, figures_digest
from scarcegan.registry.sagemaker.package_facts import decision_line
from scarcegan.registry.sagemaker.package_request import inference_specification, served_digest

BUCKET, ACCOUNT, REGION = "risky-123456789012-eu-west-1", "123456789012", "eu-west-1"
GROUP = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package-group/risky-players"
PACKAGE = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/risky-players/5"
EXECUTION, JOB, COMMIT = "0a1b2c3d-0000-4000-8000-000000000000", "11111111-2222-3333-4444-555555555555", "c0de" * 10
MODEL, KEY = b"the model's bytes", "packages/set-1/best_ranking/model.tar.gz"
DIGEST = hashlib.sha256(MODEL).hexdigest()
RECORD = f"packages/set-1/set.{ACCOUNT}.risky-players.json"
PLACE = KEY.removesuffix("model.tar.gz")
EVALUATION = figures_digest({name: hashlib.sha256(name.encode()).hexdigest() for name in FIGURES})
ADA, BOB = f"arn:aws:sts::{ACCOUNT}:assumed-role/Admin/ada", f"arn:aws:iam::{ACCOUNT}:user/bob"
PEOPLE = "assumed-role/Admin/*, user/*"
RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/risky-model-package-approved"
MOMENT = datetime(2026, 12, 1, 9, tzinfo=UTC)
ASKED = {
    **{"pipeline": "risky-deploy", "execution": EXECUTION, "version": "5", "digest": DIGEST, "commit": COMMIT},
    "prepared": "0" * 64,  # of each test's own artifact
}


WHO = json.dumps({"pipeline": "risky-deploy", "execution": EXECUTION})  # asked without an artifact
BY_HAND = "StartPipelineExecution"


def xform(method):
    """The operation's name in the API of a method of a client: put_job_success_result -> PutJobSuccessResult."""
    return "".join(word.title() for word in method.split("_"))


check_approval = lambdas.load("check_approval")


def action(category, status="Succeeded", **more):
    """An action of the execution, as ListActionExecutions gives it."""
    kind = {"category": category, "owner": "AWS", "provider": "Manual", "version": "1"}
    about = {"pipelineExecutionId": EXECUTION, "startTime": MOMENT, "lastUpdateTime": MOMENT, "status": status}
    shown = {"CustomData": f"Commit {COMMIT}. Version 5"}
    return {**about, "input": {"actionTypeId": kind, "resolvedConfiguration": shown}, **more}


def approved(by=BOB, reason="figures are fine", **more):
    result = {"executionResult": {"externalExecutionSummary": reason}}
    return action("Approval", **({"updatedBy": by} if by else {}), output=result, **more)


def package(
    by="user/ada", modified=ADA, status="Approved", url=f"s3://{BUCKET}/{KEY}", digest=DIGEST, figures=EVALUATION
):
    """Version 5, as DescribeModelPackage gives it."""
    decision = Decision("2026-12-01T08:00:00Z", 5, "approved", by, "good")
    containers = inference_specification("tensorflow:2.20-cpu", url)["Containers"]
    return {
        "ModelPackageName": "risky-players",
        "ModelPackageArn": PACKAGE,
        "CreationTime": MOMENT,
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {"ValidationStatuses": []},
        "ModelApprovalStatus": status,
        "ApprovalDescription": "good",
        "InferenceSpecification": {"Containers": containers},
        "LastModifiedBy": {"IamIdentity": {"Arn": modified}} if modified else {},
        "CustomerMetadataProperties": {
            **({"model_digest": digest} if digest else {}),
            **({"evaluation_digest": figures} if figures else {}),
            **({"decision.000001": decision_line(decision)} if by else {}),
        },
    }


ARTIFACTS = "risky-storage-artifacts-0a1b2c"
ARTIFACT, CHECKED = "risky-deploy/DeployOut/abc123", "risky-deploy/Checked/def456"
PREPARED = "build/production.json"
JOB_DATA = {  # https://docs.aws.amazon.com/codepipeline/latest/userguide/actions-invoke-lambda-function.html
    "inputArtifacts": [
        {
            "location": {"s3Location": {"bucketName": ARTIFACTS, "objectKey": ARTIFACT}, "type": "S3"},
            "revision": None,
            "name": "DeployOut",
        }
    ],
    "outputArtifacts": [
        {
            "location": {"s3Location": {"bucketName": ARTIFACTS, "objectKey": CHECKED}, "type": "S3"},
            "revision": None,
            "name": "Checked",
        }
    ],
    "artifactCredentials": {
        "accessKeyId": "lent",
        "secretAccessKey": "lent-secret",
        "sessionToken": "lent-token",
    },
}


def zipped(name=PREPARED, **changes):
    """What prepare.buildspec.yml hands over, as CodeBuild packs it."""
    values = {"Stage": "production", "ModelPackageArn": PACKAGE, "Version": "5", **changes}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("build/staging.json", "{}")
        archive.writestr(name, json.dumps({"Parameters": values, "Tags": {}}))
    return packed.getvalue()


def digest_in(packed):
    """SHA-256 of the parameters in an artifact, as prepare.buildspec.yml exports it; zeros without any."""
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            return hashlib.sha256(archive.read(PREPARED)).hexdigest()
    except (KeyError, zipfile.BadZipFile):
        return "0" * 64


class Answers:
    """CodePipeline's and SageMaker's answers; `said`: what the function answered, `record`: what it wrote."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.s3 = boto3.client("s3", region_name=REGION)
        for bucket in (BUCKET, ARTIFACTS):
            self.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.s3.put_object(Bucket=BUCKET, Key=KEY, Body=MODEL, ChecksumAlgorithm="SHA256")
        served = served_digest(package()["InferenceSpecification"]["Containers"])
        facts = {"arn": PACKAGE, "model_digest": DIGEST, "evaluation_digest": EVALUATION, "served_digest": served}
        self.s3.put_object(Bucket=BUCKET, Key=RECORD, Body=json.dumps({"packages": [facts]}).encode())
        for name in FIGURES:
            self.s3.put_object(Bucket=BUCKET, Key=PLACE + name, Body=name.encode(), ChecksumAlgorithm="SHA256")
        for name, value in (("BUCKET", BUCKET), ("MODEL_PACKAGE_GROUP", GROUP), ("SECOND_APPROVER", "no")):
            monkeypatch.setenv(name, value)

    def ask(
        self,
        actions=None,
        found=None,
        starter=RULE,
        parameters=None,
        second="no",
        failure=None,
        prepared=None,
        exported=None,
        allowed=PEOPLE,
        kind="",
    ):
        """Call the handler once. Returns the sentence of a refusal, or "" for a success.

        prepared: the content of the input artifact, a zip file. exported: the digest that Prepare has exported, when
        it is not that file's. kind: of what started the execution, when it is neither the rule nor a person.
        """
        self.monkeypatch.setenv("SECOND_APPROVER", second)
        self.monkeypatch.setenv("APPROVERS", allowed)
        codepipeline, sagemaker = (
            boto3.client(service, region_name=REGION) for service in ("codepipeline", "sagemaker")
        )
        clients = {"codepipeline": codepipeline, "sagemaker": sagemaker, "s3": self.s3}
        real = boto3.client
        said = []
        with Stubber(codepipeline) as stub, Stubber(sagemaker) as models, self.monkeypatch.context() as patch:
            patch.setattr(
                boto3, "client", lambda service, **lent: self.reader(real, lent) if lent else clients[service]
            )
            listed = [action("Source"), *([approved()] if actions is None else actions)]
            asked = {"pipelineName": "risky-deploy", "filter": {"pipelineExecutionId": EXECUTION}}
            if failure:
                stub.add_client_error("list_action_executions", failure)
            elif parameters in (None, WHO):
                if parameters is None:
                    stub.add_response("list_action_executions", {"actionExecutionDetails": listed}, asked)
                trigger = {"triggerType": kind or ("CloudWatchEvent" if starter == RULE else BY_HAND)}
                about = {"trigger": trigger | {"triggerDetail": starter}}
                which = {"pipelineName": "risky-deploy", "pipelineExecutionId": EXECUTION}
                stub.add_response("get_pipeline_execution", {"pipelineExecution": about}, which)
            models.add_response("describe_model_package", found or package(), {"ModelPackageName": PACKAGE})
            for operation in ("put_job_success_result", "put_job_failure_result"):
                patch.setattr(codepipeline, operation, lambda _o=operation, **sent: said.append((_o, sent)))
            prepared = zipped() if prepared is None else prepared
            asked = {**ASKED, "prepared": exported or digest_in(prepared)}
            text = json.dumps(asked) if parameters is None else parameters
            configuration = {"FunctionName": "f", "UserParameters": text}
            self.s3.put_object(Bucket=ARTIFACTS, Key=ARTIFACT, Body=prepared)
            without = {key: [] for key in ("inputArtifacts", "outputArtifacts")} if parameters == WHO else {}
            data = {**JOB_DATA, **without, "actionConfiguration": {"configuration": configuration}}
            check_approval.handler({"CodePipeline.job": {"id": JOB, "data": data}}, None)
        assert boto3.client is real
        [(operation, sent)] = said
        shape = codepipeline.meta.service_model.operation_model(xform(operation)).input_shape
        assert not ParamValidator().validate(sent, shape).has_errors() and sent["jobId"] == JOB
        self.summary = sent.get("executionDetails", {}).get("summary", "")
        self.variables = sent.get("outputVariables", {})
        return sent["failureDetails"]["message"] if "failureDetails" in sent else ""

    def reader(self, real, lent):
        """A client with the credentials of CodePipeline's job."""
        assert lent == {
            "aws_access_key_id": "lent",
            "aws_secret_access_key": "lent-secret",
            "aws_session_token": "lent-token",
        }
        return real("s3", region_name=REGION, **lent)

    def record(self):
        found = self.s3.get_object(Bucket=BUCKET, Key=f"releases/5/{EXECUTION}.json")
        return json.loads(found["Body"].read())

    def handed_over(self):
        """File -> content of the output artifact; {} without one."""
        if "Contents" not in self.s3.list_objects_v2(Bucket=ARTIFACTS, Prefix=CHECKED):
            return {}
        found = self.s3.get_object(Bucket=ARTIFACTS, Key=CHECKED)["Body"].read()
        with zipfile.ZipFile(io.BytesIO(found)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def recorded(self):
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET, Prefix="releases/").get("Contents", [])]


@pytest.fixture
def answers(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield Answers(monkeypatch)


def test_an_approved_release_passes_and_who_approved_what_is_recorded(answers):
    assert answers.ask() == ""
    record = answers.record()
    assert record.pop("checked")
    assert record == {
        **ASKED,
        "prepared": digest_in(zipped()),
        "approver": BOB,
        "reason": "figures are fine",
        "shown": f"Commit {COMMIT}. Version 5",
        "approved": "2026-12-01T09:00:00+00:00",
        "model_approvers": [ADA, "user/ada"],
        "model_reason": "good",
        "starter": RULE,
        "started_by": "CloudWatchEvent",
        "started": "2026-12-01T09:00:00+00:00",
        "second_approver": "no",
    }


def test_a_release_that_was_started_by_hand_says_that_its_commit_may_be_none_of_the_branch(answers):
    """StartPipelineExecution takes sourceRevisions: any commit of the repository."""
    assert answers.ask(starter=ADA) == ""
    assert answers.summary.endswith(f"; started by hand by {ADA}: is c0dec0dec0de a commit of the branch?")
    answers.s3.delete_object(Bucket=BUCKET, Key=f"releases/5/{EXECUTION}.json")
    assert answers.ask() == "" and "by hand" not in answers.summary


def test_a_retry_of_the_stage_finds_the_record_and_passes(answers):
    assert answers.ask() == ""
    first = answers.record()
    assert answers.ask() == ""
    assert answers.record() == first
    assert "says something else about this execution" in answers.ask(actions=[approved(reason="on second thoughts")])
    assert answers.record() == first


@pytest.mark.parametrize(
    "actions", [[], [approved(status="Failed")], [action("Build")], [approved(status="InProgress")]]
)
def test_an_execution_that_nobody_approved_is_refused(answers, actions):
    assert answers.ask(actions=actions) == "nobody has approved this execution. Production stays as it is."
    assert answers.recorded() == []


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (package(status="Rejected"), "version 5 is Rejected"),
        (package(digest="f" * 64), "was registered with the model ffffffffffff, but"),
        (package(digest=""), "was registered with the model of no digest, but"),
        (package(figures=""), "version 5 has no digest of its evaluation. Register the model again"),
        (package(figures="f" * 64), "but ffffffffffff was registered"),
        (package(url=f"s3://{BUCKET}/runs/x/model.tar.gz"), "would load"),
        (package(url="s3://elsewhere/packages/a/model.tar.gz"), "would load"),
    ],
)
def test_a_package_that_is_not_the_one_that_was_prepared_is_refused(answers, found, words):
    assert words in answers.ask(found=found)
    assert answers.recorded() == []


@pytest.mark.parametrize("checksum", [{}, {"ChecksumAlgorithm": "SHA256"}])
def test_changed_bytes_are_refused_whether_s3_knows_their_digest_or_not(answers, checksum):
    answers.s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"other bytes", **checksum)
    assert f"{DIGEST[:12]} was registered. Find out who changed it" in answers.ask()
    answers.s3.put_object(Bucket=BUCKET, Key=KEY, Body=MODEL, **checksum)
    assert answers.ask() == ""


@pytest.mark.parametrize(
    "change",
    [
        {"Image": "tensorflow:2.19-cpu"},
        {"Environment": {"SAGEMAKER_PROGRAM": "inference.py"}},
        {"AdditionalS3DataSource": {"S3DataType": "S3Object", "S3Uri": "s3://elsewhere/code.tar.gz"}},
    ],
)
def test_an_image_environment_or_source_that_was_changed_after_the_registration_is_refused(answers, change):
    found = package()
    found["InferenceSpecification"]["Containers"][0] |= change
    assert "is not as it was registered (served_digest differs from s3://" in answers.ask(found=found)
    found = package()
    found["InferenceSpecification"]["Containers"][0] |= {"ImageDigest": "sha256:0a", "ModelDataETag": "e"}
    assert answers.ask(found=found) == "", "what SageMaker adds by itself"


def test_a_package_that_no_record_of_its_set_has_is_refused(answers):
    answers.s3.put_object(Bucket=BUCKET, Key=RECORD, Body=b'{"packages": []}')
    assert "(model_digest, evaluation_digest, served_digest differs from" in answers.ask()


@pytest.mark.parametrize("name", FIGURES)
def test_another_evaluation_or_baseline_under_an_approved_model_is_refused(answers, name):
    answers.s3.put_object(Bucket=BUCKET, Key=PLACE + name, Body=b"{}")
    assert "evaluation and baseline of version 5 have the digest" in answers.ask()
    assert answers.recorded() == []


def test_the_person_who_approved_the_model_or_started_the_release_is_no_second_approver(answers):
    same = f"arn:aws:iam::{ACCOUNT}:user/Ada"  # another identity of the same name
    assert answers.ask(actions=[approved(by=same)]) == "", "not asked for"
    answers.s3.delete_object(Bucket=BUCKET, Key=f"releases/5/{EXECUTION}.json")
    assert f"{same} approved the model too" in answers.ask(actions=[approved(by=same)], second="yes")
    assert "approved the model too" in answers.ask(actions=[approved(by=same)], found=package(by=""), second="yes")
    assert "approved the model too" in answers.ask(
        actions=[approved(by=same)], found=package(modified=""), second="yes"
    )
    assert f"{BOB} started this release too" in answers.ask(starter=BOB, second="yes")
    assert answers.ask(second="yes") == ""


SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role"


NAMELESS = "botocore-session-1764550000 AWSCLI-Session SageMaker i-0123456789abcdef0 1764550000123 aws-sdk-java-1"


@pytest.mark.parametrize("name", NAMELESS.split())
def test_a_session_that_a_program_has_named_is_no_second_approver(answers, name):
    nobody = f"{SESSION}/Admin/{name}"
    for asked in (
        {"actions": [approved(by=nobody)]},
        {"found": package(modified=nobody)},
        {"found": package(by=f"assumed-role/Admin/{name}")},
        {"starter": nobody},
    ):
        assert f"Admin/{name} names no person" in answers.ask(second="yes", **asked)
    assert answers.recorded() == []


def test_with_a_second_approver_only_allowed_identities_count(answers):
    """bob may choose the name of his session in the role Admin, but not in one of IAM Identity Center."""
    center = f"{SESSION}/AWSReservedSSO_DataScience_0a1b"
    people = {"second": "yes", "allowed": "assumed-role/AWSReservedSSO_*"}
    ada = package(by="assumed-role/AWSReservedSSO_DataScience_0a1b/ada@acme.com", modified=f"{center}/ada@acme.com")
    chosen = [approved(by=f"{SESSION}/Admin/bob")]
    assert "Admin/bob is none of the identities that may approve" in answers.ask(actions=chosen, found=ada, **people)
    assert f"{ADA} is none of the" in answers.ask(actions=[approved(by=f"{center}/bob@acme.com")], **people)
    assert f"{BOB} is none of the" in answers.ask(
        found=ada, starter=BOB, actions=[approved(by=f"{center}/x")], **people
    )
    assert "is none of the identities that may approve (none)" in answers.ask(second="yes", allowed="")
    assert answers.recorded() == []
    assert answers.ask(actions=[approved(by=f"{center}/bob@acme.com")], found=ada, **people) == ""


def test_one_person_with_a_user_and_an_address_is_one(answers):
    user, address = f"arn:aws:iam::{ACCOUNT}:user/ada", f"{SESSION}/Admin/Ada@acme.com"
    said = answers.ask(actions=[approved(by=user)], found=package(by="", modified=address), second="yes")
    assert f"{user} approved the model too" in said


@pytest.mark.parametrize("unknown", [{"actions": [approved(by="")]}, {"found": package(by="", modified="")}])
def test_a_second_approver_that_aws_does_not_name_is_none(answers, unknown):
    assert "AWS does not tell who approved" in answers.ask(second="yes", **unknown)
    assert answers.ask(**unknown) == ""


def test_a_release_whose_starter_aws_does_not_name_has_no_second_approver(answers):
    said = answers.ask(starter="", second="yes")
    assert "AWS does not tell who started this release (StartPipelineExecution)" in said
    assert answers.recorded() == []
    assert answers.ask(starter="") == "", "not asked for"


@pytest.mark.parametrize(
    "trigger",
    [
        {},
        {"triggerType": "StartPipelineExecution"},
        {"triggerType": "StartPipelineExecution", "triggerDetail": RULE},
        {"triggerType": "AutomatedRollback", "triggerDetail": EXECUTION},
        {"triggerType": "Webhook", "triggerDetail": "arn:aws:codepipeline:eu-west-1:1:webhook:x"},
        {"triggerType": "StartPipelineExecution", "triggerDetail": "ada"},
    ],
)
def test_only_an_event_may_start_a_release_without_a_person(trigger):
    with pytest.raises(check_approval.Refused, match="AWS does not tell who started this release"):
        check_approval.require_second_person(BOB, [ADA], trigger, PEOPLE)


@pytest.mark.parametrize("detail", [RULE, "", None])
def test_a_release_that_an_event_started_has_no_person_who_did(detail):
    trigger = {"triggerType": "CloudWatchEvent", **({} if detail is None else {"triggerDetail": detail})}
    check_approval.require_second_person(BOB, [ADA], trigger, PEOPLE)


def test_people_are_compared_as_aws_names_them():
    """Which addresses reach one mailbox, only its provider knows."""
    plus = f"{SESSION}/Admin/bob+1@acme.com"
    check_approval.require_second_person(BOB, [plus], {"triggerType": "CloudWatchEvent"}, PEOPLE)


@pytest.mark.parametrize("parameters", ["", "[]", "{}", json.dumps({**ASKED, "version": "5/../6"}), "x" * 900])
def test_parameters_that_do_not_say_what_is_released_are_refused(answers, parameters):
    assert answers.ask(parameters=parameters).startswith("the pipeline does not say what is released")


@pytest.mark.parametrize("injected", ['7", "digest": "', '7", "other": "'])
def test_a_version_that_brings_fields_with_it_is_refused(answers, injected):
    """Prepare's own code exports the version, which CodePipeline puts into the text as it is."""
    text = json.dumps({**ASKED, "prepared": digest_in(zipped())}).replace('"version": "5', f'"version": "{injected}5')
    assert answers.ask(parameters=text).startswith("the pipeline does not say what is released")


def test_a_parameter_that_stands_twice_is_refused_as_readers_disagree_which_one_counts(answers):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        values = json.dumps({"Stage": "production", "ModelPackageArn": PACKAGE, "Version": "5"})
        archive.writestr(PREPARED, f'{{"Parameters": {values[:-1]}, "Version": "5"}}}}')
    assert "a name stands twice" in answers.ask(prepared=packed.getvalue())


def test_an_error_of_aws_is_answered_at_once(answers):
    assert answers.ask(failure="AccessDeniedException").startswith("the check itself failed (ClientError: An error")


@pytest.mark.parametrize(
    ("identity", "name"),
    [
        (ADA, "ada"),
        (BOB, "bob"),
        ("user/team/Zoë", "zoë"),
        ("ada@acme.com", "ada"),
        (f"arn:aws:iam::{ACCOUNT}:root", "root"),
    ],
)
def test_a_person_is_a_users_name_or_that_of_a_roles_session(identity, name):
    assert check_approval.person(identity) == name


def test_the_copies_of_the_packages_digests_agree_with_it():
    [container] = package()["InferenceSpecification"]["Containers"]
    more = {"Environment": {"B": "2", "A": "1"}, "AdditionalS3DataSource": {"S3Uri": "s3://b/more/"}}
    for containers in ([], [{}], [container], [{**container, **more}], [container, {**container, **more}]):
        assert check_approval.served_digest(containers) == served_digest(containers)
    hashes = {name: hashlib.sha256(name.encode()).hexdigest() for name in FIGURES}
    assert check_approval.FIGURES == FIGURES
    assert check_approval.figures_digest(hashes) == figures_digest(hashes)


def test_the_function_imports_only_what_lambda_has():
    assert lambdas.libraries("check_approval") <= {"boto3", "botocore"}


@pytest.mark.parametrize(
    ("prepared", "words"),
    [
        (zipped(ModelPackageArn=PACKAGE.replace("/5", "/6")), "gives production the ModelPackageArn"),
        (zipped(Version="6"), "gives production the Version '6', but '5' was approved"),
        (zipped(Stage="staging"), "gives production the Stage 'staging'"),
        (zipped("production.json"), "hands over no prepared release with build/production.json"),
        (b"no zip file", "hands over no prepared release"),
        (zipped(Padding="0" * 2**21), "hands over no prepared release"),
    ],
)
def test_what_was_prepared_for_production_is_what_was_approved(answers, prepared, words):
    said = answers.ask(prepared=prepared)
    assert words in said and said.endswith("Production stays as it is.")
    assert answers.recorded() == []


def test_parameters_that_were_replaced_after_they_were_prepared_are_refused(answers):
    """A later Prepare of a hostile push may write there while a person looks: sizes, tags, a stack policy."""
    said = answers.ask(prepared=zipped(CapturePercentage="0"), exported=digest_in(zipped()))
    assert "are not the ones that this execution has prepared" in said
    assert answers.recorded() == [] and answers.handed_over() == {}


def test_production_is_handed_the_bytes_that_were_checked_and_nothing_else(answers):
    """CodePipeline would read DeployOut again, and of two files with one name perhaps the other."""
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(PREPARED, "{}")
        with zipfile.ZipFile(io.BytesIO(zipped())) as good:
            archive.writestr(PREPARED, good.read(PREPARED))
    assert answers.ask(prepared=twice.getvalue()) == ""
    [(name, content)] = answers.handed_over().items()
    assert name == PREPARED and hashlib.sha256(content).hexdigest() == digest_in(zipped())


def test_a_refused_release_is_handed_nothing(answers):
    assert answers.ask(actions=[]) and answers.handed_over() == {}


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        ({}, "an event"),
        ({"starter": ADA}, "hand (ada; any commit)"),
        ({"starter": f"{ADA}.lovelace.of.ockham@example.com"}, "hand (ada.lovelace.of.ockham@ex; any commit)"),
        ({"starter": ADA, "kind": "ManualRollback"}, "ManualRollback (ada)"),
        ({"starter": "", "kind": "Webhook"}, "Webhook ()"),
    ],
)
def test_before_the_approval_it_says_who_started_the_release_by_hand_with_a_commit_of_their_choice(
    answers, trigger, words
):
    """A commit may be any of the repository's, and for a connection AWS cannot tell whether the branch has it."""
    assert answers.ask(parameters=WHO, **trigger) == ""
    assert answers.variables == {"BY": words} and len(words) <= check_approval.STARTER_CHARACTERS
    assert trigger.get("starter", RULE) in answers.summary
    assert answers.recorded() == [] and answers.handed_over() == {}


def test_the_question_who_started_it_is_no_way_around_the_check(answers):
    """Its parameters hold what the commit's own code has exported."""
    assert answers.ask(parameters=f"{WHO} ").startswith("the pipeline does not say what is released")
