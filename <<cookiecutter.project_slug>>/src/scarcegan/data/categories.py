"""Categories: columns of names (a protocol, a country), and how a name travels as a number.

A model reads one table of 32-bit numbers, so that TensorFlow Serving takes it as it is. A name therefore travels as its
code: the first 24 bits of the SHA-256 of its UTF-8 text, which such a number holds exactly. In any language:

    code = the first six hexadecimal digits of sha256(text), as a number        printf %s tcp | sha256sum | cut -c1-6
    "tcp" -> 006451 -> 25681                   blanks around the text are cut off; a missing category is NaN, no code

Two of n names share a code with probability about n (n - 1) / 2^25: 0.0003 for 100, 0.03 for 1,000. To the model those
two are one category; nothing else happens. Which columns are categories is said once, under data.categories in
config.yaml; from the features step on it stands beside the columns (schema.py) and in model.json.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

CODES = 2**24
MOST_TEXTS = 100  # of a column, kept with their codes so that reports can name them
MISSING = ("", "nan")

Texts = Mapping[str, int]  # text -> code, the most frequent first
Categories = Mapping[str, Texts]  # column -> its texts


def code(text: str) -> float:
    """The number that stands for a category: a whole number in [0, 2^24), or NaN for blank text and "nan"."""
    name = text.strip(" ")
    return math.nan if name.lower() in MISSING else float(int(sha256(name.encode()).hexdigest()[:6], 16))


def with_codes(texts: Iterable[str]) -> dict[str, int]:
    """The texts, as they come, with their codes; missing ones left out."""
    return {text: int(value) for text in texts if not math.isnan(value := code(text))}


def as_code(cell: Any) -> Any:
    """A category as somebody sends it, as a number: text by its code; a number is a code already."""
    return code(cell) if isinstance(cell, str) else cell


def coded(row: Sequence[Any], places: Iterable[int]) -> list[Any]:
    """A row of cells with the categories at these places as numbers."""
    cells = list(row)
    for place in places:
        cells[place] = as_code(cells[place])
    return cells


def places(names: Sequence[str], categories: Iterable[str]) -> list[int]:
    """Where the categories stand among the columns, in the order of the columns."""
    known = frozenset(categories)
    return [place for place, name in enumerate(names) if name in known]


def texts_of(model: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The categories that a model.json tells of, each with its texts; none in one of a model without any."""
    return {name: dict(entry["texts"]) for name, entry in model.get("categories", {}).items()}


def text_of(value: float, texts: Texts) -> str:
    """What to call a code: its text where it is known (the most frequent, should two share it), else the code."""
    if math.isnan(value):
        return "missing"
    return next((text for text, known in texts.items() if known == value), f"code {value:.0f}")


def shown(value: float, name: str, categories: Categories) -> float | str:
    """A feature's value as a report shows it: a number, or the text of a category."""
    return text_of(value, categories[name]) if name in categories else value
