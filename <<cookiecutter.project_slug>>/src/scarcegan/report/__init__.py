"""Reports: one self-contained HTML page from sections of tables, tiles and figures. Their content is decided elsewhere.

A page loads nothing from the network and follows the reader's light or dark scheme: figures are inline SVG whose
colours are variables of the style sheet. Text is escaped; only Markup is inserted as it is.
"""

import hashlib
import io
import itertools
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PAGE = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)

# What is drawn in these colours follows the scheme; the names are variables of style.css.
INK, MUTED, LINE, GOOD, BAD = "#1a2330", "#5d6b7c", "#dce2ea", "#1c7c4c", "#b5302a"
SERIES = ("#2b66d9", "#c75d06", "#0b8480", "#8547bd", "#bd3268", "#6f7d14", "#8a6d52", "#4f7d99")
VARIABLES = {
    "#000000": "ink",
    "#ffffff": "card",
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    GOOD: "good",
    BAD: "bad",
    **{colour: f"series-{i}" for i, colour in enumerate(SERIES)},
}
POINTS_PER_PIXEL = 0.75

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Section:
    """A part of a page.

    - title: its heading, as plain text, different from those of the page's other sections
    - words: a few sentences below the heading, as plain text; "" for none
    - body: figures, tables and notes, in order, as HTML
    write_page escapes title and words.
    """

    title: str
    words: str
    body: Sequence[Markup] = ()

    @property
    def anchor(self) -> str:
        """The section's id in the page: its title in lower case, with hyphens in place of all but a-z and 0-9."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def new_figure(width: float = 480, height: float = 320) -> tuple[Figure, Axes]:
    """An empty Matplotlib figure of `width` x `height` pixels and its one pair of axes, in the reports' style.

    It uses no pyplot, so nothing has to be closed.
    """
    fig = Figure(figsize=(width / 96, height / 96), layout="constrained")
    ax = fig.add_subplot()
    ax.set_prop_cycle(color=SERIES)
    ax.set_axisbelow(True)
    ax.grid(color=LINE, linewidth=0.8)
    ax.tick_params(colors=MUTED, labelsize=9, length=0)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(LINE)
    return fig, ax


def drawn_as_it_is(name: str) -> str:
    """Return a name as the text with which Matplotlib draws it unchanged; dollar signs would begin a formula."""
    return name.replace("$", r"\$")


def svg_figure(fig: Figure, caption: str, wide: bool = False) -> Markup:
    """A Matplotlib figure as inline SVG with its caption below, which is also its text for screen readers.

    The style of labels, titles and legends in `fig` itself is changed. caption: plain text; it is escaped. wide: the
    figure takes the whole width of the page.
    """
    for ax in fig.axes:
        for text in (ax.xaxis.label, ax.yaxis.label):
            text.set(color=MUTED, fontsize=9.5)
        ax.title.set(fontsize=11, fontweight="bold")
        legend = ax.get_legend()
        if legend is not None:
            legend.set_frame_on(False)
    drawing = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        fig.savefig(drawing, format="svg", transparent=True, metadata={"Date": None})
    svg = inline_svg(drawing.getvalue(), caption)
    return Markup('<figure class="{}">{}<figcaption>{}</figcaption></figure>').format(
        "wide" if wide else "", Markup(svg), caption
    )


def inline_svg(svg: str, caption: str) -> str:
    """An SVG file's text prepared for a page: no prologue, metadata or fixed size, ids that no other figure has, and
    the page's colours and font.

    svg: the text, as Matplotlib writes it; caption: the plain text for screen readers; it is escaped.
    """
    svg = svg[svg.index("<svg") :]
    width = float(re.search(r'width="([\d.]+)pt"', svg).group(1)) / POINTS_PER_PIXEL  # type: ignore[union-attr]
    label = Markup.escape(caption)
    size = f'role="img" aria-label="{label}" style="max-width:{width:.0f}px"'
    svg = re.sub(r'width="[\d.]+pt"', lambda _: size, svg, count=1)
    svg = re.sub(r' height="[\d.]+pt"', "", svg, count=1)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    svg = re.sub(r"(font: [^;\"]*?)('DejaVu Sans'[^;\"]*)", r"\1var(--font)", svg)
    # Ids are shared by the whole page: two figures would otherwise clip and mark each other.
    own = hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r'\bid="', f'id="{own}-', svg)
    return re.sub(r'(url\(|href=")#', rf"\1#{own}-", svg)


def cell_text(value: Cell) -> str:
    """A table cell's value as text.

    An int has commas between thousands. A float has three digits after the point; from 100 on it has none, and commas
    between thousands; below 0.0005 it has one significant digit (sizes count without the sign). Bools are "yes" or
    "no"; None and NaN are a dash; text stays as it is, and is not escaped here.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    if value != 0 and abs(value) < 0.0005:
        return f"{value:.1g}"
    return f"{value:,.3f}" if abs(value) < 100 else f"{value:,.0f}"


def html_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "", wide: bool = True) -> Markup:
    """The HTML of a table with a caption above it, "" for none. Cells are written by cell_text.

    Header, cells and caption are escaped; Markup stays as it is. header: a name per column; rows: as many cells each. A
    column is right-aligned when there are rows and each of its cells is a number, None, a dash, or text that begins
    like a number. wide: the table takes the whole width of the page.
    """
    numeric = [all(_is_number(row[i]) for row in rows) and bool(rows) for i in range(len(header))]
    kinds = [Markup(' class="number"') if is_numeric else Markup("") for is_numeric in numeric]
    head = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(kind, name) for kind, name in zip(kinds, header, strict=True)
    )
    body = Markup("").join(_row(row, kinds) for row in rows)
    return Markup(
        '<div class="table{}" tabindex="0"><table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(" wide" if wide else "", _caption(caption), head, body)


def _row(row: Sequence[Cell], kinds: Sequence[Markup]) -> Markup:
    """The HTML of one row of a table, its cells escaped. kinds: for each cell the class attribute of its tag, or ""."""
    cells = (Markup("<td{}>{}</td>").format(kind, cell_text(cell)) for kind, cell in zip(kinds, row, strict=True))
    return Markup("<tr>{}</tr>").format(Markup("").join(cells))


def _is_number(cell: Cell) -> bool:
    """Whether a cell is aligned as a number: a number, None, or a text that begins like a number or is a dash."""
    if isinstance(cell, str):
        return bool(re.match(r"^[<>≤≥+−–-]?[\d–]", cell))
    return not isinstance(cell, bool)


def _caption(words: str) -> Markup:
    """The HTML of a table's caption, which is escaped; empty for ""."""
    return Markup("<caption>{}</caption>").format(words) if words else Markup("")


def html_matrix(rows: Sequence[str], columns: Sequence[str], counts: Sequence[Sequence[int]], caption: str) -> Markup:
    """The HTML of a table of counts, such as a confusion matrix, with a name for each row and column and a caption.

    rows, columns: the names; counts: a list per row with a count per column. A cell's shade is the stronger, the larger
    its share of the sum of its row. Names and caption are escaped.
    """
    head = Markup("").join(Markup('<th scope="col" class="number">{}</th>').format(name) for name in columns)
    body = Markup("").join(
        Markup('<tr><th scope="row">{}</th>{}</tr>').format(name, _heat(line))
        for name, line in zip(rows, counts, strict=True)
    )
    return Markup(
        '<div class="table"><table class="matrix">{}<thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(_caption(caption), head, body)


def _heat(line: Sequence[int]) -> Markup:
    """The HTML of the cells of a row of counts, each shaded by its share of the sum of the row."""
    total = max(sum(line), 1)
    return Markup("").join(
        Markup('<td class="number" style="--heat:{:.0f}%">{}</td>').format(60 * count / total, cell_text(int(count)))
        for count in line
    )


def html_tiles(figures: Sequence[tuple[str, Cell, str]]) -> Markup:
    """The HTML of key figures in large type, as tiles: up to six in one row, more in two rows.

    figures: (label, value, note) of each, "" for no note; the value is written by cell_text, the note in small print
    below it. All are escaped; Markup stays as it is.
    """
    tile = Markup('<div class="tile"><dt>{}</dt><dd>{}<small>{}</small></dd></div>')
    inside = Markup("").join(tile.format(label, cell_text(value), note) for label, value, note in figures)
    columns = len(figures) if len(figures) <= 6 else math.ceil(len(figures) / 2)
    return Markup('<dl class="tiles wide" style="--columns:{}">{}</dl>').format(max(columns, 4), inside)


def html_note(words: str, kind: str = "") -> Markup:
    """The HTML of a highlighted sentence.

    words: the sentence; it is escaped. kind: "good" makes it green, "bad" red, "" leaves it neutral.
    """
    return Markup('<p class="note wide {}">{}</p>').format(kind, words)


def write_page(path: Path, title: str, lead: str, sections: Sequence[Section], about: str = "") -> Path:
    """Write an HTML page to `path` and return `path`. Its folder is made when missing. A file that is there is replaced
    in one step; the new one appears complete or not at all.

    - title: heading of the page
    - lead: the sentence before the first section
    - sections: parts of the page, in order; with three or more there is a list of links to them
    - about: what the project is for, between title and lead; "" for nothing
    Title, lead and about are plain text; they are escaped.

    Raises ValueError when the anchors of two sections are the same, as those of equal titles are.
    """
    anchors = [section.anchor for section in sections]
    twice = {a for a, n in ((a, anchors.count(a)) for a in anchors) if n > 1}
    if twice:
        raise ValueError(f"{path}: two sections are titled alike ({', '.join(sorted(twice))}). Rename one.")
    html = PAGE.get_template("page.html.j2").render(
        title=title, lead=lead, about=about, sections=sections, style=Markup((HERE / "style.css").read_text("utf-8"))
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{next(_DRAFTS)}.{os.getpid()}")
    draft.write_text(html, "utf-8")
    draft.replace(path)
    return path


_DRAFTS = itertools.count()
