"""The score step: every user's class and scores, the list of rare ones, and the counts."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from populations import CLASSES, NAMES, Model, stand_in, users
from scarcegan.archive import packed_digest
from scarcegan.data.schema import FeatureTable, write_features
from scarcegan.errors import UserError
from scarcegan.steps import score
from step_arguments import arguments as values_of


@pytest.fixture
def tiny_model(monkeypatch):
    """The model of these tests, in place of every saved one."""
    stand_in(monkeypatch)


def three_users():
    """A heavy user, a risky one, and one unlike all others."""
    values = np.array([[1, 9, 0], [20, 0, np.nan], [1, 0, 50]], np.float32)
    day = np.full(3, "2026-03-01", "datetime64[D]")
    return FeatureTable(np.array(["ann", "bob", "cid"], object), day, np.full(3, -1, np.int8), NAMES, values)


def arguments(folder, table, classes=CLASSES, **more):
    write_features(table, folder / "features")
    (folder / "package" / "model").mkdir(parents=True)
    (folder / "package" / "model" / "model.json").write_text("{}")
    (folder / "package" / "package.json").write_text(json.dumps({"version": 3, "definition": "best_ranking"}))
    channels = [f"--features={folder / 'features'}", f"--model={folder / 'package'}"]
    return [*channels, f"--scored-out={folder / 'scored'}", *values_of("score", classes=",".join(classes), **more)]


def test_users_are_scored_in_batches_with_their_features_beside(tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr(score, "SCORE_BATCH_ROWS", 2)
    score.main(arguments(tmp_path, three_users()))
    parts = sorted((tmp_path / "scored").glob("part-*.parquet"))
    assert len(parts) == 2
    table = pq.read_table(parts)
    scores = ["predicted", "rarity", "unknown", *(f"probability_{name}" for name in CLASSES)]
    assert table.column_names == ["user_id", "as_of", *scores, *NAMES]
    assert table["predicted"].to_pylist() == ["heavy", "risky", "unknown"]
    np.testing.assert_array_equal(np.column_stack([table[name].to_numpy() for name in NAMES]), three_users().values)


def test_a_package_whose_model_differs_from_its_digest_is_not_used(tmp_path, tiny_model):
    asked = arguments(tmp_path, three_users())
    package = tmp_path / "package"
    facts = {"version": 3, "model_digest": packed_digest({"model.json": b"{}"})}
    (package / "package.json").write_text(json.dumps(facts))
    score.main(asked)
    (package / "model" / "model.json").write_text('{"classes": []}')
    shutil.rmtree(tmp_path / "scored")
    with pytest.raises(UserError, match=r"package: its model has the digest .* so it was changed afterwards"):
        score.main(asked)
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize("beside", [True, False], ids=["digest changed too", "digest removed"])
def test_what_lies_beside_the_model_does_not_vouch_for_it_when_the_registry_has_a_digest(tmp_path, tiny_model, beside):
    registered, other = (packed_digest({"model.json": body}) for body in (b"registered", b"{}"))
    asked = arguments(tmp_path, three_users(), model_digest=registered)
    facts = {"version": 3, "model_digest": other} if beside else {"version": 3}
    (tmp_path / "package" / "package.json").write_text(json.dumps(facts))
    found = other[:12] if beside else "none"
    with pytest.raises(UserError, match=rf"has the digest {found}, but the registry has {registered[:12]}, so it is"):
        score.main(asked)
    assert not (tmp_path / "scored").exists()


def test_a_package_without_a_digest_is_scored_with_a_note(tmp_path, tiny_model, capsys):
    score.main(arguments(tmp_path, three_users()))
    assert "registered without a digest, so its bytes were not compared" in capsys.readouterr().err


def test_the_flagged_users_are_listed_rarest_first(tmp_path):
    table = users(2000, more=1.5)
    score.score_all([table], Model(), tmp_path)
    with (tmp_path / "flagged.csv").open() as file:
        rows = list(csv.DictReader(file))
    flagged = Model().score(table.values).label == 2
    assert {row["user_id"] for row in rows} == set(table.user_id[flagged])
    rarity = [float(row["rarity"]) for row in rows]
    assert rarity == sorted(rarity, reverse=True)
    assert len(rows) > 5


def test_an_id_that_a_spreadsheet_takes_for_a_formula_is_none_in_the_list_and_exact_in_the_scored_rows(tmp_path):
    table = users(2000, more=1.5)
    table.user_id[:] = [f"={name}" for name in table.user_id]
    score.score_all([table], Model(), tmp_path)
    with (tmp_path / "flagged.csv").open() as file:
        found = [row["user_id"] for row in csv.DictReader(file)]
    assert all(cell.startswith("'=") for cell in found)
    exact = pq.read_table(sorted(tmp_path.glob("part-*.parquet")))["user_id"].to_pylist()
    assert exact == table.user_id.tolist()
    assert {cell.removeprefix("'") for cell in found} <= set(exact)


def test_the_summary_counts_users_classes_and_the_unknown(tmp_path, tiny_model, capsys):
    score.main(arguments(tmp_path, three_users()))
    found = json.loads((tmp_path / "scored" / "summary.json").read_text())
    assert found["users"] == found["rows"] == 3
    assert found["as_of"] == {"2026-03-01": 3}
    assert {name: entry["rows"] for name, entry in found["predicted"].items()} == {
        "normal": 0,
        "heavy": 1,
        "risky": 1,
        "unknown": 1,
    }
    assert found["flagged"] == 1
    assert found["unknown_share"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["thresholds"] == Model.thresholds
    assert found["model"] == {"version": 3, "definition": "best_ranking"}
    assert f"{found['flagged']} flagged as" in capsys.readouterr().out


def test_a_user_seen_on_two_days_is_one_user(tmp_path):
    found = score.score_all([users(10, 1, "2026-03-01"), users(10, 1, "2026-03-08")], Model(), tmp_path)
    assert (found["users"], found["rows"]) == (10, 20)


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(UserError, match="no user to score"):
        score.score_all([users(0)], Model(), tmp_path)


def test_classes_that_the_model_does_not_know_are_refused(tmp_path, tiny_model):
    with pytest.raises(UserError, match=r"on the classes normal, heavy, risky, config\.yaml says normal, risky"):
        score.main(arguments(tmp_path, three_users(), ("normal", "risky")))


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="no model package"):
        score.model_folder(tmp_path)


def test_a_feature_named_like_a_score_is_refused(tmp_path):
    table = three_users()
    renamed = FeatureTable(table.user_id, table.as_of, table.label, ("deposits", "visits", "rarity"), table.values)
    with pytest.raises(UserError, match="a feature is called 'rarity'"):
        score.score_all([renamed], Model(), tmp_path)


def test_a_column_that_was_no_category_in_training_is_refused(tmp_path, tiny_model):
    table = replace(three_users(), categories={"visits": {}})
    with pytest.raises(UserError, match=r"feature 'visits' was a number when the model was trained"):
        score.main(arguments(tmp_path, table))


def test_users_without_a_score_are_counted_with_the_reason(tmp_path, tiny_model, capsys):
    given = arguments(tmp_path, three_users())
    (tmp_path / "features" / "coverage.json").write_text('{"users": 10, "without_row": {"no record in 46 days": 7}}')
    score.main(given)
    assert json.loads((tmp_path / "scored" / "summary.json").read_text())["not_scored"] == {"no record in 46 days": 7}
    assert "not scored: 7, no record in 46 days" in capsys.readouterr().err


def test_rows_without_a_day_carry_none(tmp_path, tiny_model):
    table = replace(three_users(), as_of=np.full(3, "NaT", "datetime64[D]"))
    score.main(arguments(tmp_path, table))
    assert json.loads((tmp_path / "scored" / "summary.json").read_text())["as_of"] == {"": 3}
    (part,) = (tmp_path / "scored").glob("part-*.parquet")
    assert pq.read_table(part).column("as_of").null_count == 3


def test_a_package_json_that_is_no_json_object_is_refused(tmp_path):
    (tmp_path / "package.json").write_text("[]")
    with pytest.raises(UserError, match=r"package\.json: holds no JSON object"):
        score.model_facts(tmp_path)


def test_a_smaller_table_leaves_no_part_of_a_larger_one(tmp_path):
    score.score_all([users(3, 1), users(3, 2)], Model(), tmp_path)
    score.score_all([users(3, 3)], Model(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flagged.csv", "part-00000.parquet"]
