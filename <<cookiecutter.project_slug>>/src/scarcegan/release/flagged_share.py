"""Band: which shares of flagged rows are as evaluated, so that no alarm rolls a release back for them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scarcegan.errors import UserError

AGAIN = "Register the model again: scarcegan start."
WIDER = 2.0  # how much more, or less, than in the evaluation the flagged share may be
SIGMAS = 3.0  # what chance may add to that in the fewest rows that are judged


@dataclass(frozen=True)
class Band:
    """Shares of flagged rows that no release is rolled back for. used: whose share it was made of, in words."""

    low: float
    high: float
    used: str


def band(evaluation: Mapping[str, Any], minimum_rows: int) -> Band:
    """The band around the share of test users that the model flagged. minimum_rows: the fewest that are judged.

    Whom an endpoint is asked about is nearest to the test users whom nobody has labelled: labelled ones were often
    looked at because something was odd. But the split draws both alike from the user base, so that all of them
    together are a fair guess too; the band holds the 95 % intervals (Wilson) of both. A table without unlabelled users
    leaves the labelled ones, who may hold far more of the rare class than traffic does. Traffic is never quite the
    test split: the ends are doubled and halved, and three standard deviations of chance are added.
    """
    import numpy as np

    from scarcegan.evaluation.metrics import wilson

    shares = flagged(evaluation)
    hits, rows = (np.array(column, float) for column in zip(*shares.values(), strict=True))
    low, high = wilson(hits, rows)
    ends = float(low.min()) / WIDER, min(1.0, float(high.max()) * WIDER)
    chance = [SIGMAS * math.sqrt(end * (1 - end) / minimum_rows) for end in ends]
    bottom, top = max(0.0, ends[0] - chance[0]), min(1.0, ends[1] + chance[1])
    used = " and ".join(f"{hit / n:.1%} of {n:,} {whose}" for whose, (hit, n) in shares.items())
    return Band(math.floor(bottom * 1e4) / 1e4, math.ceil(top * 1e4) / 1e4, used)


def flagged(evaluation: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Whose -> (how many flagged, of how many), out of an evaluation.json."""
    try:
        rows = evaluation["scarcegan"]["test_rows"]
        matrix = evaluation["binary_classification_metrics"]["confusion_matrix"]
        labelled = matrix["0"]["1"] + matrix["1"]["1"], rows["labelled"]
        share = evaluation["scarcegan"]["share_flagged_unlabelled"]
    except (LookupError, TypeError) as error:
        raise UserError(f"evaluation.json lacks {error}, so nobody knows how many it should flag. {AGAIN}") from None
    if not rows["unlabelled"] or share is None:
        return {"labelled test users": labelled}
    unlabelled = round(share * rows["unlabelled"]), rows["unlabelled"]
    everybody = labelled[0] + unlabelled[0], labelled[1] + unlabelled[1]
    return {"unlabelled test users": unlabelled, "test users in all": everybody}
