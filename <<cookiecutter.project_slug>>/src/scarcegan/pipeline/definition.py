"""The pipelines, written once as data. Engines (local/, sagemaker/) turn them into something that runs.

A step knows folders; the pipeline knows names and channels. They meet by step name and folder only, so nothing
here imports TensorFlow, pandas or an SDK.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from scarcegan.pipeline.config import Config, definitions_argument

Value = str | int | float | bool
RUN_ID = "{run_id}"  # an argument every reader replaces by the id of the execution; no part of a cache key
DATA = ("telemetry", "labels")  # the training pipeline's sources that are data; the fingerprint of a run is theirs
DATA_FINGERPRINT = "{data_fingerprint}"  # for readers that do not see the data: they put in what they are told at start
FIGURES = (  # what the train step prints at each look, as `Iteration=…; Name=value;`
    "Discriminator_Supervised_Loss",
    "Discriminator_UnSupervised_Loss",
    "Generator_Loss",
    "Accuracy_Supervised",
)
# What else the features step does must be the same when training and when scoring.
FEATURES_PARAMETERS = {"start": "data.start", "days": "data.days", "bad-rows": "data.bad_rows"}


@dataclass(frozen=True)
class Step:
    """One process or job: `python -m <module> --<channel> DIR … --<output>-out DIR … --<argument> VALUE …`.

    inputs: channel -> "step.output", or the name of one of the pipeline's sources.
    instance: its machine in the cloud, for a start; `--set <Step>InstanceType=…` names another.
    kind: what the step is in the cloud; training steps have hyperparameters and a folder for checkpoints.
    parameters: arguments that may change from one execution to the next without a new definition, and the keys of
    config.yaml they stand for.
    figures: names of the metrics it prints, one `Name=value;` each.
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

    @property
    def checkpoints(self) -> bool:
        """Whether the step is given `--checkpoints DIR`, a folder that outlives a killed attempt."""
        return self.kind == "training"


@dataclass(frozen=True)
class Gate:
    """A condition: `field` of `<on>.json`, an output of a step, must be true, or the run ends with its `reason`."""

    name: str
    on: str
    field: str = "passed"

    @property
    def after(self) -> tuple[str, ...]:
        return (self.on.split(".")[0],)


@dataclass(frozen=True)
class Pipeline:
    """Steps and gates in order, and the names of the folders that come from outside (`sources`).

    optional: sources that may be an empty folder or left unbound.
    """

    name: str
    sources: tuple[str, ...]
    steps: tuple[Step | Gate, ...]
    optional: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_pipeline(self)

    def step(self, name: str) -> Step | Gate:
        """The step or gate of that name; KeyError names the nearest one."""
        for step in self.steps:
            if step.name == name:
                return step
        near = difflib.get_close_matches(name, [s.name for s in self.steps], n=1)
        raise KeyError(
            f"no step '{name}' in the {self.name} pipeline" + (f"; did you mean '{near[0]}'?" if near else "")
        )

    def parents(self, step: Step | Gate) -> tuple[str, ...]:
        """Names of the steps that must have finished before this one starts."""
        produced = [source.split(".")[0] for source in getattr(step, "inputs", {}).values() if "." in source]
        return tuple(dict.fromkeys([*produced, *step.after]))


def check_pipeline(pipeline: Pipeline) -> None:
    """Raise ValueError for a name used twice, a reference to nothing, or a step that reads from a later one.

    Steps may only refer to earlier ones, so a cycle cannot be written.
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
    """Telemetry and weak labels -> one model set, registered when the gate opens."""
    classes = ",".join(config.labels.classes)
    hyperparameters = {
        name.replace("_", "-"): argument_value(value) for name, value in config.train.model_dump().items()
    }
    gate = {f"gate-{name}": value for name, value in config.gate.model_dump().items()}
    return Pipeline(
        "training",
        sources=(*DATA, "champion"),
        optional=("labels", "champion"),
        steps=(
            Step(
                "features",
                "scarcegan.steps.features",
                inputs={"telemetry": "telemetry", "labels": "labels"},
                outputs=("features",),
                arguments=features_arguments(config, as_of_weeks=(config.split.test_weeks, 0)),
                instance=config.cloud.instances.features,
                retries=config.local.retries,
                parameters=FEATURES_PARAMETERS,
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
                retries=config.local.retries,
                parameters=keyed("split", ("test-share", "validation-share", "folds", "seed")),
            ),
            Step(
                "train",
                "scarcegan.steps.train",
                inputs={channel: f"split.{channel}" for channel in ("labelled", "unlabelled", "validation", "folds")},
                outputs=("models", "curves"),
                arguments={
                    "classes": classes,
                    "definitions": definitions_argument(config),
                    **hyperparameters,
                },
                instance=config.cloud.instances.train,
                retries=config.local.retries,
                kind="training",
                parameters=keyed("train", hyperparameters),
                figures=FIGURES,
            ),
            Step(
                "baseline",
                "scarcegan.steps.baseline",
                inputs={"models": "train.models", "labelled": "split.labelled", "unlabelled": "split.unlabelled"},
                outputs=("baseline",),
                arguments={"classes": classes},
                instance=config.cloud.instances.baseline,
                retries=config.local.retries,
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
                arguments={"classes": classes, **config.evaluate.model_dump(), **gate},
                instance=config.cloud.instances.evaluate,
                retries=config.local.retries,
                parameters=keyed("evaluate", config.evaluate.model_dump()) | keyed("gate", gate, "gate-"),
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
                    "config": config.model_dump_json(exclude={"local", "serve", "cloud"}),
                },
                retries=config.local.retries,
                kind="lambda",
                after=("gate",),
            ),
        ),
    )


def scoring(config: Config) -> Pipeline:
    """Telemetry of everybody -> the model's scores and the flagged users."""
    return Pipeline(
        "scoring",
        sources=("telemetry", "model"),
        steps=(
            Step(
                "features",
                "scarcegan.steps.features",
                inputs={"telemetry": "telemetry"},
                outputs=("features",),
                arguments=features_arguments(config, as_of_weeks=(0,)),
                instance=config.cloud.instances.features,
                retries=config.local.retries,
                parameters=FEATURES_PARAMETERS,
            ),
            Step(
                "score",
                "scarcegan.steps.score",
                inputs={"features": "features.features", "model": "model"},
                outputs=("scored",),
                arguments={"classes": ",".join(config.labels.classes)},
                instance=config.cloud.instances.score,
                retries=config.local.retries,
            ),
        ),
    )


def monitoring(config: Config) -> Pipeline:
    """Captured or scored rows (and ground truth, when it has come) -> violations and a verdict on retraining."""
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
                    "classes": ",".join(config.labels.classes),
                    **{name.replace("_", "-"): value for name, value in config.monitor.model_dump().items()},
                },
                instance=config.cloud.instances.monitor,
                retries=config.local.retries,
                parameters=keyed("monitor", ("drift-threshold", "minimum-rows")),
            ),
        ),
    )


def keyed(section: str, arguments: Iterable[str], prefix: str = "") -> dict[str, str]:
    """Argument -> its key in a section of config.yaml: test-share -> split.test_share."""
    return {name: f"{section}.{name.removeprefix(prefix).replace('-', '_')}" for name in arguments}


def argument_value(value: Value | list) -> Value:
    """A list as an argument takes it: comma separated."""
    return ",".join(str(part) for part in value) if isinstance(value, list) else value


def features_arguments(config: Config, as_of_weeks: tuple[int, ...]) -> dict[str, Value]:
    """Arguments of the features step, the same for training and scoring but for the days it looks back from."""
    data, features = config.data, config.features
    return {
        "classes": ",".join(config.labels.classes),
        "kind": data.kind,
        "user-column": data.user_column,
        "time-column": data.time_column,
        "label-column": data.label_column,
        "counters": ",".join(data.counters),
        "columns": ",".join(data.columns),
        "categories": ",".join(data.categories),
        "start": data.start,
        "days": data.days,
        "window-days": features.window_days,
        "windows": ",".join(str(days) for days in features.windows),
        "as-of-weeks": ",".join(str(weeks) for weeks in dict.fromkeys(as_of_weeks)),
        "batch-users": features.batch_users,
        "bad-rows": data.bad_rows,
    }


def value_text(value: object) -> str:
    """An argument as the command line has it: booleans as true and false."""
    return str(value).lower() if isinstance(value, bool) else str(value)
