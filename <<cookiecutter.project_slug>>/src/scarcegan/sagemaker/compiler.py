"""Compiler of the SageMaker engine: turns a pipeline of pipeline/definition.py into the JSON of a SageMaker pipeline.

Compiling makes no call to AWS and needs no credentials. Equal sources give equal bytes. Only this file imports the
SageMaker SDK. upsert.py sends the JSON to AWS; job.py starts a step inside its job.
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps.html
"""

import functools
import importlib
import json
import logging
import os
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
CHECK_STEP = "check"
MODEL_DIGEST_OUTPUT = "model_digest"  # of the check step, as register_function.handler answers
HOUR = 3600
SECONDS_TO_RETRY = 60
LAMBDA_OUTPUTS = ("set_id", "versions", "group")
SDK_NAMES = {  # module of the SDK -> the classes that are used of it
    "sagemaker.core.lambda_helper": "Lambda",
    "sagemaker.core.network": "NetworkConfig",
    "sagemaker.core.processing": "Processor",
    "sagemaker.core.shapes": """
        CheckpointConfig MetricDefinition OutputDataConfig ProcessingInput ProcessingOutput ProcessingS3Input
        ProcessingS3Output StoppingCondition Tag
    """,
    "sagemaker.core.training.configs": "Compute InputData Networking",
    "sagemaker.core.workflow.conditions": "ConditionEquals",
    "sagemaker.core.workflow.execution_variables": "ExecutionVariables",
    "sagemaker.core.workflow.functions": "Join JsonGet",
    "sagemaker.core.workflow.parameters": "ParameterFloat ParameterInteger ParameterString",
    "sagemaker.core.workflow.pipeline_context": "PipelineSession",
    "sagemaker.core.workflow.properties": "PropertyFile",
    "sagemaker.mlops.workflow.condition_step": "ConditionStep",
    "sagemaker.mlops.workflow.fail_step": "FailStep",
    "sagemaker.mlops.workflow.lambda_step": "LambdaOutput LambdaStep",
    "sagemaker.mlops.workflow.pipeline": "Pipeline",
    "sagemaker.mlops.workflow.retry": """
        SageMakerJobExceptionTypeEnum SageMakerJobStepRetryPolicy StepExceptionTypeEnum StepRetryPolicy
    """,
    "sagemaker.mlops.workflow.steps": "CacheConfig ProcessingStep TrainingStep",
    "sagemaker.train": "ModelTrainer",
}


@dataclass(frozen=True)
class Compiled:
    """A compiled SageMaker pipeline.

    - name: the pipeline's name in SageMaker.
    - definition: the pipeline as JSON text, as SageMaker's CreatePipeline takes it.
    - parameters: name -> pipeline parameter, for all parameters of the pipeline.
    """

    name: str
    definition: str
    parameters: Mapping[str, Parameter]


def compile_all(config: Config, names: Names, bundle: Bundle, code_version: str = "") -> dict[str, Compiled]:
    """Compile the training and the scoring pipeline. Returns "training" and "scoring" -> compiled pipeline.

    - names: the project's names in AWS.
    - bundle: the code of the jobs.
    - code_version: recorded with registered models; "" takes the digest of the bundle.

    Raises InvalidPipeline, with the problems of the first pipeline that SageMaker would not run, and UserError for a
    region without a TensorFlow image.
    """
    return {
        pipeline.name: compile_pipeline(pipeline, config, names, bundle)
        for pipeline in pipelines(config, code_version or bundle.digest)
    }


def pipelines(config: Config, code_version: str) -> list[Pipeline]:
    """Return the definitions of the pipelines that run in SageMaker: training, then scoring.

    - code_version: recorded with registered models as it is.
    """
    return [
        definition.training(config, definition.DATA_FINGERPRINT, code_version),
        definition.scoring(config, definition.MODEL_DIGEST),
    ]


def compile_copy(config: Config, names: Names, bundle: Bundle, name: str) -> Compiled:
    """Compile a copy of the training pipeline. Its name in SageMaker is <project>-training-<name>.

    - name: of the copy, as `definition.copy_name` allows it.

    Raises InvalidPipeline and UserError as `compile_pipeline` does.
    """
    copy = definition.training_copy(config, name, definition.DATA_FINGERPRINT, bundle.digest)
    return compile_pipeline(copy, config, names, bundle)


def compile_pipeline(pipeline: Pipeline, config: Config, names: Names, bundle: Bundle) -> Compiled:
    """Compile one pipeline and check the result for errors that SageMaker would report only later.

    - pipeline: its definition.
    - config, names: the settings, and the project's names in AWS.
    - bundle: the code of the jobs.

    Raises InvalidPipeline, with the problems, when SageMaker would not run it, and UserError for a region without a
    TensorFlow image.
    """
    with isolated_sdk(names.region):
        compiler = PipelineCompiler(pipeline, config, names, bundle)
        text = json.dumps(json.loads(compiler.pipeline().definition()), indent=1, ensure_ascii=True) + "\n"
    refusals.refuse_invalid_pipeline(json.loads(text), len(text))
    return Compiled(names.pipeline(pipeline.name), text, compiler.declared)


@contextmanager
def isolated_sdk(region: str) -> Iterator[None]:
    """Context manager that lets the SageMaker SDK run without the user's settings, credentials and log messages.

    Inside the block the SDK works in `region`, and warnings and log messages below ERROR are not shown. The environment
    variables that the block sets, log handlers and boto3's default session are restored at its end.
    """
    import boto3

    nothing = os.devnull
    fixed = {
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "none",  # without it, botocore searches the network for credentials
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_CONFIG_FILE": nothing,
        "AWS_SHARED_CREDENTIALS_FILE": nothing,
        "AWS_PROFILE": None,
        "AWS_REGION": None,
        "SAGEMAKER_USER_CONFIG_OVERRIDE": nothing,
        "SAGEMAKER_ADMIN_CONFIG_OVERRIDE": nothing,
        "SAGEMAKER_VALIDATE_ROLE": "false",  # otherwise the SDK asks IAM
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
    """Set environment variables; a value of None removes the variable."""
    for key, value in values.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


@functools.cache
def sdk() -> SimpleNamespace:
    """Import the classes of SDK_NAMES from the SageMaker SDK. Returns an object whose attributes are these classes.

    The import takes seconds and reads the environment, so call this inside `isolated_sdk`; only the first call imports.
    """
    found = {
        name: getattr(importlib.import_module(module), name)
        for module, wanted in SDK_NAMES.items()
        for name in wanted.split()
    }
    return SimpleNamespace(**found)


def offline_session(names: Names) -> Any:
    """Return a pipeline session of the SageMaker SDK that makes no call to AWS.

    It is given dummy credentials, so that boto3 does not search for real ones.
    """
    import boto3

    dummy = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": names.region}
    return sdk().PipelineSession(boto_session=boto3.Session(**dummy), default_bucket=names.bucket)


@dataclass
class PipelineCompiler:
    """Compiles one pipeline with the SDK's classes, in the order of its steps.

    - source: the definition of the pipeline.
    - config, names: the settings, and the project's names in AWS.
    - bundle: the code of the jobs.

    The compiler makes these itself:
    - declared: name -> pipeline parameter.
    - variables: name of a pipeline parameter -> the SDK's object for it.
    - compiled: name of a step -> the SDK's object for it, for the steps compiled so far.
    """

    source: Pipeline
    config: Config
    names: Names
    bundle: Bundle
    declared: dict[str, Parameter] = field(init=False)
    variables: dict[str, Any] = field(init=False)
    compiled: dict[str, Any] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.declared = parameters.pipeline_parameters(self.source, self.config, self.names)
        self.variables = {name: variable(parameter) for name, parameter in self.declared.items()}
        self.session = offline_session(self.names)

    def pipeline(self) -> Any:
        """Compile all steps, and return the SDK's object for the whole pipeline.

        SageMaker Experiments stays switched off in it, because MLflow records the runs.
        """
        return sdk().Pipeline(
            name=self.names.pipeline(self.source.name),
            parameters=list(self.variables.values()),
            steps=[*([self.check_step()] if self.checks_first else []), *self.steps_behind(None)],
            sagemaker_session=self.session,
            pipeline_experiment_config=None,
        )

    def steps_behind(self, gate: str | None) -> list[Any]:
        """Compile the steps and gates that run only after a gate has passed. Returns the SDK's steps, in order.

        What runs only after a later gate is inside the condition of that gate.

        - gate: the name of the gate; None compiles the steps and gates that no gate holds back.
        """
        return [self.compile_step(step) for step in self.source.steps if gate_of(self.source, step) == gate]

    def compile_step(self, step: Step | Gate) -> Any:
        """Return the SDK's step for a step, or the SDK's condition, which holds the steps behind it, for a gate.

        The SDK's step for a step is also added to `compiled`, so that later steps can refer to it; a condition is not.
        """
        if isinstance(step, Gate):
            return self.condition_step(step)
        write = {"processing": self.processing_step, "training": self.training_step, "lambda": self.lambda_step}[
            step.kind
        ]
        self.compiled[step.name] = write(step)
        return self.compiled[step.name]

    def processing_step(self, step: Step) -> Any:
        """Return the SDK's step for a step that runs as a processing job.

        Raises UserError for a region without AWS's image.
        """
        cloud = self.config.cloud
        processor = sdk().Processor(
            role=self.names.job_role_arn(self.source.name),
            image_uri=self.names.image("training"),
            entrypoint=["bash", f"{job.CONTAINER_ROOT}/processing/input/code/{JOB_SCRIPT}"],
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
            arguments=self.container_arguments(step),
            logs=False,
        )
        gates = [gate for gate in self.source.steps if isinstance(gate, Gate) and gate.on.split(".")[0] == step.name]
        return sdk().ProcessingStep(
            step.name,
            step_args=arguments,
            property_files=[property_file(gate) for gate in gates],
            **self.job_step_options(step),
        )

    def training_step(self, step: Step) -> Any:
        """Return the SDK's step for a step that runs as a training job.

        The toolkit in the container image runs job.sh from the channel `code`.

        Raises UserError for a region without AWS's image.
        """
        cloud, to = self.config.cloud, sdk()
        trainer = to.ModelTrainer(
            sagemaker_session=self.session,
            role=self.names.job_role_arn(self.source.name),
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
            # The URI is part of the cache key, so it must not name the execution. Training ignores a checkpoint that
            # was made with other data.
            checkpoint_config=to.CheckpointConfig(
                s3_uri=self.names.uri("checkpoints", *self.copy_folder, step.name),
                local_path=f"{job.CONTAINER_ROOT}/checkpoints",
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
        # The function without its decorator, because the decorator sends usage data to AWS.
        arguments = to.ModelTrainer.train.__wrapped__(trainer, input_data_config=channels, logs=False)
        return to.TrainingStep(step.name, step_args=arguments, **self.job_step_options(step))

    def lambda_step(self, step: Step) -> Any:
        """Return the SDK's step that calls the register function, for a step of the kind lambda.

        The function changes the model registry, so its result is never taken from the cache.
        """
        to = sdk()
        event: dict[str, Any] = {}
        for channel, origin in step.inputs.items():
            event[channel] = self.input_uri(origin)
            if "." in origin and self.is_training(origin):
                event[f"{channel}_folder"] = origin.split(".")[1]
        event |= {f"{output}_out": self.run_uri(step.name, output) for output in step.outputs}
        event |= {name.replace("-", "_"): self.event_value(value) for name, value in step.arguments.items()}
        event["execution_arn"] = to.ExecutionVariables.PIPELINE_EXECUTION_ARN
        return to.LambdaStep(
            step.name,
            lambda_func=self.register_function,
            inputs=event | self.ruled_parameters(),
            outputs=[to.LambdaOutput(output_name=name) for name in LAMBDA_OUTPUTS],
            depends_on=self.depends_on(step),
        )

    def check_step(self) -> Any:
        """Return the SDK's step that comes first: the register function checks the execution's parameters.

        So a value that SageMaker lets pass, such as TrainIterations=-1 from the console, fails the execution before a
        job is paid for. For a pipeline that takes the champion's digest, it also asks the registry for it: jobs have no
        network, and what lies beside the model in S3 proves nothing about it. The step is added to `compiled`.
        """
        to = sdk()
        asked = {"digest_of": "champion"} if self.takes(definition.MODEL_DIGEST) else {}
        answers = ["checked", *([MODEL_DIGEST_OUTPUT] if asked else [])]
        self.compiled[CHECK_STEP] = to.LambdaStep(
            CHECK_STEP,
            lambda_func=self.register_function,
            inputs=self.ruled_parameters() | asked,
            outputs=[to.LambdaOutput(output_name=name) for name in answers],
        )
        return self.compiled[CHECK_STEP]

    def takes(self, value: definition.Value) -> bool:
        """Whether an argument of any step has this value, such as the placeholder of the model's digest."""
        return any(value in step.arguments.values() for step in self.source.steps if isinstance(step, Step))

    def ruled_parameters(self) -> dict[str, Any]:
        """Return the part of the register function's event that holds the parameters of the execution.

        Each parameter is a field of its own. The field rules is JSON text that is the same in every execution, so no
        value of a parameter is ever part of a JSON text.
        """
        ruled = parameters.rules(self.declared, self.config)
        return {"rules": parameters.rules_text(self.declared, self.config)} | {n: self.variables[n] for n in ruled}

    @property
    def register_function(self) -> Any:
        """The SDK's object for the register function."""
        return sdk().Lambda(function_arn=self.names.register_function_arn, session=self.session)

    @property
    def checks_first(self) -> bool:
        """Whether the pipeline has the step that checks parameters first: one that registers models or scores."""
        registers = any(isinstance(step, Step) and step.kind == "lambda" for step in self.source.steps)
        return registers or self.takes(definition.MODEL_DIGEST)

    def condition_step(self, gate: Gate) -> Any:
        """Return the SDK's condition for a gate: if the gate's field is true, the steps behind the gate run.

        Otherwise the execution fails. Its message is the text under the key `reason` of the JSON file that the gate
        reads, and that no model was registered.
        """
        to = sdk()
        parent, output = gate.on.split(".")

        def read(path: str) -> Any:
            return to.JsonGet(step_name=parent, property_file=output, json_path=path)

        closed = to.FailStep(
            f"{gate.name}-closed",
            error_message=to.Join(on=" ", values=[read("reason"), "No model was registered."]),
        )
        return to.ConditionStep(
            gate.name,
            conditions=[to.ConditionEquals(left=read(gate.field), right=True)],
            if_steps=self.steps_behind(gate.name),
            else_steps=[closed],
        )

    def job_step_options(self, step: Step) -> dict[str, Any]:
        """Return the SDK's options that every processing and training step has: cache, retries, steps to wait for.

        The cache is None, which means no cache, when cloud.cache_days is 0, and for a step that reads the champion: its
        address stays the same, so SageMaker would give an execution the verdict against an earlier one.
        """
        days = 0 if "champion" in step.inputs.values() else self.config.cloud.cache_days
        cache = sdk().CacheConfig(enable_caching=True, expire_after=f"P{days}D") if days else None
        return {
            "cache_config": cache,
            "retry_policies": retry_policies(step.retries),
            "depends_on": self.depends_on(step),
        }

    def depends_on(self, step: Step) -> list[str] | None:
        """Return the names of the steps that a step waits for although it reads nothing of them; None without any.

        Gates are left out, because a condition holds the steps behind its gate. A step that waits for no other waits
        for the check of the parameters, which is no part of its cache key.
        https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html
        """
        gates = {gate.name for gate in self.source.steps if isinstance(gate, Gate)}
        first = [CHECK_STEP] if self.checks_first and not self.source.parents(step) else []
        return [*first, *(name for name in step.after if name not in gates)] or None

    def channels(self, step: Step) -> dict[str, Any]:
        """Return channel of a job -> S3 URI of its files, a text or a reference that SageMaker resolves at run time.

        The channels `code` and `wheels`, which job.sh reads, come first; then one for each input of the step, under the
        input's own name. For an output of a training step, the URI is that of the archive with all its outputs.
        """
        ours = {
            "code": self.names.uri(self.bundle.code_prefix, ""),
            "wheels": self.names.uri(self.bundle.wheels_prefix, ""),
        }
        return ours | {channel: self.input_uri(origin) for channel, origin in step.inputs.items()}

    def input_uri(self, origin: str) -> Any:
        """Return a reference to the S3 URI of an input, which SageMaker resolves when the execution runs.

        For an output of a training step it is the archive with all its outputs. The outputs of a cached step are read
        from where the execution that ran it wrote them.

        - origin: a source of the pipeline, such as "telemetry", or "step.output" of a step that is compiled already.
        """
        if "." not in origin:
            moved = self.variables.get(parameters.uri_name(origin))
            return moved or parameters.source_uri(origin, self.source, self.config, self.names)
        name, output = origin.split(".")
        properties = self.compiled[name].properties
        if self.is_training(origin):
            return properties.ModelArtifacts.S3ModelArtifacts
        return properties.ProcessingOutputConfig.Outputs[output].S3Output.S3Uri

    def is_training(self, origin: str) -> bool:
        """Whether an input comes from a training step. origin: "step.output"."""
        return getattr(self.source.step(origin.split(".")[0]), "kind", "") == "training"

    def channel_folder(self, channel: str, origin: str) -> str:
        """Return the folder in a processing job that holds an input of a step: /opt/ml/processing/input/<channel>.

        The outputs of a training step arrive in one archive, which job.py unpacks there; an output of such a step has
        the folder <channel>/<output>.

        - origin: where the input comes from: a source of the pipeline, or "step.output".
        """
        below = f"/{origin.split('.')[1]}" if "." in origin and self.is_training(origin) else ""
        return f"{job.CONTAINER_ROOT}/processing/input/{channel}{below}"

    def container_arguments(self, step: Step) -> list[Any]:
        """Return the command-line arguments of a processing job: the step's module, folders, and values.

        In this order:
        - the module.
        - "--<channel>" and its folder, as two arguments, for each input.
        - "--<output>-out" and its folder, as two arguments, for each output.
        - "--<name>=<value>", as one argument, for each value: the SDK's object where the value may differ per
          execution, otherwise text. Text of more than 256 characters is split, and job.py joins its parts again.
        """
        words: list[Any] = [step.module]
        for channel, origin in step.inputs.items():
            words += [f"--{channel}", self.channel_folder(channel, origin)]
        for output in step.outputs:
            words += [f"--{output}-out", f"{job.CONTAINER_ROOT}/processing/output/{output}"]
        for name, value in step.arguments.items():
            if name in step.parameters:
                words.append(sdk().Join(on="", values=[f"--{name}=", self.argument_variable(step, name)]))
            elif value == definition.MODEL_DIGEST:
                found = self.compiled[CHECK_STEP].properties.Outputs[MODEL_DIGEST_OUTPUT]
                words.append(sdk().Join(on="", values=[f"--{name}=", found]))
            elif value == definition.RUN_ID:
                words.append(sdk().Join(on="", values=[f"--{name}=", sdk().ExecutionVariables.PIPELINE_EXECUTION_ID]))
            else:
                words += job.split_argument(f"--{name}={value_text(value)}")
        return words

    def hyperparameters(self, step: Step) -> dict[str, Any]:
        """Return name -> value of a training job's hyperparameters: the image toolkit's, job.py's, then the step's.

        Those of the step are its arguments, by their names without "--"; inputs and outputs are none of them. A value
        is text ("(empty)" for an empty one), or a reference that SageMaker resolves to text for each execution.
        """
        fixed = {
            "sagemaker_program": JOB_SCRIPT,
            "sagemaker_submit_directory": f"{job.CONTAINER_ROOT}/input/data/code",
            "sagemaker_region": self.names.region,
            "sagemaker_container_log_level": "20",
            job.MODULE_PARAMETER: step.module,
            job.OUTPUTS_PARAMETER: ",".join(step.outputs),
        }
        own = {
            name: self.argument_variable(step, name).to_string()
            if name in step.parameters
            else value_text(value) or job.EMPTY_VALUE
            for name, value in step.arguments.items()
        }
        return fixed | own

    def argument_variable(self, step: Step, argument: str) -> Any:
        """Return the SDK's object for the pipeline parameter that sets an argument of a step.

        - argument: one of Step.parameters.
        """
        return self.variables[parameters.argument_name(step.name, argument)]

    def event_value(self, value: definition.Value) -> Any:
        """Return the value of an argument of the register step in its Lambda function's event.

        - value: its value in the definition of the pipeline.

        SageMaker turns the result into text when the execution runs:
        - for the placeholder of the run's id, the id of the execution.
        - for the placeholder of the data's fingerprint, those of telemetry and labels, joined with "-".
        - for any other, the value as text.
        """
        if value == definition.RUN_ID:
            return sdk().ExecutionVariables.PIPELINE_EXECUTION_ID
        if value == definition.DATA_FINGERPRINT:
            prints = [self.variables[parameters.fingerprint_name(source)] for source in definition.DATA]
            return sdk().Join(on="-", values=prints)
        return value_text(value)

    def environment(self, step: Step) -> dict[str, Any]:
        """Return name -> value of a job's environment variables.

        These are <SOURCE>_FINGERPRINT, a reference, for telemetry and labels where the step reads them. A training job
        also gets MLflow's, if cloud.mlflow_app is set. Environment variables are part of SageMaker's cache key, so a
        new fingerprint makes the job run again although the URI of the data is unchanged.
        """
        found: dict[str, Any] = {}
        if step.kind == "training" and self.config.cloud.mlflow_app:
            found |= {
                "MLFLOW_TRACKING_URI": self.config.cloud.mlflow_app,
                "MLFLOW_EXPERIMENT_NAME": self.config.project.name,
                "MLFLOW_RUN_CONTEXT": run_tags(self.config),
                "MLFLOW_DISABLE_TELEMETRY": "true",
            }
        for source in (origin for origin in step.inputs.values() if origin in definition.DATA):
            found[f"{source.upper()}_FINGERPRINT"] = self.variables[parameters.fingerprint_name(source)]
        return found

    def processing_input(self, name: str, where: Any) -> Any:
        """Return the SDK's object for a channel of a processing job.

        - name: the channel.
        - where: the S3 URI of its files, or a reference to it.
        """
        to = sdk()
        return to.ProcessingInput(
            input_name=name,
            s3_input=to.ProcessingS3Input(
                s3_uri=where,
                local_path=f"{job.CONTAINER_ROOT}/processing/input/{name}",
                s3_data_type="S3Prefix",
                s3_input_mode="File",
            ),
        )

    def processing_output(self, step: Step, output: str) -> Any:
        """Return the SDK's object for an output of a processing job, uploaded to <step>/<output> of the execution.

        The folder of the execution is that of `run_uri`. The scores go to scored/<execution> instead, where only the
        jobs of the scoring pipeline may write, too.
        """
        to = sdk()
        scores = (step.name, output) == ("score", "scored")
        return to.ProcessingOutput(
            output_name=output,
            s3_output=to.ProcessingS3Output(
                s3_uri=self.execution_uri("scored") if scores else self.run_uri(step.name, output),
                local_path=f"{job.CONTAINER_ROOT}/processing/output/{output}",
                s3_upload_mode="EndOfJob",
            ),
        )

    def run_uri(self, *parts: str) -> Any:
        """Return a reference to the S3 URI runs/<execution>/<parts, joined with slashes> in the project's bucket.

        For the scoring pipeline it is scoring/<execution>/…, where only its jobs may write: those of the training
        pipeline run whatever was pushed.
        """
        return self.execution_uri("scoring" if self.source.name == "scoring" else "runs", *parts)

    def execution_uri(self, folder: str, *parts: str) -> Any:
        """Return a reference to the S3 URI <folder>/<execution>/<parts, joined with slashes> in the project's bucket.

        SageMaker fills in the id of the execution when it runs. The URI has no slash at its end.
        """
        to = sdk()
        return to.Join(on="/", values=[self.names.uri(folder), to.ExecutionVariables.PIPELINE_EXECUTION_ID, *parts])

    def network(self) -> Any:
        """Return the SDK's network settings of a processing job, from the section cloud of config.yaml.

        These are network isolation, subnets and security groups; without subnets, jobs use SageMaker's own network.
        """
        cloud = self.config.cloud
        return sdk().NetworkConfig(
            enable_network_isolation=cloud.network_isolation,
            subnets=cloud.subnets or None,
            security_group_ids=cloud.security_groups or None,
        )

    @property
    def volume_key(self) -> str | None:
        """The KMS key that encrypts the disks of jobs, from cloud.volume_key.

        It is the ARN that is given there; None for "none". For "project" the id in the ARN is a placeholder: only AWS
        knows it, and upsert.with_volume_key replaces "project" before pipelines are sent. Disks take no alias.
        """
        chosen = self.config.cloud.volume_key
        return {"project": self.names.arn("kms", "key/KEY-ID"), "none": None}.get(chosen, chosen)

    @property
    def copy_folder(self) -> tuple[str, ...]:
        """The folder of a copy's checkpoints, beside those of the pipeline that it copies; () for no copy."""
        return (self.source.name,) if definition.copy_name(self.source.name) else ()

    @property
    def tags(self) -> list[dict[str, str]]:
        """The tags of every job, as the AWS API takes them: a list of {"Key": …, "Value": …}."""
        return [{"Key": key, "Value": value} for key, value in project_tags(self.config).items()]


def variable(parameter: Parameter) -> Any:
    """Return the SDK's object for a pipeline parameter; steps hold it wherever they use the parameter's value."""
    to = sdk()
    if parameter.type == "String":
        return to.ParameterString(parameter.name, parameter.default, list(parameter.choices) or None)
    kind = {"Integer": to.ParameterInteger, "Float": to.ParameterFloat}[parameter.type]
    return kind(parameter.name, parameter.default)


def property_file(gate: Gate) -> Any:
    """Return the SDK's object for the JSON file that a gate reads.

    The gate names an output of a step as "step.output"; the file is <output>.json in that output.
    """
    output = gate.on.split(".")[1]
    return sdk().PropertyFile(name=output, output_name=output, path=f"{output}.json")


def retry_policies(retries: int) -> list[Any]:
    """Return the SDK's policies that start a step again after throttling, faults of SageMaker or missing capacity.

    A failure of the step's own code is not retried.

    - retries: the largest number of new starts that each policy allows; 0 returns no policies. The first wait is 60
      seconds, and each further one is twice as long.

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
    """Return the name of the last gate that must have passed before a step runs; None when no gate holds the step back.

    Raises InvalidPipeline when the step waits for two gates of which neither waits for the other.
    """
    before = ancestors(pipeline, step)
    gates = [name for name in before if isinstance(pipeline.step(name), Gate)]
    if not gates:
        return None
    last = max(gates, key=lambda name: len(ancestors(pipeline, pipeline.step(name))))
    beside = [name for name in gates if name != last and name not in ancestors(pipeline, pipeline.step(last))]
    if beside:
        raise refusals.InvalidPipeline(
            f"{pipeline.name}: step '{step.name}' waits for the gates '{last}' and '{beside[0]}', of which neither "
            "waits for the other; SageMaker nests conditions. Put one gate after the other."
        )
    return last


def ancestors(pipeline: Pipeline, step: Step | Gate) -> set[str]:
    """Return the names of all steps and gates that must have ended before a step starts."""
    found: set[str] = set()
    waiting = list(pipeline.parents(step))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += pipeline.parents(pipeline.step(name))
    return found
