"""The range of shares of flagged rows that is normal for a model; outside it, an alarm rolls its release back."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scarcegan.errors import UserError

REGISTER_AGAIN = "Register the model again: scarcegan start."
FACTOR = 2.0  # the share may be this many times larger or smaller than in the evaluation
SIGMAS = 3.0  # standard deviations of chance that are added, for the smallest number of rows the alarm looks at


@dataclass(frozen=True)
class Band:
    """The range of shares of flagged rows for which a release is not rolled back.

    - low, high: the ends of the range, each from 0 to 1, rounded outward to four decimals.
    - used: a text for people that says from which test users the range was calculated, such as "3.1% of 1,200
      unlabelled test users and 3.4% of 1,500 test users in all".
    """

    low: float
    high: float
    used: str


def flagged_share_band(evaluation: Mapping[str, Any], minimum_rows: int) -> Band:
    """Return the range that the share of flagged rows of an endpoint may have, from a model's evaluation.json.

    In this order:
    - The range covers two 95 % Wilson intervals: of the share of unlabelled test users that the model flags, and of the
      share of all test users. Without unlabelled test users, it is the interval of the labelled ones, of whom far more
      may belong to the rare class than of the requests.
    - Its lower end is halved and its upper end doubled, because requests differ from the test split.
    - Three standard deviations of a share of `minimum_rows` rows are taken off the lower end and added to the upper.
    - Ends outside 0 to 1 become 0 and 1.

    evaluation: the content of evaluation.json.
    minimum_rows: the smallest number of rows for which the alarm compares the share.

    Raises UserError when evaluation.json does not say how many users the model flags.
    """
    import numpy as np

    from scarcegan.evaluation.metrics import wilson

    shares = flagged_counts(evaluation)
    hits, rows = (np.array(column, float) for column in zip(*shares.values(), strict=True))
    low, high = wilson(hits, rows)
    ends = float(low.min()) / FACTOR, min(1.0, float(high.max()) * FACTOR)
    chance = [SIGMAS * math.sqrt(end * (1 - end) / minimum_rows) for end in ends]
    bottom, top = max(0.0, ends[0] - chance[0]), min(1.0, ends[1] + chance[1])
    used = " and ".join(f"{hit / n:.1%} of {n:,} {whose}" for whose, (hit, n) in shares.items())
    return Band(math.floor(bottom * 1e4) / 1e4, math.ceil(top * 1e4) / 1e4, used)


def flagged_counts(evaluation: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """Return group of test users -> (how many the model flagged, how many there are), from an evaluation.json.

    The groups are "unlabelled test users" and "test users in all", in this order, or "labelled test users" alone when
    evaluation.json has no unlabelled ones. Flagged means given the label of the rare class.

    - evaluation: the content of evaluation.json.

    Raises UserError when evaluation.json lacks these numbers.
    """
    try:
        rows = evaluation["scarcegan"]["test_rows"]
        matrix = evaluation["binary_classification_metrics"]["confusion_matrix"]
        labelled, others = (matrix["0"]["1"] + matrix["1"]["1"], rows["labelled"]), rows["unlabelled"]
        share = evaluation["scarcegan"]["share_flagged_unlabelled"]
    except (LookupError, TypeError) as error:
        raise UserError(
            f"evaluation.json lacks {error}, so the normal share of flagged rows is unknown. {REGISTER_AGAIN}"
        ) from None
    if not others or share is None:
        return {"labelled test users": labelled}
    unlabelled = round(share * others), others
    everybody = labelled[0] + unlabelled[0], labelled[1] + unlabelled[1]
    return {"unlabelled test users": unlabelled, "test users in all": everybody}
