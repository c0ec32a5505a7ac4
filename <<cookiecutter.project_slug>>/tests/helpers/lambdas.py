"""The Lambda functions of infra/lambdas/, as Lambda imports them: a file each, on its own."""

import ast
import importlib.util
import sys
from functools import cache
from typing import Any

from stacks import INFRA

FOLDER = INFRA / "lambdas"


@cache
def load(name: str) -> Any:
    """The module of a function."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec and spec.loader
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def libraries(name: str) -> set[str]:
    """What a function imports that Python does not bring."""
    tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names} - sys.stdlib_module_names
