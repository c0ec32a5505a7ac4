"""Functions that find the code a step depends on: its module, all that this imports inside its package, and libraries.

Files are parsed and hashed; no module is imported for it. Both engines use this file: the local one for its cache keys,
the one in AWS for the code that each job gets.
"""

import ast
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path


def hash_file(path: Path, size: int | None = None) -> str:
    """Return the SHA-256, in hexadecimal, of a file's content, or of its first `size` bytes."""
    with open(path, "rb") as file:
        if size is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256()
        while block := file.read(min(size, 1 << 20)):
            digest.update(block)
            size -= len(block)
        return digest.hexdigest()


def digest_of(parts: Iterable[object]) -> str:
    """Return the SHA-256, in hexadecimal, of the texts (by str) of all parts, joined by line breaks; their order
    counts.
    """
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def step_code_digest(module: str, search: tuple[Path, ...]) -> str:
    """Return a digest, SHA-256 in hexadecimal, that changes with the code of a step.

    It covers the names and contents of the step's `code_files`, the version of Python (such as 3.12), and the installed
    versions of the third-party libraries that these files import. Where the files lie does not count.

    - module: full name of the step's module.
    - search: the folders in which modules are looked for; the first one that has a module counts.

    Raises FileNotFoundError for a module that is in none of the search folders, and SyntaxError for a file that is not
    Python.
    """
    files = code_files(module, search)
    libraries = sorted({name for file in files if file.suffix == ".py" for name in imported_libraries(file, search)})
    versions = [f"{name} {library_version(name)}" for name in libraries]
    return digest_of([*(f"{file.name} {hash_file(file)}" for file in files), *versions, sys.version_info[:2]])


def code_files(module: str, search: tuple[Path, ...]) -> list[Path]:
    """Return the files that running a module may read, sorted by path.

    They are the module's own file, those of all it imports from the same top-level package, directly or through others,
    each __init__.py above one of these, and the data files in the folders of these __init__.py.

    - search: the folders in which modules are looked for; the first one that has a module counts.

    Raises FileNotFoundError for a module that is in none of the search folders, and SyntaxError for a file that is not
    Python.
    """
    if not module_files(module, search):
        raise FileNotFoundError(f"no module '{module}' in {', '.join(map(str, search))}")
    waiting, seen = [module], set()
    found: set[Path] = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for file in module_files(name, search):
            found.add(file)
            if file.name == "__init__.py":
                found.update(data_files(file.parent))
            waiting += [near for near in imports(file, package_of(name, file)) if in_same_package(near, module)]
    return sorted(found)


def in_same_package(name: str, module: str) -> bool:
    """Return whether two modules, by full name, belong to the same top-level package."""
    return name.split(".")[0] == module.split(".")[0]


def package_of(module: str, file: Path) -> str:
    """Return the full name of the package that one leading dot stands for in the imports of a module.

    That is the module itself if its file is an __init__.py, else the package that holds it.

    - module: full name of the module.
    - file: its file.
    """
    return module if file.name == "__init__.py" else module.rpartition(".")[0]


def module_files(module: str, search: tuple[Path, ...]) -> list[Path]:
    """Return the files that Python runs to import a module: the __init__.py of each package above it, then its own.

    - search: the folders in which the module is looked for; the first one that has it counts. If none has it, [] is
      returned.
    """
    words = module.split(".")
    for folder in search:
        place = folder.joinpath(*words)
        files = [file for file in (place / "__init__.py", place.with_name(words[-1] + ".py")) if file.is_file()]
        if files:
            above = [folder.joinpath(*words[:depth], "__init__.py") for depth in range(1, len(words))]
            return [file for file in [*above, *files[:1]] if file.is_file()]
    return []


def data_files(package: Path) -> Iterator[Path]:
    """Yield the paths, sorted, of the files in a package's folder that are not Python, such as templates.

    Folders below it, at any depth, are searched too, but not sub-packages (with an __init__.py) and caches
    (__pycache__). Hidden files and folders are left out.
    """
    for path in sorted(package.iterdir()):
        if path.name.startswith((".", "__pycache__")) or path.suffix in (".py", ".pyc"):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not (path / "__init__.py").exists():
            yield from data_files(path)


def imports(file: Path, package: str) -> list[str]:
    """Return the full names of all modules that a Python file may import, also inside functions, from any package.

    `from a import b` gives both a and a.b, because b may be a module.

    - package: full name of the package that one leading dot stands for in the file, as `package_of` returns it.
    """
    status = file.stat()
    return [resolve(name, level, package) for name, level in import_names(file, status.st_mtime_ns, status.st_size)]


def resolve(name: str, level: int, package: str) -> str:
    """Return the full name of an imported module.

    - name: the name without its leading dots.
    - level: how many leading dots there are; 0: the name is full already.
    - package: full name of the package that one dot stands for.
    """
    words = package.split(".")
    return ".".join([*words[: len(words) - level + 1], *([name] if name else [])]) if level else name


@cache
def import_names(file: Path, _changed: int, _size: int) -> tuple[tuple[str, int], ...]:
    """Return (name without leading dots, number of leading dots) of every import in a Python file, each once.

    `from .a import b` gives ("a", 1) and ("a.b", 1). The time of the file's last change and its size are arguments only
    so that functools.cache reads a changed file again.
    """
    found = []
    for node in ast.walk(ast.parse(file.read_bytes(), filename=str(file))):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names)]
            found += [(name, node.level) for name in names]
    return tuple(dict.fromkeys(found))


def imported_libraries(file: Path, search: tuple[Path, ...]) -> set[str]:
    """Return the top-level names of the third-party libraries that a Python file imports: those of modules that are
    neither in Python's standard library nor in the search folders.
    """
    status = file.stat()
    found = import_names(file, status.st_mtime_ns, status.st_size)
    names = {name.split(".")[0] for name, level in found if not level}
    return {name for name in names - sys.stdlib_module_names if not module_files(name, search)}


@cache
def library_version(name: str) -> str:
    """Return the installed version of a library, such as "2.1.0".

    If no distribution has the name, the result lists those that provide it with their versions, such as "scikit-learn
    1.5.0", with ", " between them; "" if none does.

    - name: the top-level name under which the library is imported.
    """
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ", ".join(f"{d} {importlib.metadata.version(d)}" for d in sorted(set(distributions().get(name, []))))


@cache
def distributions() -> dict[str, list[str]]:
    """Return, by top-level name that can be imported, the names of the installed distributions that provide it.

    It is computed once.
    """
    return dict(importlib.metadata.packages_distributions())
