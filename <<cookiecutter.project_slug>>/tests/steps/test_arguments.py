"""The steps' arguments: what each type reads, and the words with which argparse refuses the rest."""

import argparse
from importlib import import_module
from pathlib import Path

import pytest

from scarcegan.errors import UserError
from scarcegan.steps import _arguments
from scarcegan.steps._arguments import parse_classes


def test_classes_are_names_with_the_rare_one_last():
    assert parse_classes("normal, heavy,risky") == ("normal", "heavy", "risky")
    for text, fault in {
        "risky": "at least one negative",
        "a,b,a": "'a' is named twice",
        "a,unknown": "reserved",
    }.items():
        with pytest.raises(UserError, match=fault):
            parse_classes(text)


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        ("parse_names", " a, b,,", ("a", "b")),
        ("parse_whole_numbers", "7, 14", (7, 14)),
        ("parse_numbers", "0.1,2", (0.1, 2.0)),
        ("parse_numbers", "", ()),
        ("parse_count", "1", 1),
        ("parse_number", "1e-3", 0.001),
        ("parse_days", "46", 46),
        ("parse_boolean", "false", False),
        ("parse_day", "20260131", "2026-01-31"),
        ("parse_day", "", ""),
    ],
)
def test_an_argument_is_read(read, text, value):
    assert getattr(_arguments, read)(text) == value


@pytest.mark.parametrize("step", ["features", "split", "train", "evaluate", "monitor"])
def test_no_step_takes_a_number_that_is_none_or_endless(step):
    for action in import_module(f"scarcegan.steps.{step}").parser()._actions:
        if action.type in (None, Path) or action.type.__name__ in ("parse_names", "parse_classes", "loads"):
            continue
        for text in ("nan", "inf", "-inf", "1e999"):
            with pytest.raises((argparse.ArgumentTypeError, ValueError)):
                action.type(text)


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        ("parse_whole_numbers", "7,x", "'x' is not a whole number"),
        ("parse_numbers", "1,two", "'two' is not a number"),
        ("parse_count", "many", "'many' is not a whole number"),
        ("parse_count", "0", "0 is less than 1"),
        ("parse_boolean", "True", "'True' is neither true nor false"),
        ("parse_whole_numbers", "", "'' holds no number"),
        ("parse_whole_numbers", " , ", "' , ' holds no number"),
        ("parse_whole_numbers", "9" * 5000, "'9{80}…' is not a whole number"),
        ("parse_numbers", "1,nan", "'nan' is not a finite number"),
        ("parse_number", "inf", "'inf' is not a finite number"),
        ("parse_number", "1e999", "'1e999' is not a finite number"),
        ("parse_number", "x" * 5000, "'x{80}…' is not a number"),
        ("parse_days", "9999999", "9999999 days are more than a century"),
        ("parse_days", "9" * 20, "more than a century"),
        ("parse_days", "0", "0 is less than 1"),
        ("parse_day", "99999-01-01", "is not a day"),
        ("parse_day", "9999-12-31", "is not between 1900-01-01 and 2199-12-31"),
        ("parse_day", "31.01.2026", r"'31\.01\.2026' is not a day such as 2026-01-31"),
    ],
)
def test_what_an_argument_cannot_be_is_refused_in_words(read, text, words):
    with pytest.raises(argparse.ArgumentTypeError, match=words):
        getattr(_arguments, read)(text)
