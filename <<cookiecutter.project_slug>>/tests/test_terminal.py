"""Text from elsewhere on a terminal."""

import io
import sys

import pytest

from scarcegan.terminal import VisibleStream, on_one_line, visible, visible_output


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("ok\x1b[2K\x1b[1A", r"ok\x1b[2K\x1b[1A"),
        ("ok\rno", r"ok\rno"),
        ("ok\x08\x08no\x7f\x00", r"ok\x08\x08no\x7f\x00"),
        ("\x9b2K", r"\x9b2K"),
        ("ada\u202egnp.exe\u2066", r"ada\u202egnp.exe\u2066"),
        ("one\u2028two\x85three", r"one\u2028two\x85three"),
        ("a\tb\nc", "a\tb\nc"),
        ("Zoë, „gut“ 🙂 न्‍", "Zoë, „gut“ 🙂 न्‍"),
    ],
)
def test_control_characters_are_seen_and_words_of_every_script_stay(text, seen):
    assert visible(text) == seen


def test_a_text_on_one_line_begins_no_other():
    assert on_one_line("fine\n2026-03-01  let in\u2028x") == "fine 2026-03-01 let in x"


def test_what_is_printed_inside_is_visible_and_both_streams_are_as_before_afterwards(capsys):
    before = sys.stdout, sys.stderr
    with pytest.raises(ValueError), visible_output():
        print("a\x1b[2Kb")
        print("c\rd", file=sys.stderr)
        raise ValueError
    assert (sys.stdout, sys.stderr) == before
    assert capsys.readouterr() == ("a\\x1b[2Kb\n", "c\\rd\n")


def test_a_process_without_streams_has_none_inside_either(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    with visible_output():
        assert sys.stdout is None


def test_in_all_else_it_is_the_stream_itself():
    stream = VisibleStream(io.StringIO())
    assert stream.write("\x1b") == 1 and stream.getvalue() == "\\x1b" and not stream.isatty()
