"""A small project for a rehearsal: settings, sample telemetry, and what the toolchain would have made in AWS.

Its jobs install no wheels: the list of libraries is empty, so they run on those of this environment. That start.sh
installs a list from the wheels channel is tested beside the compiler.
"""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rehearsal.executor import Cache, Execution, Handler, execute
from scarcegan.data import synthetic
from scarcegan.pipeline import start as starting
from scarcegan.pipeline import bundle, upsert
from scarcegan.pipeline.aws import Aws
from scarcegan.pipeline.names import Names
from scarcegan.workspace import Workspace

HERE = Path(__file__).resolve().parents[2]
ACCOUNT = "111122223333"
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
        self.door = Aws(self.names, boto3.Session(region_name=self.names.region))
        self.cache: Cache = {}
        self.functions: dict[str, Handler] = {}
        self.executions: list[Execution] = []

    def found(self) -> None:
        """What infra/toolchain.yaml makes and this rehearsal needs: bucket, key, group; and the data in the bucket."""
        from scarcegan.steps.register import handler

        region = {"LocationConstraint": self.names.region}
        self.door.client("s3").create_bucket(Bucket=self.names.bucket, CreateBucketConfiguration=region)
        key = self.door.client("kms").create_key()["KeyMetadata"]["KeyId"]
        alias = self.names.key_alias_arn.rsplit(":", 1)[1]
        self.door.client("kms").create_alias(AliasName=alias, TargetKeyId=key)
        group = self.place.config.project.model_package_group
        self.door.client("sagemaker").create_model_package_group(ModelPackageGroupName=group)
        self.functions[self.names.register_function_arn] = handler
        self.upload_data()

    def upload_data(self) -> None:
        for source, path in self.place.data_sources().items():
            files = [path] if path.is_file() else sorted(path.iterdir())
            for file in files:
                key = f"data/{source}/{file.name}"
                self.door.client("s3").upload_file(str(file), self.names.bucket, key)

    def upsert(self) -> upsert.Plan:
        """Compile, upload, create the pipelines: `scarcegan upsert`. The wheels are taken to be there already."""
        plan = upsert.make_plan(self.place.root, self.place.config, self.names)
        upsert.put(self.door, plan.wheels + upsert.COMPLETE, bundle.PLACEHOLDER)
        upsert.walk(plan, self.door, False, lambda line: None)
        return plan

    def definition(self, pipeline: str) -> dict:
        """The definition as the service holds it."""
        found = self.door.client("sagemaker").describe_pipeline(PipelineName=self.names.pipeline(pipeline))
        return json.loads(found["PipelineDefinition"])

    def parameters(self, pipeline: str = "training", changes: Sequence[str] = ()) -> dict[str, str]:
        """What `scarcegan start --set …` passes: changes, and fingerprints of the data in S3."""
        plan = starting.make_plan(self.place.root / "config.yaml", pipeline, list(changes), self.names)
        return dict(starting.complete(plan, self.door, self.place.config).parameters)

    def run(self, pipeline: str = "training", changes: Sequence[str] = (), definition: dict | None = None) -> Execution:
        """Start and execute to the end: `scarcegan start` and what SageMaker does then."""
        execution = execute(
            definition or self.definition(pipeline),
            self.parameters(pipeline, changes),
            self.folder / f"{pipeline}-{len(self.executions) + 1}",
            self.functions,
            cache=self.cache,
            pipeline=self.names.pipeline(pipeline),
            region=self.names.region,
            account=self.names.account,
        )
        self.executions.append(execution)
        return execution


def nobodys_credentials() -> dict[str, str]:
    """The environment in which boto3 speaks to moto, and to nobody else should moto not be there."""
    words = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_SESSION_TOKEN": "testing"}
    account = {"AWS_ACCOUNT_ID": ACCOUNT, "MOTO_ACCOUNT_ID": ACCOUNT}
    return {**words, **account, "AWS_DEFAULT_REGION": "eu-west-1", "AWS_CONFIG_FILE": os.devnull}
