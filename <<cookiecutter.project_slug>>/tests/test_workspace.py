"""The workspace: what the verbs read, what they refuse, and what they leave alone."""

import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry_contract import requests
from scarcegan import workspace
from scarcegan.cli import main
from scarcegan.errors import UserError
from scarcegan.jsonfile import write_json
from scarcegan.local.events import RunResult
from scarcegan.local.state import StepState
from scarcegan.model import scorer
from scarcegan.pipeline import definition
from scarcegan.pipeline.config import DataSettings, load_config
from scarcegan.registry.contract import ModelPackage
from scarcegan.registry.database import open_database, tracking_uri
from scarcegan.steps import features
from scarcegan.steps.register import Lineage, register
from scarcegan.workspace import Workspace

PACKAGE = ModelPackage(3, "rare-players", "set1", "best_ranking", "Approved", True, "2026-01-01")


@pytest.fixture
def project(place):
    return place


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("labels:\n  rare_class: risky\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return Workspace.open(tmp_path / "config.yaml")


def with_data(place, labels=True):
    (place.root / "data" / "telemetry").mkdir(parents=True)
    if labels:
        (place.root / "data" / "labels.csv").write_text("user_id,label\n", encoding="utf-8")
    return place


def test_paths_of_the_settings_lie_beside_them_wherever_one_stands(place, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert place.runs_folder == tmp_path.resolve() / "runs"
    assert place.path("/elsewhere").as_posix() == "/elsewhere"


@pytest.mark.parametrize("path", ["s3://bucket/folder/", Path("s3://bucket/folder/")])
def test_an_address_in_s3_is_no_path_here_and_is_named_as_it_was_typed(place, path):
    with pytest.raises(UserError, match=r"^s3://bucket/folder/?: is in S3, .*aws s3 sync s3://bucket/folder"):
        place.path(path)
    here = replace(place, config=load_config(place.root / "config.yaml", ["data.path=s3://bucket/folder/"]))
    with pytest.raises(UserError, match="scarcegan start"):
        here.data_sources()


@pytest.mark.parametrize("path", ["~nobody-of-this-name/data", "loop"])
def test_a_path_that_leads_nowhere_is_a_sentence(place, path):
    (place.root / "loop").symlink_to("loop")
    here = replace(place, config=load_config(place.root / "config.yaml", [f"data.path={path}"]))
    with pytest.raises(UserError, match=f"^{path}: "):
        here.data_sources()


def test_a_config_yaml_that_cannot_be_a_file_is_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "loop").symlink_to("loop")
    for name, words in {"loop": "leads back to itself", "x" * 300: "name is too long"}.items():
        monkeypatch.setattr(sys, "argv", ["scarcegan", "--config", str(tmp_path / name), "runs"])
        with pytest.raises(SystemExit) as end:
            main.main()
        err = capsys.readouterr().err
        assert end.value.code == 2 and words in err and err.count("\n") == 1
    with pytest.raises(UserError, match="not a file name"):
        Workspace.open(tmp_path / "a\0b")


def test_missing_data_names_the_two_ways_to_get_some(place):
    with pytest.raises(UserError, match=r"'scarcegan data make' .* or set data.path"):
        place.data_sources()


def test_missing_labels_are_asked_for_but_not_when_they_stand_with_the_data(place):
    with_data(place, labels=False)
    with pytest.raises(UserError, match=r"labels\.csv: no labels there"):
        place.data_sources()
    for where in ("inside", "folders"):
        inside = Workspace.open(place.root / "config.yaml", [f"data.labels={where}"])
        assert list(inside.data_sources()) == ["telemetry"]


def test_telemetry_and_labels_are_the_sources(place):
    assert [path.name for path in with_data(place).data_sources().values()] == ["telemetry", "labels.csv"]


def test_looking_for_models_where_none_are_makes_nothing(place):
    assert place.models() == [] and place.champion() is None and place.runs() == []
    for version in (None, 1):
        with pytest.raises(UserError, match="scarcegan "):
            place.package(version)
    assert sorted(path.name for path in place.root.iterdir()) == ["config.yaml"]


def test_one_folder_is_itself_and_several_are_gathered_in_any_order_in_one_place(place):
    a, b = place.root / "a", place.root / "b"
    for folder in (a, b):
        folder.mkdir()
        (folder / "rows.txt").write_text(folder.name)
    assert place.linked_together([a]) == a
    both = place.linked_together([a, b])
    assert place.linked_together([b, a]) == both
    assert sorted(path.read_text() for path in both.glob("*/rows.txt")) == ["a", "b"]


def trained(place):
    """The folders that the train, evaluate and baseline steps of the run run-1 have written, by name of the output."""
    run = place.runs_folder / "run-1"
    folders = {"models": run / "train/models", "evaluation": run / "evaluate/evaluation"}
    folders["baseline"] = run / "baseline/baseline"
    for request in requests(place.root / "made"):
        for name, path in request.files.items():
            part, rest = name.split("/", 1)
            target = folders["models" if part == "model" else part] / request.definition / rest
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return folders


@pytest.fixture
def registered(place, empty_database):
    """A project with four registered models, whose run and register step are still there; version 1 is the champion."""
    folders = trained(place)
    shutil.copy(empty_database, place.database)
    run = place.runs_folder / "run-1"
    about = dict.fromkeys(("pipeline", "started", "reason", "plan_digest"), "") | {"sources": {}, "seconds": 0}
    about |= {"run": "run-1", "status": "finished", "steps": []}
    write_json(run / "run.json", about | {"settings": {"config": {"local": {}, "train": {"seed": 7}}}})
    made = register(*folders.values(), Lineage("run-1"), place.local_registry())
    write_json(run / "register" / "packages" / "packages.json", [asdict(package) for package in made])
    place.local_registry().approve(1)
    return place


def test_an_export_tells_the_present_status_and_a_damaged_one_is_written_anew(registered):
    folder = registered.exported(registered.package(2))
    (folder / "model" / "1" / "saved_model.pb").write_text("half")
    registered.local_registry().approve(2)
    assert registered.exported(registered.package(2)) == folder
    assert (folder / "model" / "1" / "saved_model.pb").read_text() == "graph first few_unknown"
    assert json.loads((folder / "package.json").read_text())["status"] == "Approved"


def test_files_of_the_champion_that_are_gone_come_back_from_its_run(registered, capsys):
    before = (registered.exported(registered.package(None)) / "package.json").read_text()
    shutil.rmtree(registered.runs_folder / "mlartifacts")
    folder = registered.exported(registered.package(None))
    assert (folder / "model" / "1" / "saved_model.pb").read_text() == "graph first best_ranking"
    assert json.loads((folder / "package.json").read_text()) == json.loads(before) | {"config": {"train": {"seed": 7}}}
    assert "restored the files of version 1 from run run-1" in capsys.readouterr().err
    assert len(registered.models()) == 4


def test_a_damaged_file_of_the_champion_comes_back_from_its_run(registered, capsys):
    files = registered.local_registry()._files(registered.local_registry()._versions()[0])
    (files / "model" / "1" / "saved_model.pb").write_text("half")
    folder = registered.exported(registered.package(None))
    assert (folder / "model" / "1" / "saved_model.pb").read_text() == "graph first best_ranking"
    assert "restored the files of version 1 from run run-1" in capsys.readouterr().err


def test_without_its_run_too_serve_names_run_and_run_goes_on_without_the_champion(registered, monkeypatch, capsys):
    shutil.rmtree(registered.runs_folder / "mlartifacts")
    shutil.rmtree(registered.runs_folder / "run-1")
    with pytest.raises(UserError, match=r"files of version 1 are gone or damaged .*\. Type 'scarcegan run'"):
        registered.serve(None, "127.0.0.1", 0)
    asked = []
    monkeypatch.setattr(Workspace, "_run", lambda self, pipeline, sources, *_: asked.append(sources) or RUN)
    with_data(registered).train()
    assert list(asked[0]) == ["telemetry", "labels"]
    assert (
        "version 1, are gone or damaged, and its run is gone: the new models are not compared with it"
        in capsys.readouterr().err
    )


RUN = RunResult("run-2", Path("nowhere"), "failed", "why", 2)
DATA_SETTINGS = {
    "kind": "features",
    "path": "data/other",
    "labels": "inside",
    "user_column": "player",
    "time_column": "day",
    "label_column": "class",
    "time_format": "epoch",
    "time_zone": "Europe/Berlin",
    "counters": "[minutes]",
    "signed_counters": "[minutes]",
    "aggregate": "{sessions: sum, minutes: mean, deposits: max, wagers: sum, night_minutes: count}",
    "missing_days": "zero",
    "columns": "[age]",
    "categories": "[country]",
    "start": "2026-01-05",
    "days": "90",
    "bad_rows": "drop",
}


class Reached(Exception):
    """A test raises this where the command would read the data."""


def read_by_check_and_by_run(project, monkeypatch):
    """How `data check` and the features step of `run` read the data: layout, kind, columns, whether to drop, files."""
    asked, read = [], []

    def reading(connection, path, labels, layout, report):
        read.append((layout, report.__self__.drop))
        raise Reached

    monkeypatch.setattr(Workspace, "_run", lambda self, pipeline, sources, *_: asked.append((pipeline, sources)) or RUN)
    monkeypatch.setattr(features, "Reading", reading)
    project.train()
    [(pipeline, sources)] = asked
    values = pipeline.step("features").arguments
    words = [f"--{name}={definition.value_text(value)}" for name, value in values.items()]
    with pytest.raises(Reached):
        features.main([*words, "--telemetry", str(sources["telemetry"]), "--features-out", str(project.root / "out")])
    [(layout, drop)] = read
    source = project.profiled()
    by_check = {"telemetry": source.path} | ({"labels": source.labels} if source.labels else {})
    kind = "telemetry" if source.telemetry else "features"
    return (
        (source.layout, kind, ",".join(source.columns), source.drop, by_check),
        (layout, values["kind"], values["columns"], drop, sources),
    )


@pytest.mark.parametrize("key", DataSettings.model_fields)
def test_data_check_and_run_both_heed_a_setting_of_the_data_and_in_the_same_way(place, key, monkeypatch):
    (with_data(place).root / "data" / "other").mkdir()
    kind = ["data.kind=features"] if key == "categories" else []
    change = f"data.{key}={DATA_SETTINGS[key]}"
    before, after = (Workspace.open(place.root / "config.yaml", changes) for changes in (kind, [*kind, change]))
    usual, _ = read_by_check_and_by_run(before, monkeypatch)
    by_check, by_run = read_by_check_and_by_run(after, monkeypatch)
    assert by_check == by_run != usual


def test_a_run_registers_again_when_the_registry_is_gone_and_not_before(place, empty_database, monkeypatch):
    """The register step is the real one; what the steps before it write is handed to it as sources."""
    folders = trained(place)
    for model in folders["models"].glob("*/model.json"):
        write_json(model, {"classes": place.config.labels.classes})
    shutil.copy(empty_database, place.database)
    real = definition.training(place.config).step("register")
    step = replace(real, inputs={name: name for name in folders}, after=())
    monkeypatch.setattr(definition, "training", lambda *_: definition.Pipeline("training", (*folders,), (step,)))
    monkeypatch.setattr(Workspace, "data_sources", lambda _: dict(folders))
    runs = [place.train(), place.train()]
    place.database.rename(place.root / "moved.db")
    runs.append(place.train())
    states = [json.loads((place.runs_folder / run.run / "register/state.json").read_text()) for run in runs]
    assert [(run.status, len(run.packages)) for run in runs] == [("finished", 4)] * 3
    assert [state["cached"] for state in states] == [False, True, False]
    assert place.database.is_file()


def test_a_registration_whose_database_or_files_are_gone_is_told(registered):
    step = registered.runs_folder / "run-1" / "register"
    assert registered.is_registered(step)
    files = next((registered.runs_folder / "mlartifacts").rglob("saved_model.pb"))
    files.rename(files.with_name("moved"))
    assert not registered.is_registered(step)
    files.with_name("moved").rename(files)
    assert registered.is_registered(step)
    registered.database.rename(registered.runs_folder / "moved.db")
    assert not registered.is_registered(step)


def test_the_next_approval_is_not_that_of_the_champion(registered, monkeypatch):
    shutil.copytree(registered.runs_folder / "run-1", registered.runs_folder / "run-2")
    monkeypatch.setattr(Workspace, "_run", lambda *_: RunResult("run-2", registered.runs_folder / "run-2", "finished"))
    project = with_data(registered)
    assert (project.train().suggested, len(project.train().packages)) == (None, 4)
    project.local_registry().approve(2)
    assert project.train().suggested == 1


def test_cleaning_deletes_copies_of_versions_that_are_no_longer_registered(registered):
    kept, gone = (registered.exported(registered.package(version)) for version in (1, 2))
    registered.local_registry().client.delete_model_version("rare-players", "2")
    registered.clean(5)
    assert (kept.is_dir(), gone.exists()) == (True, False)


def test_monitoring_reads_the_baseline_where_a_person_may_edit_its_constraints(registered, monkeypatch):
    asked = []
    monkeypatch.setattr(Workspace, "_run", lambda self, pipeline, sources, *_: asked.append(sources) or RUN)
    registered.monitor([registered.root])
    registry = registered.local_registry()
    assert asked[0]["baseline"] == registry.folder_of(registered.package(None).version) / "baseline"
    assert (asked[0]["baseline"] / "constraints.json").is_file()


@pytest.fixture
def cached_training(place, monkeypatch):
    """A function that trains: the training is taken from the cache, with its curves, and the run ends with a status."""
    folder = place.runs_folder / "run-2" / "train"
    write_json(folder / "models" / "best" / "model.json", {"hyperparameters": {"alpha": 0.7}, "seeds": 2})
    names = [name.lower() for name in definition.TRAINING_FIGURES]
    lines = [["iteration", "member", *names, "validation_pr_auc"], *([20, i, 1, 2, 3 + i, 0.5, "nan"] for i in (0, 1))]
    (folder / "curves").mkdir()
    (folder / "curves" / "curves.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in lines))
    with_data(place)

    def train(status):
        state = StepState("train", "finished", cached=True)
        result = RunResult("run-2", place.runs_folder / "run-2", status, "why", 3, steps={"train": state})
        monkeypatch.setattr(Workspace, "_run", lambda *_: result)
        return place.train()

    return train


def test_the_curves_of_a_cached_training_come_back_once_when_the_database_lacks_them(place, cached_training, capsys):
    cached_training("gate closed")
    cached_training("gate closed")
    client = open_database(tracking_uri(place.database))
    [run] = client.search_runs([client.get_experiment_by_name("rare-players").experiment_id])
    assert (run.data.metrics["Generator_Loss"], run.data.params) == (3.5, {"alpha": "0.7", "seeds": "2"})
    assert capsys.readouterr().err == "wrote the curves of the training, which was cached, to MLflow again\n"


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_after_a_run_that_did_not_come_to_its_end_no_curves_are_looked_for(place, cached_training, status, capsys):
    assert cached_training(status).status == status
    assert (place.database.exists(), capsys.readouterr().err) == (False, "")


def test_a_database_that_is_busy_does_not_hide_the_result_of_a_run(cached_training, monkeypatch, capsys):
    cached_training("gate closed")
    capsys.readouterr()

    def busy(*_, **__):
        raise MlflowException("(sqlite3.OperationalError) database is locked")

    monkeypatch.setattr(MlflowClient, "search_runs", busy)
    assert cached_training("gate closed").reason == "why"
    err = capsys.readouterr().err
    assert err.startswith("the curves of the training, which was cached, were not restored in MLflow: ")
    assert "another program is using it" in err and err.count("\n") == 1


def test_models_and_runs_agree_on_which_runs_are_gone(registered, monkeypatch, scarcegan):
    assert [model["run_deleted"] for model in registered.models()] == [False] * 4
    code, _, err = scarcegan("runs", "--clean-but", "0")
    assert (code, err) == (0, "deleted 1 runs\ntheir models stay: version 1, 2, 3, 4. See: scarcegan models\n")
    assert scarcegan("models")[1].count("run-1 (deleted)") == 4


def test_a_note_that_is_not_stored_is_told(registered, scarcegan):
    code, out, err = scarcegan("approve", "1", "--note", "still good")
    assert (code, "version 1" in out) == (0, True)
    assert err == "it was the champion already, with the note ''; nothing was changed\n"


def test_a_training_started_by_the_engine_reads_the_settings_that_were_opened(place, monkeypatch):
    (place.root / "other.yaml").write_text("labels:\n  rare_class: rare\n", encoding="utf-8")
    seen = []
    monkeypatch.setattr(Workspace, "train", lambda self: seen.append(self.config.labels.rare_class) or RUN)
    Workspace.open(place.root / "other.yaml").local_engine().start([])
    assert seen == ["rare"]


class Sum:
    """A scorer whose rarity is the sum of two features."""

    classes, features, categories = ("normal", "risky"), ("a", "b"), {}

    def score(self, values, names=None):
        rarity = values.sum(axis=1)
        return scorer.Scores(np.stack([1 - rarity, rarity], 1), rarity, rarity * 0, (rarity > 0.5).astype(np.int32))


@pytest.fixture
def scored(place, monkeypatch):
    """Three users, scored by version 3; the median user has a = 0.1, b = 0.2."""
    folder = place.runs_folder / "r1" / "score" / "scored"
    folder.mkdir(parents=True)
    rows = {"user_id": ["u1", "u2", "u3"], "a": [0.0, 0.1, 0.7], "b": [0.2, 0.3, 0.1]}
    pq.write_table(pa.table(rows), folder / "part-00000.parquet")
    monkeypatch.setattr(Workspace, "package", lambda *_: PACKAGE)
    monkeypatch.setattr(Workspace, "seen_by", lambda *_: [folder])
    monkeypatch.setattr(Workspace, "exported", lambda self, _: self.root)
    monkeypatch.setattr(scorer, "load_scorer", lambda _: Sum())
    return place


def test_what_was_left_out_of_the_data_is_told_where_a_run_ends(place, tmp_path):
    """Also when the features come from the cache, and their log is not shown."""
    result = RunResult("r1", tmp_path, "finished")
    write_json(tmp_path / "features/features/coverage.json", {"notes": ["2 files are not read."]})
    found = workspace.outcome(result, lines=("9 users scored",))
    assert main.outcome_lines(place, found) == ["run r1: finished", "note: 2 files are not read.", "9 users scored"]
    (tmp_path / "features/features/coverage.json").unlink()
    assert workspace.outcome(result).notes == ()


def test_a_user_is_explained_by_what_moves_it_from_the_median_user_strongest_first(scored):
    found = scored.explain("u3")
    assert (found["user"], found["version"], found["predicted"]) == ("u3", 3, "risky")
    assert found["rarity"] == pytest.approx(0.8)
    assert [item["feature"] for item in found["features"]] == ["a", "b"]
    assert [item["moves_rarity_by"] for item in found["features"]] == pytest.approx([0.6, -0.1])
    json.dumps(found)


def test_a_category_is_explained_by_its_text_next_to_the_most_frequent_one(scored, monkeypatch):
    monkeypatch.setattr(Sum, "categories", {"b": {"tcp": 3, "udp": 5}})
    rows = {"user_id": ["u1", "u2", "u3"], "a": [0.0, 0.1, 0.7], "b": [3.0, 3.0, 9.0]}
    pq.write_table(pa.table(rows), scored.runs_folder / "r1" / "score" / "scored" / "part-00000.parquet")
    (first, _) = scored.explain("u3")["features"]
    assert (first["feature"], first["value"], first["median_user"]) == ("b", "code 9", "tcp")


def test_a_user_nobody_has_scored_is_told_so(scored, monkeypatch):
    with pytest.raises(UserError, match=r"'u9' is not among the 3 users .*, where a user is called 'u1'"):
        scored.explain("u9")
    monkeypatch.setattr(Workspace, "seen_by", lambda *_: [])
    with pytest.raises(UserError, match=r"has scored nobody yet. Type: scarcegan score"):
        scored.explain("u1")
