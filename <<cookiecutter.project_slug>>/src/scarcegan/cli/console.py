"""What the verbs share: how a result is printed, and the options that mean the same everywhere. See main.py."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from scarcegan.workspace import Workspace

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A value of config.yaml, for this time only.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")]
Cloud = Annotated[bool, typer.Option("--cloud", help="In the SageMaker Model Registry, not on this machine.")]


def workspace(context: typer.Context, changes: list[str] | None = None) -> "Workspace":
    """The project's folder, as the option --config names it."""
    from scarcegan.workspace import Workspace

    return Workspace.open(context.obj, changes or [])


def emit(value: Any, as_json: bool, lines: list[str]) -> None:
    """Print a result: JSON for machines, lines for people."""
    print(json.dumps(value, indent=2, default=str) if as_json else "\n".join(lines))


def example(text: str) -> str:
    """The epilog of a verb."""
    return f"Example: {text}"


def table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Rows as aligned text, one line each under a head line."""
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def cell(value: Any) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "*"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
