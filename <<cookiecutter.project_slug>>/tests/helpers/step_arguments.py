"""The arguments of a step as the definition gives them with the default settings: no test repeats a default value."""

from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Step, monitoring, scoring, training, value_text


def arguments(name: str, **changes: object) -> list[str]:
    """Return every argument of a step as `--name=value`, without its folders. changes: values that are not the default.

    Raises KeyError for a step that no pipeline has, or for a change of an argument that the step does not take.
    """
    pipelines = (training(Config()), scoring(Config()), monitoring(Config()))
    steps = {step.name: step for pipeline in reversed(pipelines) for step in pipeline.steps if isinstance(step, Step)}
    given = dict(steps[name].arguments)
    for argument, value in changes.items():
        given[known(argument.replace("_", "-"), given)] = value if isinstance(value, bool | int | float) else str(value)
    return [f"--{argument}={value_text(value)}" for argument, value in given.items()]


def known(argument: str, given: dict) -> str:
    """Return the argument; KeyError when the step does not take it."""
    if argument not in given:
        raise KeyError(f"the step takes no --{argument} (it takes: {', '.join(given)})")
    return argument
