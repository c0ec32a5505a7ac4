"""A pipeline as text, Mermaid or SVG. Pure functions of the definition; svg.py lays the picture out."""

from collections.abc import Iterator

from scarcegan.pipeline.definition import Gate, Pipeline
from scarcegan.pipeline.svg import Arrow, Box, draw


def text(pipeline: Pipeline) -> str:
    """Sources, then each step with what it writes and reads; steps with one number may run side by side."""
    depth = levels(pipeline)
    width = max(len(step.name) for step in pipeline.steps)
    optional = [f"{name} (optional)" if name in pipeline.optional else name for name in pipeline.sources]
    lines = [f"{pipeline.name}: {', '.join(optional)}"]
    for step in sorted(pipeline.steps, key=lambda step: depth[step.name]):
        level = f"{depth[step.name] + 1:>3}  "
        if isinstance(step, Gate):
            lines.append(f"{level}{step.name:<{width}}  goes on when {step.field} of {step.on} is true")
            continue
        reads = [*step.inputs.values(), *(f"after {name}" for name in step.after)]
        lines.append(f"{level}{step.name:<{width}}  {', '.join(step.outputs)}")
        lines += [f"{'':5}{'':{width}}    <- {group}" for group in by_origin(reads)]
    return "\n".join(lines)


def by_origin(references: list[str]) -> Iterator[str]:
    """split.labelled, split.test -> split (labelled, test)."""
    found: dict[str, list[str]] = {}
    for reference in references:
        step, _, output = reference.partition(".")
        found.setdefault(step, []).extend([output] if output else [])
    yield from (f"{step} ({', '.join(outputs)})" if outputs else step for step, outputs in found.items())


def levels(pipeline: Pipeline) -> dict[str, int]:
    """Step -> how many steps must end before it, one after the other."""
    found: dict[str, int] = {}
    for step in pipeline.steps:
        found[step.name] = max((found[parent] + 1 for parent in pipeline.parents(step)), default=0)
    return found


def mermaid(pipeline: Pipeline) -> str:
    """The pipeline in Mermaid's language, as GitHub and GitLab draw it inside a README."""
    lines = ["flowchart TD"]
    for box in boxes(pipeline):
        left, right = {"source": ("[/", "/]"), "gate": ("{", "}")}.get(box.kind, ("(", ")"))
        lines.append(f'  {mermaid_name(box.name)}{left}"{box.title}"{right}')
    for arrow in arrows(pipeline):
        label = f"|{', '.join(arrow.labels)}|" if arrow.labels else ""
        lines.append(f"  {mermaid_name(arrow.start)} -->{label} {mermaid_name(arrow.end)}")
    return "\n".join(lines)


def mermaid_name(name: str) -> str:
    """Mermaid's own words (end, graph) cannot be names."""
    return "n_" + name.replace("-", "_").replace(":", "_")


def svg(pipeline: Pipeline) -> str:
    """The pipeline as a picture of its own, in light and dark."""
    return draw(f"The {pipeline.name} pipeline", boxes(pipeline), arrows(pipeline))


def boxes(pipeline: Pipeline) -> list[Box]:
    """What there is to draw. Sources come first; their names have a prefix, for a step may be called the same."""
    sources = [
        Box(f"source:{name}", name, "optional source" if name in pipeline.optional else "source", "source")
        for name in pipeline.sources
    ]
    steps = [
        Box(step.name, step.name, step.field, "gate")
        if isinstance(step, Gate)
        else Box(step.name, step.name, "", "step")
        for step in pipeline.steps
    ]
    return sources + steps


def arrows(pipeline: Pipeline) -> list[Arrow]:
    """One arrow from a step to each that reads from it, labelled with the outputs it hands on."""
    found: dict[tuple[str, str], list[str]] = {}
    for step in pipeline.steps:
        for origin in [step.on] if isinstance(step, Gate) else [*step.inputs.values(), *step.after]:
            start, _, output = origin.partition(".")
            if not output and origin not in step.after:
                start = f"source:{start}"
            found.setdefault((start, step.name), []).extend([output] if output else [])
    return [Arrow(start, end, tuple(labels)) for (start, end), labels in found.items()]
