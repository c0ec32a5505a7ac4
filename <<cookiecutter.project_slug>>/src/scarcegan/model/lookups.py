"""Lookups: which categories of a feature get a column of their own in the model. The layer that makes them: inputs.py.

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
    """The columns of one feature of categories: one per code in `codes`, "other", and, if `missing`, "missing"."""

    codes: tuple[int, ...]
    missing: bool

    @property
    def width(self) -> int:
        """How many columns there are."""
        return len(self.codes) + 1 + self.missing

    def columns(self, values: NDArray) -> NDArray:
        """Codes [n], NaN for missing -> float32 [n, width]: in each row 1 in the column of its code, 0 elsewhere."""
        own = values[:, None] == np.array(self.codes, np.float32)
        gone = np.isnan(values)[:, None] & self.missing
        other = ~(own.any(axis=1, keepdims=True) | gone)
        return np.concatenate([own, other, *([gone] if self.missing else [])], axis=1).astype(np.float32)


def learn_lookup(values: NDArray) -> Lookup:
    """The Lookup for the codes [n] of training rows, NaN for missing.

    Of equally frequent codes the one that comes first among the rows goes first. The numbers of the codes, which follow
    from the names, decide nothing: other names for the same categories give the same model.
    """
    present = values[~np.isnan(values)]
    codes, first, rows = np.unique(present, return_index=True, return_counts=True)
    order = np.lexsort((first, -rows))
    kept = [int(codes[i]) for i in order if rows[i] >= ROWS_FOR_A_COLUMN][:MOST_COLUMNS]
    return Lookup(tuple(kept), bool(0 < len(present) < len(values)))


def category_facts(
    lookups: Sequence[tuple[int, Lookup]], names: Sequence[str], texts: Categories
) -> dict[str, dict[str, Any]]:
    """The entry "categories" of model.json: feature -> its columns, whether one of them is for missing, and its texts.

    lookups: pairs of a position among `names`, the names of the features, and its Lookup. texts: the code of each known
    category, by feature.
    """
    return {
        names[place]: {"columns": list(one.codes), "missing": one.missing, "texts": dict(texts[names[place]])}
        for place, one in lookups
    }


def expander(model: Mapping[str, Any], names: Sequence[str]) -> Callable[[NDArray], NDArray]:
    """A function for methods that cannot read codes: raw rows [n, d] -> the columns of numbers as they are, then those
    that the model makes of the categories.

    model: a model.json. names: of the d features. Without categories the function returns its argument.
    """
    categories = model.get("categories", {})
    numbers = [place for place, name in enumerate(names) if name not in categories]
    lookups = [(names.index(name), Lookup(tuple(one["columns"]), one["missing"])) for name, one in categories.items()]

    def expand(values: NDArray) -> NDArray:
        if not lookups:
            return values
        return np.concatenate([values[:, numbers], *(one.columns(values[:, j]) for j, one in lookups)], axis=1)

    return expand
