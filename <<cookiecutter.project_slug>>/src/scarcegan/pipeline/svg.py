"""A small layered drawing: boxes and labelled arrows -> SVG. Knows nothing of pipelines.

The classic way (Sugiyama): each box gets a row below all it comes from; an arrow becomes a chain of invisible points,
one per row it crosses, and its label is one of them, so that no label lies on another; rows are ordered by the mean
place of their neighbours; then every point moves towards its neighbours as far as the row lets it.
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
    """kind: step, gate or source; note: a small line below the title."""

    name: str
    title: str
    note: str
    kind: str


@dataclass(frozen=True)
class Arrow:
    start: str
    end: str
    labels: tuple[str, ...] = ()


@dataclass
class Point:
    """A place in a row: a box, a label, or where an arrow passes. x: its middle."""

    row: int
    width: float
    height: float = 0.0
    box: Box | None = None
    lines: tuple[str, ...] = ()
    x: float = 0.0
    above: list["Point"] = field(default_factory=list)
    below: list["Point"] = field(default_factory=list)


def draw(title: str, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """The picture as SVG text. Arrows must lead from earlier boxes to later ones."""
    points = {box.name: box_point(box, row) for box, row in zip(boxes, rows_of(boxes, arrows), strict=True)}
    chains = [chain(points[arrow.start], points[arrow.end], arrow) for arrow in arrows]
    every = [*points.values(), *(point for line in chains for point in line[1:-1])]
    rows = [[point for point in every if point.row == row] for row in range(1 + max(point.row for point in every))]
    order(rows)
    place(rows)
    return render(title, rows, chains)


def rows_of(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> list[int]:
    """Even rows for boxes, odd ones for labels. A source stands just above the first that reads it."""
    row: dict[str, int] = {}
    for box in boxes:
        row[box.name] = max((row[arrow.start] + 2 for arrow in arrows if arrow.end == box.name), default=0)
    for box in boxes:
        if box.kind == "source":
            row[box.name] = min((row[arrow.end] - 2 for arrow in arrows if arrow.start == box.name), default=0)
    return [row[box.name] for box in boxes]


def box_point(box: Box, row: int) -> Point:
    width = max(len(box.title) * CHARACTER, len(box.note) * SMALL_CHARACTER) + 36
    if box.kind == "gate":
        return Point(row, width * 1.6, DIAMOND_HEIGHT, box)
    return Point(row, max(width, 96.0), BOX_HEIGHT, box)


def chain(start: Point, end: Point, arrow: Arrow) -> list[Point]:
    """The points an arrow goes through; its label stands in the first row below the start."""
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


def order(rows: list[list[Point]]) -> None:
    """Sort each row by the mean place of its neighbours, down and up again; keep the order with fewest crossings."""
    best, fewest = [list(row) for row in rows], crossings(rows)
    for sweep in range(24):
        down = sweep % 2 == 0
        for row in rows[1:] if down else rows[-2::-1]:
            at = {id(point): place for other in rows for place, point in enumerate(other)}
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
    """How many pairs of lines cross."""
    at = {id(point): place for row in rows for place, point in enumerate(row)}
    lines = [(point.row, at[id(point)], at[id(low)]) for row in rows for point in row for low in point.below]
    return sum(a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0 for i, a in enumerate(lines) for b in lines[i + 1 :])


def place(rows: list[list[Point]]) -> None:
    """Give each point its x: towards the mean of its neighbours, in order and never closer than the gap."""
    for row in rows:
        settle(row, [0.0] * len(row))
    for sweep in range(300):
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wishes = []
            for point in row:
                nears = point.above + point.below if sweep > 20 else (point.above if sweep % 2 == 0 else point.below)
                wishes.append(pull(point, nears))
            settle(row, wishes)
    left = min(point.x - point.width / 2 for row in rows for point in row)
    for row in rows:
        for point in row:
            point.x += MARGIN - left


def pull(point: Point, nears: list[Point]) -> float:
    """Where its neighbours draw a point; an arrow on its way pulls most, so that long arrows run straight."""
    weights = [8.0 if point.box is None and near.box is None else 1.0 for near in nears]
    return sum(w * near.x for w, near in zip(weights, nears, strict=True)) / sum(weights) if nears else point.x


def settle(row: list[Point], wishes: list[float]) -> None:
    """Nearest places to the wishes that keep the gaps: groups that would overlap are merged around their mean."""
    groups: list[tuple[list[Point], list[float]]] = []  # points, and where each wants the group to begin
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
    return sum(group[1]) / len(group[1])


def width_of(points: list[Point]) -> float:
    return sum(point.width for point in points) + COLUMN_GAP * (len(points) - 1)


def end_of(group: tuple[list[Point], list[float]]) -> float:
    return begin_of(group) + width_of(group[0]) + COLUMN_GAP


def render(title: str, rows: list[list[Point]], chains: list[list[Point]]) -> str:
    heights = [max(point.height for point in row) if row else 0.0 for row in rows]
    middles = [MARGIN + sum(heights[:row]) + ROW_GAP * row + heights[row] / 2 for row in range(len(rows))]
    width = max(point.x + point.width / 2 for row in rows for point in row) + MARGIN
    height = middles[-1] + heights[-1] / 2 + MARGIN
    starts, ends = ports(chains, 0), ports(chains, -1)
    body = [curve(line, middles, start, end) for line, start, end in zip(chains, starts, ends, strict=True)]
    body += [label(point, middles[point.row]) for row in rows for point in row if point.lines]
    body += [shape(point, point.box, middles[point.row]) for row in rows for point in row if point.box]
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
    """x at which each arrow leaves (tip 0) or meets (tip -1) its box: side by side, in the order they come from."""
    beside = 1 if tip == 0 else -2
    found = []
    for line in chains:
        box = line[tip]
        same = sorted((other for other in chains if other[tip] is box), key=lambda other: other[beside].x)
        gap = 0.0 if box.box and box.box.kind == "gate" else min(18.0, 0.7 * box.width / len(same))
        found.append(box.x + gap * (next(i for i, o in enumerate(same) if o is line) - (len(same) - 1) / 2))
    return found


def curve(line: list[Point], middles: list[float], leaves: float, meets: float) -> str:
    """A smooth way through the points, from the foot of the first box to the head of the last."""
    start, end = line[0], line[-1]
    way = [(leaves, middles[start.row] + start.height / 2)]
    way += [(point.x, middles[point.row]) for point in line[1:-1]]
    way.append((meets, middles[end.row] - end.height / 2 - 1))
    path = f"M{way[0][0]:.1f} {way[0][1]:.1f}"
    for (x, y), (to_x, to_y) in pairwise(way):
        middle = (y + to_y) / 2
        path += f" C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"/>'


def label(point: Point, middle: float) -> str:
    first = middle - LABEL_HEIGHT * (len(point.lines) - 1) / 2 + 4
    return "".join(
        f'<text class="label" x="{point.x:.1f}" y="{first + LABEL_HEIGHT * number:.1f}">{escape(line)}</text>'
        for number, line in enumerate(point.lines)
    )


def shape(point: Point, box: Box, middle: float) -> str:
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
