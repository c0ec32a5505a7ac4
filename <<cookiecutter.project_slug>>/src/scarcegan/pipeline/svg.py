"""A layered drawing of a graph: turns boxes and labelled arrows into an SVG document. It knows nothing of pipelines.

The method is Sugiyama's. Each box gets a row below all boxes that lead to it. An arrow becomes a chain of invisible
points, one per row that it crosses; its label is one of them, so that labels do not overlap. Each row is sorted by the
mean position of its points' neighbours. Then every point moves towards its neighbours as far as its row leaves room.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

BOX_HEIGHT, DIAMOND_HEIGHT, LABEL_HEIGHT, ROW_GAP, COLUMN_GAP, MARGIN = 40.0, 64.0, 15.0, 22.0, 26.0, 24.0
CHARACTER, SMALL_CHARACTER = 8.0, 6.4
STYLE = """
  .page { fill: #ffffff } .box { fill: #f4f7fb; stroke: #3b6ea8 } .gate { fill: #fff6e0; stroke: #b07a12 }
  .source { fill: none; stroke: #8a94a3; stroke-dasharray: 4 3 } .arrow { fill: none; stroke: #8a94a3 }
  .head { fill: #8a94a3 } text { fill: #1c2530; font: 14px ui-sans-serif, system-ui, sans-serif; text-anchor: middle }
  .label { fill: #5a6675; font-size: 11.5px; stroke: #ffffff; stroke-width: 5px; paint-order: stroke }
  .step-name { font-weight: 600 } .note { fill: #5a6675; font-size: 11px }
  @media (prefers-color-scheme: dark) {
    .page { fill: #12161c } .box { fill: #1b2633; stroke: #6ea3df } .gate { fill: #2d2512; stroke: #d9a441 }
    .source, .arrow { stroke: #76818f } .head { fill: #76818f } text { fill: #e6ebf1 }
    .label { fill: #a4b0be; stroke: #12161c } .note { fill: #a4b0be }
  }
"""


@dataclass(frozen=True)
class Box:
    """A box of the drawing.

    - name: what arrows refer to.
    - title: the text in the box.
    - note: a smaller line below the title; "" for none.
    - kind: "step", "gate" (drawn as a diamond) or "source" (drawn dashed).
    """

    name: str
    title: str
    note: str
    kind: str


@dataclass(frozen=True)
class Arrow:
    """An arrow between two boxes.

    - start, end: names of the boxes.
    - labels: lines of text written on it.
    """

    start: str
    end: str
    labels: tuple[str, ...] = ()


@dataclass
class Point:
    """A point in a row of the drawing: a box, a label of an arrow, or where an arrow crosses the row. Lengths: pixels.

    - row: number of its row, from 0 at the top.
    - width, height: of the box or label.
    - box: None for a point of an arrow.
    - lines: the label's text; empty for a box or a mere crossing.
    - x: its horizontal middle; 0 until assign_positions sets it.
    - above, below: the points in the rows above and below to which an arrow links it.
    """

    row: int
    width: float
    height: float = 0.0
    box: Box | None = None
    lines: tuple[str, ...] = ()
    x: float = 0.0
    above: list["Point"] = field(default_factory=list)
    below: list["Point"] = field(default_factory=list)


def draw(title: str, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """Draw boxes and arrows and return the SVG document.

    Arrows must lead from boxes earlier in `boxes` to later ones. Texts are plain: they are escaped here.

    - title: the document's name for screen readers, which is not drawn.
    - boxes: at least one; their names differ.
    """
    points = {box.name: box_point(box, row) for box, row in zip(boxes, assign_rows(boxes, arrows), strict=True)}
    chains = [chain(points[arrow.start], points[arrow.end], arrow) for arrow in arrows]
    every = [*points.values(), *(point for line in chains for point in line[1:-1])]
    rows = [[point for point in every if point.row == row] for row in range(1 + max(point.row for point in every))]
    sort_rows(rows)
    assign_positions(rows)
    return svg_document(title, rows, chains)


def assign_rows(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> list[int]:
    """Return the row number of each box, in the order of `boxes`; 0 is at the top.

    Numbers are even, as labels take the odd rows between. A box is two rows below the lowest box that leads to it, and
    in row 0 if none does. A source is two rows above the highest box that it leads to.
    """
    row: dict[str, int] = {}
    for box in boxes:
        row[box.name] = max((row[arrow.start] + 2 for arrow in arrows if arrow.end == box.name), default=0)
    for box in boxes:
        if box.kind == "source":
            row[box.name] = min((row[arrow.end] - 2 for arrow in arrows if arrow.start == box.name), default=0)
    return [row[box.name] for box in boxes]


def box_point(box: Box, row: int) -> Point:
    """Return a new Point for a box, in the row with this number, as wide as the text of the box needs; x is not set
    yet.

    The point of a gate is wider and higher, as text in a diamond needs room.
    """
    width = max(len(box.title) * CHARACTER, len(box.note) * SMALL_CHARACTER) + 36
    if box.kind == "gate":
        return Point(row, width * 1.6, DIAMOND_HEIGHT, box)
    return Point(row, max(width, 96.0), BOX_HEIGHT, box)


def chain(start: Point, end: Point, arrow: Arrow) -> list[Point]:
    """Return the points of an arrow, one per row, from `start` to `end`, and link each with the next by `above` and
    `below`.

    The arrow's label, if it has one, is the point in the first row below the start.

    - start, end: the points of the arrow's first and last box, which are linked too.
    """
    passing = [Point(row, 8.0) for row in range(start.row + 1, end.row)]
    if passing and arrow.labels:
        passing[0].lines = arrow.labels
        passing[0].width = max(map(len, arrow.labels)) * SMALL_CHARACTER + 10
        passing[0].height = LABEL_HEIGHT * len(arrow.labels)
    line = [start, *passing, end]
    for upper, lower in pairwise(line):
        upper.below.append(lower)
        lower.above.append(upper)
    return line


def sort_rows(rows: list[list[Point]]) -> None:
    """Sort each row in place by the mean position of its points' neighbours, so that few arrows cross.

    Sweeps go down and up in turn, and the order with the fewest crossings is kept.
    """
    best, fewest = [list(row) for row in rows], crossings(rows)
    for sweep in range(24):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            at = {id(point): index for other in rows for index, point in enumerate(other)}
            mean = {
                id(point): sum(at[id(near)] for near in nears) / len(nears) if nears else at[id(point)]
                for point in row
                for nears in [point.above if down else point.below]
            }
            row.sort(key=lambda point: mean[id(point)])
        if crossings(rows) < fewest:
            best, fewest = [list(row) for row in rows], crossings(rows)
    for row, chosen in zip(rows, best, strict=True):
        row[:] = chosen


def crossings(rows: list[list[Point]]) -> int:
    """Return how many pairs of arrow segments between neighbouring rows cross each other, with the points of `rows` in
    this order.
    """
    at = {id(point): index for row in rows for index, point in enumerate(row)}
    lines = [(point.row, at[id(point)], at[id(low)]) for row in rows for point in row for low in point.below]
    return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for i, a in enumerate(lines) for b in lines[i + 1 :])


def assign_positions(rows: list[list[Point]]) -> None:
    """Set the x of every point in place: near the mean of the points that it is linked with, in the row's order, with
    gaps of at least COLUMN_GAP. The leftmost edge is at MARGIN.
    """
    for row in rows:
        space_out(row, [0.0] * len(row))
    for sweep in range(300):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wishes = []
            for point in row:
                nears = point.above + point.below if sweep > 20 else (point.above if sweep % 2 == 0 else point.below)
                wishes.append(mean_x_of_neighbours(point, nears))
            space_out(row, wishes)
    left = min(point.x - point.width / 2 for row in rows for point in row)
    for row in rows:
        for point in row:
            point.x += MARGIN - left


def mean_x_of_neighbours(point: Point, nears: list[Point]) -> float:
    """Return the x at which a point would best lie: the weighted mean of the x of `nears`; its own x if there are none.

    Between two points that are no boxes the weight is highest, so that long arrows run straight.

    - nears: points that it is linked with.
    """
    weights = [8.0 if point.box is None and near.box is None else 1.0 for near in nears]
    return sum(w * near.x for w, near in zip(weights, nears, strict=True)) / sum(weights) if nears else point.x


def space_out(row: list[Point], wishes: list[float]) -> None:
    """Set the x of a row's points in place, as near to the wished ones as gaps of COLUMN_GAP between them allow.

    Points that would overlap form a group, which is placed at the mean of what its points wish.

    - row: the points from left to right; they keep this order.
    - wishes: the wished x of each point's middle.
    """
    groups: list[tuple[list[Point], list[float]]] = []  # points, and the left edge that each wishes for the group
    for point, wish in zip(row, wishes, strict=True):
        groups.append(([point], [wish - point.width / 2]))
        while len(groups) > 1 and end_of(groups[-2]) > begin_of(groups[-1]):
            points, begins = groups.pop()
            offset = width_of(groups[-1][0]) + COLUMN_GAP
            groups[-1][0].extend(points)
            groups[-1][1].extend(begin - offset for begin in begins)
    for group in groups:
        at = begin_of(group)
        for point in group[0]:
            point.x = at + point.width / 2
            at += point.width + COLUMN_GAP


def begin_of(group: tuple[list[Point], list[float]]) -> float:
    """Return the left edge, x, of a group of points side by side: the mean of the edges that its points wish for it.

    - group: its points, and the left edge that each of them wishes for the group.
    """
    return sum(group[1]) / len(group[1])


def width_of(points: list[Point]) -> float:
    """Return the width of points side by side, with the gaps between them."""
    return sum(point.width for point in points) + COLUMN_GAP * (len(points) - 1)


def end_of(group: tuple[list[Point], list[float]]) -> float:
    """Return the x from which the next group may begin: the group's right edge and a gap. group: as for begin_of."""
    return begin_of(group) + width_of(group[0]) + COLUMN_GAP


def svg_document(title: str, rows: list[list[Point]], chains: list[list[Point]]) -> str:
    """Return the text of the SVG document of points whose x is set.

    - title: the document's name for screen readers.
    - rows: the points of each row, left to right.
    - chains: the points of each arrow, first box to last.
    """
    heights = [max(point.height for point in row) if row else 0.0 for row in rows]
    middles = [MARGIN + sum(heights[:row]) + ROW_GAP * row + heights[row] / 2 for row in range(len(rows))]
    width = max(point.x + point.width / 2 for row in rows for point in row) + MARGIN
    height = middles[-1] + heights[-1] / 2 + MARGIN
    starts, ends = ports(chains, 0), ports(chains, -1)
    body = [arrow_path(line, middles, start, end) for line, start, end in zip(chains, starts, ends, strict=True)]
    body += [label_elements(point, middles[point.row]) for row in rows for point in row if point.lines]
    body += [box_shape(point, point.box, middles[point.row]) for row in rows for point in row if point.box]
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="head" d="M0 0.5 L8 4 L0 7.5 z"/></marker>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n<defs>{head}</defs>\n"
        f'<rect class="page" width="100%" height="100%"/>\n' + "\n".join(body) + "\n</svg>"
    )


def ports(chains: list[list[Point]], tip: int) -> list[float]:
    """Return the x at which each arrow leaves its first box (tip=0) or reaches its last (tip=-1), in the arrows' order.

    Arrows at one box are spread side by side, sorted by where they lead to or come from, so that they do not cross; at
    a gate all meet at its corner.

    - chains: the points of each arrow, first box to last.
    """
    beside = 1 if tip == 0 else -2
    found = []
    for line in chains:
        box = line[tip]
        same = sorted((other for other in chains if other[tip] is box), key=lambda other: other[beside].x)
        gap = 0.0 if box.box and box.box.kind == "gate" else min(18.0, 0.7 * box.width / len(same))
        found.append(box.x + gap * (next(i for i, o in enumerate(same) if o is line) - (len(same) - 1) / 2))
    return found


def arrow_path(line: list[Point], middles: list[float], leaves: float, meets: float) -> str:
    """Return the SVG element of an arrow: a smooth curve through its points, from the first box's bottom to the last's
    top.

    - line: the arrow's points from the first box to the last, with their x.
    - middles: y of the middle of each row of the drawing, from the top; a point's `row` is its place here.
    - leaves, meets: x of the arrow's start and of its tip.
    """
    start, end = line[0], line[-1]
    way = [(leaves, middles[start.row] + start.height / 2)]
    way += [(point.x, middles[point.row]) for point in line[1:-1]]
    way.append((meets, middles[end.row] - end.height / 2 - 1))
    path = f"M{way[0][0]:.1f} {way[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(way):
        middle = (y + to_y) / 2
        path += f" C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def label_elements(point: Point, middle: float) -> str:
    """Return the SVG text elements of a label, one per line, escaped. middle: y of the middle of its row."""
    first = middle - LABEL_HEIGHT * (len(point.lines) - 1) / 2 + 4
    return "".join(
        f'<text class="label" x="{point.x:.1f}" y="{first + LABEL_HEIGHT * number:.1f}">{escape(line)}</text>'
        for number, line in enumerate(point.lines)
    )


def box_shape(point: Point, box: Box, middle: float) -> str:
    """Return the SVG elements of a box, a rectangle or (for a gate) a diamond, and of its title and note, escaped.

    - middle: y of the box's middle.
    """
    x, wide, high = point.x, point.width / 2, point.height / 2
    outline = f'<rect class="{"source" if box.kind == "source" else "box"}" x="{x - wide:.1f}" y="{middle - high:.1f}"'
    outline += f' width="{2 * wide:.1f}" height="{2 * high:.1f}" rx="{4 if box.kind == "source" else 10}"/>'
    if box.kind == "gate":
        corners = f"{x:.1f},{middle - high:.1f} {x + wide:.1f},{middle:.1f} {x:.1f},{middle + high:.1f}"
        outline = f'<polygon class="gate" points="{corners} {x - wide:.1f},{middle:.1f}"/>'
    name = "step-name" if box.kind != "source" else "source-name"
    note = f'<text class="note" x="{x:.1f}" y="{middle + 14:.1f}">{escape(box.note)}</text>' if box.note else ""
    title_y = middle + (-1 if box.note else 5)
    return f'{outline}<text class="{name}" x="{x:.1f}" y="{title_y:.1f}">{escape(box.title)}</text>{note}'
