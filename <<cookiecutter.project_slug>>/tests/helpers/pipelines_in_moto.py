"""What the tests of the cloud's verbs share: a project, moto in place of AWS, and pipelines small enough to read."""

import json
from datetime import UTC, datetime, timedelta

import boto3

from scarcegan.aws.names import Names
from scarcegan.pipeline.config import Config
from scarcegan.sagemaker import parameters, upsert
from scarcegan.sagemaker.executions import pipeline_of

ACCOUNT, REGION = "123456789012", "eu-west-1"
NAMES = Names("rare-players", ACCOUNT, REGION)
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_ACCOUNT_ID": ACCOUNT}
BEGUN = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
JOB = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"


def sign_in(monkeypatch):
    """Dummy credentials, so that boto3 does not search for real ones."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


class Compiled:
    """A pipeline without steps, but with the parameters of the real one."""

    def __init__(self, name, config=None):
        config = config or Config()
        found = parameters.pipeline_parameters(pipeline_of(name, config), config, NAMES)
        listed = [{"Name": p.name, "Type": p.type, "DefaultValue": p.default} for p in found.values()]
        self.name = NAMES.pipeline(name)
        self.definition = json.dumps({"Version": "2020-12-01", "Parameters": listed, "Steps": []})


def make_plan(root, config, names):
    """A plan as upsert makes it, of two small objects and the wheels of two libraries."""
    (root / "requirements-jobs.txt").write_text("a==1 \\\n    --hash=sha256:0a\nb==2\n", encoding="utf-8")
    objects = {"code/1a/source.tar.gz": b"code", "code/1a/job.sh": b"start", "champion/.empty": b"empty"}
    objects["data/labels/.empty"] = b"empty"
    pipelines = {name: Compiled(name, config) for name in ("training", "scoring")}
    return upsert.UpsertPlan(names, root, objects, "wheels/2b/", pipelines, {"Parameters": {}}, {"owner": "us"})


def download_wheels(requirements, folder):
    """Stands in for pip: the wheels of those two libraries."""
    for name in ("a-1-py3-none-any.whl", "b-2-py3-none-any.whl"):
        (folder / name).write_bytes(b"wheel")
    return sorted(folder.glob("*.whl"))


def make_bucket():
    """What the toolchain makes: the bucket, and the key's ARN as a parameter."""
    ssm = boto3.client("ssm", region_name=REGION)
    ssm.put_parameter(Name=NAMES.parameter("key"), Value=NAMES.arn("kms", "key/1234"), Type="String", Overwrite=True)
    s3 = boto3.client("s3", region_name=REGION)
    s3.create_bucket(Bucket=NAMES.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    return s3


def keys(s3):
    """Every key in the project's bucket."""
    return {item["Key"] for item in s3.list_objects_v2(Bucket=NAMES.bucket).get("Contents", [])}


def step(name, kind="ProcessingJob", status="Succeeded", start=0, minutes=3.0, **more):
    """A step as ListPipelineExecutionSteps gives it, begun so many minutes after BEGUN."""
    job = {"ProcessingJob": "processing-job", "TrainingJob": "training-job"}.get(kind)
    about = {kind: {"Arn": f"{JOB}:{job}/pipelines-x-{name}"} if job else {}}
    begun = BEGUN + timedelta(minutes=start)
    times = {"StartTime": begun, **({"EndTime": begun + timedelta(minutes=minutes)} if minutes else {})}
    return {"StepName": name, "StepStatus": status, **times, "Metadata": about, **more}
