"""What every registry must do, and how the local one does it. A second registry joins by a line in `REGISTRIES`."""

import fcntl
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from scarcegan.errors import UserError, run_step
from scarcegan.registry.base import PackageRequest, Registry, fingerprint
from scarcegan.registry.database import database_of, locked, open_database, open_experiment, tracking_uri
from scarcegan.registry.local import LocalRegistry

PRELOAD = ["mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store", __name__]
DEFINITIONS = ("best_ranking", "few_unknown", "high_precision", "high_recall")
CONTENT = {
    "model/1/saved_model.pb": "graph",
    "model/1/variables/variables.index": "weights",
    "model/model.json": "{}",
    "evaluation/evaluation.json": "{}",
    "baseline/statistics.json": "{}",
    "baseline/constraints.json": "{}",
}


def requests(folder: Path, mark: str = "first") -> list[PackageRequest]:
    """A set of four packages whose content differs by `mark`."""
    return [request(folder, definition, mark) for definition in DEFINITIONS]


def request(folder: Path, definition: str, mark: str) -> PackageRequest:
    files = {}
    for name, content in CONTENT.items():
        files[name] = folder / mark / definition / name
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(f"{content} {mark} {definition}" if name.endswith(".pb") else content)
    return PackageRequest(
        definition,
        files,
        metrics={"pr_auc": 0.75, "recall": 0.5},
        gate={"passed": True, "reason": "0.75 is over 0.3"},
        config={"train": {"seed": 7}, "gate": {"minimum": 0.3}},
        run="run-1",
        data_fingerprint="d4t4",
        code_version="c0de",
        description=f"{definition} of {mark}",
    )


def clock() -> Callable[[], datetime]:
    """A second passes every time it is asked."""
    seconds = count()
    return lambda: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=next(seconds))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to create a database, so tests get copies of one."""
    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    open_database(tracking_uri(database))
    return database


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "the runs"
    folder.mkdir()
    return Path(shutil.copy(empty_database, folder / "mlflow.db"))


def local(database: Path) -> LocalRegistry:
    return LocalRegistry(tracking_uri(database), "risky-players", clock=clock(), user=lambda: "ada")


REGISTRIES = {"local": local}


@pytest.fixture(params=sorted(REGISTRIES))
def registry(request: pytest.FixtureRequest, database: Path) -> Registry:
    return REGISTRIES[request.param](database)


@pytest.fixture
def four(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with one set: versions 1 to 4."""
    registry.register_set("set-1", requests(tmp_path))
    return registry


# -- the contract ---------------------------------------------------------------------------------------------------


def test_a_new_registry_holds_nothing(registry: Registry) -> None:
    assert registry.packages() == []
    assert registry.champion() is None
    assert registry.history() == []


def test_a_set_is_registered_whole_in_the_order_asked_and_pending(registry: Registry, tmp_path: Path) -> None:
    packages = registry.register_set("set-1", requests(tmp_path))
    assert [package.definition for package in packages] == list(DEFINITIONS)
    assert [package.version for package in packages] == [1, 2, 3, 4]
    assert {package.status for package in packages} == {"PendingManualApproval"}
    assert registry.packages() == packages
    assert registry.champion() is None


def test_a_package_carries_where_it_comes_from(four: Registry) -> None:
    package = four.package(2)
    assert package.metrics == {"pr_auc": 0.75, "recall": 0.5}
    assert package.gate == {"passed": True, "reason": "0.75 is over 0.3"}
    assert (package.run, package.data_fingerprint, package.code_version) == ("run-1", "d4t4", "c0de")
    assert (package.group, package.set_id, package.description) == ("risky-players", "set-1", "few_unknown of first")
    assert json.loads(json.dumps(asdict(package)))["version"] == 2


def test_registering_the_same_set_again_changes_nothing(four: Registry, tmp_path: Path) -> None:
    before = four.packages()
    assert four.register_set("set-1", requests(tmp_path)) == before
    assert four.packages() == before


def test_another_set_is_numbered_on(four: Registry, tmp_path: Path) -> None:
    four.register_set("set-2", requests(tmp_path, "second"))
    assert [(p.version, p.set_id) for p in four.packages()][3:5] == [(4, "set-1"), (5, "set-2")]
    assert len(four.packages()) == 8


def test_an_approved_package_is_the_champion_and_says_who_when_and_why(four: Registry) -> None:
    approved = four.approve(3, note="reviewed with the care team")
    assert (approved.status, approved.champion, approved.note) == ("Approved", True, "reviewed with the care team")
    assert approved.decided_by == "ada"
    assert approved.decided_at.startswith("2026-03-01T00:00:")
    assert four.champion() == approved
    assert [p.version for p in four.packages() if p.champion] == [3]


def test_approving_an_earlier_package_again_rolls_back_to_it(four: Registry) -> None:
    for version in (1, 4, 1):
        four.approve(version)
    champion = four.champion()
    assert champion is not None and champion.version == 1
    assert [(event.version, event.decision, event.by) for event in four.history()] == [
        (1, "approved", "ada"),
        (4, "approved", "ada"),
        (1, "approved", "ada"),
    ]


def test_approving_the_champion_again_changes_nothing(four: Registry) -> None:
    first = four.approve(2, note="good")
    assert four.approve(2, note="still good") == first
    assert len(four.history()) == 1


def test_rejecting_a_package_changes_nothing_else(four: Registry) -> None:
    four.approve(1)
    before = {p.version: p for p in four.packages()}
    rejected = four.reject(2, note="too many false alarms")
    after = {p.version: p for p in four.packages()}
    assert (rejected.status, rejected.note, rejected.champion) == ("Rejected", "too many false alarms", False)
    assert {v: p for v, p in after.items() if v != 2} == {v: p for v, p in before.items() if v != 2}


def test_the_champion_cannot_be_rejected(four: Registry) -> None:
    four.approve(1)
    with pytest.raises(UserError, match=r"version 1 \(best_ranking\) is the champion\. Approve another version first"):
        four.reject(1)
    four.approve(2)
    assert four.reject(1).status == "Rejected"


def test_a_rejected_package_may_be_approved_after_all(four: Registry) -> None:
    four.reject(2)
    assert four.approve(2).status == "Approved"
    assert [event.decision for event in four.history()] == ["rejected", "approved"]


@pytest.mark.parametrize("act", ["package", "approve", "reject"])
def test_an_unknown_version_is_refused_with_those_that_exist(four: Registry, act: str) -> None:
    with pytest.raises(UserError, match=r"risky-players has no version 9 \(there are: 1, 2, 3, 4\)"):
        getattr(four, act)(9)


def test_an_exported_package_is_a_folder_with_all_its_facts(four: Registry, tmp_path: Path) -> None:
    four.approve(4, note="go")
    folder = four.export(4, tmp_path / "out" / "champion")
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {*CONTENT, "package.json"}
    assert (folder / "model/1/saved_model.pb").read_text() == "graph first high_recall"
    facts = json.loads((folder / "package.json").read_text())
    assert (facts["version"], facts["status"], facts["champion"], facts["note"]) == (4, "Approved", True, "go")
    assert facts["config"] == {"train": {"seed": 7}, "gate": {"minimum": 0.3}}
    assert facts["metrics"] == {"pr_auc": 0.75, "recall": 0.5}


def test_an_export_replaces_the_one_before(four: Registry, tmp_path: Path) -> None:
    four.export(1, tmp_path / "out")
    four.export(4, tmp_path / "out")
    assert (tmp_path / "out/model/1/saved_model.pb").read_text() == "graph first high_recall"
    assert [path.name for path in tmp_path.glob("*unfinished*")] == []


def test_a_package_that_lacks_a_file_is_refused_and_nothing_is_registered(registry: Registry, tmp_path: Path) -> None:
    asked = requests(tmp_path)
    asked[3].files["baseline/constraints.json"].unlink()
    with pytest.raises(UserError, match=r"'high_recall' lacks baseline/constraints\.json"):
        registry.register_set("set-1", asked)
    assert registry.packages() == []


def test_an_empty_set_is_refused(registry: Registry) -> None:
    with pytest.raises(UserError, match="no model package"):
        registry.register_set("set-1", [])


def test_a_definition_that_stands_twice_is_refused(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stands twice"):
        registry.register_set("set-1", [*requests(tmp_path), *requests(tmp_path)])


def test_the_set_id_depends_on_content_alone(tmp_path: Path) -> None:
    here, there = requests(tmp_path / "here"), requests(tmp_path / "there")
    assert fingerprint(here) == fingerprint(list(reversed(there)))
    there[0].files["baseline/statistics.json"].write_text("other")
    assert fingerprint(here) != fingerprint(there)


def test_a_set_is_the_same_set_when_only_its_evaluation_has_changed(tmp_path):
    here, there = requests(tmp_path / "a"), requests(tmp_path / "b")
    there[0].files["evaluation/evaluation.json"].write_text('{"against": "another champion"}')
    assert fingerprint(here) == fingerprint(there)


# -- the local one --------------------------------------------------------------------------------------------------


class Broken(Exception):
    """The power went."""


class Door:
    """MLflow's client, broken at the nth call that writes."""

    WRITES = ("create_", "set_", "log_", "delete_")

    def __init__(self, client: object, breaks_at: int) -> None:
        self.client, self.left = client, breaks_at

    def __getattr__(self, name: str) -> object:
        if name.startswith(self.WRITES):
            self.left -= 1
            if self.left < 0:
                raise Broken(name)
        return getattr(self.client, name)


def breaking_points(database: Path, tmp_path: Path) -> Iterator[LocalRegistry]:
    """Registries on copies of the database, each broken one write later than the one before, until none breaks."""
    for n in count():
        folder = tmp_path / f"broken-{n}"
        folder.mkdir()
        registry = local(Path(shutil.copy(database, folder / "mlflow.db")))
        registry.client = Door(registry.client, n)
        try:
            registry.register_set("set-1", requests(tmp_path)[:2])
        except Broken:
            yield registry
        else:
            return


def test_broken_at_any_write_no_half_set_is_seen_and_a_retry_gives_the_set(database: Path, tmp_path: Path) -> None:
    points = 0
    for broken in breaking_points(database, tmp_path):
        points += 1
        fresh = local(broken.database)
        assert fresh.packages() == []
        fresh.register_set("set-1", requests(tmp_path)[:2])
        assert_exactly(fresh, 2)
    assert points == 11


def assert_exactly(registry: LocalRegistry, packages: int) -> None:
    """MLflow itself knows no more versions, runs or files than the registry lists."""
    assert len(registry.packages()) == packages
    assert len(registry._versions()) == packages
    assert len(registry._runs(registry._experiment())) == packages
    assert len(list(registry._root().iterdir())) == packages
    assert all((registry._files(version) / "package.json").is_file() for version in registry._versions())


def test_a_full_disk_while_files_are_copied_leaves_nothing(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, real, copied = local(database), shutil.copyfile, count()

    def copy(source: Path, target: Path) -> None:
        if next(copied) == 10:
            raise OSError(28, "No space left on device", str(source), None, str(target))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", copy)
        assert run_step(lambda: registry.register_set("set-1", requests(tmp_path))) == 2
    assert re.search(r"mlartifacts/.*: the disk is full\. Free some space", capsys.readouterr().err)
    assert registry.packages() == []
    registry.register_set("set-1", requests(tmp_path))
    assert_exactly(registry, 4)


def register_in_another_process(database: Path, folder: Path, begun: "multiprocessing.synchronize.Event") -> None:
    registry, asked = local(database), requests(folder)
    assert registry.packages() == []
    begun.set()
    registry.register_set("set-1", asked)


def test_killed_at_random_moments_a_retry_gives_exactly_one_set(database: Path, tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOAD)
    moments = random.Random(5)
    killed = 0
    for n in range(8):
        folder = tmp_path / f"killed-{n}"
        folder.mkdir()
        place = Path(shutil.copy(database, folder / "mlflow.db"))
        begun = processes.Event()
        process = processes.Process(target=register_in_another_process, args=(place, tmp_path, begun))
        process.start()
        assert begun.wait(60)
        time.sleep(moments.uniform(0, 0.25))
        with suppress(ProcessLookupError):  # it had ended before
            os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        registry = local(place)
        seen = len(registry.packages())
        assert seen in (0, 4)
        killed += seen == 0
        registry.register_set("set-1", requests(tmp_path))
        assert_exactly(registry, 4)
    assert killed


def register_and_report(database: Path, folder: Path, mark: str) -> None:
    local(database).register_set(f"set-{mark}", requests(folder, mark))


def test_two_processes_may_create_the_database_and_register_at_once(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOAD)
    database = tmp_path / "new" / "mlflow.db"
    both = [
        processes.Process(target=register_and_report, args=(database, tmp_path, mark)) for mark in ("first", "second")
    ]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    registry = local(database)
    assert_exactly(registry, 8)
    assert [len({p.set_id for p in half}) for half in (registry.packages()[:4], registry.packages()[4:])] == [1, 1]


def test_a_database_is_created_whole_and_without_chatter(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "ünïcode & 'quotes' #1" / "100%20?" / "mlflow.db"
    (place.parent).mkdir(parents=True)
    (place.parent / ".mlflow.db.unfinished").write_text("what a kill left")
    registry = local(place)
    registry.register_set("set-1", requests(tmp_path))
    assert_exactly(registry, 4)
    assert {path.name for path in place.parent.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")


def test_a_database_that_mlflow_was_killed_while_making_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        connection.execute("CREATE TABLE webhooks (webhook_id TEXT)")
    with pytest.raises(UserError, match=r"left it half-made\. Move the file away"):
        local(tmp_path / "mlflow.db").packages()


def test_an_experiment_that_was_deleted_or_is_just_being_made_is_found(database: Path) -> None:
    client = open_database(tracking_uri(database))
    found = open_experiment(client, "players")
    client.delete_experiment(found)
    assert open_experiment(client, "players") == found
    assert client.get_experiment(found).lifecycle_stage == "active"


def test_asking_a_registry_that_does_not_exist_creates_nothing(tmp_path: Path) -> None:
    registry = local(tmp_path / "mlflow.db")
    assert registry.packages() == []
    with pytest.raises(UserError, match="has no version 1 \\(there is none yet; run the pipeline first\\)"):
        registry.package(1)
    assert list(tmp_path.iterdir()) == []


def test_the_runs_folder_may_be_moved(database: Path, tmp_path: Path) -> None:
    local(database).register_set("set-1", requests(tmp_path))
    moved = local(database.parent.rename(tmp_path / "moved") / "mlflow.db")
    assert (moved.export(1, tmp_path / "out") / "model/1/saved_model.pb").is_file()
    moved.register_set("set-2", requests(tmp_path, "second"))
    assert_exactly(moved, 8)


def test_files_that_somebody_deleted_are_restored_by_the_next_run(database: Path, tmp_path: Path) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    shutil.rmtree(registry._files(registry._versions()[0]))
    with pytest.raises(UserError, match="the files of version 1 are gone"):
        registry.export(1, tmp_path / "out")
    registry.register_set("set-1", requests(tmp_path))
    assert (registry.export(1, tmp_path / "out") / "model/model.json").is_file()
    assert_exactly(registry, 4)


def test_a_version_deleted_in_mlflow_is_gone_and_registered_anew_by_the_next_run(
    database: Path, tmp_path: Path
) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    registry.client.delete_model_version("risky-players", "2")
    assert [p.version for p in registry.packages()] == [1, 3, 4]
    packages = registry.register_set("set-1", requests(tmp_path))
    assert [(p.version, p.definition) for p in packages] == list(zip((1, 5, 3, 4), DEFINITIONS, strict=True))
    assert_exactly(registry, 4)


def test_mlflow_shows_metrics_settings_and_files_of_a_package(database: Path, tmp_path: Path) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    registry.approve(3)
    version = registry.client.get_model_version_by_alias("risky-players", "champion")
    run = registry.client.get_run(version.run_id)
    assert int(version.version) == 3
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"pr_auc": 0.75, "recall": 0.5}
    assert run.data.params == {"train.seed": "7", "gate.minimum": "0.3"}
    assert {file.path for file in registry.client.list_artifacts(version.run_id)} == {
        "model",
        "evaluation",
        "baseline",
        "package.json",
    }


def test_the_lock_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with locked(database), open(f"{database}.lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize("uri", ["", "http://mlflow.example.com", "sqlite://", "sqlite:///:memory:"])
def test_a_tracking_uri_that_is_no_sqlite_file_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="needs a SQLite file"):
        LocalRegistry(uri, "risky-players")


def test_a_tracking_uri_leads_back_to_its_file(tmp_path: Path) -> None:
    for name in ("plain", "a b", "100%", "a%20b", "what?", "ü#&'"):
        assert database_of(tracking_uri(tmp_path / name)) == tmp_path / name
    assert tracking_uri(Path("/a b/mlflow.db")) == "sqlite:////a b/mlflow.db"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is a letter to my aunt, and quite a long one at that")
    with pytest.raises(UserError, match="no SQLite database"):
        local(tmp_path / "mlflow.db").packages()
