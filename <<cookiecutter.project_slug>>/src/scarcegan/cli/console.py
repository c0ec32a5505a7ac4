"""What the verbs of the command line share: options, and functions that open the project and print results."""

import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from scarcegan.jsonfile import replace_nan
from scarcegan.terminal import on_one_line

if TYPE_CHECKING:
    from scarcegan.workspace import Workspace

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for programs.")]
SetValues = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of config.yaml for this command only."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; do nothing.")]
InCloud = Annotated[
    bool, typer.Option("--cloud", help="Use the SageMaker Model Registry, not the one on this machine.")
]


def workspace(context: typer.Context, changes: list[str] | None = None) -> "Workspace":
    """Open the project whose config.yaml the option --config names.

    - context: of the verb, from typer; its `obj` is the path of config.yaml.
    - changes: texts KEY=VALUE that replace values of config.yaml in memory, as --set takes them; None: none.

    Raises UserError when the file is missing, or when it or a change has a bad value.
    """
    from scarcegan.workspace import Workspace

    return Workspace.open(context.obj, changes or [])


def emit(value: Any, as_json: bool, lines: list[str]) -> None:
    """Print the result of a verb to stdout.

    - value: the result as data; printed as JSON when `as_json` is True, with what JSON cannot hold, such as a path, as
      text, and NaN as null.
    - lines: the result as text for people; printed otherwise.
    """
    print(json.dumps(replace_nan(value), indent=2, default=str) if as_json else "\n".join(lines))


def print_progress(line: str) -> None:
    """Print a line about the progress of a verb to stderr at once."""
    print(line, file=sys.stderr, flush=True)


def example(text: str) -> str:
    """Return "Example: " and a command line, as the last line of a verb's help.

    - text: the whole command line, such as "scarcegan run --from train".
    """
    return f"Example: {text}"


def table_lines(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[str]:
    """Return rows as lines of text in aligned columns, under a line with the names of the columns.

    - rows: column -> value, each; a missing column is left empty. `cell` turns values into text. Without rows, only the
      line of names is returned.
    - columns: which columns to show, in this order; in the names, spaces replace "_".
    """
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [[cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def cell(value: Any) -> str:
    """Return a value as text in a table, on one line: "" for None and False, "*" for True, a float with three decimals,
    else str.
    """
    if value is None or value is False:
        return ""
    if value is True:
        return "*"
    return f"{value:.3f}" if isinstance(value, float) else on_one_line(str(value))
