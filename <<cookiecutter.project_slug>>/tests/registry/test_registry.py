"""How the local registry keeps the contract (registry_contract.py), whatever breaks."""

import fcntl
import json
import math
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
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.orm import Session

from registry_contract import DEFINITIONS, Contract, requests
from registry_processes import PRELOAD, local, register_and_report, register_in_another_process
from scarcegan.errors import UserError, run_step
from scarcegan.pipeline.config import Config, run_tags
from scarcegan.registry.contract import FilesGone, ModelPackage, package_json, set_id_of
from scarcegan.registry.database import database_of, locked, open_database, open_experiment, tracking_uri
from scarcegan.registry.local import LocalRegistry
from scarcegan.registry.tracking import Tracker


@pytest.fixture
def database(empty_database: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "the runs"
    folder.mkdir()
    return Path(shutil.copy(empty_database, folder / "mlflow.db"))


@pytest.fixture
def registry(database: Path) -> LocalRegistry:
    return local(database)


class TestLocalRegistry(Contract):
    """The contract, on MLflow and SQLite."""


def test_the_set_id_depends_on_content_alone(tmp_path: Path) -> None:
    here, there = requests(tmp_path / "here"), requests(tmp_path / "there")
    assert set_id_of(here) == set_id_of(list(reversed(there)))
    there[0].files["baseline/statistics.json"].write_text("other")
    assert set_id_of(here) != set_id_of(there)


def test_a_set_is_the_same_set_when_only_its_evaluation_has_changed(tmp_path):
    here, there = requests(tmp_path / "a"), requests(tmp_path / "b")
    there[0].files["evaluation/evaluation.json"].write_text('{"against": "another champion"}')
    assert set_id_of(here) == set_id_of(there)


def test_a_set_is_the_same_set_when_tensorflow_has_saved_the_same_weights_again(tmp_path):
    here, there = requests(tmp_path / "a"), requests(tmp_path / "b")
    for request, drawn in ((here[0], "1234"), (there[0], "5678")):
        path = request.files["model/model.json"].with_name("fingerprint.pb")
        path.write_text(drawn)
        request.files["model/1/fingerprint.pb"] = path
    assert set_id_of(here) == set_id_of(there)


def test_a_package_json_is_valid_json_whatever_was_measured():
    package = ModelPackage(1, "g", "s", "best_ranking", "Approved", True, "2026-01-01", metrics={"recall": math.nan})
    text = package_json(package, {"train": {"weights": [math.inf]}})
    found = json.loads(text, parse_constant=pytest.fail)
    assert (found["metrics"], found["config"]) == ({"recall": None}, {"train": {"weights": [None]}})


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


@pytest.mark.slow
def test_broken_at_any_write_no_half_set_is_seen_and_a_retry_gives_the_set(database: Path, tmp_path: Path) -> None:
    points = 0
    for broken in breaking_points(database, tmp_path):
        points += 1
        fresh = local(broken.database)
        assert fresh.packages() == []
        fresh.register_set("set-1", requests(tmp_path)[:2])
        assert_exactly(fresh, 2)
    assert points == 12


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


@pytest.mark.slow
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


@pytest.mark.slow
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
    with pytest.raises(UserError, match=r"so it is incomplete\. Move the file away"):
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
    with pytest.raises(UserError, match="has no version 1 \\(there are none yet; run the pipeline first\\)"):
        registry.package(1)
    assert list(tmp_path.iterdir()) == []


def test_the_runs_folder_may_be_moved(database: Path, tmp_path: Path) -> None:
    local(database).register_set("set-1", requests(tmp_path))
    moved = local(database.parent.rename(tmp_path / "moved") / "mlflow.db")
    assert (moved.export(1, tmp_path / "out") / "model/1/saved_model.pb").is_file()
    moved.register_set("set-2", requests(tmp_path, "second"))
    assert_exactly(moved, 8)


def test_an_approval_that_breaks_off_at_any_write_has_changed_nothing(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path)[:2])
    registry.approve(1)
    before = registry.packages()
    real = Session.merge
    for n in count():
        left = iter(range(n))

        def merge(*arguments: Any, left: Iterator[int] = left) -> Any:
            if next(left, None) is None:
                raise Broken
            return real(*arguments)

        monkeypatch.setattr(Session, "merge", merge)
        with suppress(Broken, MlflowException):  # MLflow wraps it
            registry.approve(2)
            break
        assert local(database).packages() == before
    assert n == 6
    assert [(p.status, p.champion) for p in registry.packages()] == [("Approved", False), ("Approved", True)]


HALF = {
    "half a package.json": "package.json",
    "half a model": "model/1/saved_model.pb",
    "half an evaluation": "evaluation/evaluation.json",
    "half of the constraints": "baseline/constraints.json",
}
LOSSES = ("all", "model/1/saved_model.pb", "package.json", "model/1/variables/variables.index", *HALF)


@pytest.mark.parametrize("lost", LOSSES)
def test_files_that_somebody_deleted_or_damaged_are_restored_by_the_next_run(
    database: Path, tmp_path: Path, lost: str
) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    folder = registry._files(registry._versions()[0])
    if lost == "all":
        shutil.rmtree(folder)
    elif lost in HALF:
        (folder / HALF[lost]).write_text('{"con')
    else:
        (folder / lost).unlink()
    assert not registry.has_files(registry.package(1))
    named = "baseline/constraints.json and 6 more" if lost == "all" else HALF.get(lost, lost)
    words = rf"files of version 1 are gone or damaged \({named}\)\. Type 'scarcegan run'"
    with pytest.raises(FilesGone, match=words):
        registry.export(1, tmp_path / "out")
    registry.register_set("set-1", requests(tmp_path))
    assert registry.has_files(registry.package(1))
    out = registry.export(1, tmp_path / "out")
    assert (out / "model/1/saved_model.pb").read_text() == "graph first best_ranking"
    assert (out / "evaluation/evaluation.json").read_text() == "{}"
    assert json.loads((out / "package.json").read_text())["config"]["train"] == {"seed": 7}
    assert_exactly(registry, 4)


def test_an_evaluation_restored_from_another_run_counts_from_then_on(database: Path, tmp_path: Path) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    (registry._files(registry._versions()[0]) / "evaluation/evaluation.json").unlink()
    again = requests(tmp_path)
    for request in again:
        request.files["evaluation/evaluation.json"].write_text('{"against": "another champion"}')
    registry.register_set("set-1", again)
    assert all(registry.has_files(package) for package in registry.packages())
    written = [
        (registry.export(version, tmp_path / "out") / "evaluation/evaluation.json").read_text() for version in (1, 2)
    ]
    assert written == ['{"against": "another champion"}', "{}"]


def test_a_package_that_an_earlier_version_registered_without_digests_is_still_used(
    database: Path, tmp_path: Path
) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    registry.client.delete_model_version_tag("risky-players", "1", "digests")
    assert registry.has_files(registry.package(1))
    assert (registry.export(1, tmp_path / "out") / "model/1/saved_model.pb").is_file()
    (registry._files(registry._versions()[0]) / "model/1/saved_model.pb").write_text("half")
    registry.register_set("set-1", requests(tmp_path))
    assert (registry.export(1, tmp_path / "out") / "model/1/saved_model.pb").read_text() == "graph first best_ranking"


def test_constraints_that_a_person_has_edited_are_no_damage_and_stay(database: Path, tmp_path: Path) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    (registry.folder_of(1) / "baseline/constraints.json").write_text('{"features": []}')
    (registry.folder_of(1) / "model/1/saved_model.pb").write_text("half")
    registry.register_set("set-1", requests(tmp_path))
    assert registry.has_files(registry.package(1))
    out = registry.export(1, tmp_path / "out")
    assert (out / "baseline/constraints.json").read_text() == '{"features": []}'
    assert (out / "model/1/saved_model.pb").read_text() == "graph first best_ranking"


def test_an_exported_copy_that_somebody_damaged_is_rewritten(database: Path, tmp_path: Path) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    copy = registry.export(1, tmp_path / "out") / "model/1/saved_model.pb"
    copy.write_text(copy.read_text().swapcase())  # the same size
    registry.export(1, tmp_path / "out")
    assert copy.read_text() == "graph first best_ranking"


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_a_folder_or_a_pipe_in_the_place_of_the_database_is_told(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "mlflow.db")
    with pytest.raises(UserError, match=r"mlflow\.db: this is no file\. Move it away, then run the same command again"):
        local(tmp_path / "mlflow.db").packages()


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
    about = {"project.team": "care team", "project.description": "Finds risky players"}
    assert run.data.params == {**about, "train.seed": "7", "gate.minimum": "0.3"}
    assert {file.path for file in registry.client.list_artifacts(version.run_id)} == {
        "model",
        "evaluation",
        "baseline",
        "package.json",
    }


def test_mlflow_shows_whose_model_it_is_and_what_it_is_for(database: Path, tmp_path: Path) -> None:
    registry = local(database)
    registry.register_set("set-1", requests(tmp_path))
    model = registry.client.get_registered_model("risky-players")
    assert model.tags["team"] == "care team"
    assert model.description.startswith("Finds risky players\n\nRare-class models")
    [version] = registry.client.search_model_versions("name='risky-players' and version_number=1")
    assert registry.client.get_run(version.run_id).data.tags["team"] == "care team"


def test_a_training_run_in_mlflow_has_the_teams_tag(
    empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Path(shutil.copy(empty_database, tmp_path / "mlflow.db"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(database))
    monkeypatch.setenv("MLFLOW_RUN_CONTEXT", run_tags(Config.model_validate({"project": {"team": "Équipe Jeu"}})))
    Tracker({"alpha": 0.7}).close()
    client = open_database(tracking_uri(database))
    [run] = client.search_runs([client.get_experiment_by_name("scarcegan").experiment_id])
    assert run.data.tags["team"] == "Équipe Jeu"


def test_of_a_groups_arn_the_name_counts_on_this_machine(database: Path, tmp_path: Path) -> None:
    arn = "arn:aws:sagemaker:eu-west-1:123456789012:model-package-group/risky-players"
    LocalRegistry(tracking_uri(database), arn).register_set("set-1", requests(tmp_path))
    assert len(local(database).packages()) == 4


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
    with pytest.raises(UserError, match="not a SQLite database"):
        local(tmp_path / "mlflow.db").packages()
