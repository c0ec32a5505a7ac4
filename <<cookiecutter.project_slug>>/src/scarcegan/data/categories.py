"""Categories: feature columns that hold names (a protocol, a country), and the number that stands for each name.

A model reads one table of 32-bit numbers, so that TensorFlow Serving takes it as it is. A name is therefore replaced by
its code: the first 24 bits of the SHA-256 of its UTF-8 text, which such a number holds exactly. In any language:

    code = the first six hexadecimal digits of sha256(text), as a number        printf %s tcp | sha256sum | cut -c1-6
    "tcp" -> 006451 -> 25681    SPACES around the text are cut off; a missing category is NaN, no code
    "True" is "true", "FALSE" is "false"

Two of n names share a code with probability about n (n - 1) / 2^25: 0.0003 for 100, 0.03 for 1,000. To the model those
two are one category; nothing else happens. data.categories in config.yaml lists the columns that are categories; from
the features step on, the feature table (schema.py) and model.json list them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

CODES = 2**24
MOST_TEXTS = 100  # texts of a column that are kept with their codes, so that reports can name them
MISSING = ("", "nan")
TRUTHS = ("true", "false")  # in any case: Parquet has "true" where Python writes "True"
# Cut off around users, labels and categories: white space of any language, and two characters of no width.
SPACES = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\ufeff"

Texts = Mapping[str, int]  # text -> code, the most frequent first
Categories = Mapping[str, Texts]  # column -> its texts


def code(text: str) -> float:
    """The code of a category's text: a whole number in [0, 2^24) as a float; NaN for blank text and "nan" in any case.

    It is the first 24 bits of the SHA-256 of the text in UTF-8, after the SPACES around it have been cut off, and true
    and false made lower case.
    """
    name = text.strip(SPACES)
    name = name.lower() if name.lower() in TRUTHS else name
    return math.nan if name.lower() in MISSING else float(int(sha256(name.encode()).hexdigest()[:6], 16))


def with_codes(texts: Iterable[str]) -> dict[str, int]:
    """{text: its code, a whole number (see `code`)}, in the order of the texts. A key is the text as given.

    Blank texts and "nan" are left out.
    """
    return {text: int(value) for text in texts if not math.isnan(value := code(text))}


def as_code(cell: Any) -> Any:
    """One cell of a category column as a number: text becomes its code (NaN when blank or "nan").

    A cell that is not text, such as a number that is a code already, is returned unchanged.
    """
    return code(cell) if isinstance(cell, str) else cell


def with_codes_at(row: Sequence[Any], places: Iterable[int]) -> list[Any]:
    """A copy of a row of cells, in which text at the positions `places` is replaced by its code, NaN for blank text.

    Numbers at these positions, and all other cells, stay as they are.
    """
    cells = list(row)
    for place in places:
        cells[place] = as_code(cells[place])
    return cells


def places(names: Sequence[str], categories: Iterable[str]) -> list[int]:
    """The positions, from 0 on and ascending, at which the columns `names` are category columns.

    categories: the names of the category columns; those that are not among `names` are ignored.
    """
    known = frozenset(categories)
    return [place for place, name in enumerate(names) if name in known]


def texts_of(model: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """The categories listed in a model.json, as {feature name: {text: code}}. {} for a model without categories.

    model: the content of model.json, parsed. The order of the texts is kept: the most frequent first.
    """
    return {name: dict(entry["texts"]) for name, entry in model.get("categories", {}).items()}


def text_of(value: float, texts: Texts) -> str:
    """The text that the code `value` stands for, "code <n>" when it is not among `texts`, "missing" for NaN.

    texts: {text: code}, the most frequent text first. When two texts share the code, the first one is returned.
    """
    if math.isnan(value):
        return "missing"
    return next((text for text, known in texts.items() if known == value), f"code {value:.0f}")


def display_value(value: float, name: str, categories: Categories) -> float | str:
    """A feature's value for a report: of a category its text, of any other feature the number itself.

    name: the feature's name; categories: {feature name: {text: code}} of the features that are categories. For a
    category the result is "code <n>" when the code has no known text, and "missing" for NaN.
    """
    return text_of(value, categories[name]) if name in categories else value
