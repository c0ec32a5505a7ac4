"""The training, scoring and monitoring pipelines, written once as data. Engines (local/, sagemaker/) run them.

A step knows folders; a pipeline knows the names of steps, channels and arguments. Nothing here imports TensorFlow,
pandas or an SDK. Every argument has its value from config.yaml here; steps have no default values of their own.
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from scarcegan.pipeline.config import Config, definitions_argument

Value = str | int | float | bool
RUN_ID = "{run_id}"  # an argument that every engine replaces by the id of the run; no part of a cache key
DATA = ("telemetry", "labels")  # sources of the training pipeline whose content the fingerprint of a run covers
MODEL_DIGEST = "{model_digest}"  # an engine that does not see the registry replaces it by what the check answers
DATA_FINGERPRINT = "{data_fingerprint}"  # an engine that does not see the data replaces it by what a start gives it
NOT_ABOUT_THE_MODEL = {"retries", "serve", "local", "cloud"}  # sections that are not kept with a registered model
TRAINING_FIGURES = (  # metrics that the train step prints while it trains, as `Iteration=…; Name=value;`
    "Discriminator_Supervised_Loss",
    "Discriminator_UnSupervised_Loss",
    "Generator_Loss",
    "Accuracy_Supervised",
)
# Arguments of the features step that an execution of the scoring pipeline may set. In training they are fixed, because
# they choose the days on which the gate measures.
FEATURES_PARAMETERS = {"start": "data.start", "days": "data.days", "bad-rows": "data.bad_rows"}


@dataclass(frozen=True)
class Step:
    """One process or job: `python -m <module> --<channel> PATH … --<output>-out DIR … --<argument> VALUE …`.

    - module: full name of the Python module that is run.
    - inputs: channel -> "step.output", or the name of one of the pipeline's sources.
    - outputs: names of the folders it writes.
    - arguments: name on the command line -> value. An engine replaces the value RUN_ID by the id of the run.
    - instance: its default instance type in SageMaker; `--set <Step>InstanceType=…` names another for one execution.
    - retries: how often it is started again after a failure that is not a mistake of the user.
    - kind: what it runs as in SageMaker: a processing job, a training job or a Lambda function. A training step has
      hyperparameters and a folder for checkpoints.
    - after: names of steps and gates that must have ended first although it reads nothing of theirs.
    - parameters: name of an argument -> its dotted key in config.yaml, for the arguments that SageMaker lets an
      execution set without a new definition of the pipeline.
    - figures: names of the metrics it prints while it runs, as `Name=value;` each.
    - seconds: how long it roughly takes on two cores: always, and more for each megabyte of the sources. It is shown
      when no earlier run tells; (0, 0) is unknown.
    """

    name: str
    module: str
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    arguments: Mapping[str, Value] = field(default_factory=dict)
    instance: str = "ml.m5.xlarge"
    retries: int = 0
    kind: Literal["processing", "training", "lambda"] = "processing"
    after: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[str, ...] = ()
    seconds: tuple[float, float] = (0.0, 0.0)

    @property
    def checkpoints(self) -> bool:
        """Whether the step takes `--checkpoints DIR`, a folder that is still there after the step was killed."""
        return self.kind == "training"


@dataclass(frozen=True)
class Gate:
    """A condition that is read from a step's output, and decides whether the steps after the gate run.

    - on: "step.output", an output that holds the file `<output>.json`.
    - field: the key in that file whose value, true or false, opens or closes the gate. When it is closed, the steps
      after it do not run, and the text under the key `reason` is shown.
    """

    name: str
    on: str
    field: str = "passed"

    @property
    def after(self) -> tuple[str, ...]:
        """The name of the step whose output the gate reads, as the only item."""
        return (self.on.split(".")[0],)


@dataclass(frozen=True)
class Pipeline:
    """The steps and gates of a pipeline, in an order in which each comes after all that it depends on.

    - sources: names of the inputs (files or folders) that come from outside.
    - optional: those sources that may be absent.
    - movable: those sources that an execution in AWS may read from another address. The others decide what the gate
      compares or which model scores, so their addresses are fixed when the pipeline is written.

    Raises ValueError for a definition that check_pipeline refuses.
    """

    name: str
    sources: tuple[str, ...]
    steps: tuple[Step | Gate, ...]
    optional: tuple[str, ...] = ()
    movable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_pipeline(self)

    def step(self, name: str) -> Step | Gate:
        """Return the step or gate with this name.

        Raises KeyError when there is none; the message suggests a similar name if there is one.
        """
        for step in self.steps:
            if step.name == name:
                return step
        near = difflib.get_close_matches(name, [s.name for s in self.steps], n=1)
        raise KeyError(
            f"no step '{name}' in the {self.name} pipeline" + (f"; did you mean '{near[0]}'?" if near else "")
        )

    def parents(self, step: Step | Gate) -> tuple[str, ...]:
        """Return the names of the steps and gates that must have ended before this one starts, each once: those whose
        outputs it reads, then those in its `after`. Sources are not among them.
        """
        produced = [source.split(".")[0] for source in getattr(step, "inputs", {}).values() if "." in source]
        return tuple(dict.fromkeys([*produced, *step.after]))


def check_pipeline(pipeline: Pipeline) -> None:
    """Check that each step and gate refers to earlier ones only, so that there is no cycle.

    Raises ValueError for a name that two steps or gates have, an input (of a gate: `on`) that is no source and no
    output of an earlier step, an `after` that is no earlier step or gate, and a parameter that is no argument of its
    step.
    """
    outputs: set[str] = set(pipeline.sources)
    names: set[str] = set()
    for step in pipeline.steps:
        if step.name in names:
            raise ValueError(f"{pipeline.name}: two steps are called '{step.name}'. Rename one.")
        wanted = [step.on] if isinstance(step, Gate) else list(step.inputs.values())
        for reference in wanted:
            if reference not in outputs:
                raise ValueError(
                    f"{pipeline.name}: step '{step.name}' reads '{reference}', which no earlier step writes "
                    f"(there are: {', '.join(sorted(outputs))})."
                )
        for parent in step.after:
            if parent not in names:
                raise ValueError(f"{pipeline.name}: step '{step.name}' comes after '{parent}', which is not above it.")
        names.add(step.name)
        if isinstance(step, Step):
            unknown = [name for name in step.parameters if name not in step.arguments]
            if unknown:
                raise ValueError(
                    f"{pipeline.name}: step '{step.name}' has no argument '{unknown[0]}' to be a parameter."
                )
            outputs.update(f"{step.name}.{output}" for output in step.outputs)


def training(config: Config, data_fingerprint: str = "", code_version: str = "") -> Pipeline:
    """Return the training pipeline: from telemetry or a ready table, weak labels and the champion to registered models.

    Its sources are "telemetry" (of either kind of data), "labels" and "champion"; the last two are optional. If the
    gate is open, it registers a set of models, one per business definition.

    - data_fingerprint: digest of the data.
    - code_version: git commit.

    Both are only stored with the registered models; "" when unknown.
    """
    classes = ",".join(config.labels.classes)
    usual = arguments_of(config.train.model_dump(exclude={"scarcegan"}))
    research = arguments_of(config.train.scarcegan.model_dump())
    evaluation = arguments_of(config.evaluate.model_dump())
    gate = {f"gate-{name}": value for name, value in arguments_of(config.gate.model_dump()).items()}
    networks = config.train.seeds * config.split.folds
    return Pipeline(
        "training",
        sources=(*DATA, "champion"),
        optional=("labels", "champion"),
        steps=(
            Step(
                "features",
                "scarcegan.steps.features",
                inputs={"telemetry": "telemetry", "labels": "labels"},
                outputs=("features", "inputs"),
                arguments=features_arguments(
                    config,
                    as_of_weeks=(config.split.test_weeks, 0),
                    labels_in=labels_in_data(config),
                ),
                instance=config.cloud.instances.features,
                retries=config.retries,
                seconds=(1.0, 1.5),
            ),
            Step(
                "split",
                "scarcegan.steps.split",
                inputs={"features": "features.features"},
                outputs=("labelled", "unlabelled", "validation", "test", "folds"),
                arguments={
                    "classes": classes,
                    "test-share": config.split.test_share,
                    "validation-share": config.split.validation_share,
                    "folds": config.split.folds,
                    "seed": config.split.seed,
                },
                instance=config.cloud.instances.split,
                retries=config.retries,
                seconds=(0.5, 0.1),
            ),
            Step(
                "train",
                "scarcegan.steps.train",
                inputs={channel: f"split.{channel}" for channel in ("labelled", "unlabelled", "validation", "folds")},
                outputs=("models", "curves"),
                arguments={
                    "classes": classes,
                    "definitions": definitions_argument(config),
                    **usual,
                    **research,
                },
                instance=config.cloud.instances.train,
                retries=config.retries,
                seconds=(10.0 + 0.003 * config.train.iterations * networks, 0.0),
                kind="training",
                parameters=keyed("train", usual) | keyed("train.scarcegan", research),
                figures=TRAINING_FIGURES,
            ),
            Step(
                "baseline",
                "scarcegan.steps.baseline",
                inputs={"models": "train.models", "labelled": "split.labelled", "unlabelled": "split.unlabelled"},
                outputs=("baseline",),
                arguments={"classes": classes},
                instance=config.cloud.instances.baseline,
                retries=config.retries,
                seconds=(8.0, 0.5),
            ),
            Step(
                "evaluate",
                "scarcegan.steps.evaluate",
                inputs={
                    "models": "train.models",
                    "curves": "train.curves",
                    "labelled": "split.labelled",
                    "unlabelled": "split.unlabelled",
                    "test": "split.test",
                    "champion": "champion",
                },
                outputs=("evaluation", "gate"),
                arguments={"description": config.project.description, "classes": classes, **evaluation, **gate},
                instance=config.cloud.instances.evaluate,
                retries=config.retries,
                seconds=(13.0, 1.0),
            ),
            Gate("gate", on="evaluate.gate"),
            Step(
                "register",
                "scarcegan.steps.register",
                inputs={
                    "models": "train.models",
                    "evaluation": "evaluate.evaluation",
                    "gate": "evaluate.gate",
                    "baseline": "baseline.baseline",
                },
                outputs=("packages",),
                arguments={
                    "group": config.project.model_package_group,
                    "classes": classes,
                    "run": RUN_ID,
                    "data-fingerprint": data_fingerprint,
                    "code-version": code_version,
                    "config": config.model_dump_json(exclude=NOT_ABOUT_THE_MODEL),
                },
                retries=config.retries,
                seconds=(4.0, 0.0),
                kind="lambda",
                after=("gate",),
            ),
        ),
    )


COPY = re.compile(r"training-(?P<name>(?!.*(training|scoring)$)[a-z](-?[a-z0-9]){0,29})")


def copy_name(pipeline: str) -> str:
    """Return the name of a copy of the training pipeline, such as "faster" for "training-faster"; "" for no copy.

    A copy's name has at most 30 lower-case letters, digits and single hyphens, a letter first. It does not end in
    training or scoring, or the pipeline of a project called <project>-training-… could have the same name in AWS.
    """
    found = COPY.fullmatch(pipeline)
    return found["name"] if found and len(found["name"]) <= 30 else ""


def training_copy(config: Config, name: str, data_fingerprint: str = "", code_version: str = "") -> Pipeline:
    """Return a copy of the training pipeline, called training-<name>, for trying a change out on a sample.

    It ends with the evaluation: it has neither the gate nor what the gate holds back, so it registers nothing.

    - name: of the copy.
    - data_fingerprint, code_version: as in `training`.

    Raises ValueError for a name that `copy_name` does not know.
    """
    if not copy_name(f"training-{name}"):
        raise ValueError(f"'{name}' cannot be the name of a copy")
    whole = training(config, data_fingerprint, code_version)
    steps = [step for step in whole.steps if isinstance(step, Step) and step.kind != "lambda"]
    sampled = [with_sample(step, config.cloud.copy_sample) if step.name == "features" else step for step in steps]
    return Pipeline(f"training-{name}", whole.sources, tuple(sampled), whole.optional)


def with_sample(step: Step, share: float) -> Step:
    """Return the features step with the argument --sample, which an execution may set. share: its value."""
    return replace(
        step,
        arguments={**step.arguments, "sample": share},
        parameters={**step.parameters, "sample": "cloud.copy_sample"},
    )


def scoring(config: Config, model_digest: str = "") -> Pipeline:
    """Return the scoring pipeline: from data of users and a model package to scores and the flagged users.

    Its sources are "telemetry" (telemetry or a ready table, as data.kind says) and "model"; both are needed.

    - model_digest: of the model that may score, as the registry has it; "" for a package that was registered without.
    """
    return Pipeline(
        "scoring",
        sources=("telemetry", "model"),
        movable=("telemetry",),
        steps=(
            Step(
                "features",
                "scarcegan.steps.features",
                inputs={"telemetry": "telemetry"},
                outputs=("features", "inputs"),
                arguments=features_arguments(config, as_of_weeks=(0,)),
                instance=config.cloud.instances.features,
                retries=config.retries,
                seconds=(1.0, 1.5),
                parameters=FEATURES_PARAMETERS,
            ),
            Step(
                "score",
                "scarcegan.steps.score",
                inputs={"features": "features.features", "model": "model"},
                outputs=("scored",),
                arguments={"classes": ",".join(config.labels.classes), "model-digest": model_digest},
                instance=config.cloud.instances.score,
                retries=config.retries,
                seconds=(6.0, 0.5),
            ),
        ),
    )


def monitoring(config: Config) -> Pipeline:
    """Return the monitoring pipeline: from captured or scored rows and a baseline to violations, and whether to
    retrain.

    Its sources are "captured", "baseline" and, optional, "truth" (true labels), with which it also measures the model.
    """
    return Pipeline(
        "monitoring",
        sources=("captured", "baseline", "truth"),
        optional=("truth",),
        steps=(
            Step(
                "monitor",
                "scarcegan.steps.monitor",
                inputs={"captured": "captured", "baseline": "baseline", "truth": "truth"},
                outputs=("monitoring",),
                arguments={
                    "description": config.project.description,
                    "classes": ",".join(config.labels.classes),
                    **arguments_of(config.monitor.model_dump()),
                },
                instance=config.cloud.instances.monitor,
                retries=config.retries,
                seconds=(3.0, 0.5),
                parameters=keyed("monitor", ("drift-threshold", "minimum-rows")),
            ),
        ),
    )


def every_pipeline(config: Config) -> dict[str, Pipeline]:
    """Return name -> pipeline, for the training, scoring and monitoring pipelines, in this order.

    The training pipeline has neither data fingerprint nor code version.
    """
    return {pipeline.name: pipeline for pipeline in (training(config), scoring(config), monitoring(config))}


def keyed(section: str, arguments: Iterable[str]) -> dict[str, str]:
    """Return argument of a step -> its dotted key in config.yaml, such as "test-share" -> "split.test_share".

    - section: the key's section.
    - arguments: names of the arguments.
    """
    return {name: f"{section}.{name.replace('-', '_')}" for name in arguments}


def arguments_of(values: Mapping[str, Any]) -> dict[str, Value]:
    """Return the arguments of a step, name -> value, for the values of a section of config.yaml.

    In names "-" replaces "_" (test-share for test_share); lists become text with commas.
    """
    return {name.replace("_", "-"): argument_value(value) for name, value in values.items()}


def argument_value(value: Value | list) -> Value:
    """Return a list as text with commas between its items ("" for an empty one); any other value unchanged."""
    return ",".join(str(part) for part in value) if isinstance(value, list) else value


LABELS_IN_DATA = ("inside", "folders")  # values of data.labels that are no path


def labels_in_data(config: Config) -> str:
    """Return "inside" or "folders" when that is where the data must have labels for training, otherwise ""."""
    return config.data.labels if config.data.labels in LABELS_IN_DATA else ""


def features_arguments(config: Config, as_of_weeks: tuple[int, ...], labels_in: str = "") -> dict[str, Value]:
    """Return the arguments of the features step, name -> value.

    Only as-of-weeks and labels-in differ between training and scoring.

    - labels_in: "inside" or "folders" when that is where the data must have labels, otherwise "".
    - as_of_weeks: for each row that a user gets: how many weeks before the last day of the telemetry the row's day of
      observation is. Repeats are dropped.
    """
    data, features = config.data, config.features
    return {
        "classes": ",".join(config.labels.classes),
        "kind": data.kind,
        "user-column": data.user_column,
        "time-column": data.time_column,
        "label-column": data.label_column,
        "labels-in": labels_in,
        "time-format": data.time_format,
        "time-zone": data.time_zone,
        "counters": ",".join(data.counters),
        "signed-counters": ",".join(data.signed_counters),
        "aggregate": ",".join(f"{counter}={how}" for counter, how in data.aggregate.items()),
        "missing-days": data.missing_days,
        "columns": ",".join(data.columns),
        "categories": ",".join(data.categories),
        "start": data.start,
        "days": data.days,
        "window-days": features.window_days,
        "windows": ",".join(str(days) for days in features.windows),
        "as-of-weeks": ",".join(str(weeks) for weeks in dict.fromkeys(as_of_weeks)),
        "batch-users": features.batch_users,
        "bad-rows": data.bad_rows,
        "sample": 1.0,
    }


def value_text(value: object) -> str:
    """Return a value as text for the command line: booleans as "true" and "false", anything else by str()."""
    return str(value).lower() if isinstance(value, bool) else str(value)
