"""Lookups: which names of a category get a column of their own. The layer that does it in the model: categories.py.

Learnt on training rows, labels unseen: codes of at least FEWEST rows, at most MOST of them, the most frequent first.
All others, and codes never seen, share the column "other"; a missing category has its own where training rows missed
it, and else is "other". What a code is: data/categories.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scarcegan.data.categories import Categories

MOST = 50
FEWEST = 5


@dataclass(frozen=True)
class Lookup:
    """Which codes of one category have a column; missing: whether a missing one has. "other" always has."""

    codes: tuple[int, ...]
    missing: bool

    @property
    def width(self) -> int:
        return len(self.codes) + 1 + self.missing

    def columns(self, values: NDArray) -> NDArray:
        """Codes [n], NaN = missing -> float32 [n, width]: a column per code, "other", and maybe "missing"."""
        own = values[:, None] == np.array(self.codes, np.float32)
        gone = np.isnan(values)[:, None] & self.missing
        other = ~(own.any(axis=1, keepdims=True) | gone)
        return np.concatenate([own, other, *([gone] if self.missing else [])], axis=1).astype(np.float32)


def learn(values: NDArray) -> Lookup:
    """From training rows [n]. Codes that are equally frequent stand as they are first met, not by their numbers, which
    are chance: other names for the same categories give the same model."""
    present = values[~np.isnan(values)]
    codes, first, rows = np.unique(present, return_index=True, return_counts=True)
    order = np.lexsort((first, -rows))
    kept = [int(codes[i]) for i in order if rows[i] >= FEWEST][:MOST]
    return Lookup(tuple(kept), bool(0 < len(present) < len(values)))


def facts(lookups: Sequence[tuple[int, Lookup]], names: Sequence[str], texts: Categories) -> dict[str, dict[str, Any]]:
    """What model.json says of the categories: which codes have a column, and what the known codes are called."""
    return {
        names[place]: {"columns": list(one.codes), "missing": one.missing, "texts": dict(texts[names[place]])}
        for place, one in lookups
    }


def expander(model: Mapping[str, Any], names: Sequence[str]) -> Callable[[NDArray], NDArray]:
    """From a model.json: raw rows [n, d] -> the numbers as they are, then the columns that the model makes of the
    categories. For methods that cannot read codes."""
    told = model.get("categories", {})
    numbers = [place for place, name in enumerate(names) if name not in told]
    lookups = [(names.index(name), Lookup(tuple(one["columns"]), one["missing"])) for name, one in told.items()]

    def expand(values: NDArray) -> NDArray:
        if not lookups:
            return values
        return np.concatenate([values[:, numbers], *(one.columns(values[:, j]) for j, one in lookups)], axis=1)

    return expand
