"""Release: an approved model package -> parameters of infra/endpoint.yaml for both stages, promotion, and the way back.

What is to be done is built as data first; the verbs print it or do it. Whether an endpoint answers is smoke.py's.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scarcegan.aws import client
from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names, project_tags
from scarcegan.aws.storage import project_bucket
from scarcegan.errors import UserError
from scarcegan.jsonfile import read_json, write_json
from scarcegan.pipeline.config import Config
from scarcegan.registry.contract import APPROVED, ModelPackage, Registry
from scarcegan.release.flagged_share import Band, band

if TYPE_CHECKING:
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

STAGES = ("staging", "production")
NEWEST = "newest"
DEPLOY = "deploy"  # the CodePipeline, and its variable VERSION
HEADLINE = ("pr_auc", "recall", "precision")
SUMMARY_CHARACTERS = 800  # the approval's text has 1,000: https://docs.aws.amazon.com/codepipeline/latest/APIReference/
AGAIN = "Register the model again: scarcegan start."


# -- which version --------------------------------------------------------------------------------------------------


def choose(registry: Registry, wanted: str = NEWEST) -> ModelPackage:
    """The package approved last, or version `wanted`; UserError for an unknown one, or one that is not approved."""
    if wanted == NEWEST:
        approved = [package for package in registry.packages() if package.status == APPROVED]
        if not approved:
            raise UserError("no model is approved, so nothing is released. Type: scarcegan approve VERSION --cloud")
        return max(approved, key=lambda package: (package.decided_at or package.created, package.version))
    if not (wanted.isascii() and wanted.isdigit()):
        raise UserError(f"'{plain(wanted, 40)}' is no version. Give a number that 'scarcegan models --cloud' lists.")
    package = registry.package(int(wanted))
    if package.status != APPROVED:
        raise UserError(
            f"version {package.version} ({package.definition}) is {package.status}, and only approved ones are "
            f"released. Type: scarcegan approve {package.version} --cloud"
        )
    return package


# -- the parameters of endpoint.yaml --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A release as data. stages: stage -> CloudFormation TemplateConfiguration; variables: what CodePipeline is told.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/continuous-delivery-codepipeline-cfn-artifacts.html
    """

    stages: Mapping[str, Mapping[str, Any]]
    variables: Mapping[str, str]


@dataclass(frozen=True)
class Surroundings:
    """What a release needs that neither config.yaml nor the package says. release: another one each time."""

    package_arn: str
    key_arn: str
    topic_arn: str
    code_key: str
    release: str
    project_id: str = ""


def prepare(
    config: Config, package: ModelPackage, folder: Path, champion: ModelPackage | None, around: Surroundings
) -> Prepared:
    """The release of a package, exported to `folder`. UserError for a package that says too little."""
    evaluation = read_json(folder / "evaluation" / "evaluation.json", AGAIN)
    classes = read_json(folder / "model" / "model.json", AGAIN).get("classes") or []
    if len(classes) < 2:
        raise UserError(f"version {package.version}: model.json names no classes. {AGAIN}")
    width = band(evaluation, config.monitor.minimum_rows)
    shared = {
        "SageMakerProjectName": config.project.name,
        "ModelPackageArn": around.package_arn,
        "Version": package.version,
        "Release": around.release,
        "KmsKeyArn": around.key_arn,
        "TopicArn": around.topic_arn,
        "RareLabel": len(classes) - 1,
        "LowestRareShare": width.low,
        "HighestRareShare": width.high,
        "MinimumRows": config.monitor.minimum_rows,
        "RareShareCodeKey": around.code_key,
        "Subnets": ",".join(config.cloud.subnets),
        "SecurityGroups": ",".join(config.cloud.security_groups),
    }
    tags = project_tags(config, around.project_id)
    stages = {
        stage: {"Parameters": as_text(shared | {"Stage": stage} | served(config, stage)), "Tags": tags}
        for stage in STAGES
    }
    variables = {
        "VERSION": str(package.version),
        "DEFINITION": plain(package.definition, 63),
        "SUMMARY": summary(package, champion, evaluation, width),
    }
    return Prepared(stages, variables)


def served(config: Config, stage: str) -> dict[str, Any]:
    """Machines and traffic of a stage. Staging has one instance, so that traffic cannot move in steps there."""
    it, production = config.cloud.endpoint, stage == "production"
    return {
        "InstanceType": it.instance,
        "MinInstances": it.min_instances if production else 1,
        "MaxInstances": it.max_instances if production else 1,
        "InvocationsPerInstance": it.invocations_per_instance,
        "Traffic": it.traffic.upper() if production else "ALL_AT_ONCE",
        "WaitSeconds": 60 * it.wait_minutes if production else 60,
        "LatencyMicroseconds": 1000 * it.latency_ms,
        "CapturePercentage": it.capture_percentage,
        "Serverless": it.serverless_staging and not production,
        "ServerlessMemory": it.serverless_memory_mb,
    }


def as_text(parameters: Mapping[str, Any]) -> dict[str, str]:
    """CloudFormation takes every parameter as text."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in sorted(parameters.items())
    }


def summary(package: ModelPackage, champion: ModelPackage | None, evaluation: Mapping[str, Any], width: Band) -> str:
    """What the person reads who lets it into production: model, figures, difference to the champion, the gate."""
    ours = evaluation["scarcegan"]
    figures = ", ".join(figure(name, ours.get("metrics", {}).get(name)) for name in HEADLINE)
    words = [
        f"Version {package.version} ({package.definition}): {figures}"
        f" on {ours['test_rows']['labelled']:,} labelled test users.",
        f"It flags {width.used}; in production {width.low:.1%} to {width.high:.1%} is taken for the same.",
        against(package, champion),
        str(package.gate.get("reason") or ""),
    ]
    return plain(" ".join(word for word in words if word), SUMMARY_CHARACTERS)


def figure(name: str, entry: Any) -> str:
    """`pr_auc 0.53 (0.44 to 0.61)`."""
    value, low, high = ((entry or {}).get(end) for end in ("value", "low", "high"))
    if value is None:
        return f"{name} unknown"
    return f"{name} {value:.3f}" + (f" ({low:.3f} to {high:.3f})" if None not in (low, high) else "")


def against(package: ModelPackage, champion: ModelPackage | None) -> str:
    """The difference to the champion; each was measured when it was registered."""
    if champion is None:
        return "There is no champion yet."
    if champion.version == package.version:
        return "It is the champion already."
    both = [name for name in HEADLINE if name in package.metrics and name in champion.metrics]
    gaps = ", ".join(f"{name} {package.metrics[name] - champion.metrics[name]:+.3f}" for name in both)
    words = f"Against the champion, version {champion.version} ({champion.definition}): {gaps or 'nothing in common'}"
    return f"{words}; each on the test users of its own run."


def plain(words: str, most: int) -> str:
    """One line of printable ASCII for CodePipeline and shells: no control characters, quotes, or `#{` of a variable."""
    line = " ".join(words.replace('"', "'").replace("#{", "# {").split()).encode("ascii", "replace").decode()
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= most else line[: most - 3].rstrip() + "..."


def write(prepared: Prepared, folder: Path) -> list[Path]:
    """Write <stage>.json, and variables/<NAME> each: a file per variable, so that no shell has to take text apart."""
    for stage, template in prepared.stages.items():
        write_json(folder / f"{stage}.json", template)
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    for name, value in prepared.variables.items():
        (folder / "variables" / name).write_text(value, encoding="utf-8")
    return [*(folder / f"{stage}.json" for stage in prepared.stages), folder / "variables"]


# -- in AWS ---------------------------------------------------------------------------------------------------------


def gather(
    aws: Aws,
    registry: "SageMakerRegistry",
    config: Config,
    root: Path,
    wanted: str,
    release: str,
    project_id: str = "",
) -> Prepared:
    """Choose a version and prepare its release; the rare-share function's code is uploaded unless it is there."""
    package = choose(registry, wanted)
    around = Surroundings(
        package_arn=registry.arn(package.version),
        key_arn=client.require_ssm_parameter(aws, "key"),
        topic_arn=client.require_ssm_parameter(aws, "topic"),
        code_key=upload_function(aws, root),
        release=release,
        project_id=project_id,
    )
    with tempfile.TemporaryDirectory() as place:
        folder = registry.export(package.version, Path(place) / "package")
        return prepare(config, package, folder, registry.champion(), around)


def upload_function(aws: Aws, root: Path) -> str:
    """Where the rare-share function's code lies in the bucket."""
    from scarcegan.sagemaker import bundle, upsert

    [(key, code)] = bundle.lambda_bundle(root, "rare-share").objects.items()
    upsert.upload_if_absent(project_bucket(aws), key, code, lambda line: None)
    return key


def promote(aws: Aws, registry: "SageMakerRegistry", version: int, dry_run: bool = False) -> ModelPackage:
    """Make the version that production serves the champion. UserError when production serves another one."""
    package = choose(registry, str(version))
    served_now = client.find_ssm_parameter(aws, "production/version")
    if served_now != str(version):
        raise UserError(
            f"production serves version {served_now or 'none'}, not {version}, so the champion stays. "
            f"Release it first: scarcegan release --rollback {version}"
        )
    return package if dry_run else registry.promote(version)


def roll_back(registry: Registry, names: Names, version: int) -> dict[str, Any]:
    """What StartPipelineExecution is asked for, so that the deploy pipeline releases this approved version again."""
    package = choose(registry, str(version))
    return {"name": names.pipeline(DEPLOY), "variables": [{"name": "VERSION", "value": str(package.version)}]}


def start_deploy(aws: Aws, request: Mapping[str, Any]) -> str:
    """Start the deploy pipeline; the id of its execution."""
    from botocore.exceptions import ClientError

    try:
        return aws.client("codepipeline").start_pipeline_execution(**request)["pipelineExecutionId"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "PipelineNotFoundException":
            raise
        raise UserError(
            f"there is no CodePipeline '{request['name']}' in {aws.names.region}: the toolchain creates it. "
            f"{client.DEPLOY_TOOLCHAIN}"
        ) from error


def status(aws: Aws) -> list[dict[str, Any]]:
    """A row per stage: the version it should serve, its endpoint, and whether that runs as its stack wants."""
    return [{"stage": stage, **stage_status(aws, stage)} for stage in STAGES]


def stage_status(aws: Aws, stage: str) -> dict[str, Any]:
    from scarcegan.release import smoke

    found: dict[str, Any] = {
        name: client.find_ssm_parameter(aws, f"{stage}/{name}") for name in ("version", "endpoint")
    }
    if not found["endpoint"]:
        return {**found, "state": "nothing released yet"}
    try:
        smoke.verify(aws, stage)
        return {**found, "state": "in service"}
    except UserError as error:
        return {**found, "state": str(error)}
