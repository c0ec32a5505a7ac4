"""JSON files: written whole or not at all, and read with one sentence for what is wrong. Requests are wire.py's."""

import json
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError


def write_json(path: Path, value: Any) -> None:
    """Replace the file in one step; readers and a power cut see the old text or the new one. ValueError for NaN.

    Names stand as typed, but for the bytes of a file name that are no UTF-8: JSON has an escape for these.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.unfinished")
    try:
        with open(unfinished, "x", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def read_json(path: Path, move: str) -> Any:
    """The value; UserError that ends with the next move when the file is missing or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {move}") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged JSON ({error}). {move}") from None


def find_json(path: Path) -> Any:
    """The value, or None when the file is missing or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
