"""The pipelines of the definition as SageMaker knows them: their names, whether they are there, their parameters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.names import Names
from scarcegan.errors import UserError
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Pipeline
from scarcegan.sagemaker import parameters
from scarcegan.sagemaker.parameters import Parameter

PIPELINES = ("training", "scoring")


@dataclass(frozen=True)
class ConfiguredPipeline:
    """A pipeline as one config.yaml makes it, and the parameters that an execution in SageMaker may be given.

    It is made once per command and handed on.
    """

    pipeline: Pipeline
    config: Config
    names: Names
    parameters: Mapping[str, Parameter]

    @property
    def name(self) -> str:
        """training or scoring."""
        return self.pipeline.name


def configured(name: str, config: Config, names: Names) -> ConfiguredPipeline:
    """The training or the scoring pipeline with these settings. Raises UserError for another name."""
    pipeline = pipeline_of(name, config)
    return ConfiguredPipeline(pipeline, config, names, parameters.of(pipeline, config, names))


def pipeline_of(name: str, config: Config) -> Pipeline:
    """The definition of a pipeline that runs in AWS: training or scoring. Raises UserError for another name."""
    if name not in PIPELINES:
        raise UserError(f"no pipeline '{name}' in AWS. There are: {', '.join(PIPELINES)}.")
    return definition.training(config) if name == "training" else definition.scoring(config)


def find_pipeline(aws: Aws, name: str) -> dict[str, Any] | None:
    """SageMaker's description of a pipeline of the project, or None before the first `scarcegan upsert`.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipeline.html
    """
    return none_if_missing(lambda: aws.client("sagemaker").describe_pipeline(PipelineName=aws.names.pipeline(name)))


def not_there(aws: Aws, name: str) -> UserError:
    """The error for a pipeline that SageMaker does not know yet."""
    return UserError(
        f"there is no pipeline '{aws.names.pipeline(name)}' in {aws.names.region} (account {aws.names.account}) "
        "yet. Type: scarcegan upsert"
    )


def deployed_parameters(aws: Aws, name: str) -> dict[str, Any]:
    """Parameter -> default of a pipeline as it is in AWS. Raises UserError when it is not there yet."""
    found = find_pipeline(aws, name)
    if found is None:
        raise not_there(aws, name)
    return parameter_defaults(json.loads(found["PipelineDefinition"]))


def parameter_defaults(compiled: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter -> default value of a compiled pipeline; "" where it has none."""
    return {item["Name"]: item.get("DefaultValue", "") for item in compiled.get("Parameters", [])}
