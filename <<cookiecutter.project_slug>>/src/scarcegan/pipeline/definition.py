"""The pipelines, written once as data. Readers (local.py, a cloud reader) turn them into something that runs.

A step knows folders; the pipeline knows names and channels. They meet by step name and folder only, so nothing
here imports TensorFlow, pandas or an SDK.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = str | int | float | bool


@dataclass(frozen=True)
class Step:
    """One process or job: `python -m <module> --<channel> DIR … --<output>-out DIR … --<argument> VALUE …`.

    inputs: channel -> "step.output", or the name of one of the pipeline's sources.
    kind: what the step is in the cloud; training steps have hyperparameters and a folder for checkpoints.
    """

    name: str
    module: str
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    arguments: Mapping[str, Value] = field(default_factory=dict)
    instance: str = ""
    retries: int = 0
    kind: Literal["processing", "training", "lambda"] = "processing"
    after: tuple[str, ...] = ()

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
        check(self)

    def step(self, name: str) -> Step | Gate:
        """The step or gate of that name; KeyError names the nearest one."""
        for step in self.steps:
            if step.name == name:
                return step
        near = difflib.get_close_matches(name, [s.name for s in self.steps], n=1)
        raise KeyError(f"no step '{name}' in the {self.name} pipeline" + (f"; did you mean '{near[0]}'?" if near else ""))

    def parents(self, step: Step | Gate) -> tuple[str, ...]:
        """Names of the steps that must have finished before this one starts."""
        produced = [source.split(".")[0] for source in getattr(step, "inputs", {}).values() if "." in source]
        return tuple(dict.fromkeys([*produced, *step.after]))


def check(pipeline: Pipeline) -> None:
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
            outputs.update(f"{step.name}.{output}" for output in step.outputs)
