"""What the local engine tells of its runs."""

from scarcegan.local.engine import differences


def test_what_was_changed_is_named_by_its_key():
    before = {"train": {"iterations": 5, "trunk": [1]}, "seed": 1}
    after = {"train": {"iterations": 6, "trunk": [1]}, "seed": 2}
    assert dict(differences(before, after)) == {"train.iterations": 6, "seed": 2}
