"""The feature table: written, read, read in pieces, refused when it is none."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scarcegan.data.schema import (
    FeatureTable,
    concatenate,
    iter_features,
    read_feature_names,
    read_features,
    read_keys,
    write_features,
)
from scarcegan.errors import UserError


def small(users: str = "ab", first: float = 0.0) -> FeatureTable:
    """A row per letter; feature x counts up from `first`, y is missing."""
    n = len(users)
    values = np.column_stack([first + np.arange(n), np.full(n, np.nan)]).astype(np.float32)
    as_of = np.full(n, np.datetime64("2026-01-05"))
    return FeatureTable(np.array(list(users), object), as_of, np.arange(n, dtype=np.int8) - 1, ("x", "y"), values)


def test_what_is_written_is_read(tmp_path):
    write_features(small(), tmp_path)
    found = read_features(tmp_path)
    assert found.user_id.tolist() == ["a", "b"] and found.label.tolist() == [-1, 0]
    assert found.as_of.tolist() == small().as_of.tolist() and found.names == ("x", "y")
    np.testing.assert_array_equal(found.values, small().values)
    assert found.values.dtype == np.float32 and found.label.dtype == np.int8


def test_parts_are_read_in_order_and_in_pieces(tmp_path):
    write_features(small("cd", 2), tmp_path, part=1)
    write_features(small("ab", 0), tmp_path, part=0)
    pieces = list(iter_features(tmp_path, batch_rows=1))
    assert [piece.user_id.tolist() for piece in pieces] == [["a"], ["b"], ["c"], ["d"]]
    assert read_features(tmp_path).values[:, 0].tolist() == [0, 1, 2, 3]
    assert read_keys(tmp_path)[0].tolist() == ["a", "b", "c", "d"]


def test_a_table_of_no_rows_keeps_its_names(tmp_path):
    write_features(concatenate([], ("x", "y")), tmp_path)
    assert read_feature_names(tmp_path) == ("x", "y")
    assert len(read_features(tmp_path)) == 0


def test_taking_rows_leaves_the_table_as_it_was():
    table = small("abc")
    assert table.take(np.array([2, 0])).user_id.tolist() == ["c", "a"]
    assert table.take(np.array([False, True, False])).values[:, 0].tolist() == [1]
    assert len(table) == 3


def test_a_table_whose_columns_differ_in_length_cannot_be_made():
    with pytest.raises(ValueError, match="feature table of"):
        FeatureTable(np.array(["a"]), np.zeros(2, "datetime64[D]"), np.zeros(1, np.int8), ("x",), np.zeros((1, 1)))


def test_folders_that_hold_no_whole_feature_table_are_refused(tmp_path):
    with pytest.raises(UserError, match="no feature table"):
        read_features(tmp_path)
    path = write_features(small(), tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"part-00000\.parquet: damaged Parquet"):
        read_features(tmp_path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(UserError, match="begins with a, not user_id, as_of, label"):
        read_features(tmp_path)


def test_parts_with_different_features_are_refused(tmp_path):
    write_features(small(), tmp_path, part=0)
    other = small()
    write_features(FeatureTable(other.user_id, other.as_of, other.label, ("y", "x"), other.values), tmp_path, part=1)
    with pytest.raises(UserError, match=r"part-00001\.parquet: its features differ"):
        read_features(tmp_path)
