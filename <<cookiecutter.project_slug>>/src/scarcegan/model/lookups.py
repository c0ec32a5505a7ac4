"""Lookups: which categories of a feature get a column of their own in the model. The layer that uses them: inputs.py.

Learnt on training rows without their labels: codes of at least ROWS_FOR_A_COLUMN rows, at most MOST_COLUMNS of them,
the most frequent first. All others, and codes never seen, share the column "other"; a missing category has a column of
its own where training rows missed it, and is "other" elsewhere. What a code is: data/categories.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scarcegan.data.categories import Categories

MOST_COLUMNS = 50
ROWS_FOR_A_COLUMN = 5


@dataclass(frozen=True)
class Lookup:
    """The columns into which the model turns one feature of categories, in this order.

    - codes: a column for each of these codes of categories (see categories.code).
    - then always a column "other", for every other code.
    - missing: whether a last column "missing" follows; without it, a missing value counts as "other".
    """

    codes: tuple[int, ...]
    missing: bool

    @property
    def width(self) -> int:
        """How many columns the feature is turned into: the codes, "other" and, if there is one, "missing"."""
        return len(self.codes) + 1 + self.missing

    def columns(self, values: NDArray) -> NDArray:
        """float32 [n, width] for the codes [n] of n rows, NaN for missing: each row is 1 in one column, 0 elsewhere.

        That column is the one of the row's code, "missing" for NaN if there is such a column, and otherwise "other".
        """
        own = values[:, None] == np.array(self.codes, np.float32)
        gone = np.isnan(values)[:, None] & self.missing
        other = ~(own.any(axis=1, keepdims=True) | gone)
        return np.concatenate([own, other, *([gone] if self.missing else [])], axis=1).astype(np.float32)


def learn_lookup(values: NDArray) -> Lookup:
    """Learn the Lookup of one feature from its codes [n] in the training rows, NaN for missing.

    Codes in at least ROWS_FOR_A_COLUMN rows get a column, the most frequent first, MOST_COLUMNS at most. There is a
    column "missing" if some but not all values are missing. Of equally frequent codes the one whose first row comes
    earlier goes first. The codes are never sorted by their number, which depends on the categories' names: other names
    for the same categories give the same model.
    """
    present = values[~np.isnan(values)]
    codes, first, rows = np.unique(present, return_index=True, return_counts=True)
    order = np.lexsort((first, -rows))
    kept = [int(codes[i]) for i in order if rows[i] >= ROWS_FOR_A_COLUMN][:MOST_COLUMNS]
    return Lookup(tuple(kept), bool(0 < len(present) < len(values)))


def category_facts(
    lookups: Sequence[tuple[int, Lookup]], names: Sequence[str], texts: Categories
) -> dict[str, dict[str, Any]]:
    """The entry "categories" of model.json: name of each feature of categories -> a dict with these keys:

    - columns: the codes that have a column of their own, in the order of the columns.
    - missing: whether missing values have a column.
    - texts: category (a text) -> its code.
    lookups: pairs (position of the feature among `names`, its Lookup). names: of all features. texts: feature name ->
    category (a text) -> its code.
    """
    return {
        names[place]: {"columns": list(one.codes), "missing": one.missing, "texts": dict(texts[names[place]])}
        for place, one in lookups
    }


def expander(model: Mapping[str, Any], names: Sequence[str]) -> Callable[[NDArray], NDArray]:
    """A function from raw rows [n, d] to rows [n, e] without codes of categories, for methods that cannot read codes.

    It returns the columns of numbers as they are, then, for each feature of categories, the columns of 0 and 1 of its
    Lookup. Where the model has no features of categories, it returns its argument itself.
    - model: content of a model.json, which lists the model's features of categories.
    - names: of the d features, which must include the model's features of categories.
    Raises ValueError if one of these is not among the names.
    """
    categories = model.get("categories", {})
    numbers = [place for place, name in enumerate(names) if name not in categories]
    lookups = [(names.index(name), Lookup(tuple(one["columns"]), one["missing"])) for name, one in categories.items()]

    def expand(values: NDArray) -> NDArray:
        if not lookups:
            return values
        return np.concatenate([values[:, numbers], *(one.columns(values[:, j]) for j, one in lookups)], axis=1)

    return expand
