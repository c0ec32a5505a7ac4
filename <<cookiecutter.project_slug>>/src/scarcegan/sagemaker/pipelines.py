"""The pipelines that run in SageMaker: training, scoring and copies of training, as config.yaml and as AWS have them.

A copy's name here is training-<name of the copy>.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.names import PIPELINES, Names
from scarcegan.errors import UserError, shortened
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Pipeline
from scarcegan.sagemaker import parameters
from scarcegan.sagemaker.parameters import Parameter


@dataclass(frozen=True)
class ConfiguredPipeline:
    """A pipeline as the settings define it.

    - pipeline: its definition.
    - config: the settings.
    - names: the project's names in AWS.
    - parameters: name -> pipeline parameter, with the defaults that these settings give.
    """

    pipeline: Pipeline
    config: Config
    names: Names
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """The pipeline's name in pipeline/definition.py: training or scoring."""
        return self.pipeline.name


def configured(name: str, config: Config, names: Names) -> ConfiguredPipeline:
    """Return the training or the scoring pipeline as the settings define it. Makes no call to AWS.

    - name: training or scoring.
    - names: the project's names in AWS.

    Raises UserError for another name, and InvalidPipeline when SageMaker would not take its parameters.
    """
    pipeline = pipeline_of(name, config)
    return ConfiguredPipeline(pipeline, config, names, parameters.pipeline_parameters(pipeline, config, names))


def pipeline_of(name: str, config: Config) -> Pipeline:
    """Return the definition of a pipeline that runs in SageMaker. name: training, scoring or that of a copy.

    Raises UserError for another name.
    """
    if definition.copy_name(name):
        return definition.training_copy(config, definition.copy_name(name))
    if name not in PIPELINES:
        raise UserError(
            f"no pipeline '{shortened(name)}' in AWS. There are: {', '.join(PIPELINES)}, and training-NAME for a copy."
        )
    return definition.training(config) if name == "training" else definition.scoring(config)


def find_pipeline(aws: Aws, name: str) -> dict[str, Any] | None:
    """Ask SageMaker for a pipeline. Returns its description, or None before the first `scarcegan upsert`.

    - name: training or scoring.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipeline.html
    """
    return none_if_missing(lambda: aws.client("sagemaker").describe_pipeline(PipelineName=aws.names.pipeline(name)))


def missing_pipeline_error(aws: Aws, name: str) -> UserError:
    """Return, without raising it, the error for a pipeline that is not in AWS yet.

    - name: training, scoring or that of a copy.
    """
    fact = f"there is no pipeline '{aws.names.pipeline(name)}' in {aws.names.region} (account {aws.names.account}) yet"
    if name == "scoring":
        return UserError(
            f"{fact}: the first release to production writes it. Approve a model (scarcegan approve VERSION --cloud) "
            "and let it into production."
        )
    if copy := definition.copy_name(name):
        return UserError(f"{fact}. Type: scarcegan pipeline copy {copy}")
    return UserError(
        f"{fact}. The build pipeline {aws.names.pipeline('build')} writes it after a push: scarcegan status says "
        "whether that is still running or has failed. To write it from here, type: scarcegan upsert"
    )


def deployed_definition(aws: Aws, name: str) -> dict[str, Any]:
    """Ask SageMaker for a pipeline. Returns its definition, which is JSON, parsed.

    - name: training, scoring or that of a copy.

    Raises UserError when the pipeline is not in AWS yet.
    """
    found = find_pipeline(aws, name)
    if found is None:
        raise missing_pipeline_error(aws, name)
    compiled: dict[str, Any] = json.loads(found["PipelineDefinition"])
    return compiled


def deployed_parameters(aws: Aws, name: str) -> dict[str, Any]:
    """Ask SageMaker for a pipeline. Returns pipeline parameter -> default in AWS; "" for one without a default.

    Defaults are texts, ints or floats.

    - name: training or scoring.

    Raises UserError when the pipeline is not in AWS yet.
    """
    return parameter_defaults(deployed_definition(aws, name))


def parameter_defaults(compiled: Mapping[str, Any]) -> dict[str, Any]:
    """Return pipeline parameter -> default of a compiled pipeline; "" for one without a default.

    - compiled: the JSON of the SageMaker pipeline, parsed.
    """
    return {item["Name"]: item.get("DefaultValue", "") for item in compiled.get("Parameters", [])}
