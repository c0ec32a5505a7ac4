"""Release an approved model package: parameters of infra/endpoint.yaml for both stages, promotion, and rollback.

A release is planned as data first; commands then print it or carry it out. smoke.py tests the endpoint.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scarcegan.aws import client
from scarcegan.aws.accounts import (
    STAGES,
    access_to_stage,
    endpoint_parameters_elsewhere,
    profile_to_type,
)
from scarcegan.aws.client import Aws
from scarcegan.aws.names import Names, project_tags
from scarcegan.aws.quotas import refused_endpoint_machine
from scarcegan.aws.stack_states import refuse_unless_changeable, stack_command
from scarcegan.aws.toolchain import find_stack
from scarcegan.errors import UserError, short
from scarcegan.jsonfile import read_json, write_json
from scarcegan.pipeline.config import Config
from scarcegan.registry.contract import APPROVED, ModelPackage, Registry
from scarcegan.release.flagged_share import REGISTER_AGAIN, Band, flagged_share_band

if TYPE_CHECKING:
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry

NEWEST = "newest"
DEPLOY = "deploy"  # the CodePipeline that releases; it takes a variable VERSION
NO_ENDPOINT = {
    "staging": "no endpoint: it has one while a release is tested (StagingRuns of the toolchain)",
    "production": "nothing released yet",
}
SUMMARY_METRICS = ("pr_auc", "recall", "precision")
SUMMARY_CHARACTERS = 628  # CodePipeline's approval text takes 1,000 (CustomData), with what else it says:
# https://docs.aws.amazon.com/codepipeline/latest/userguide/action-reference-ManualApproval.html


# -- which version --------------------------------------------------------------------------------------------------


def approved_package(registry: Registry, wanted: str = NEWEST) -> ModelPackage:
    """Return the approved model package to release.

    - registry: the model registry to look in.
    - wanted: a version number as text, or "newest" for the package that was approved last.

    Raises UserError for other text, for a version that does not exist, is not approved or lacks a digest,
    and for "newest" when no package is approved.
    """
    package = newest_approved(registry) if wanted == NEWEST else named_package(registry, wanted)
    if package.status != APPROVED:
        raise UserError(
            f"version {package.version} ({package.definition}) is {package.status}, and only approved ones are "
            f"released. Type: scarcegan approve {package.version} --cloud"
        )
    if not (package.model_digest and package.evaluation_digest):
        raise UserError(
            f"version {package.version} ({package.definition}) was registered by an earlier version of this project, "
            "without a digest of its model or of its evaluation, so nobody can tell whether they were changed. "
            f"{REGISTER_AGAIN}"
        )
    return package


def newest_approved(registry: Registry) -> ModelPackage:
    """Return the package that was approved last. Raises UserError when none is approved."""
    approved = [package for package in registry.packages() if package.status == APPROVED]
    if not approved:
        raise UserError("no model is approved, so nothing is released. Type: scarcegan approve VERSION --cloud")
    return max(approved, key=lambda package: (package.decided_at or package.created, package.version))


def named_package(registry: Registry, wanted: str) -> ModelPackage:
    """Return the package with a version that is given as text.

    Raises UserError for other text and for an unknown version.
    """
    if not (wanted.isascii() and wanted.isdigit()):
        raise UserError(
            f"'{one_line_ascii(wanted, 40)}' is no version. Give a number that 'scarcegan models --cloud' lists."
        )
    return registry.package(int(wanted))


# -- the parameters of endpoint.yaml --------------------------------------------------------------------------------


@dataclass(frozen=True)
class PreparedRelease:
    """A release, ready to be written into files.

    - stages: "staging" and "production" -> the values of infra/endpoint.yaml for that stage, as CloudFormation's
      TemplateConfiguration (Parameters, Tags).
    - variables: VERSION, DEFINITION, SUMMARY (for the person who approves) and DIGEST (of the model) -> text, as
      CodePipeline's variables.

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
    - code: the digest of the jobs' code of the commit that releases; "" when it is not known.
    - network: subnets and security groups of the toolchain's functions, such as "subnet-1,subnet-2 sg-1"; "" for none.
    - elsewhere: stage -> parameters of infra/endpoint.yaml (name -> value) that are other ones in the stage's account.
    """

    package_arn: str
    key_arn: str
    topic_arn: str
    code_key: str
    release: str
    project_id: str = ""
    code: str = ""
    network: str = ""
    elsewhere: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


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
        "CodeBucketName": "",
        "CaptureBucketName": "",
        "FunctionSubnets": inputs.network.partition(" ")[0],
        "FunctionSecurityGroups": inputs.network.partition(" ")[2],
        "Subnets": ",".join(config.cloud.subnets),
        "SecurityGroups": ",".join(config.cloud.security_groups),
    }
    tags = project_tags(config, inputs.project_id)
    stages = {
        stage: {
            "Parameters": parameter_texts(
                shared | {"Stage": stage} | stage_parameters(config, stage) | dict(inputs.elsewhere.get(stage, {}))
            ),
            "Tags": tags,
        }
        for stage in STAGES
    }
    variables = {
        "VERSION": str(package.version),
        "DEFINITION": one_line_ascii(package.definition, 63),
        "SUMMARY": approval_summary(package, champion, evaluation, width, inputs.code),
        "DIGEST": package.model_digest,
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
    package: ModelPackage, champion: ModelPackage | None, evaluation: Mapping[str, Any], width: Band, code: str = ""
) -> str:
    """Return the text for the person who approves the release to production: one line of at most 628 ASCII characters.

    It gives the model with the beginning of its digest, its metrics, the normal share of flagged rows, the difference
    to the champion, the data and the code that it was trained with, and why the gate let it pass. Only the last of
    these may be cut.

    - package: the model package to release.
    - champion: the registry's champion; None when there is none.
    - evaluation: the content of the package's evaluation.json.
    - width: the normal range of the share of flagged rows.
    - code: the digest of the jobs' code of the commit that releases; "" when it is not known.
    """
    ours = evaluation["scarcegan"]
    figures = ", ".join(metric_text(name, ours.get("metrics", {}).get(name)) for name in SUMMARY_METRICS)
    words = [
        f"Version {package.version} ({package.definition}, model {short(package.model_digest)}): {figures}"
        f" on {ours['test_rows']['labelled']:,} labelled test users.",
        f"It flags {width.used}; in production {width.low:.1%} to {width.high:.1%} is taken for the same.",
        champion_comparison(package, champion),
        f"Trained in run {package.run[:24] or 'unknown'} on the data"
        f" {short(package.data_fingerprint) or 'unknown'} with {code_comparison(package, code)}.",
        str(package.gate.get("reason") or ""),
    ]
    return one_line_ascii(" ".join(word for word in words if word), SUMMARY_CHARACTERS)


def code_comparison(package: ModelPackage, code: str) -> str:
    """Return which code a package was trained with, as text, and whether it is that of the commit that releases.

    - code: the digest of that commit's code; "" when it is not known.
    """
    trained = short(package.code_version) or "unknown"
    if not code:
        return f"the code {trained}"
    same = package.code_version == code
    return f"this commit's code {trained}" if same else f"the code {trained}, NOT this commit's {short(code)}"


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
    wanted: str,
    release: str,
    project_id: str = "",
    code: str = "",
) -> PreparedRelease:
    """Plan the release of an approved version with what AWS knows. Changes nothing in AWS, and keeps no file.

    - wanted: a version number as text, or "newest" for the package that was approved last.
    - release: a text that is different for each release, such as its time; see `ReleaseInputs`.
    - project_id: the id of the SageMaker project; "" when there is none.
    - code: the digest of the jobs' code of the commit that releases; "" when it is not known.

    Raises UserError for a version that `approved_package` refuses, for a package whose files are incomplete, unreadable
    or were changed, when a stage's stack or endpoint cannot take a release, or when the toolchain is not deployed.
    """
    package = approved_package(registry, wanted)
    there = {stage: access_to_stage(aws, stage) for stage in STAGES}
    for stage in STAGES:
        require_ready_stack(there[stage], stage, profile_to_type(aws, there[stage]))
        if refused := refused_endpoint_machine(aws, there[stage], config, stage):
            raise UserError(refused)
    require_instance_change_possible(there["production"], config)
    require_serverless_possible(there["staging"], config, profile_to_type(aws, there["staging"]))
    inputs = ReleaseInputs(
        package_arn=registry.arn(package.version),
        key_arn=client.require_ssm_parameter(aws, "key"),
        topic_arn=client.require_ssm_parameter(aws, "topic"),
        code_key=client.require_ssm_parameter(aws, "rare-share-code"),
        release=release,
        project_id=project_id,
        code=code,
        network=client.find_ssm_parameter(aws, "network") or "",
        elsewhere={stage: endpoint_parameters_elsewhere(aws, stage) for stage in STAGES},
    )
    with tempfile.TemporaryDirectory() as place:
        folder = registry.export(package.version, Path(place) / "package")
        return release_of_package(config, package, folder, registry.champion(), inputs)


def require_ready_stack(aws: Aws, stage: str, profile: str = "") -> None:
    """Check that CloudFormation can create or update the stack of a stage.

    A stack whose first creation failed cannot be updated, and every release would fail at it. CodePipeline could
    replace it by itself (REPLACE_ON_FAILURE), but would also delete a stack that once worked, and production with it.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/continuous-delivery-codepipeline-action-reference.html

    - aws: access to the account of the stage.
    - stage: staging or production.
    - profile: for the command, in an account of the stage's own.

    Raises UserError when it cannot, with the command to type.
    """
    name = aws.names.stack(stage)
    refuse_unless_changeable(name, aws.names.region, find_stack(aws, name), profile)


def require_instance_change_possible(aws: Aws, config: Config) -> None:
    """Check that SageMaker would take the machine of cloud.endpoint.instance for the endpoint of production.

    It refuses another machine while the number of instances is scaled automatically.
    https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-scaling-update.html

    Raises UserError when the machine changes under scaling, with the way.
    """
    from scarcegan.release import smoke

    name, wanted = aws.names.endpoint("production"), config.cloud.endpoint.instance
    there = client.none_if_missing(lambda: aws.client("sagemaker").describe_endpoint(EndpointName=name))
    runs = smoke.variants(aws, there["EndpointConfigName"]) if there else []
    changed = [it for it in runs if it.get("InstanceType", wanted) != wanted]
    if not changed:
        return
    targets = [f"endpoint/{name}/variant/{it['VariantName']}" for it in changed]
    asked = {"ServiceNamespace": "sagemaker", "ResourceIds": targets}
    if aws.client("application-autoscaling").describe_scalable_targets(**asked)["ScalableTargets"]:
        least = config.cloud.endpoint.min_instances
        raise UserError(
            f"cloud.endpoint.instance is {wanted}, but production runs on {changed[0]['InstanceType']} and scales by "
            "itself, and SageMaker changes no machine under scaling. Release twice: first with the old machine and "
            f"cloud.endpoint.max_instances: {least} (no more than min_instances, which ends the scaling), then with "
            "both as you want them."
        )


def require_serverless_possible(aws: Aws, config: Config, profile: str = "") -> None:
    """Check that staging can be serverless, if cloud.endpoint.serverless_staging says so.

    SageMaker makes no endpoint serverless that has instances.
    https://docs.aws.amazon.com/sagemaker/latest/dg/serverless-endpoints-update.html

    - aws, profile: as for `require_ready_stack`.

    Raises UserError when staging has instances, with the command that makes way.
    """
    from scarcegan.release import smoke

    if not config.cloud.endpoint.serverless_staging:
        return
    name = aws.names.endpoint("staging")
    there = client.none_if_missing(lambda: aws.client("sagemaker").describe_endpoint(EndpointName=name))
    if there and any("InstanceType" in it for it in smoke.variants(aws, there["EndpointConfigName"])):
        command = stack_command("delete-stack", aws.names.stack("staging"), aws.names.region, profile)
        raise UserError(
            f"cloud.endpoint.serverless_staging is true, but {name} has instances, and SageMaker makes no such one "
            f"serverless. Type: {command}; and release again when it is gone."
        )


def promote_served_version(
    aws: Aws, registry: "SageMakerRegistry", version: int, dry_run: bool = False
) -> ModelPackage:
    """Make the version that production serves the champion of the registry. Returns its package.

    The endpoint is asked which package it serves. Safe to repeat, also after it was interrupted.

    - version: the version that production is expected to serve.
    - dry_run: check only, change nothing; the package is returned as it is.

    Raises UserError when production does not serve that version's package, when the version does not exist or is not
    approved, and without dry_run also when its package lacks files or was changed.
    """
    from scarcegan.release import smoke

    package = approved_package(registry, str(version))
    there = access_to_stage(aws, "production")
    smoke.require_served_package(there, smoke.verify_stage(there, "production", version), registry.arn(version))
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
    - state: NO_ENDPOINT of the stage when the endpoint is "", otherwise "in service", or what is wrong as a sentence,
      such as that the stage's account lets nobody in.

    stage: staging or production.
    """
    from scarcegan.release import smoke

    try:
        there = access_to_stage(aws, stage)
    except UserError as error:
        return {"version": "", "endpoint": "", "state": str(error)}
    found: dict[str, Any] = {
        name: client.find_ssm_parameter(there, f"{stage}/{name}") for name in ("version", "endpoint")
    }
    if not found["endpoint"]:
        return {**found, "state": NO_ENDPOINT[stage]}
    try:
        smoke.verify_stage(there, stage)
        return {**found, "state": "in service"}
    except UserError as error:
        return {**found, "state": str(error)}
