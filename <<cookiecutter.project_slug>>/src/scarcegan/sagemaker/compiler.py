"""The cloud reader: a pipeline of the definition -> the JSON of a SageMaker pipeline. Only this file imports the SDK.

Compiling asks AWS nothing: code lies in the bucket under its hash, roles and keys are names, and no credentials are
needed. The same tree gives the same bytes. executions.py sends the JSON; job.py is what the jobs begin with.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps.html
"""

import functools
import importlib
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from scarcegan.aws.names import Names, project_tags
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import Config, run_tags
from scarcegan.pipeline.definition import Gate, Pipeline, Step, value_text
from scarcegan.sagemaker import job, parameters, refusals
from scarcegan.sagemaker.bundle import Bundle
from scarcegan.sagemaker.parameters import Parameter

JOB_SCRIPT = "job.sh"
HOUR = 3600
SECONDS_TO_RETRY = 60
LAMBDA_OUTPUTS = ("set_id", "versions", "group")
NAMES_OF_THE_SDK = {
    "sagemaker.core.lambda_helper": ("Lambda",),
    "sagemaker.core.network": ("NetworkConfig",),
    "sagemaker.core.processing": ("Processor",),
    "sagemaker.core.shapes": (
        "CheckpointConfig",
        "MetricDefinition",
        "OutputDataConfig",
        "ProcessingInput",
        "ProcessingOutput",
        "ProcessingS3Input",
        "ProcessingS3Output",
        "StoppingCondition",
        "Tag",
    ),
    "sagemaker.core.training.configs": ("Compute", "InputData", "Networking"),
    "sagemaker.core.workflow.conditions": ("ConditionEquals",),
    "sagemaker.core.workflow.execution_variables": ("ExecutionVariables",),
    "sagemaker.core.workflow.functions": ("Join", "JsonGet"),
    "sagemaker.core.workflow.parameters": ("ParameterFloat", "ParameterInteger", "ParameterString"),
    "sagemaker.core.workflow.pipeline_context": ("PipelineSession",),
    "sagemaker.core.workflow.properties": ("PropertyFile",),
    "sagemaker.mlops.workflow.condition_step": ("ConditionStep",),
    "sagemaker.mlops.workflow.fail_step": ("FailStep",),
    "sagemaker.mlops.workflow.lambda_step": ("LambdaOutput", "LambdaStep"),
    "sagemaker.mlops.workflow.pipeline": ("Pipeline",),
    "sagemaker.mlops.workflow.retry": (
        "SageMakerJobExceptionTypeEnum",
        "SageMakerJobStepRetryPolicy",
        "StepExceptionTypeEnum",
        "StepRetryPolicy",
    ),
    "sagemaker.mlops.workflow.steps": ("CacheConfig", "ProcessingStep", "TrainingStep"),
    "sagemaker.train": ("ModelTrainer",),
}


@dataclass(frozen=True)
class Compiled:
    """A SageMaker pipeline: its name, its definition (JSON text), and its parameters with their defaults."""

    name: str
    definition: str
    parameters: Mapping[str, Parameter]


def compile_all(config: Config, names: Names, bundle: Bundle, code_version: str = "") -> dict[str, Compiled]:
    """The training and the scoring pipeline. Refused names what SageMaker would not take."""
    return {
        pipeline.name: compile_pipeline(pipeline, config, names, bundle)
        for pipeline in pipelines(config, code_version or bundle.digest)
    }


def pipelines(config: Config, code_version: str) -> list[Pipeline]:
    """The pipelines that run in the cloud."""
    return [definition.training(config, definition.DATA_FINGERPRINT, code_version), definition.scoring(config)]


def compile_pipeline(pipeline: Pipeline, config: Config, names: Names, bundle: Bundle) -> Compiled:
    """One pipeline as JSON, checked by check.py before anybody sees it."""
    with quiet(names.region):
        writer = Writer(pipeline, config, names, bundle)
        text = json.dumps(json.loads(writer.pipeline().definition()), indent=1, ensure_ascii=True) + "\n"
    refusals.check(json.loads(text), len(text))
    return Compiled(names.pipeline(pipeline.name), text, writer.declared)


@contextmanager
def quiet(region: str) -> Iterator[None]:
    """The SDK with nobody's defaults and nobody's credentials, silent; what it leaves behind is put back."""
    import boto3

    nothing = os.devnull
    fixed = {
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "none",  # else botocore asks the network for some
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "AWS_PROFILE": None,
        "AWS_REGION": None,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": nothing,
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": nothing,
        "SAGEMAKER_VALIDATE_ROLE": "false",  # else it asks IAM
    }
    disabled, handlers, session = logging.root.manager.disable, logging.root.handlers[:], boto3.DEFAULT_SESSION
    before = {key: os.environ.get(key) for key in fixed}
    set_environment(fixed)
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        logging.root.handlers[:], boto3.DEFAULT_SESSION = handlers, session
        set_environment(before)


def set_environment(values: Mapping[str, str | None]) -> None:
    """Set environment variables; None takes one away."""
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


@functools.cache
def sdk() -> SimpleNamespace:
    """What we use of the SDK. Imported late: it takes seconds and reads the environment."""
    found = {
        name: getattr(importlib.import_module(module), name)
        for module, wanted in NAMES_OF_THE_SDK.items()
        for name in wanted
    }
    return SimpleNamespace(**found)


def session(names: Names) -> Any:
    """A session that is asked for names only. Its credentials are words, so that nobody looks for real ones."""
    import boto3

    words = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": names.region}
    return sdk().PipelineSession(boto_session=boto3.Session(**words), default_bucket=names.bucket)


@dataclass
class Writer:
    """Writes one pipeline. Steps are written in order, so what a step reads has been written before it."""

    source: Pipeline
    config: Config
    names: Names
    bundle: Bundle
    declared: dict[str, Parameter] = field(init=False)
    variables: dict[str, Any] = field(init=False)
    written: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.declared = parameters.of(self.source, self.config, self.names)
        self.variables = {name: variable(parameter) for name, parameter in self.declared.items()}
        self.session = session(self.names)

    def pipeline(self) -> Any:
        """The whole, without classic Experiments: MLflow keeps the runs."""
        return sdk().Pipeline(
            name=self.names.pipeline(self.source.name),
            parameters=list(self.variables.values()),
            steps=self.steps_inside(None),
            sagemaker_session=self.session,
            pipeline_experiment_config=None,
        )

    def steps_inside(self, gate: str | None) -> list[Any]:
        """The steps that stand behind a gate (None: behind none), gates themselves as conditions."""
        return [self.step(step) for step in self.source.steps if gate_of(self.source, step) == gate]

    def step(self, step: Step | Gate) -> Any:
        if isinstance(step, Gate):
            return self.condition(step)
        write = {"processing": self.processing, "training": self.training, "lambda": self.function}[step.kind]
        self.written[step.name] = write(step)
        return self.written[step.name]

    def processing(self, step: Step) -> Any:
        cloud = self.config.cloud
        processor = sdk().Processor(
            role=self.names.role_arn("job"),
            image_uri=self.names.image("training"),
            entrypoint=["bash", f"{job.ROOT}/processing/input/code/{JOB_SCRIPT}"],
            instance_count=1,
            instance_type=self.variables[parameters.instance_name(step.name)],
            volume_size_in_gb=cloud.volume_gb,
            volume_kms_key=self.volume_key,
            output_kms_key=self.names.key_alias_arn,
            max_runtime_in_seconds=cloud.max_hours * HOUR,
            sagemaker_session=self.session,
            env=self.environment(step),
            tags=self.tags,
            network_config=self.network(),
        )
        arguments = processor.run(
            inputs=[self.processing_input(*channel) for channel in self.channels(step).items()],
            outputs=[self.processing_output(step, output) for output in step.outputs],
            arguments=self.words(step),
            logs=False,
        )
        gates = [gate for gate in self.source.steps if isinstance(gate, Gate) and gate.on.split(".")[0] == step.name]
        return sdk().ProcessingStep(
            step.name, step_args=arguments, property_files=[property_file(gate) for gate in gates], **self.common(step)
        )

    def training(self, step: Step) -> Any:
        """Script mode: the image's own toolkit runs job.sh from the code channel, so nothing is fetched."""
        cloud, to = self.config.cloud, sdk()
        trainer = to.ModelTrainer(
            sagemaker_session=self.session,
            role=self.names.role_arn("job"),
            base_job_name=step.name,
            training_image=self.names.image("training"),
            compute=to.Compute(
                instance_type=self.variables[parameters.instance_name(step.name)],
                instance_count=1,
                volume_size_in_gb=cloud.volume_gb,
                volume_kms_key_id=self.volume_key,
                enable_managed_spot_training=cloud.spot or None,
            ),
            networking=to.Networking(
                enable_network_isolation=cloud.network_isolation,
                subnets=cloud.subnets or None,
                security_group_ids=cloud.security_groups or None,
            ),
            stopping_condition=to.StoppingCondition(
                max_runtime_in_seconds=cloud.max_hours * HOUR,
                max_wait_time_in_seconds=(cloud.max_hours + cloud.spot_wait_hours) * HOUR if cloud.spot else None,
            ),
            output_data_config=to.OutputDataConfig(
                s3_output_path=self.run_uri(step.name), kms_key_id=self.names.key_alias_arn
            ),
            # No execution in this URI, which is part of the cache key. A checkpoint of other data is not taken up.
            checkpoint_config=to.CheckpointConfig(
                s3_uri=self.names.uri("checkpoints", step.name), local_path=f"{job.ROOT}/checkpoints"
            )
            if cloud.spot
            else None,
            environment=self.environment(step),
            hyperparameters=self.hyperparameters(step),
            tags=[to.Tag(key=tag["Key"], value=tag["Value"]) for tag in self.tags],
        )
        trainer._metric_definitions = [
            to.MetricDefinition(name=name, regex=f"{name}=([0-9.eE+-]+|nan|inf);") for name in step.figures
        ]
        channels = [to.InputData(channel_name=name, data_source=where) for name, where in self.channels(step).items()]
        # What lies inside its decorator, which would report to AWS that somebody compiles.
        arguments = to.ModelTrainer.train.__wrapped__(trainer, input_data_config=channels, logs=False)
        return to.TrainingStep(step.name, step_args=arguments, **self.common(step))

    def function(self, step: Step) -> Any:
        """A call of the project's function with a flat event. It acts on the registry: never taken from a cache."""
        to = sdk()
        event: dict[str, Any] = {}
        for channel, origin in step.inputs.items():
            event[channel] = self.location(origin)
            if "." in origin and self.is_training(origin):
                event[f"{channel}_folder"] = origin.split(".")[1]
        event |= {f"{output}_out": self.run_uri(step.name, output) for output in step.outputs}
        event |= {name.replace("-", "_"): self.event_value(name, value) for name, value in step.arguments.items()}
        event["approval_status"] = self.variables[parameters.APPROVAL]
        event["execution_arn"] = to.ExecutionVariables.PIPELINE_EXECUTION_ARN
        return to.LambdaStep(
            step.name,
            lambda_func=to.Lambda(function_arn=self.names.register_function_arn, session=self.session),
            inputs=event,
            outputs=[to.LambdaOutput(output_name=name) for name in LAMBDA_OUTPUTS],
            depends_on=self.after(step),
        )

    def condition(self, gate: Gate) -> Any:
        """What stands behind a gate runs when its field is true; otherwise the execution ends with its reason."""
        to = sdk()
        parent, output = gate.on.split(".")

        def read(path: str) -> Any:
            return to.JsonGet(step_name=parent, property_file=output, json_path=path)

        closed = to.FailStep(
            f"{gate.name}-closed",
            error_message=to.Join(on=" ", values=[f"The {gate.name} is closed:", read("reason")]),
        )
        return to.ConditionStep(
            gate.name,
            conditions=[to.ConditionEquals(left=read(gate.field), right=True)],
            if_steps=self.steps_inside(gate.name),
            else_steps=[closed],
        )

    def common(self, step: Step) -> dict[str, Any]:
        """What every job step has: a cache, retries of what is nobody's mistake, and whom it comes after."""
        days = self.config.cloud.cache_days
        cache = sdk().CacheConfig(enable_caching=True, expire_after=f"P{days}D") if days else None
        return {"cache_config": cache, "retry_policies": retry_policies(step.retries), "depends_on": self.after(step)}

    def after(self, step: Step) -> list[str] | None:
        """Steps it must wait for though it reads nothing of theirs; a gate holds back by itself what stands behind."""
        gates = {gate.name for gate in self.source.steps if isinstance(gate, Gate)}
        return [name for name in step.after if name not in gates] or None

    def channels(self, step: Step) -> dict[str, Any]:
        """Channel -> where its files lie, our own two first."""
        ours = {
            "code": self.names.uri(self.bundle.code_prefix, ""),
            "wheels": self.names.uri(self.bundle.wheels_prefix, ""),
        }
        return ours | {channel: self.location(origin) for channel, origin in step.inputs.items()}

    def location(self, origin: str) -> Any:
        """Where an output or a source lies, resolved by SageMaker: a step taken from the cache has its old place."""
        if "." not in origin:
            return self.variables[parameters.uri_name(origin)]
        name, output = origin.split(".")
        properties = self.written[name].properties
        if self.is_training(origin):
            return properties.ModelArtifacts.S3ModelArtifacts
        return properties.ProcessingOutputConfig.Outputs[output].S3Output.S3Uri

    def is_training(self, origin: str) -> bool:
        return getattr(self.source.step(origin.split(".")[0]), "kind", "") == "training"

    def folder(self, channel: str, origin: str) -> str:
        """Where a processing job has a channel; a training step's outputs are folders of one archive."""
        below = f"/{origin.split('.')[1]}" if "." in origin and self.is_training(origin) else ""
        return f"{job.ROOT}/processing/input/{channel}{below}"

    def words(self, step: Step) -> list[Any]:
        """A processing job's arguments: module, folders, values; pieces where a value is long."""
        words: list[Any] = [step.module]
        for channel, origin in step.inputs.items():
            words += [f"--{channel}", self.folder(channel, origin)]
        for output in step.outputs:
            words += [f"--{output}-out", f"{job.ROOT}/processing/output/{output}"]
        for name, value in step.arguments.items():
            if name in step.parameters:
                words.append(sdk().Join(on="", values=[f"--{name}=", self.variable(step, name)]))
            elif value == definition.RUN_ID:
                words.append(sdk().Join(on="", values=[f"--{name}=", sdk().ExecutionVariables.PIPELINE_EXECUTION_ID]))
            else:
                words += job.pieces(f"--{name}={value_text(value)}")
        return words

    def hyperparameters(self, step: Step) -> dict[str, Any]:
        """The toolkit's, ours, then the step's own. Numbers that are parameters become text at the start."""
        fixed = {
            "sagemaker_program": JOB_SCRIPT,
            "sagemaker_submit_directory": f"{job.ROOT}/input/data/code",
            "sagemaker_region": self.names.region,
            "sagemaker_container_log_level": "20",
            job.MODULE: step.module,
            job.OUTPUTS: ",".join(step.outputs),
        }
        own = {
            name: self.variable(step, name).to_string() if name in step.parameters else value_text(value) or job.EMPTY
            for name, value in step.arguments.items()
        }
        return fixed | own

    def variable(self, step: Step, argument: str) -> Any:
        return self.variables[parameters.argument_name(step.name, argument)]

    def event_value(self, name: str, value: definition.Value) -> Any:
        if name == "config":
            return self.settings(str(value))
        if value == definition.RUN_ID:
            return sdk().ExecutionVariables.PIPELINE_EXECUTION_ID
        if value == definition.DATA_FINGERPRINT:
            prints = [self.variables[parameters.fingerprint_name(source)] for source in definition.DATA]
            return sdk().Join(on="-", values=prints)
        return value_text(value)

    def settings(self, text: str) -> Any:
        """config.yaml as the execution has it: JSON with the parameters' values in their places.

        What is empty stays as it is: a parameter cannot be, and its stand-in is no JSON.
        """
        settings = json.loads(text)
        marked: dict[str, list[Any]] = {}
        for name, parameter in self.declared.items():
            *sections, key = parameter.origin.split(".")
            section = settings if sections else {}  # the origin of a source is no key of config.yaml
            for part in sections:
                section = section.get(part, {})
            value = section.get(key, "")
            if value not in ("", []):
                mark = f"<{name}>"
                left, right = (
                    ("[", "]") if isinstance(value, list) else ('"', '"') if isinstance(value, str) else ("", "")
                )
                marked[json.dumps(mark)] = [left, self.variables[name], right]
                section[key] = mark
        parts = re.split("(" + "|".join(map(re.escape, marked)) + ")", json.dumps(settings)) if marked else [text]
        words = [word for part in parts for word in marked.get(part, [part]) if word != ""]
        return sdk().Join(on="", values=words)

    def environment(self, step: Step) -> dict[str, Any]:
        """As on a laptop (workspace.py), and the fingerprints of the sources it reads: part of the cache key."""
        found: dict[str, Any] = {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",  # the same sums in the same order on every processor
        }
        if step.kind == "training" and self.config.cloud.mlflow_app:
            found |= {
                "MLFLOW_TRACKING_URI": self.config.cloud.mlflow_app,
                "MLFLOW_EXPERIMENT_NAME": self.config.project.name,
                "MLFLOW_RUN_CONTEXT": run_tags(self.config),
                "MLFLOW_DISABLE_TELEMETRY": "true",
            }
        for source in (origin for origin in step.inputs.values() if "." not in origin):
            found[f"{source.upper()}_FINGERPRINT"] = self.variables[parameters.fingerprint_name(source)]
        return found

    def processing_input(self, name: str, where: Any) -> Any:
        to = sdk()
        return to.ProcessingInput(
            input_name=name,
            s3_input=to.ProcessingS3Input(
                s3_uri=where,
                local_path=f"{job.ROOT}/processing/input/{name}",
                s3_data_type="S3Prefix",
                s3_input_mode="File",
            ),
        )

    def processing_output(self, step: Step, output: str) -> Any:
        to = sdk()
        return to.ProcessingOutput(
            output_name=output,
            s3_output=to.ProcessingS3Output(
                s3_uri=self.run_uri(step.name, output),
                local_path=f"{job.ROOT}/processing/output/{output}",
                s3_upload_mode="EndOfJob",
            ),
        )

    def run_uri(self, *parts: str) -> Any:
        """A place below runs/<execution>/."""
        to = sdk()
        return to.Join(on="/", values=[self.names.uri("runs"), to.ExecutionVariables.PIPELINE_EXECUTION_ID, *parts])

    def network(self) -> Any:
        cloud = self.config.cloud
        return sdk().NetworkConfig(
            enable_network_isolation=cloud.network_isolation,
            subnets=cloud.subnets or None,
            security_group_ids=cloud.security_groups or None,
        )

    @property
    def volume_key(self) -> str | None:
        chosen = self.config.cloud.volume_key
        return {"project": self.names.key_alias_arn, "none": None}.get(chosen, chosen)

    @property
    def tags(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in project_tags(self.config).items()]


def variable(parameter: Parameter) -> Any:
    """A parameter as the SDK has it."""
    to = sdk()
    if parameter.type == "String":
        return to.ParameterString(parameter.name, parameter.default, list(parameter.choices) or None)
    kind = {"Integer": to.ParameterInteger, "Float": to.ParameterFloat}[parameter.type]
    return kind(parameter.name, parameter.default)


def property_file(gate: Gate) -> Any:
    output = gate.on.split(".")[1]
    return sdk().PropertyFile(name=output, output_name=output, path=f"{output}.json")


def retry_policies(retries: int) -> list[Any]:
    """Retries of throttling, faults of the service and machines that are not to be had; never of a step's own failure.

    https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
    """
    if not retries:
        return []
    to = sdk()
    wait = {"interval_seconds": SECONDS_TO_RETRY, "backoff_rate": 2.0, "max_attempts": retries}
    step, reason = to.StepExceptionTypeEnum, to.SageMakerJobExceptionTypeEnum
    return [
        to.StepRetryPolicy(exception_types=[step.SERVICE_FAULT, step.THROTTLING], **wait),
        to.SageMakerJobStepRetryPolicy(exception_types=[reason.RESOURCE_LIMIT], **wait),
        to.SageMakerJobStepRetryPolicy(failure_reason_types=[reason.INTERNAL_ERROR, reason.CAPACITY_ERROR], **wait),
    ]


def gate_of(pipeline: Pipeline, step: Step | Gate) -> str | None:
    """The last gate that must have opened before a step. Refused when two gates hold it back side by side."""
    before = ancestors(pipeline, step)
    gates = [name for name in before if isinstance(pipeline.step(name), Gate)]
    if not gates:
        return None
    last = max(gates, key=lambda name: len(ancestors(pipeline, pipeline.step(name))))
    beside = [name for name in gates if name != last and name not in ancestors(pipeline, pipeline.step(last))]
    if beside:
        raise refusals.Refused(
            f"{pipeline.name}: step '{step.name}' stands behind the gates '{last}' and '{beside[0]}', which stand side "
            "by side; SageMaker nests conditions. Put one gate after the other."
        )
    return last


def ancestors(pipeline: Pipeline, step: Step | Gate) -> set[str]:
    """Every step that must have ended before this one."""
    found: set[str] = set()
    waiting = list(pipeline.parents(step))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += pipeline.parents(pipeline.step(name))
    return found
