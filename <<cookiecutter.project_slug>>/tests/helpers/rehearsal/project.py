"""A small project for a rehearsal: settings, sample telemetry, and what the toolchain would have made in AWS.

Its jobs install no wheels: the list of libraries is empty, so they run on those of this environment. That job.sh
installs a list from the wheels channel is tested beside the compiler.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import stack_server
from rehearsal.executor import Cache, Execution, Handler, execute
from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names
from scarcegan.aws.storage import project_bucket
from scarcegan.data import synthetic
from scarcegan.sagemaker import bundle, upsert
from scarcegan.sagemaker import start as starting
from scarcegan.sagemaker.pipelines import configured
from scarcegan.workspace import Workspace
from stacks import ACCOUNT, REGION, Stack, Toolchain

HERE = Path(__file__).resolve().parents[3]
USERS, DAYS = 1500, 60
SETTINGS = """
labels: {rare_class: risky}
split: {folds: 2}
train: {iterations: 200, seeds: 1}
evaluate: {bootstrap: 100}
gate: {minimum: 0.01}
"""
NOTHING_TO_INSTALL = "# The rehearsal's jobs run on the libraries of its own environment.\n"


def make(folder: Path) -> Workspace:
    """Write a project: the code as it is, small settings, the sample. Data is the same each time."""
    shutil.copytree(HERE / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    shutil.copytree(HERE / "infra", folder / "infra")
    (folder / "config.yaml").write_text(SETTINGS, encoding="utf-8")
    (folder / bundle.REQUIREMENTS).write_text(NOTHING_TO_INSTALL, encoding="utf-8")
    place = Workspace.open(folder / "config.yaml")
    synthetic.generate(place.path(place.config.data.path).parent, users=USERS, days=DAYS)
    return place


class Rehearsal:
    """A project in an account that moto stands for. Executions share a cache, as those of one pipeline do."""

    def __init__(self, place: Workspace, folder: Path) -> None:
        import boto3

        self.place, self.folder = place, folder
        self.names = Names(place.config.project.name, ACCOUNT, place.config.project.region)
        self.connection = Aws(self.names, boto3.Session(region_name=self.names.region))
        self.cache: Cache = {}
        self.functions: dict[str, Handler] = {}
        self.started: list[dict[str, str]] = []  # the parameters of each execution
        project = place.config.project
        given = {"SageMakerProjectName": project.name, "ModelPackageGroupName": project.model_package_group}
        code = bundle.function_code(place.root).parameters
        self.toolchain = Toolchain({**given, **code, "Repository": project.name})

    def found(self) -> None:
        """What `scarcegan toolchain deploy` makes, as far as needed: bucket, group, SSM parameters; then the data."""
        from scarcegan.sagemaker.register_function import handler

        region = {"LocationConstraint": self.names.region}
        bucket = self.toolchain.resources["Bucket"]["BucketName"]
        self.connection.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=region)
        for group in self.toolchain.of_type("AWS::SageMaker::ModelPackageGroup").values():
            name = group["ModelPackageGroupName"]
            self.connection.client("sagemaker").create_model_package_group(ModelPackageGroupName=name)
        self.publish(self.toolchain)
        environment = self.toolchain.resources["RegisterFunction"]["Environment"]["Variables"]
        self.functions[self.names.register_function_arn] = patch.dict(os.environ, environment)(handler)
        self.upload_data()

    def publish(self, stack: Stack) -> None:
        """Put the SSM parameters of a stack, as deploying it would."""
        for made in stack.of_type("AWS::SSM::Parameter").values():
            about = {"Name": made["Name"], "Value": str(made["Value"]), "Type": "String"}
            self.connection.client("ssm").put_parameter(**about, Overwrite=True)

    def upload_data(self) -> None:
        for source, path in self.place.data_sources().items():
            files = [path] if path.is_file() else sorted(path.iterdir())
            for file in files:
                key = f"data/{source}/{file.name}"
                self.connection.client("s3").upload_file(str(file), self.names.bucket, key)

    def upsert(self) -> upsert.UpsertPlan:
        """Compile, upload, create the pipelines: `scarcegan upsert`. The wheels are taken to be there already."""
        plan = upsert.plan_upsert(
            self.place.root, upsert.with_volume_key(self.place.config, self.connection), self.names
        )
        project_bucket(self.connection).put_bytes(plan.wheels + bundle.COMPLETE, bundle.PLACEHOLDER)
        upsert.apply_plan(plan, self.connection, False, lambda line: None)
        return plan

    def read(self, uri: str) -> bytes:
        """An object of the bucket."""
        bucket, key = uri.removeprefix("s3://").split("/", 1)
        return self.connection.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()

    def definition(self, pipeline: str) -> dict:
        """The definition as the service holds it."""
        found = self.connection.client("sagemaker").describe_pipeline(PipelineName=self.names.pipeline(pipeline))
        return json.loads(found["PipelineDefinition"])

    def parameters(self, pipeline: str = "training", changes: Sequence[str] = ()) -> dict[str, str]:
        """What `scarcegan start --set …` passes: changes, and fingerprints of the data in S3."""
        base = configured(pipeline, self.place.config, self.names)
        plan = starting.plan_start(base, self.place.root / "config.yaml", list(changes))
        return dict(starting.complete(plan, base, self.connection).parameters)

    def run(self, pipeline: str = "training", changes: Sequence[str] = ()) -> Execution:
        """Start and execute to the end: `scarcegan start` and what SageMaker does then."""
        return self.execute(pipeline, self.definition(pipeline), self.parameters(pipeline, changes), self.cache)

    def execute(self, pipeline: str, definition: dict, parameters: dict[str, str], cache: Cache) -> Execution:
        """Execute a definition in place of the one that the service holds."""
        self.started.append(parameters)
        return execute(
            definition,
            parameters,
            self.folder / f"{pipeline}-{len(self.started)}",
            self.functions,
            cache=cache,
            pipeline=self.names.pipeline(pipeline),
            region=self.names.region,
            account=self.names.account,
        )


def surroundings() -> dict[str, str]:
    """The environment of a rehearsal: boto3 speaks to moto, and to nobody if moto is not there."""
    words = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": "testing"}
    account = {"AWS_ACCOUNT_ID": ACCOUNT, "MOTO_ACCOUNT_ID": ACCOUNT}
    place = {"AWS_DEFAULT_REGION": REGION, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return {**words, **account, **place, **stack_server.environment()}
