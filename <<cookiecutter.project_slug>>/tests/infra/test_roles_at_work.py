"""The product's own code at work in moto under each role's policies: it can do its work, and not the others'."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from enforcement import Roles
from registry_contract import requests
from scarcegan.aws import client
from scarcegan.aws.names import Names
from scarcegan.errors import UserError
from scarcegan.registry.contract import APPROVED
from scarcegan.registry.sagemaker.registry import SageMakerRegistry
from scarcegan.release import release
from scarcegan.sagemaker import bundle, start, upsert
from scarcegan.sagemaker.compiler import Compiled
from stacks import ACCOUNT, REGION, Toolchain

NAMES, GROUP = Names("rare-players", ACCOUNT, REGION), "rare-group"
PARAMETERS = {"SageMakerProjectName": NAMES.project, "Repository": "acme/rare", "ModelPackageGroupName": GROUP}
ROLES = Roles(Toolchain(PARAMETERS))
CODE = {"code/abc/source.tar.gz": b"code", **bundle.markers()}


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An account with the toolchain's bucket, group and published names in it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("MOTO_ACCOUNT_ID", ACCOUNT)
    with mock_aws():
        s3, ssm = boto3.client("s3"), boto3.client("ssm")
        s3.create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        s3.put_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet", Body=b"rows")
        s3.put_object(Bucket=NAMES.bucket, Key="data/labels/labels.csv", Body=b"user_id,label")
        for name in ("key", "topic"):
            ssm.put_parameter(Name=NAMES.parameter(name), Value=f"arn:of:{name}", Type="String")
        boto3.client("sagemaker").create_model_package_group(ModelPackageGroupName=GROUP)
        yield


def plan(definition: str, root: Path) -> upsert.UpsertPlan:
    """A plan of one pipeline; root: a folder, whose list of libraries becomes empty."""
    (root / "requirements-jobs.txt").touch()
    made = Compiled(NAMES.pipeline("training"), definition, {})
    tags = {"sagemaker:project-name": NAMES.project}
    return upsert.UpsertPlan(NAMES, root, CODE, "wheels/abc/", {"training": made}, {}, tags)


def denied(call) -> bool:
    """Whether a call ends with AWS's refusal, plain or as our sentence."""
    try:
        call()
    except ClientError as error:
        return error.response["Error"]["Code"] in client.ACCESS_DENIED_CODES
    except UserError as error:
        return str(error).startswith("access denied")
    return False


def test_build_uploads_code_and_writes_and_starts_the_pipeline_in_moto(tmp_path: Path) -> None:
    s3 = boto3.client("s3")
    s3.put_object(Bucket=NAMES.bucket, Key="wheels/abc/.complete", Body=b"")
    with ROLES.acting("build") as session:
        connection = client.Aws(NAMES, session)
        first = upsert.apply_plan(plan('{"Steps": []}', tmp_path), connection, upload_only=False, say=print)
        again = upsert.apply_plan(
            plan('{"Steps": [], "Version": "2020-12-01"}', tmp_path), connection, upload_only=False, say=print
        )
        started = start.start_execution(start.StartPlan("training", {}), connection)
        assert start.data_digest(connection, NAMES.uri("data", "telemetry", ""))[1]
    assert first["uploaded"] == sorted(CODE) and again["uploaded"] == []
    assert [*first["pipelines"].values(), *again["pipelines"].values()] == ["created", "changed"]
    assert f":pipeline/{NAMES.pipeline('training')}/execution/" in started


def test_build_may_neither_read_the_data_nor_touch_models_nor_take_another_role_in_moto(tmp_path) -> None:
    with ROLES.acting("build") as session:
        s3, sagemaker = session.client("s3"), session.client("sagemaker")
        stranger = {"PipelineName": NAMES.pipeline("training"), "PipelineDefinition": "{}"}
        assert denied(lambda: s3.get_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet"))
        assert denied(lambda: s3.put_object(Bucket=NAMES.bucket, Key="champion/package.tar.gz", Body=b"mine"))
        assert denied(lambda: sagemaker.create_pipeline(**stranger, RoleArn=NAMES.role_arn("promote")))
        assert denied(lambda: sagemaker.create_pipeline(**{**stranger, "PipelineName": "another"}, RoleArn="x" * 20))
        assert denied(lambda: sagemaker.create_model_package(ModelPackageGroupName=GROUP))


def test_register_registers_a_set_and_withdraws_what_it_must_in_moto(tmp_path) -> None:
    with ROLES.acting("register") as session:
        registry = SageMakerRegistry(NAMES, GROUP, session, user=lambda: "run")
        registered = registry.register_set("set-1", requests(tmp_path))
        assert registry.register_set("set-1", requests(tmp_path)) == registered
        found = session.client("sagemaker").list_model_packages(ModelPackageGroupName=GROUP)["ModelPackageSummaryList"]
    assert len(found) == len(registered) == 4


def test_register_may_neither_promote_nor_serve_nor_write_elsewhere_in_moto(tmp_path) -> None:
    with ROLES.acting("register") as session:
        registry = SageMakerRegistry(NAMES, GROUP, session, user=lambda: "run")
        registry.register_set("set-1", requests(tmp_path))
        s3, ssm, sagemaker = (session.client(service) for service in ("s3", "ssm", "sagemaker"))
        assert denied(lambda: s3.put_object(Bucket=NAMES.bucket, Key="champion/package.tar.gz", Body=b"mine"))
        assert denied(lambda: s3.put_object(Bucket=NAMES.bucket, Key="code/abc/source.tar.gz", Body=b"mine"))
        assert denied(lambda: ssm.put_parameter(Name=NAMES.parameter("champion"), Value="1", Type="String"))
        assert denied(lambda: sagemaker.create_model_package(ModelPackageGroupName="another"))
        model = next(key for key in keys() if key.endswith("/model.tar.gz"))
        assert denied(lambda: s3.put_object(Bucket=NAMES.bucket, Key=model, Body=b"mine"))
        first = registry.packages()[0].version
        assert denied(lambda: registry.approve(first)) and denied(lambda: registry.reject(first))


def keys() -> list[str]:
    return [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=NAMES.bucket)["Contents"]]


def approved_version(folder: Path) -> int:
    """A package that somebody with every right has registered and approved."""
    registry = SageMakerRegistry(NAMES, GROUP, user=lambda: "ada")
    version = registry.register_set("set-1", requests(folder))[0].version
    assert registry.approve(version).status == APPROVED
    return version


def test_prepare_reads_an_approved_package_and_writes_nothing_in_moto(tmp_path) -> None:
    version = approved_version(tmp_path)
    with ROLES.acting("prepare") as session:
        registry = SageMakerRegistry(NAMES, GROUP, session)
        assert release.approved_package(registry).version == version
        assert (registry.export(version, tmp_path / "package") / "package.json").is_file()
        s3, ssm = session.client("s3"), session.client("ssm")
        assert denied(lambda: registry.promote(version))
        assert denied(lambda: ssm.put_parameter(Name=NAMES.parameter("champion"), Value="1", Type="String"))
        for key in ("champion/package.tar.gz", "packages/x/model.tar.gz", "functions/register-0a.zip", "code/a/job.sh"):
            assert denied(lambda key=key: s3.put_object(Bucket=NAMES.bucket, Key=key, Body=b"mine", IfNoneMatch="*"))


def test_promote_makes_an_approved_package_the_champion_and_decides_nothing_in_moto(tmp_path) -> None:
    version = approved_version(tmp_path)
    with ROLES.acting("promote") as session:
        registry = SageMakerRegistry(NAMES, GROUP, session)
        assert release.approved_package(registry).version == version
        assert registry.promote(version).champion
        s3, sagemaker = session.client("s3"), session.client("sagemaker")
        assert denied(lambda: registry.reject(version + 1))
        assert denied(lambda: s3.get_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet"))
        assert denied(lambda: s3.put_object(Bucket=NAMES.bucket, Key="code/abc/source.tar.gz", Body=b"mine"))
        assert denied(lambda: sagemaker.create_model_package(ModelPackageGroupName=GROUP))


def test_a_job_reads_its_inputs_and_writes_its_outputs_and_nothing_else_in_moto() -> None:
    with ROLES.acting("job") as session:
        s3 = session.client("s3")
        assert s3.get_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet")["Body"].read() == b"rows"
        s3.put_object(Bucket=NAMES.bucket, Key="runs/e1/features/features/part-0.parquet", Body=b"rows")
        for key in ("code/abc/source.tar.gz", "packages/s/model.tar.gz", "champion/package.tar.gz", "data/labels/x"):
            assert denied(lambda key=key: s3.put_object(Bucket=NAMES.bucket, Key=key, Body=b"mine"))
        assert denied(lambda: s3.delete_object(Bucket=NAMES.bucket, Key="data/telemetry/part-0.parquet"))


def test_the_pipeline_makes_its_jobs_with_the_jobs_role_only_in_moto() -> None:
    job = {
        "AppSpecification": {"ImageUri": "image"},
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.xlarge", "VolumeSizeInGB": 30}
        },
    }
    with ROLES.acting("pipeline") as session:
        make = session.client("sagemaker").create_processing_job
        assert make(ProcessingJobName="pipelines-e1-features-x", RoleArn=NAMES.role_arn("job"), **job)
        assert denied(lambda: make(ProcessingJobName="pipelines-e1-x", RoleArn=NAMES.role_arn("promote"), **job))
        assert denied(lambda: make(ProcessingJobName="pipelines-e1-x", RoleArn=NAMES.role_arn("scoring-job"), **job))
        assert denied(lambda: make(ProcessingJobName="by-hand", RoleArn=NAMES.role_arn("job"), **job))
