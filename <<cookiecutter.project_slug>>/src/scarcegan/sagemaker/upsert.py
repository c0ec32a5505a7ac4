"""Upsert: what code, wheels and pipelines in AWS should be, as data; and the walk that makes it so. See cloud.py.

The plan needs no AWS, no credentials and no network, and two plans of one tree are the same bytes. Code lies under its
own digest, so a second walk uploads nothing, and the cache of unchanged steps outlives it.
"""

import json
import os
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarcegan.aws import client
from scarcegan.aws.client import Aws
from scarcegan.aws.names import UNKNOWN_ACCOUNT, Names, project_tags
from scarcegan.aws.storage import Bucket, project_bucket
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import every_pipeline
from scarcegan.sagemaker import bundle
from scarcegan.sagemaker.pipelines import find_pipeline, parameter_defaults

COMPLETE = ".complete"  # written after the last wheel
WITHOUT_EFFECT = (  # keys of config.yaml that nothing in AWS reads yet: no monitoring job runs there
    "cloud.instances.monitor",
    "monitor.drift_threshold",
    "monitor.window_days",
    "monitor.retrain_windows",
    "monitor.of_windows",
)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """objects: key in the bucket -> bytes. wheels: prefix. pipelines: training, scoring -> what compiling gave.

    template: the TemplateConfiguration of infra/pipeline.yaml. tags: of the pipelines. cannot_run: the parts of the
    definition that SageMaker Pipelines cannot run, a sentence each.
    """

    names: Names
    root: Path
    objects: Mapping[str, bytes]
    wheels: str
    pipelines: Mapping[str, Any]
    template: Mapping[str, Any]
    tags: Mapping[str, str]
    cannot_run: Sequence[str] = ()

    @property
    def files(self) -> dict[str, str]:
        """What is written into build/: file name -> text."""
        definitions = {f"{name}.json": pretty(json.loads(made.definition)) for name, made in self.pipelines.items()}
        return {**definitions, "pipeline.json": pretty(self.template)}

    def describe(self) -> dict[str, Any]:
        """The plan as JSON holds it."""
        return {
            "account": self.names.account,
            "region": self.names.region,
            "bucket": self.names.bucket,
            "uploads": [{"key": key, "bytes": len(body)} for key, body in sorted(self.objects.items())],
            "wheels": {"prefix": self.wheels, "requirements": bundle.REQUIREMENTS},
            "pipelines": [
                {
                    "pipeline": made.name,
                    "role": self.names.role_arn("pipeline"),
                    "bytes": len(made.definition),
                    "steps": steps(json.loads(made.definition)),
                    "parameters": parameter_defaults(json.loads(made.definition)),
                }
                for made in self.pipelines.values()
            ],
            "cannot_run": list(self.cannot_run),
            "without_effect": list(WITHOUT_EFFECT),
        }


def make_plan(root: Path, config: Config, names: Names) -> Plan:
    """Bundle the code and compile both pipelines. UserError when the SageMaker SDK is not installed."""
    client.library("sagemaker.core")
    from scarcegan.sagemaker import compiler, engine

    code = bundle.code_bundle(root)
    functions = {name: bundle.lambda_bundle(root, name).objects for name in bundle.lambda_names(root)}
    zips = {key: body for objects in functions.values() for key, body in objects.items()}
    tags = project_tags(config, os.environ.get("SAGEMAKER_PROJECT_ID", ""))
    return Plan(
        names,
        root,
        {**code.objects, **zips, **bundle.markers()},
        f"{code.wheels_prefix}/",
        compiler.compile_all(config, names, code),
        template_configuration(config, next(iter(functions["register"])), tags),
        tags,
        [part for pipeline in every_pipeline(config).values() for part in engine.cannot_run(pipeline)],
    )


def with_volume_key(config: Config, aws: Aws) -> Config:
    """The settings with the ARN of the project's key, which the toolchain publishes: volumes take no alias.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html
    """
    if config.cloud.volume_key != "project":
        return config
    compiler = config.cloud.model_copy(update={"volume_key": client.require_ssm_parameter(aws, "key")})
    return config.model_copy(update={"cloud": compiler})


def template_configuration(config: Config, register_code: str, tags: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of infra/pipeline.yaml that the toolchain does not know.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/continuous-delivery-codepipeline-cfn-artifacts.html
    """
    parameters = {"RegisterCodeKey": register_code, "ScoringSchedule": config.cloud.scoring_schedule}
    return {"Parameters": parameters, "Tags": dict(tags)}


def steps(compiled: Mapping[str, Any]) -> list[dict[str, str]]:
    """Name, type and instance type of every step, those behind a condition included, in order."""
    parameters = parameter_defaults(compiled)

    def walk(level: list[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
        for step in level:
            arguments = step.get("Arguments", {})
            yield {"step": step["Name"], "type": step["Type"], "instance": instance(step, parameters)}
            for branch in ("IfSteps", "ElseSteps"):
                yield from walk(arguments.get(branch, []))

    return list(walk(compiled["Steps"]))


def instance(step: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """The instance type of a step's job, "" for a step without one; a parameter counts with its default."""
    arguments = step.get("Arguments", {})
    place = arguments.get("ProcessingResources", {}).get("ClusterConfig") or arguments.get("ResourceConfig") or {}
    found = place.get("InstanceType", "")
    return str(parameters.get(found["Get"].split(".")[-1], "")) if isinstance(found, Mapping) else found


def pretty(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def write(plan: Plan) -> list[Path]:
    """Write build/*.json; returns the files."""
    folder = plan.root / "build"
    folder.mkdir(exist_ok=True)
    for name, text in plan.files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in plan.files]


def lines(plan: Plan) -> list[str]:
    """The plan for people."""
    about = plan.describe()
    names = plan.names
    unknown = names.account == UNKNOWN_ACCOUNT
    found = [f"{UNKNOWN_ACCOUNT} stands for your account; set AWS_ACCOUNT_ID to see its names"] if unknown else []
    found += [f"bucket    {names.bucket}"]
    found += [f"upload    {item['key']}  {item['bytes']:,} bytes" for item in about["uploads"]]
    found += [
        f"wheels    {plan.wheels}  of {bundle.REQUIREMENTS}; downloaded and uploaded unless they are complete there"
    ]
    wrapped = textwrap.TextWrapper(118, "  ", "    ", break_on_hyphens=False, break_long_words=False)
    for item in about["pipelines"]:
        found += ["", f"pipeline  {item['pipeline']}  (role {names.role('pipeline')}, {item['bytes']:,} bytes)"]
        width = max(len(step["step"]) for step in item["steps"])
        found += [f"  {s['step']:<{width}}  {s['type']:<11}{s['instance']}".rstrip() for s in item["steps"]]
        said = ", ".join(f"{key}={value}" for key, value in item["parameters"].items())
        found += wrapped.wrap(f"parameters: {said}")
    found += ["", *(f"SageMaker cannot run {part}" for part in plan.cannot_run)]
    found += ["These keys of config.yaml change nothing in AWS yet:"]
    return [*found, *wrapped.wrap(", ".join(WITHOUT_EFFECT))]


def walk(plan: Plan, aws: Aws, upload_only: bool, say: Say) -> dict[str, Any]:
    """Make AWS hold what the plan says. Safe to repeat, and to break off anywhere. Returns what was done."""
    require_bucket(aws)
    bucket = project_bucket(aws)
    uploaded = [key for key, body in sorted(plan.objects.items()) if upload_if_absent(bucket, key, body, say)]
    wheels = upload_wheels(plan, bucket, say)
    made = (
        {} if upload_only else {made.name: put_pipeline(plan, aws, name, say) for name, made in plan.pipelines.items()}
    )
    return {"uploaded": uploaded, "wheels": wheels, "pipelines": made}


def require_bucket(aws: Aws) -> None:
    """UserError when the bucket is not there, or belongs to somebody else."""
    from botocore.exceptions import ClientError

    try:
        aws.client("s3").head_bucket(Bucket=aws.names.bucket, ExpectedBucketOwner=aws.names.account)
    except ClientError as error:
        if client.is_missing(error):
            raise UserError(client.missing_bucket_sentence(aws.names)) from error
        if error.response["Error"].get("Code") in client.ACCESS_DENIED_CODES:
            raise UserError(
                f"bucket {aws.names.bucket} is closed to you: it is another account's, or you lack s3:ListBucket "
                f"there (README, 'Permissions'). This project's account is {aws.names.account}."
            ) from error
        raise


def upload_if_absent(bucket: Bucket, key: str, body: bytes, say: Say) -> bool:
    """Upload an object unless its key is there: a key names its content, or marks an empty folder.

    Returns whether it was uploaded.
    """
    if bucket.exists(key):
        return False
    say(f"upload {key}")
    bucket.put_bytes(key, body)
    return True


def upload_wheels(plan: Plan, bucket: Bucket, say: Say) -> int:
    """Download the jobs' wheels for their image and upload them, the mark of completeness last.

    Returns how many; 0 when they are complete there already.
    """
    if bucket.exists(plan.wheels + COMPLETE):
        return 0
    with tempfile.TemporaryDirectory() as folder:
        say(f"download the wheels of {bundle.REQUIREMENTS}")
        wheels = bundle.download_wheels(plan.root / bundle.REQUIREMENTS, Path(folder))
        for wheel in wheels:
            say(f"upload {plan.wheels}{wheel.name}")
            bucket.put(plan.wheels + wheel.name, wheel)
    bucket.put_bytes(plan.wheels + COMPLETE, bundle.PLACEHOLDER)
    return len(wheels)


def put_pipeline(plan: Plan, aws: Aws, name: str, say: Say) -> str:
    """Create or update one SageMaker pipeline: created, changed or unchanged.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreatePipeline.html
    """
    sagemaker, role = aws.client("sagemaker"), plan.names.role_arn("pipeline")
    made = plan.pipelines[name]
    wanted = {"PipelineDefinition": made.definition, "RoleArn": role}
    tags = [{"Key": key, "Value": value} for key, value in plan.tags.items()]
    present = find_pipeline(aws, name)
    if present is None:
        say(f"create {made.name}")
        sagemaker.create_pipeline(PipelineName=made.name, Tags=tags, **wanted)
        return "created"
    if {key: present.get(key) for key in wanted} == wanted:
        return "unchanged"
    say(f"change {made.name}")
    sagemaker.update_pipeline(PipelineName=made.name, **wanted)
    sagemaker.add_tags(ResourceArn=present["PipelineArn"], Tags=tags)
    return "changed"
