"""JSON files: written completely or not at all; a file that cannot be read as JSON is reported in one sentence."""

import errno
import json
import math
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError


def write_json(path: Path, value: Any, indent: int = 1) -> None:
    """Write a value to the file at `path` as JSON, replacing the file in one step; missing parent folders are made.

    Readers get the complete old or the complete new text, also after a crash. Text is written as UTF-8 without escapes;
    only lone surrogates, by which Python holds bytes of a file name that are not UTF-8, are escaped.

    - indent: spaces per level.

    Raises ValueError for NaN or infinity, TypeError for a value that JSON cannot hold, and OSError for a failed write;
    the old file is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
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


def read_json(path: Path, next_move: str) -> dict[str, Any]:
    """Read a JSON file that holds an object, and return it as a dictionary.

    - next_move: a sentence that tells the user what to do when that fails.

    Raises UserError, whose message ends with that sentence, when the file is missing, is a folder or a pipe, is not
    JSON or holds another value than an object; OSError when it cannot be read for another reason.
    """
    try:
        found = parsed(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {next_move}") from None
    except IsADirectoryError:
        raise UserError(f"{path}: a folder, a pipe or a device, where a file is needed. {next_move}") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}). {next_move}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: holds no JSON object. {next_move}")
    return found


def find_json(path: Path) -> Any:
    """Read a JSON file and return its value, or None when the file is missing, cannot be read, or is not JSON."""
    try:
        return parsed(path)
    except (OSError, ValueError):
        return None


def parsed(path: Path) -> Any:
    """Read a JSON file and return its value.

    Raises IsADirectoryError for what is no file, as a pipe would be waited for; another OSError when it cannot be read;
    ValueError when it is not JSON, or is nested too deeply.
    """
    if path.exists() and not path.is_file():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def replace_nan(value: Any, by: str | None = None) -> Any:
    """Return a copy of a JSON value in which each float that is NaN or infinite is replaced, at any depth.

    JSON allows only finite numbers. Dictionaries, lists and tuples are searched; a tuple becomes a list.

    - by: what replaces them: None (null in JSON), or a text such as SageMaker's "NaN".
    """
    if isinstance(value, dict):
        return {key: replace_nan(inside, by) for key, inside in value.items()}
    if isinstance(value, list | tuple):
        return [replace_nan(inside, by) for inside in value]
    return by if isinstance(value, float) and not math.isfinite(value) else value
