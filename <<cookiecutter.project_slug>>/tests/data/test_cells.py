"""Cells for spreadsheets: no text is a formula there, and every text comes back."""

import csv
import io

import pytest

from scarcegan.data.cells import cell_of

FORMULAS = [
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    '=HYPERLINK("http://x","y")',
    "＝1",
    "-",
    "=",
    "+u1",
]
PLAIN = ["u0000042", "a=b", "", "5", "-5", "+5", "-5.25", "é", " =1"]
QUOTED = ["'", "'u1", "'=1", "''"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_begins_like_a_formula_is_none_in_a_cell(text):
    assert cell_of(text) == f"'{text}"


@pytest.mark.parametrize("text", PLAIN)
def test_an_ordinary_text_and_a_number_stay_as_they_are(text):
    assert cell_of(text) == text


def test_without_its_apostrophe_every_cell_of_a_csv_file_is_its_text():
    texts = [*FORMULAS, *PLAIN, *QUOTED]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC).writerows([cell_of(text), 1] for text in texts)
    file.seek(0)
    assert [row[0].removeprefix("'") for row in csv.reader(file)] == texts
