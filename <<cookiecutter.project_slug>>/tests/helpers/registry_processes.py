"""What the tests of the local registry run in other processes. A module of its own, so that these can import it."""

from multiprocessing.synchronize import Event
from pathlib import Path

from registry_contract import clock, requests
from scarcegan.registry.database import tracking_uri
from scarcegan.registry.local import LocalRegistry

PRELOAD = ["mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", __name__]


def local(database: Path) -> LocalRegistry:
    return LocalRegistry(tracking_uri(database), "risky-players", clock=clock(), user=lambda: "ada")


def register_in_another_process(database: Path, folder: Path, begun: Event) -> None:
    registry, asked = local(database), requests(folder)
    assert registry.packages() == []
    begun.set()
    registry.register_set("set-1", asked)


def register_and_report(database: Path, folder: Path, mark: str) -> None:
    local(database).register_set(f"set-{mark}", requests(folder, mark))
