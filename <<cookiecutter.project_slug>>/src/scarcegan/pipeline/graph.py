"""Functions that draw a pipeline as text, Mermaid or SVG. svg.py computes the layout of the picture."""

from collections.abc import Iterator

from scarcegan.pipeline.definition import Gate, Pipeline
from scarcegan.pipeline.svg import Arrow, Box, draw


def draw_text(pipeline: Pipeline) -> str:
    """Return a pipeline as text: a line with its name and sources, lines for each step (outputs, inputs) and each gate
    (its condition), and a legend.

    Each step or gate has a number, from 1, by which they are sorted: one more than its level (`levels`). Those with the
    same number do not depend on each other and may run at the same time.
    """
    depth = levels(pipeline)
    width = max(len(step.name) for step in pipeline.steps)
    optional = [f"{name} (optional)" if name in pipeline.optional else name for name in pipeline.sources]
    lines = [f"The {pipeline.name} pipeline. Sources: {', '.join(optional)}"]
    for step in sorted(pipeline.steps, key=lambda step: depth[step.name]):
        level = f"{depth[step.name] + 1:>3}  "
        if isinstance(step, Gate):
            lines.append(f"{level}{step.name:<{width}}  continues when {step.field} of {step.on} is true")
            continue
        reads = [*step.inputs.values(), *(f"after {name}" for name in step.after)]
        lines.append(f"{level}{step.name:<{width}}  {', '.join(step.outputs)}")
        lines += [f"{'':5}{'':{width}}    <- {group}" for group in by_origin(reads)]
    lines.append(
        "Each line: order, step, outputs; below it, after <-, its inputs. Equal numbers may run at the same time."
    )
    return "\n".join(lines)


def by_origin(references: list[str]) -> Iterator[str]:
    """Yield a text per step of `references`: ["split.labelled", "split.test"] gives one, "split (labelled, test)".

    A reference without a dot (a source, or "after train") is yielded as it is. The texts are in the order of first
    mention.

    - references: "step.output" each, or without a dot.
    """
    found: dict[str, list[str]] = {}
    for reference in references:
        step, _, output = reference.partition(".")
        found.setdefault(step, []).extend([output] if output else [])
    yield from (f"{step} ({', '.join(outputs)})" if outputs else step for step, outputs in found.items())


def levels(pipeline: Pipeline) -> dict[str, int]:
    """Return name of each step or gate -> its level: 0 if it waits for no other, else one more than the highest level
    of those that it waits for.
    """
    found: dict[str, int] = {}
    for step in pipeline.steps:
        found[step.name] = max((found[parent] + 1 for parent in pipeline.parents(step)), default=0)
    return found


def draw_mermaid(pipeline: Pipeline) -> str:
    """Return a pipeline as the text of a Mermaid flowchart, which GitHub and GitLab draw inside a README.

    It has the `boxes` without their notes, and the `arrows` with their labels.
    """
    lines = ["flowchart TD"]
    for box in boxes(pipeline):
        left, right = {"source": ("[/", "/]"), "gate": ("{", "}")}.get(box.kind, ("(", ")"))
        lines.append(f'  {mermaid_name(box.name)}{left}"{box.title}"{right}')
    for arrow in arrows(pipeline):
        label = f"|{', '.join(arrow.labels)}|" if arrow.labels else ""
        lines.append(f"  {mermaid_name(arrow.start)} -->{label} {mermaid_name(arrow.end)}")
    return "\n".join(lines)


def mermaid_name(name: str) -> str:
    """Return a box's name as a Mermaid identifier. The prefix n_ keeps it apart from Mermaid's words (end, graph)."""
    return "n_" + name.replace("-", "_").replace(":", "_")


def draw_svg(pipeline: Pipeline) -> str:
    """Return a pipeline as an SVG document. Its colours follow the reader's light or dark theme."""
    return draw(f"The {pipeline.name} pipeline", boxes(pipeline), arrows(pipeline))


def boxes(pipeline: Pipeline) -> list[Box]:
    """Return the boxes of a pipeline's picture: one for each source, then one for each step and gate in order.

    The name of a source's box begins with "source:", because a step may have the same name as a source. Its note is
    "source" or "optional source", that of a gate's box the gate's field; a step's box has none.
    """
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
    """Return the arrows of a pipeline's picture: a single one from each source, step or gate to each step or gate that
    reads from it or runs after it.

    An arrow's labels are the names of the outputs that are read. An arrow from a source, or to a step that only has to
    run later, has none.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for step in pipeline.steps:
        for origin in [step.on] if isinstance(step, Gate) else [*step.inputs.values(), *step.after]:
            start, _, output = origin.partition(".")
            if not output and origin not in step.after:
                start = f"source:{start}"
            found.setdefault((start, step.name), []).extend([output] if output else [])
    return [Arrow(start, end, tuple(labels)) for (start, end), labels in found.items()]
