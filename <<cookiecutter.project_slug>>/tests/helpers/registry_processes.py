"""Registrations in a process of their own, which finds these functions by the name of this file."""

import multiprocessing.synchronize
from pathlib import Path

from registry_contract import clock, requests
from scarcegan.registry.database import tracking_uri
from scarcegan.registry.local import LocalRegistry


def local(database: Path) -> LocalRegistry:
    return LocalRegistry(tracking_uri(database), "risky-players", clock=clock(), user=lambda: "ada")


def register_in_another_process(database: Path, folder: Path, begun: multiprocessing.synchronize.Event) -> None:
    registry, asked = local(database), requests(folder)
    assert registry.packages() == []
    begun.set()
    registry.register_set("set-1", asked)


def register_and_report(database: Path, folder: Path, mark: str) -> None:
    local(database).register_set(f"set-{mark}", requests(folder, mark))
