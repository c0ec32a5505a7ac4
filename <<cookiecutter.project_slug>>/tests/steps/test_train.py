"""The train step on sixty users: four models, the printed lines, a killed training, and what it refuses."""

import csv
import json
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from scarcegan.data.schema import write_features
from scarcegan.errors import UserError
from scarcegan.model import delivered, learnt_from, scorer
from scarcegan.model.gan import scarcegan, training
from scarcegan.steps import train
from tiny_splits import CLASSES, DEFINITIONS, NAMES, command, table, write

LINE = re.compile(
    r"Iteration=(\d+); Discriminator_Supervised_Loss=[\d.]+; Discriminator_UnSupervised_Loss=[\d.]+; "
    r"Generator_Loss=[\d.]+; Accuracy_Supervised=[\d.]+;"
)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished training, with what it printed."""
    folder = tmp_path_factory.mktemp("train")
    import contextlib
    import io

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        train.main(write(folder))
    return folder, said.getvalue()


def test_a_model_remembers_whose_labels_it_saw_and_nobody_else(done):
    folder, _ = done
    users = np.array(["u0", "u23", "u200", "u217", "u100", "u218"], object)
    seen = learnt_from.learnt_from(folder / "out" / "models" / "best_ranking", users)
    assert seen.tolist() == [True, True, True, True, False, False]


def test_every_definition_gets_a_saved_model_and_its_facts(done):
    folder, _ = done
    for name, definition in DEFINITIONS.items():
        model = folder / "out" / "models" / name
        assert (model / "1" / "saved_model.pb").is_file()
        facts = json.loads((model / "model.json").read_text())
        assert facts["definition"] == name
        assert facts["keep"] == definition["keep"]
        assert facts["classes"] == list(CLASSES)
        assert facts["features"] == list(NAMES)
        assert facts["iterations"] in (20, 40, 60)
        assert set(facts["thresholds"]) == {"rare", "unknown"}
        assert {"recall", "precision", "pr_auc"} <= set(facts["validation"])
        assert facts["spread"]["pr_auc"]["sd"] >= 0


def test_each_report_prints_the_line_the_cloud_reads(done):
    _, said = done
    assert [int(match) for match in LINE.findall(said)] == [20, 40, 60]
    assert len(said.splitlines()) == 3


def test_the_curves_have_a_row_per_report_and_member(done):
    folder, _ = done
    with (folder / "out" / "curves" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["iteration"], row["member"]) for row in rows] == [
        (str(i), str(m)) for i in (20, 40, 60) for m in (0, 1)
    ]
    assert all(0 <= float(row["validation_pr_auc"]) <= 1 for row in rows)


def test_a_row_has_the_same_scores_whatever_rows_are_beside_it(done):
    folder, _ = done
    model = scorer.load(folder / "out" / "models" / "best_ranking")
    rows = table([0, 1, 2, -1] * 5, 300).values
    together = model.score(rows, NAMES)
    order = np.random.default_rng(0).permutation(20)
    alone = [model.score(rows[[i]]) for i in order]
    assert together.rarity[order] == pytest.approx(np.concatenate([one.rarity for one in alone]), abs=1e-6)
    assert (together.label[order] == np.concatenate([one.label for one in alone])).all()
    assert together.probabilities.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-6)
    assert together.probabilities[:, 2] == pytest.approx(together.rarity)
    assert together.label.dtype == np.int32
    assert len(model.score(rows[:0]).rarity) == 0


def test_the_saved_model_takes_missing_and_infinite_values(done):
    folder, _ = done
    model = scorer.load(folder / "out" / "models" / "best_ranking")
    rows = np.array([[np.nan, np.nan, np.nan], [np.inf, -np.inf, 5], [1e38, -1e38, 0]], np.float32)
    found = model.score(rows)
    assert np.isfinite(found.rarity).all()
    assert np.isfinite(found.unknown).all()


def test_other_columns_are_refused_by_name(done):
    folder, _ = done
    model = scorer.load(folder / "out" / "models" / "best_ranking")
    with pytest.raises(UserError, match=r"reads \[n, 3\]"):
        model.score(np.zeros((1, 2), np.float32))
    with pytest.raises(UserError, match="feature 2 is 'c'"):
        model.score(np.zeros((1, 3), np.float32), ("a", "c", "flat"))


def test_the_saved_model_equals_the_keras_model(tmp_path):
    words = write(tmp_path)
    parse = train.parser()
    train.add_settings(parse)
    args = parse.parse_args(words)
    splits = train.read_splits(args)
    settings = scarcegan.Settings(trunk=(6, 4), bins=2, batch_size=12)
    trained = train.fit(splits, settings, args, Untracked())
    train.choose_and_save(trained, splits, {"best_ranking": DEFINITIONS["best_ranking"]}, facts(), args)
    rows = splits.validation.values
    found = scorer.load(tmp_path / "out" / "models" / "best_ranking").score(rows)
    logits, _ = trained.discriminator(trained.preprocessing(rows)[None])
    negatives = tf.nn.softmax(tf.reduce_mean(logits[..., :2], axis=0)).numpy()
    rest = found.probabilities[:, :2] / (1 - found.rarity[:, None])
    assert rest == pytest.approx(negatives, abs=1e-5)


def test_the_saved_model_is_as_sure_as_the_scores_it_was_chosen_by(tmp_path):
    """Networks and trees in the saved graph, against what training saw of the validation users.

    Rare users and some busy ones lie so far out that, clipped, they are alike: only the trees' neighbours tell them.
    """
    crowd, far = table([0] * 300 + [1] * 200 + [2] * 6), table([0] * 8 + [1] * 6 + [2] * 4, 200)
    for users, busy in ((crowd, 494), (far, 8)):
        users.values[busy:, 0] = 3.0
        users.values[busy:, 1] = np.where(users.label[busy:] == 2, 1e6, 1e4)
    words = write(tmp_path, labelled=crowd, validation=far)
    parse = train.parser()
    train.add_settings(parse)
    args = parse.parse_args(words)
    splits = train.read_splits(args)
    trained = train.fit(splits, scarcegan.Settings(trunk=(6, 4), bins=2, batch_size=12), args, Untracked())
    train.choose_and_save(trained, splits, {"best_ranking": DEFINITIONS["best_ranking"]}, facts(), args)
    model = scorer.load(tmp_path / "out" / "models" / "best_ranking")
    (look,) = (look for look in trained.looks if look.iteration == model.facts["iterations"])
    known = trained.unseen.label >= 0
    odds = look.rare[known], trained.unseen.label[known] == splits.rare
    expected = delivered.calibrate(*odds, look.unknown[known]).rarity(look.rare[-len(far) :])
    assert np.ptp(expected) > 0.5
    assert model.score(far.values).rarity == pytest.approx(expected, abs=1e-5)


def facts():
    return {"classes": CLASSES, "features": NAMES}


class Untracked:
    """A tracker that keeps nothing."""

    def log(self, figures, step):
        pass


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(done, tmp_path, monkeypatch):
    folder, _ = done
    kept = str(tmp_path / "checkpoints")
    save = training.Checkpoint.save

    def save_then_die(self, model, looks):
        save(self, model, looks)
        if len(looks) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Checkpoint, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train.main([*command(folder, "again"), "--checkpoints", kept])
    monkeypatch.setattr(training.Checkpoint, "save", save)
    calls = []
    call = scarcegan.Program.__call__
    monkeypatch.setattr(scarcegan.Program, "__call__", lambda self, at: calls.append(at) or call(self, at))
    train.main([*command(folder, "again"), "--checkpoints", kept])
    assert calls == [40]
    for name in DEFINITIONS:
        whole, resumed = (scorer.load(folder / out / "models" / name) for out in ("out", "again"))
        rows = table([0, 1, 2, -1], 300).values
        assert (whole.score(rows).rarity == resumed.score(rows).rarity).all()
        assert whole.thresholds == resumed.thresholds


def test_a_checkpoint_of_other_code_begins_anew(done, tmp_path, monkeypatch):
    folder, _ = done
    words = [*command(folder, "older"), "--checkpoints", str(tmp_path)]
    train.main(words)
    calls = []
    call = scarcegan.Program.__call__
    monkeypatch.setattr(scarcegan.Program, "__call__", lambda self, at: calls.append(at) or call(self, at))
    train.main(words)
    assert calls == []
    monkeypatch.setattr(train, "code_digest", lambda: "of a model that was mended since")
    train.main(words)
    assert calls == [0, 20, 40]


def test_without_unlabelled_rows_labelled_ones_stand_in_and_nothing_is_learnt_of_a_crowd(tmp_path, capsys):
    words = write(tmp_path)
    write_features(table([], 100), tmp_path / "unlabelled")
    train.main(words)
    assert "no unlabelled rows; the labelled ones stand in" in capsys.readouterr().err
    facts = json.loads((tmp_path / "out" / "models" / "best_ranking" / "model.json").read_text())
    assert (facts["hyperparameters"]["unlabelled_weight"], facts["hyperparameters"]["neighbours"]) == (0, 0)


def test_trees_that_nobody_wants_are_not_grown(done, capsys):
    folder, _ = done
    train.main([*command(folder, "bare"), "--boosting", "0"])
    assert "growing" not in capsys.readouterr().err
    bare = scorer.load(folder / "bare" / "models" / "best_ranking")
    assert np.isfinite(bare.score(table([0, 2]).values).rarity).all()


def flat_from_the_second_look(monkeypatch):
    """Looks whose PR-AUC is 0.2, then 0.5 for ever; says at which iterations the program was called."""
    called = []
    look, call = training.Looker.__call__, scarcegan.Program.__call__

    def judged(self, iteration, figures):
        return replace(look(self, iteration, figures), pr_auc=np.full(2, 0.2 if iteration == 10 else 0.5))

    monkeypatch.setattr(training.Looker, "__call__", judged)
    monkeypatch.setattr(scarcegan.Program, "__call__", lambda self, at: called.append(at) or call(self, at))
    return called


def test_training_ends_when_validation_stops_rising_and_says_where(done, tmp_path, monkeypatch, capsys):
    folder, _ = done
    called = flat_from_the_second_look(monkeypatch)
    words = [*command(folder, "early"), "--reports", "6", "--patience", "2", "--checkpoints", str(tmp_path)]
    train.main(words)
    assert called == [0, 10, 20, 30]  # the best look is the second; two more bring nothing
    assert "stopped at iteration 40 of 60: validation PR-AUC has not risen for 2 reports" in capsys.readouterr().err
    facts = json.loads((folder / "early" / "models" / "best_ranking" / "model.json").read_text())
    assert facts["stopped_at"] == 40 and facts["stopped_early"]
    curve = (folder / "early" / "curves" / "curves.csv").read_text().splitlines()
    assert curve[-1].startswith("40,")
    train.main(words)  # a training that was killed after it had stopped
    assert called == [0, 10, 20, 30]
    again = json.loads((folder / "early" / "models" / "best_ranking" / "model.json").read_text())
    assert again == facts


def test_patience_of_0_and_one_that_is_not_used_up_train_to_the_end(done):
    folder, _ = done
    facts = json.loads((folder / "out" / "models" / "best_ranking" / "model.json").read_text())
    assert facts["stopped_at"] == 60 and not facts["stopped_early"]


@pytest.mark.parametrize(
    ("course", "patience", "ends"),
    [([0.1, 0.2, 0.3], 1, False), ([0.3, 0.3], 1, True), ([0.3, 0.2, 0.4], 2, False), ([0.3, 0.2, 0.1], 2, True)],
)
def test_a_training_is_stalled_when_its_best_look_is_as_old_as_its_patience(course, patience, ends):
    looks = [SimpleNamespace(pr_auc=np.array([value - 0.05, value + 0.05, np.nan])) for value in course]
    assert training.stalled(looks, patience) is ends
    assert not training.stalled(looks, 0)


def test_a_checkpoint_of_another_training_or_a_torn_one_is_not_taken_up(tmp_path):
    model = scarcegan.ScarceGAN(3, 3, [1], scarcegan.Settings(trunk=(4,), bins=0))
    training.Checkpoint(tmp_path, "mine").save(model, [])
    assert training.Checkpoint(tmp_path, "mine").path.is_file()
    assert training.Checkpoint(tmp_path, "other").load(model) == []
    path = training.Checkpoint(tmp_path, "mine").path
    path.write_bytes(path.read_bytes()[:100])
    assert training.Checkpoint(tmp_path, "mine").load(model) == []


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([0] * 6 + [1] * 6, "class 'risky' has no training row"),
        ([0] * 6 + [2] * 6, "class 'busy' has no training row"),
        ([0, 1, 2, 3], "a label outside 0 to 2"),
    ],
)
def test_a_class_without_rows_is_refused(tmp_path, labels, sentence):
    with pytest.raises(UserError, match=sentence):
        train.main(write(tmp_path, table(labels)))


def test_an_infinite_value_is_refused(tmp_path):
    labelled = table([0] * 6 + [1] * 6 + [2] * 4)
    labelled.values[3, 1] = np.inf
    with pytest.raises(UserError, match="feature 'b': 1 infinite values"):
        train.main(write(tmp_path, labelled))


def test_a_user_without_a_fold_is_refused(tmp_path):
    words = write(tmp_path)
    pq.write_table(pa.table({"user_id": ["u0"], "fold": [0]}), tmp_path / "folds" / "folds.parquet")
    with pytest.raises(UserError, match="no fold for user 'u1'"):
        train.main(words)


def test_no_rare_row_to_choose_by_is_refused(tmp_path):
    words = write(tmp_path, table([0] * 6 + [1] * 6 + [2]), table([0, 1], 200))
    with pytest.raises(UserError, match="no row of 'risky' is left to choose a model by"):
        train.main(words)


def test_a_class_of_one_row_is_seen_by_every_member():
    """Fold 0 holds the one rare row; the member that leaves fold 0 out keeps it all the same."""
    seen = train.seen_by(np.array([0, 0, 1, 1]), np.array([2, 0, 0, 0]), seeds=1)
    assert seen.tolist() == [[True, False, True, True], [True, True, False, False]]


def test_one_fold_is_trained_on_whole():
    assert train.seen_by(np.array([0, 0]), np.array([0, 1]), seeds=3).all()


def test_figures_go_to_mlflow_when_a_tracking_server_is_named(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tiny")
    from mlflow.tracking import MlflowClient

    from scarcegan.registry.tracking import Tracker

    tracker = Tracker({"alpha": 0.7})
    tracker.log({"Generator_Loss": 0.5}, 20)
    tracker.close()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics == {"Generator_Loss": 0.5}
    assert run.data.params["alpha"] == "0.7"
    assert run.info.status == "FINISHED"
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    Tracker({"alpha": 0.7}).log({"Generator_Loss": 0.4}, 40)
    assert client.get_run(run.info.run_id).data.metrics == {"Generator_Loss": 0.4}
