"""Saved models: find model folders below a folder. Standard library only, so that a Lambda function can import it."""

from pathlib import Path

from scarcegan.errors import UserError

# The next move when a model's files are damaged or missing.
EXPORT_AGAIN = "Type scarcegan run, which restores the files of registered models; in AWS, release the version again."


def model_folders(folder: Path) -> dict[str, Path]:
    """The name of each business definition -> the folder of its model, in name order.

    These are the folders <folder>/<definition> that hold a file model.json.
    Raises UserError if there is none.
    """
    found = {path.parent.name: path.parent for path in sorted(folder.glob("*/model.json"))}
    if not found:
        raise UserError(f"{folder}: no model (<definition>/model.json) in it. Run the train step first.")
    return found
