"""What every registry must do. A registry's tests inherit Contract and bring a fixture `registry`."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from scarcegan.archive import pack
from scarcegan.errors import UserError
from scarcegan.registry.contract import PackageRequest, Registry, check_model

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


PROJECT = {"team": "care team", "description": "Finds risky players"}


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
        config={"project": PROJECT, "train": {"seed": 7}, "gate": {"minimum": 0.3}},
        run="run-1",
        data_fingerprint="d4t4",
        code_version="c0de",
        description=f"{definition} of {mark}",
    )


def clock() -> Callable[[], datetime]:
    """A second passes every time it is asked."""
    seconds = count()
    return lambda: datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=next(seconds))


class Contract:
    """One test per promise of base.Registry. An approval is followed by its deployment."""

    @pytest.fixture
    def four(self, registry: Registry, tmp_path: Path) -> Registry:
        """A registry with one set: versions 1 to 4."""
        registry.register_set("set-1", requests(tmp_path))
        return registry

    def test_a_new_registry_holds_nothing(self, registry: Registry) -> None:
        assert registry.packages() == []
        assert registry.champion() is None
        assert registry.history() == []

    def test_a_set_is_registered_whole_in_the_order_asked_and_pending(self, registry: Registry, tmp_path: Path) -> None:
        packages = registry.register_set("set-1", requests(tmp_path))
        assert [package.definition for package in packages] == list(DEFINITIONS)
        assert [package.version for package in packages] == [1, 2, 3, 4]
        assert {package.status for package in packages} == {"PendingManualApproval"}
        assert registry.packages() == packages
        assert registry.champion() is None

    def test_a_package_carries_where_it_comes_from(self, four: Registry) -> None:
        package = four.package(2)
        assert package.metrics == {"pr_auc": 0.75, "recall": 0.5}
        assert package.gate == {"passed": True, "reason": "0.75 is over 0.3"}
        assert (package.run, package.data_fingerprint, package.code_version) == ("run-1", "d4t4", "c0de")
        assert (package.group, package.set_id, package.description) == (
            "risky-players",
            "set-1",
            "few_unknown of first",
        )
        assert json.loads(json.dumps(asdict(package)))["version"] == 2

    def test_a_package_has_the_digest_of_its_archived_model(self, four: Registry, tmp_path: Path) -> None:
        model = {name: path for name, path in requests(tmp_path)[2].files.items() if name.startswith("model/")}
        archive = pack({name.removeprefix("model/"): path for name, path in model.items()}, tmp_path / "model.tar.gz")
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        assert four.package(3).model_digest == digest
        assert len({package.model_digest for package in four.packages()}) == 4
        folder = four.export(3, tmp_path / "out")
        assert json.loads((folder / "package.json").read_text())["model_digest"] == check_model(folder) == digest

    @pytest.mark.parametrize("act", ["change", "add", "remove"])
    def test_an_exported_model_that_was_changed_is_refused(self, four: Registry, tmp_path: Path, act: str) -> None:
        folder = four.export(3, tmp_path / "out")
        file = folder / "model/1/saved_model.pb"
        if act == "change":
            file.write_text("graph of somebody else")
        elif act == "add":
            (folder / "model/1/saved_model.pbtxt").write_text("another graph")
        else:
            file.unlink()
        with pytest.raises(
            UserError, match=r"its model has the digest .* was registered, so it was changed afterwards"
        ):
            check_model(folder)

    def test_the_id_that_tensorflow_draws_for_each_saving_is_no_part_of_the_digest(
        self, four: Registry, tmp_path: Path
    ) -> None:
        folder = four.export(3, tmp_path / "out")
        (folder / "model/1/fingerprint.pb").write_text("drawn by lot")
        assert check_model(folder) == four.package(3).model_digest

    def test_registering_the_same_set_again_changes_nothing(self, four: Registry, tmp_path: Path) -> None:
        before = four.packages()
        assert four.register_set("set-1", requests(tmp_path)) == before
        assert four.packages() == before

    def test_another_set_is_numbered_on(self, four: Registry, tmp_path: Path) -> None:
        four.register_set("set-2", requests(tmp_path, "second"))
        assert [(p.version, p.set_id) for p in four.packages()][3:5] == [(4, "set-1"), (5, "set-2")]
        assert len(four.packages()) == 8

    def test_an_approved_package_is_the_champion_and_says_who_when_and_why(self, four: Registry) -> None:
        approved = four.approve(3, note="reviewed with the care team")
        assert (approved.status, approved.champion, approved.note) == ("Approved", True, "reviewed with the care team")
        assert approved.decided_by == "ada"
        assert approved.decided_at.startswith("2026-03-01T00:00:")
        assert four.champion() == approved
        assert [p.version for p in four.packages() if p.champion] == [3]

    def test_approving_an_earlier_package_again_rolls_back_to_it(self, four: Registry) -> None:
        for version in (1, 4, 1):
            four.approve(version)
        champion = four.champion()
        assert champion is not None and champion.version == 1
        assert [(event.version, event.decision, event.by) for event in four.history()] == [
            (1, "approved", "ada"),
            (4, "approved", "ada"),
            (1, "approved", "ada"),
        ]

    def test_approving_the_champion_again_changes_nothing(self, four: Registry) -> None:
        first = four.approve(2, note="good")
        assert four.approve(2, note="still good") == first
        assert len(four.history()) == 1

    def test_rejecting_a_package_changes_nothing_else(self, four: Registry) -> None:
        four.approve(1)
        before = {p.version: p for p in four.packages()}
        rejected = four.reject(2, note="too many false alarms")
        after = {p.version: p for p in four.packages()}
        assert (rejected.status, rejected.note, rejected.champion) == ("Rejected", "too many false alarms", False)
        assert {v: p for v, p in after.items() if v != 2} == {v: p for v, p in before.items() if v != 2}

    def test_the_note_of_a_second_rejection_is_kept_and_a_second_one_without_a_note_changes_nothing(
        self, four: Registry
    ) -> None:
        first = four.reject(2, note="too many false alarms")
        assert four.reject(2) == first
        second = four.reject(2, note="and it is slow")
        assert (second.status, second.note) == ("Rejected", "and it is slow")
        assert [event.note for event in four.history()] == ["too many false alarms", "and it is slow"]

    def test_a_second_rejection_with_the_same_note_changes_nothing_also_when_the_note_has_two_lines(
        self, four: Registry
    ) -> None:
        first = four.reject(2, note="too many false alarms\nand slow")
        assert four.reject(2, note="too many false alarms\nand slow") == first
        assert len(four.history()) == 1

    def test_the_champion_cannot_be_rejected(self, four: Registry) -> None:
        four.approve(1)
        with pytest.raises(UserError, match=r"version 1 \(best_ranking\) is the champion\. Approve another"):
            four.reject(1)
        four.approve(2)
        assert four.reject(1).status == "Rejected"

    def test_a_rejected_package_may_be_approved_after_all(self, four: Registry) -> None:
        four.reject(2)
        assert four.approve(2).status == "Approved"
        assert [event.decision for event in four.history()] == ["rejected", "approved"]

    @pytest.mark.parametrize("act", ["package", "approve", "reject"])
    def test_an_unknown_version_is_refused_with_those_that_exist(self, four: Registry, act: str) -> None:
        with pytest.raises(UserError, match=r"risky-players has no version 9 \(there are: 1, 2, 3, 4\)"):
            getattr(four, act)(9)

    def test_an_exported_package_is_a_folder_with_all_its_facts(self, four: Registry, tmp_path: Path) -> None:
        four.approve(4, note="go")
        folder = four.export(4, tmp_path / "out" / "champion")
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert files == {*CONTENT, "package.json"}
        assert (folder / "model/1/saved_model.pb").read_text() == "graph first high_recall"
        facts = json.loads((folder / "package.json").read_text())
        assert (facts["version"], facts["status"], facts["champion"], facts["note"]) == (4, "Approved", True, "go")
        assert facts["config"] == {"project": PROJECT, "train": {"seed": 7}, "gate": {"minimum": 0.3}}
        assert facts["metrics"] == {"pr_auc": 0.75, "recall": 0.5}

    def test_an_export_replaces_the_one_before(self, four: Registry, tmp_path: Path) -> None:
        four.export(1, tmp_path / "out")
        four.export(4, tmp_path / "out")
        assert (tmp_path / "out/model/1/saved_model.pb").read_text() == "graph first high_recall"
        assert [path.name for path in tmp_path.glob("*unfinished*")] == []

    def test_an_export_that_is_whole_and_up_to_date_is_left_alone(self, four: Registry, tmp_path: Path) -> None:
        file = four.export(1, tmp_path / "out") / "model/1/saved_model.pb"
        before = file.stat()
        assert four.export(1, tmp_path / "out") == tmp_path / "out"
        assert file.stat() == before

    @pytest.mark.parametrize("damage", ["cut", "same length", "gone", "more", "package.json", "a file"])
    def test_a_damaged_export_is_written_anew(self, four: Registry, tmp_path: Path, damage: str) -> None:
        folder = four.export(1, tmp_path / "out")
        file = folder / "model/1/saved_model.pb"
        text = file.read_text()
        if damage == "cut":
            file.write_text("gra")
        elif damage == "same length":
            file.write_text(text.upper())
        elif damage == "gone":
            file.unlink()
        elif damage == "more":
            (folder / "model/1/stray.pb").write_text("x")
        elif damage == "package.json":
            (folder / "package.json").write_text('{"version": ')
        else:
            shutil.rmtree(folder)
            folder.write_text("a file")
        four.export(1, folder)
        assert file.read_text() == text
        assert json.loads((folder / "package.json").read_text())["version"] == 1
        assert not (folder / "model/1/stray.pb").exists()

    def test_an_export_tells_the_present_status(self, four: Registry, tmp_path: Path) -> None:
        four.export(1, tmp_path / "out")
        four.approve(1)
        facts = json.loads((four.export(1, tmp_path / "out") / "package.json").read_text())
        assert (facts["status"], facts["champion"]) == ("Approved", True)

    def test_a_package_that_lacks_a_file_is_refused_and_nothing_is_registered(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        asked = requests(tmp_path)
        asked[3].files["baseline/constraints.json"].unlink()
        with pytest.raises(UserError, match=r"'high_recall' lacks baseline/constraints\.json"):
            registry.register_set("set-1", asked)
        assert registry.packages() == []

    def test_an_empty_set_is_refused(self, registry: Registry) -> None:
        with pytest.raises(UserError, match="no model package"):
            registry.register_set("set-1", [])

    def test_a_definition_that_stands_twice_is_refused(self, registry: Registry, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="occurs twice"):
            registry.register_set("set-1", [*requests(tmp_path), *requests(tmp_path)])
