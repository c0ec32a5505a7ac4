"""The settings of the families of models as a new project has them (pipeline/config.py), with some changed."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def default_settings(kind: type[T], changes: Mapping[str, Any]) -> T:
    """An instance of `kind`, the dataclass of a family's settings. Changes of other families' settings are left out.

    The project's source must be on sys.path.
    """
    from scarcegan.pipeline.config import Config

    values = dict(_leaves(Config().train.model_dump())) | changes
    own = {one.name: values[one.name] for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in own.items()})


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and value of each setting, whatever sections it stands in."""
    for name, value in values.items():
        yield from _leaves(value) if isinstance(value, Mapping) else [(name, value)]
