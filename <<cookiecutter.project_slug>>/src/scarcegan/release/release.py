"""Release an approved model package: parameters of infra/endpoint.yaml for both stages, promotion, and rollback.

A release is planned as data first; commands then print it or carry it out. smoke.py tests the endpoint.
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
from scarcegan.release.flagged_share import REGISTER_AGAIN, Band, flagged_share_band

if TYPE_CHECKING:
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

STAGES = ("staging", "production")
NEWEST = "newest"
DEPLOY = "deploy"  # the CodePipeline that releases; it takes a variable VERSION
SUMMARY_METRICS = ("pr_auc", "recall", "precision")
SUMMARY_CHARACTERS = 800  # CodePipeline's approval text takes 1,000, the rest of it included:
# https://docs.aws.amazon.com/codepipeline/latest/APIReference/


# -- which version --------------------------------------------------------------------------------------------------


def approved_package(registry: Registry, wanted: str = NEWEST) -> ModelPackage:
    """Return the approved model package to release.

    - registry: the model registry to look in.
    - wanted: a version number as text, or "newest" for the package that was approved last.

    Raises UserError for other text, for a version that does not exist or is not approved, and for "newest" when no
    package is approved.
    """
    if wanted == NEWEST:
        approved = [package for package in registry.packages() if package.status == APPROVED]
        if not approved:
            raise UserError("no model is approved, so nothing is released. Type: scarcegan approve VERSION --cloud")
        return max(approved, key=lambda package: (package.decided_at or package.created, package.version))
    if not (wanted.isascii() and wanted.isdigit()):
        raise UserError(
            f"'{one_line_ascii(wanted, 40)}' is no version. Give a number that 'scarcegan models --cloud' lists."
        )
    package = registry.package(int(wanted))
    if package.status != APPROVED:
        raise UserError(
            f"version {package.version} ({package.definition}) is {package.status}, and only approved ones are "
            f"released. Type: scarcegan approve {package.version} --cloud"
        )
    return package


# -- the parameters of endpoint.yaml --------------------------------------------------------------------------------


@dataclass(frozen=True)
class PreparedRelease:
    """A release, ready to be written into files.

    - stages: "staging" and "production" -> the values of infra/endpoint.yaml for that stage, as CloudFormation's
      TemplateConfiguration (Parameters, Tags).
    - variables: VERSION, DEFINITION and SUMMARY (for the person who approves) -> text, as CodePipeline's variables.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/continuous-delivery-codepipeline-cfn-artifacts.html
    """

    stages: Mapping[str, Mapping[str, Any]]
    variables: Mapping[str, str]


@dataclass(frozen=True)
class ReleaseInputs:
    """Values of a release that come from AWS or from the build, not from config.yaml or the package.

    - package_arn: ARN of the model package.
    - key_arn: ARN of the project's KMS key.
    - topic_arn: ARN of the SNS topic for notifications.
    - code_key: S3 key of the code of the rare-share function, a Lambda function that counts answered and flagged rows.
    - release: a text that is different for each release, such as its time, for the stacks' parameter Release.
    - project_id: the id of the SageMaker project, for the tags of the stacks; "" when there is none.
    """

    package_arn: str
    key_arn: str
    topic_arn: str
    code_key: str
    release: str
    project_id: str = ""


def release_of_package(
    config: Config, package: ModelPackage, folder: Path, champion: ModelPackage | None, inputs: ReleaseInputs
) -> PreparedRelease:
    """Plan the release of a model package. Makes no call to AWS.

    - package: the model package.
    - folder: the folder that the package's files were exported to.
    - champion: the registry's champion, which the summary compares the package with; None when there is none.
    - inputs: values from AWS and from the build.

    Raises UserError when model.json or evaluation.json is missing or is not JSON, when model.json names fewer than two
    classes, or when evaluation.json does not say how many users the model flags.
    """
    evaluation = read_json(folder / "evaluation" / "evaluation.json", REGISTER_AGAIN)
    classes = read_json(folder / "model" / "model.json", REGISTER_AGAIN).get("classes") or []
    if len(classes) < 2:
        raise UserError(f"version {package.version}: model.json names no classes. {REGISTER_AGAIN}")
    width = flagged_share_band(evaluation, config.monitor.minimum_rows)
    shared = {
        "SageMakerProjectName": config.project.name,
        "ModelPackageArn": inputs.package_arn,
        "Version": package.version,
        "Release": inputs.release,
        "KmsKeyArn": inputs.key_arn,
        "TopicArn": inputs.topic_arn,
        "RareLabel": len(classes) - 1,
        "LowestRareShare": width.low,
        "HighestRareShare": width.high,
        "MinimumRows": config.monitor.minimum_rows,
        "RareShareCodeKey": inputs.code_key,
        "Subnets": ",".join(config.cloud.subnets),
        "SecurityGroups": ",".join(config.cloud.security_groups),
    }
    tags = project_tags(config, inputs.project_id)
    stages = {
        stage: {
            "Parameters": parameter_texts(shared | {"Stage": stage} | stage_parameters(config, stage)),
            "Tags": tags,
        }
        for stage in STAGES
    }
    variables = {
        "VERSION": str(package.version),
        "DEFINITION": one_line_ascii(package.definition, 63),
        "SUMMARY": approval_summary(package, champion, evaluation, width),
    }
    return PreparedRelease(stages, variables)


def stage_parameters(config: Config, stage: str) -> dict[str, Any]:
    """Return those parameters of infra/endpoint.yaml (name -> value) that cloud.endpoint of config.yaml sets.

    These are instances, traffic shifting, latency alarm, data capture and serverless, as numbers, texts and bools. Most
    are the same for both stages. Only production takes the number of instances, the traffic shifting and its wait from
    config.yaml: staging has one instance, so its traffic moves all at once, with a wait of 60 seconds. Only staging can
    be serverless.

    - stage: staging or production.
    """
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


def parameter_texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Return parameter -> value as text, in name order, as CloudFormation takes it.

    True becomes "true" and False "false"; any other value becomes its str().
    """
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in sorted(parameters.items())
    }


def approval_summary(
    package: ModelPackage, champion: ModelPackage | None, evaluation: Mapping[str, Any], width: Band
) -> str:
    """Return the text for the person who approves the release to production: one line of at most 800 ASCII characters.

    It gives the model, its metrics, the normal share of flagged rows, the difference to the champion, and why the gate
    let it pass.

    - package: the model package to release.
    - champion: the registry's champion; None when there is none.
    - evaluation: the content of the package's evaluation.json.
    - width: the normal range of the share of flagged rows.
    """
    ours = evaluation["scarcegan"]
    figures = ", ".join(metric_text(name, ours.get("metrics", {}).get(name)) for name in SUMMARY_METRICS)
    words = [
        f"Version {package.version} ({package.definition}): {figures}"
        f" on {ours['test_rows']['labelled']:,} labelled test users.",
        f"It flags {width.used}; in production {width.low:.1%} to {width.high:.1%} is taken for the same.",
        champion_comparison(package, champion),
        str(package.gate.get("reason") or ""),
    ]
    return one_line_ascii(" ".join(word for word in words if word), SUMMARY_CHARACTERS)


def metric_text(name: str, entry: Any) -> str:
    """Return a metric with its 95 % interval as text, such as "pr_auc 0.530 (0.440 to 0.610)".

    - name: of the metric.
    - entry: a dictionary with its "value", "low" and "high" out of evaluation.json; None when the metric is not there.
      Without a value the text is "pr_auc unknown", without an interval "pr_auc 0.530".
    """
    value, low, high = ((entry or {}).get(end) for end in ("value", "low", "high"))
    if value is None:
        return f"{name} unknown"
    return f"{name} {value:.3f}" + (f" ({low:.3f} to {high:.3f})" if None not in (low, high) else "")


def champion_comparison(package: ModelPackage, champion: ModelPackage | None) -> str:
    """Return a sentence with the differences in pr_auc, recall and precision, each the package's less the champion's.

    The metrics are those recorded with the packages, each measured in the run of its model. A metric that one of the
    two lacks is left out. When they share none, when there is no champion, or when the package is the champion, the
    sentence says so.
    """
    if champion is None:
        return "There is no champion yet."
    if champion.version == package.version:
        return "It is the champion already."
    both = [name for name in SUMMARY_METRICS if name in package.metrics and name in champion.metrics]
    gaps = ", ".join(f"{name} {package.metrics[name] - champion.metrics[name]:+.3f}" for name in both)
    words = f"Against the champion, version {champion.version} ({champion.definition}): {gaps or 'nothing in common'}"
    return f"{words}; each on the test users of its own run."


def one_line_ascii(words: str, most: int) -> str:
    """Return a text as one line of printable ASCII, for a variable of CodePipeline.

    Double quotes become single ones, "#{" becomes "# {" (CodePipeline would read a variable), blanks and line breaks
    become one blank, what is not ASCII becomes "?", and control characters are left out.

    - most: the longest result, at least 3 characters; a longer text is cut and ends in "...".
    """
    line = " ".join(words.replace('"', "'").replace("#{", "# {").split()).encode("ascii", "replace").decode()
    line = "".join(character for character in line if character.isprintable())
    return line if len(line) <= most else line[: most - 3].rstrip() + "..."


def write_release(prepared: PreparedRelease, folder: Path) -> list[Path]:
    """Write a release into a folder: <stage>.json per stage, and variables/<NAME> per variable. Replaces these files.

    Folders are made when they are missing. Each variable has its own file, so that the shell of the build need not
    parse text. Returns the path of each stage's file, then that of the folder variables.
    """
    for stage, template in prepared.stages.items():
        write_json(folder / f"{stage}.json", template)
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    for name, value in prepared.variables.items():
        (folder / "variables" / name).write_text(value, encoding="utf-8")
    return [*(folder / f"{stage}.json" for stage in prepared.stages), folder / "variables"]


# -- in AWS ---------------------------------------------------------------------------------------------------------


def prepare_release(
    aws: Aws,
    registry: "SageMakerRegistry",
    config: Config,
    root: Path,
    wanted: str,
    release: str,
    project_id: str = "",
) -> PreparedRelease:
    """Plan the release of an approved version with what AWS knows, and upload the code of the rare-share function.

    The upload happens unless the code is there already. The release itself is not started and no file is kept.

    - root: the project's folder.
    - wanted: a version number as text, or "newest" for the package that was approved last.
    - release: a text that is different for each release, such as its time; see `ReleaseInputs`.
    - project_id: the id of the SageMaker project; "" when there is none.

    Raises UserError for a version that `approved_package` refuses, for a package whose files are incomplete, unreadable
    or were changed in SageMaker, or when the toolchain is not deployed.
    """
    package = approved_package(registry, wanted)
    inputs = ReleaseInputs(
        package_arn=registry.arn(package.version),
        key_arn=client.require_ssm_parameter(aws, "key"),
        topic_arn=client.require_ssm_parameter(aws, "topic"),
        code_key=upload_rare_share_function(aws, root),
        release=release,
        project_id=project_id,
    )
    with tempfile.TemporaryDirectory() as place:
        folder = registry.export(package.version, Path(place) / "package")
        return release_of_package(config, package, folder, registry.champion(), inputs)


def upload_rare_share_function(aws: Aws, root: Path) -> str:
    """Upload the code of the rare-share function to the project's bucket unless it is there. Returns its S3 key.

    - root: the project's folder.
    """
    from scarcegan.sagemaker import bundle, upsert

    [(key, code)] = bundle.lambda_bundle(root, "rare-share").objects.items()
    upsert.upload_if_absent(project_bucket(aws), key, code, lambda line: None)
    return key


def promote_served_version(
    aws: Aws, registry: "SageMakerRegistry", version: int, dry_run: bool = False
) -> ModelPackage:
    """Make the version that production serves the champion of the registry. Returns its package.

    Which version production serves is read from the SSM parameter production/version, which the stack of production
    writes; the endpoint is not asked.

    - version: the version that production is expected to serve.
    - dry_run: check only, change nothing; the package is returned as it is.

    Raises UserError when production serves another version or none, when the version does not exist or is not approved,
    and without dry_run also when its package lacks files or was changed.
    """
    package = approved_package(registry, str(version))
    served_now = client.find_ssm_parameter(aws, "production/version")
    if served_now != str(version):
        raise UserError(
            f"production serves version {served_now or 'none'}, not {version}, so the champion stays. "
            f"Release it first: scarcegan release --rollback {version}"
        )
    return package if dry_run else registry.promote(version)


def rollback_request(registry: Registry, names: Names, version: int) -> dict[str, Any]:
    """Return the arguments of CodePipeline's StartPipelineExecution that release an approved version again.

    These are the name of the deploy pipeline (key "name") and its variable VERSION (key "variables"). Nothing is
    started; `start_deploy` does that.

    - names: the project's names in AWS.

    Raises UserError when the version does not exist or is not approved.
    """
    package = approved_package(registry, str(version))
    return {"name": names.pipeline(DEPLOY), "variables": [{"name": "VERSION", "value": str(package.version)}]}


def start_deploy(aws: Aws, request: Mapping[str, Any]) -> str:
    """Start the deploy pipeline. Returns the id of its execution. request: what `rollback_request` returns.

    Raises UserError when the toolchain, which creates that pipeline, is not deployed.
    """
    started = client.none_if_missing(lambda: aws.client("codepipeline").start_pipeline_execution(**request))
    if started is None:
        raise UserError(
            f"there is no CodePipeline '{request['name']}' in {aws.names.region}: the toolchain creates it. "
            f"{client.DEPLOY_TOOLCHAIN}"
        )
    return str(started["pipelineExecutionId"])


def stage_statuses(aws: Aws) -> list[dict[str, Any]]:
    """Return a dictionary for staging, then one for production: "stage", and the keys of `stage_status`."""
    return [{"stage": stage, **stage_status(aws, stage)} for stage in STAGES]


def stage_status(aws: Aws, stage: str) -> dict[str, Any]:
    """Return a dictionary of texts about a stage, as AWS reports it:

    - version: the version that was last released to the stage, a number as text; "" when nothing was.
    - endpoint: the name of its endpoint; "" when nothing was released to it.
    - state: "nothing released yet" when the endpoint is "", otherwise "in service", or what is wrong as a sentence.

    stage: staging or production.
    """
    from scarcegan.release import smoke

    found: dict[str, Any] = {
        name: client.find_ssm_parameter(aws, f"{stage}/{name}") for name in ("version", "endpoint")
    }
    if not found["endpoint"]:
        return {**found, "state": "nothing released yet"}
    try:
        smoke.verify_stage(aws, stage)
        return {**found, "state": "in service"}
    except UserError as error:
        return {**found, "state": str(error)}
