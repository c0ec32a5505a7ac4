"""Which code a step depends on: its module, all that it imports inside its package, and the libraries they name.

Nothing is imported to find out; files are read and hashed. Every engine asks: here for the key of the cache, in AWS for
what a job is given.
"""

import ast
import hashlib
import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path


def hash_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(parts: Iterable[object]) -> str:
    return hashlib.sha256("\n".join(map(str, parts)).encode("utf-8", "surrogateescape")).hexdigest()


def code_digest(module: str, search: tuple[Path, ...]) -> str:
    """Digest of a step's own code: the module, all it imports inside its package, their data files, and the versions
    of Python and of the libraries they name."""
    files = code_files(module, search)
    libraries = sorted({name for file in files if file.suffix == ".py" for name in imported_libraries(file, search)})
    versions = [f"{name} {library_version(name)}" for name in libraries]
    return digest_of([*(f"{file.name} {hash_file(file)}" for file in files), *versions, sys.version_info[:2]])


def code_files(module: str, search: tuple[Path, ...]) -> list[Path]:
    """Files of its own package that running a module may read, sorted. FileNotFoundError for an unknown module."""
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
            waiting += [near for near in imports(file, package_of(name, file)) if inside(near, module)]
    return sorted(found)


def inside(name: str, module: str) -> bool:
    return name.split(".")[0] == module.split(".")[0]


def package_of(module: str, file: Path) -> str:
    """The package that relative imports in this file are relative to."""
    return module if file.name == "__init__.py" else module.rpartition(".")[0]


def module_files(module: str, search: tuple[Path, ...]) -> list[Path]:
    """The module's file and the __init__.py of every package above it, which Python runs first."""
    words = module.split(".")
    for folder in search:
        place = folder.joinpath(*words)
        files = [file for file in (place / "__init__.py", place.with_name(words[-1] + ".py")) if file.is_file()]
        if files:
            above = [folder.joinpath(*words[:depth], "__init__.py") for depth in range(1, len(words))]
            return [file for file in [*above, *files[:1]] if file.is_file()]
    return []


def data_files(package: Path) -> Iterator[Path]:
    """Templates, style sheets and the like of one package; sub-packages and caches are left out."""
    for path in sorted(package.iterdir()):
        if path.name.startswith((".", "__pycache__")) or path.suffix in (".py", ".pyc"):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not (path / "__init__.py").exists():
            yield from data_files(path)


def imports(file: Path, package: str) -> list[str]:
    """Full names of what a file imports at any depth; `from a import b` gives a and a.b, one of which is a module."""
    status = file.stat()
    return [resolve(name, level, package) for name, level in import_names(file, status.st_mtime_ns, status.st_size)]


def resolve(name: str, level: int, package: str) -> str:
    """A relative name (level: its leading dots) seen from a package, as a full one."""
    words = package.split(".")
    return ".".join([*words[: len(words) - level + 1], *([name] if name else [])]) if level else name


@cache
def import_names(file: Path, _changed: int, _size: int) -> tuple[tuple[str, int], ...]:
    """(name, leading dots) of every import in a file."""
    found = []
    for node in ast.walk(ast.parse(file.read_bytes(), filename=str(file))):
        if isinstance(node, ast.Import):
            found += [(alias.name, 0) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module or ''}.{alias.name}".strip(".") for alias in node.names)]
            found += [(name, node.level) for name in names]
    return tuple(dict.fromkeys(found))


def imported_libraries(file: Path, search: tuple[Path, ...]) -> set[str]:
    """Top-level names of what a file imports that are neither Python's own nor found in the search folders."""
    status = file.stat()
    found = import_names(file, status.st_mtime_ns, status.st_size)
    names = {name.split(".")[0] for name, level in found if not level}
    return {name for name in names - sys.stdlib_module_names if not module_files(name, search)}


@cache
def library_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ", ".join(f"{d} {importlib.metadata.version(d)}" for d in sorted(set(distributions().get(name, []))))


@cache
def distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
