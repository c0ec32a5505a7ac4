"""The structure of src/scarcegan as data: which room imports which, how large each is, which names stand twice.

`python tests/helpers/house.py` prints it; with the word `picture` it draws docs/rooms.svg. A room is a folder of the
package, or a single file beside the folders.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "scarcegan"
# From top to bottom: a room may import rooms below its own line, and no other. Room -> what it is for.
FLOORS: tuple[dict[str, str], ...] = (
    {"__main__": "python -m scarcegan"},
    {"cli": "the verbs of the command line", "notebook": "functions for notebooks"},
    {
        "release": "from an approved model to an endpoint and back",
        "doctor": "what would fail, found before anything is made",
        "audit": "who started, approved and released what",
    },
    {"sagemaker": "the engine that runs pipelines in AWS"},
    {"steps": "one file per step: folders in, folders out", "workspace": "a project's folder on this machine"},
    {"serving": "the endpoint on this machine", "report": "HTML pages"},
    {"profile": "what the user's files hold, good or bad"},
    {
        "registry": "registered models, here and in SageMaker",
        "features": "numbers per user",
        "monitoring": "drift, quality, baseline",
    },
    {"model": "what is trained and saved", "local": "the engine that runs pipelines on this machine"},
    {"aws": "clients, names, S3", "evaluation": "who is better, and by how much"},
    {"data": "what users give us, checked", "pipeline": "settings, steps and their order, as data"},
    {
        "jsonfile": "JSON files",
        "archive": ".tar.gz files",
        "progress": "progress lines",
        "batches": "what waits is worked on together",
    },
    {
        "errors": "mistakes as one sentence",
        "limits": "refused days and names",
        "sql": "SQL for DuckDB",
        "terminal": "control characters as text",
    },
)
LARGEST = 0.12  # of all lines, for one room


def files() -> list[Path]:
    """Every Python file of the package, without the empty ones that only make a folder a package."""
    return [path for path in sorted(SOURCE.rglob("*.py")) if path.read_text(encoding="utf-8").strip()]


def room_of(path: Path) -> str:
    """The folder below src/scarcegan that a file lies in, or the file's own name when it lies in none."""
    first, *rest = path.relative_to(SOURCE).parts
    return first if rest else path.stem


def imports(path: Path) -> Iterator[str]:
    """Rooms that a file imports, at any depth: those for type checkers and those inside functions too."""
    package = ("scarcegan", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        for module in imported_modules(node, package):
            first, *inner = module.split(".")
            if first == "scarcegan" and inner:
                yield inner[0]


def imported_modules(node: ast.AST, package: tuple[str, ...]) -> list[str]:
    """Full names of what a node of a file's syntax tree imports, also relatively or by importlib.import_module.

    package: the parts of the name of the package that the file lies in.
    """
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package[: len(package) + 1 - node.level] if node.level else ()
        return [".".join(filter(None, (*above, node.module, alias.name))) for alias in node.names]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
        return [word.value for word in node.args[:1] if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    return []


def room_imports() -> dict[str, dict[str, list[str]]]:
    """Room -> room that it imports -> the files that do."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in files():
        for other in dict.fromkeys(imports(path)):
            if other != room_of(path):
                found[room_of(path)][other].append(path.relative_to(SOURCE).as_posix())
    return {room: dict(others) for room, others in found.items()}


def floor_of(room: str) -> int:
    """The line of FLOORS that names a room, counted from the top.

    Raises KeyError for a room that no line names.
    """
    for number, rooms in enumerate(FLOORS):
        if room in rooms:
            return number
    raise KeyError(f"src/scarcegan/{room} stands in no line of FLOORS in tests/helpers/house.py. Add it there.")


def forbidden() -> list[str]:
    """Imports that go sideways or up, as "file imports room"."""
    return [
        f"{name} imports {other}"
        for room, others in room_imports().items()
        for other, names in others.items()
        if floor_of(other) <= floor_of(room)
        for name in names
    ]


def shares() -> dict[str, float]:
    """Room -> its share of the lines of all files, templates and style sheets included."""
    lines: dict[str, int] = defaultdict(int)
    for path in SOURCE.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            lines[room_of(path)] += len(path.read_text(encoding="utf-8").splitlines())
    return {room: count / sum(lines.values()) for room, count in lines.items()}


def repeated_names() -> dict[str, list[str]]:
    """Name of a top-level function, class or constant -> the files that define it, when there are two or more."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names: list[str] = []
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names = [node.name]
            elif isinstance(node, ast.Assign):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names = [node.target.id]
            for name in names:
                found[name].append(path.relative_to(SOURCE).as_posix())
    return {name: places for name, places in sorted(found.items()) if len(places) > 1}


WIDTH, ROW, GAP = 900, 54, 10  # of the picture, in pixels


def picture() -> str:
    """The floors as an SVG picture: a row per floor, a box per room with its purpose."""
    height = len(FLOORS) * (ROW + GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, rooms in enumerate(FLOORS):
        y, width = GAP + number * (ROW + GAP), (WIDTH - GAP) / len(rooms) - GAP
        for place, (room, purpose) in enumerate(rooms.items()):
            x = GAP + place * (width + GAP)
            middle = x + width / 2
            parts += [
                f'<rect x="{x:.0f}" y="{y}" width="{width:.0f}" height="{ROW}" rx="6" '
                'fill="#eef3fb" stroke="#3b6bb5"/>',
                f'<text x="{middle:.0f}" y="{y + 23}" text-anchor="middle" font-size="16" font-weight="bold" '
                f'fill="#17325c">{room}</text>',
                f'<text x="{middle:.0f}" y="{y + 43}" text-anchor="middle" font-size="13" fill="#333333">'
                f"{purpose}</text>",
            ]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    if sys.argv[1:] == ["picture"]:
        (ROOT / "docs" / "rooms.svg").write_text(picture(), encoding="utf-8")
        raise SystemExit
    for wrong in forbidden():
        print(f"forbidden: {wrong}")
    for room, share in sorted(shares().items(), key=lambda entry: -entry[1]):
        print(f"{share:6.1%}  {room}")
    for name, places in repeated_names().items():
        print(f"{name}: {', '.join(places)}")
    print(f"{len(repeated_names())} names are defined in more than one file")
