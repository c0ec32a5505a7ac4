"""Categories: names become codes in one way everywhere, and a table remembers which columns hold them."""

import hashlib
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scarcegan.data.categories import CODES, code, display_value, with_codes_at
from scarcegan.data.rules import Layout
from scarcegan.data.schema import read_feature_categories, read_features, write_features
from scarcegan.errors import UserError
from scarcegan.profile.check import check_data
from telemetry_samples import run_features, write


def ready(tmp_path, *lines, **arguments):
    path = write(tmp_path / "in.csv", *lines)
    given = {"kind": "features", "categories": "protocol", "user_column": "", **arguments}
    return run_features(path, tmp_path / "out", **given)


def test_a_code_is_six_digits_of_the_sha_256_of_the_text():
    """Worked out by `printf %s tcp | sha256sum`: 006451…"""
    assert code("tcp") == 0x006451 == 25681
    assert code(" tcp ") == code("tcp") != code("TCP")
    assert code("größe") == int(hashlib.sha256(b"gr\xc3\xb6\xc3\x9fe").hexdigest()[:6], 16)


def test_every_code_is_held_exactly_by_a_32_bit_number():
    values = np.array([code(str(i)) for i in range(2000)] + [CODES - 1])
    assert (values.astype(np.float32) == values).all() and values.min() >= 0 and values.max() < CODES


@pytest.mark.parametrize("blank", ["", "  ", "NaN", "nan"])
def test_blank_text_and_nan_are_missing(blank):
    assert math.isnan(code(blank))


def test_text_becomes_a_code_and_a_number_is_one_already():
    assert with_codes_at([1.5, "tcp", 25681], [1, 2]) == [1.5, 25681.0, 25681]


def test_a_value_is_shown_by_its_text_where_it_is_known():
    known = {"protocol": {"tcp": 25681}}
    assert display_value(25681.0, "protocol", known) == "tcp"
    assert display_value(7.0, "protocol", known) == "code 7"
    assert display_value(math.nan, "protocol", known) == "missing"
    assert display_value(7.0, "bytes", known) == 7.0


def test_the_features_step_turns_names_into_codes_after_the_numbers(tmp_path):
    found = ready(tmp_path, "protocol,a,label", "tcp,1,calm", ",2,risky", " udp ,3,", "tcp,4,")
    assert found.names == ("a", "protocol")
    np.testing.assert_array_equal(found.values[:, 1], [25681, np.nan, 5709379, 25681])
    assert found.categories == {"protocol": {"tcp": 25681, "udp": 5709379}}


def test_whole_numbers_can_be_categories_and_say_so_as_text(tmp_path):
    columns = {"port": pa.array([80.0, None, 443.0]), "a": [1, 2, 3], "label": ["calm", "risky", ""]}
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "in" / "a.parquet")
    found = run_features(tmp_path / "in", tmp_path / "out", kind="features", categories="port", user_column="")
    np.testing.assert_array_equal(found.values[:, 1], np.array([code("80"), np.nan, code("443")], np.float32))
    pq.write_table(pa.table(columns | {"port": [80.0, 0.5, 443.0]}), tmp_path / "in" / "a.parquet")
    with pytest.raises(UserError, match=r"row 2, column 'port': '0.5' is not a whole number. Categories are text"):
        run_features(tmp_path / "in", tmp_path / "out", kind="features", categories="port", user_column="")


def test_a_table_without_dates_has_the_day_that_is_said_or_none(tmp_path):
    assert set(ready(tmp_path, "protocol,label", "tcp,calm", start="2026-03-06").as_of.astype(str)) == {"2026-03-06"}
    assert set(ready(tmp_path, "protocol,label", "tcp,calm", start="").as_of.astype(str)) == {"NaT"}


def test_a_table_of_categories_alone_is_a_table(tmp_path):
    assert ready(tmp_path, "protocol,label", "tcp,calm").names == ("protocol",)


def test_only_the_most_frequent_texts_are_kept_by_name(tmp_path):
    found = ready(tmp_path, "protocol,label", *(f"p{i}," for i in range(150)), "p149,", "p149,", "p7,")
    assert len(found.categories["protocol"]) == 100
    assert list(found.categories["protocol"])[:2] == ["p149", "p7"]
    assert not np.isnan(found.values).any()


@pytest.mark.parametrize(
    "arguments",
    [{"columns": "protocol"}, {"label_column": "protocol"}, {"time_column": "protocol"}, {"categories": "a,a"}],
)
def test_a_column_has_one_meaning(tmp_path, arguments):
    with pytest.raises(UserError, match=r"is named twice in config\.yaml"):
        ready(tmp_path, "protocol,a,label", "tcp,1,calm", **arguments)


def test_text_that_is_no_category_is_named_with_its_place(tmp_path):
    write(tmp_path / "in.csv", "user_id,protocol,a,empty,label", "u1,tcp,1,,calm", "u2,udp,2,,risky")
    layout = Layout(("calm", "risky"))
    problems, summary = check_data(tmp_path / "in.csv", None, layout, "features")
    assert problems == []
    assert summary["columns_left_out"].startswith("protocol, empty (text, empty, or named like")
    problems, _ = check_data(tmp_path / "in.csv", None, layout, "features", ["a", "protocol"])
    assert "'tcp' is not a number (2 such rows). List a column of names under data.categories." in problems[0]
    assert "columns_left_out" not in check_data(tmp_path / "in.csv", None, layout, "features", ["a"])[1]


def test_a_category_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no column 'protocol' .* Did you mean 'protocl'\? .* under data.categories"):
        ready(tmp_path, "protocl,a,label", "tcp,1,calm")


def test_a_table_remembers_its_categories_through_files_pieces_and_no_rows(tmp_path):
    table = ready(tmp_path, "protocol,a,label", "tcp,1,calm", "größe,2,risky")
    texts = {"tcp": 25681, "größe": int(code("größe"))}
    for rows, folder in ((table.take(np.array([1])), "one"), (table.take(np.zeros(2, bool)), "none")):
        write_features(rows, tmp_path / folder)
        assert read_feature_categories(tmp_path / folder) == {"protocol": texts}
        assert read_features(tmp_path / folder).categories == {"protocol": texts}
