"""The page a person reads: it loads nothing, escapes what it is told, and follows the reader's scheme."""

import re

import pytest
from markupsafe import Markup

from scarcegan import report


def page(tmp_path, *sections, lead="A lead."):
    return report.write_page(tmp_path / "new" / "report.html", "Title", lead, sections).read_text("utf-8")


def drawing(colour="black"):
    fig, ax = report.new_figure(400, 300)
    ax.plot([0, 1], [1, 0], color=colour, label="ours")
    ax.legend()
    return fig


def test_a_page_loads_nothing_from_anywhere(tmp_path):
    html = page(tmp_path, report.Section("Curves", "Words.", [report.svg_figure(drawing(), "A line")]))
    assert not re.search(r'(src|href)="(?!#)', html.replace("xlink:", ""))
    assert "<link" not in html and "@import" not in html


def test_what_a_report_is_told_cannot_become_html(tmp_path):
    evil = "<script>alert(1)</script>"
    body = [report.html_table([evil], [[evil]], evil), report.html_tiles([(evil, evil, evil)]), report.html_note(evil)]
    body += [report.html_matrix([evil], [evil], [[1]], evil), report.svg_figure(drawing(), evil)]
    html = page(tmp_path, report.Section(evil, evil, body), lead=evil)
    assert "<script>" not in html


def test_markup_is_taken_as_it_is():
    assert "<b>bold</b>" in report.html_table(["x"], [[Markup("<b>bold</b>")]])


def test_a_figure_is_drawn_in_the_colours_of_the_scheme():
    svg = report.svg_figure(drawing(report.SERIES[1]), "A line")
    assert "var(--series-1)" in svg and "var(--muted)" in svg
    assert report.SERIES[1] not in svg


def test_every_colour_of_a_figure_is_defined_for_light_and_for_dark():
    style = (report.HERE / "style.css").read_text("utf-8")
    light, dark = style.split("prefers-color-scheme: dark")
    for variable in report.VARIABLES.values():
        assert f"--{variable}:" in light and f"--{variable}:" in dark


def test_two_figures_on_a_page_share_no_id():
    first, second = report.svg_figure(drawing("red"), "First"), report.svg_figure(drawing("blue"), "Second")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (first, second)]
    assert ids[0] and not ids[0] & ids[1]


def test_a_figure_refers_only_to_its_own_ids():
    svg = report.svg_figure(drawing(), "A line")
    wanted = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg))
    assert wanted
    assert {a or b for a, b in wanted} <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_a_name_with_dollar_signs_or_backslashes_is_drawn_as_it_is():
    fig = drawing()
    fig.axes[0].set_title(report.drawn_as_it_is(r"a_$_b\d_$ c"))
    fig.axes[0].set_xticks([0, 1], [report.drawn_as_it_is(r"$x^$"), "y"])
    figure = report.svg_figure(fig, r"a\d: 1")
    assert r"a_$_b\d_$ c</text>" in figure and "$x^$</text>" in figure and r'aria-label="a\d: 1"' in figure


def test_the_same_figure_gives_the_same_bytes():
    assert report.svg_figure(drawing(), "A line") == report.svg_figure(drawing(), "A line")


def test_a_caption_is_what_a_screen_reader_says():
    assert 'role="img" aria-label="Ours &amp; theirs"' in report.svg_figure(drawing(), "Ours & theirs")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567, "1,234,567"), (0.12345, "0.123"), (float("nan"), "–"), (None, "–"), (0.00001, "1e-05"), (True, "yes")],
)
def test_a_number_is_written_for_people(value, shown):
    assert report.cell_text(value) == shown


def test_columns_of_numbers_are_set_to_the_right():
    html = report.html_table(["name", "value"], [["a", 1.5], ["b", None]])
    assert '<th scope="col">name</th><th scope="col" class="number">value</th>' in html


def test_a_matrix_is_darker_where_more_of_the_row_lies():
    html = report.html_matrix(["normal"], ["normal", "risky"], [[3, 1]], "Counts")
    assert "--heat:45%" in html and "--heat:15%" in html


def test_two_sections_of_one_title_are_refused(tmp_path):
    with pytest.raises(ValueError, match="titled alike"):
        page(tmp_path, report.Section("Same", ""), report.Section("same", ""))


def test_a_report_leaves_no_draft_behind(tmp_path):
    page(tmp_path, report.Section("Only", ""))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]
