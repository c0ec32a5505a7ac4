"""The train step on sixty users: four models, the printed lines, a killed training, and what it refuses."""

import contextlib
import csv
import functools
import io
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from scarcegan import serving
from scarcegan.data.schema import write_features
from scarcegan.data.wire import CSV, JSON
from scarcegan.errors import UserError
from scarcegan.model import delivered, learnt_from, member, scorer
from scarcegan.model.gan import member as gan_member
from scarcegan.model.gan import scarcegan, training
from scarcegan.model.gan.settings import GanSettings
from scarcegan.monitoring.statistics import UNKNOWN
from scarcegan.pipeline.definition import TRAINING_FIGURES
from scarcegan.steps import train
from scarcegan.steps.score import score_all
from tiny_splits import CLASSES, DEFINITIONS, NAMES, command, settings, table, write

pytestmark = pytest.mark.slow

LINE = re.compile(
    r"Iteration=(\d+); Discriminator_Supervised_Loss=[\d.]+; Discriminator_UnSupervised_Loss=[\d.]+; "
    r"Generator_Loss=[\d.]+; Accuracy_Supervised=[\d.]+;"
)
ONE = {"best_ranking": DEFINITIONS["best_ranking"]}  # where one model shows it: exporting takes seconds


@pytest.fixture(scope="module", autouse=True)
def plain_program():
    """Programs without XLA, whose compilation takes seconds; test_gan.py shows that they do the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gan_member, "Program", functools.partial(scarcegan.Program, compiled=False))
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished training that kept checkpoints, with what it printed."""
    folder = tmp_path_factory.mktemp("train")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        train.main([*write(folder), "--checkpoints", str(folder / "checkpoints")])
    return folder, said.getvalue()


@pytest.fixture
def called(monkeypatch):
    """At which iterations the program was called."""
    calls, call = [], scarcegan.Program.__call__
    monkeypatch.setattr(scarcegan.Program, "__call__", lambda self, at: calls.append(at) or call(self, at))
    return calls


@pytest.fixture
def unsaved(monkeypatch):
    """No SavedModel is written, which takes most of a short training."""
    monkeypatch.setattr(train, "export", lambda *more: more[-1].mkdir(parents=True, exist_ok=True))


def facts_of(folder, out="out"):
    return json.loads((folder / out / "models" / "best_ranking" / "model.json").read_text())


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


def test_each_report_says_how_long_the_rest_will_take(capsys, monkeypatch):
    monkeypatch.setattr(train.time, "monotonic", iter([100.0, 110.0, 120.0]).__next__)
    report = train.reporter(SimpleNamespace(log=lambda *_: None), 60)
    for iteration in (20, 40, 60):
        report(SimpleNamespace(iteration=iteration, figures=np.ones((4, 2)), pr_auc=np.array([0.5])))
    assert capsys.readouterr().err.splitlines() == [
        "train: 20 of 60 iterations",
        "train: 40 of 60 iterations, about 10 s left",
        "train: 60 of 60 iterations",
    ]


def test_the_curves_have_a_row_per_report_and_network(done):
    folder, _ = done
    with (folder / "out" / "curves" / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["iteration"], row["member"]) for row in rows] == [
        (str(i), str(m)) for i in (20, 40, 60) for m in (0, 1)
    ]
    assert all(0 <= float(row["validation_pr_auc"]) <= 1 for row in rows)


def test_a_row_has_the_same_scores_whatever_rows_are_beside_it(done):
    folder, _ = done
    model = scorer.load_scorer(folder / "out" / "models" / "best_ranking")
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
    model = scorer.load_scorer(folder / "out" / "models" / "best_ranking")
    rows = np.array([[np.nan, np.nan, np.nan], [np.inf, -np.inf, 5], [1e38, -1e38, 0]], np.float32)
    found = model.score(rows)
    assert np.isfinite(found.rarity).all()
    assert np.isfinite(found.unknown).all()


def test_other_columns_are_refused_by_name(done):
    folder, _ = done
    model = scorer.load_scorer(folder / "out" / "models" / "best_ranking")
    with pytest.raises(UserError, match=r"reads \[n, 3\]"):
        model.score(np.zeros((1, 2), np.float32))
    with pytest.raises(UserError, match="feature 2 is 'c'"):
        model.score(np.zeros((1, 3), np.float32), ("a", "c", "flat"))


def test_a_row_has_the_same_figures_from_the_endpoint_and_in_a_scoring(done, tmp_path):
    """To the last bit: one row a request in JSON and in CSV, all rows in one scoring."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/model").symlink_to(done[0] / "out/models/best_ranking")
    model = serving.load_model(tmp_path / "package/model")
    rows = table([0] * 20 + [1] * 20 + [2] * 20, 900)
    score_all([rows], model, tmp_path / "scored")
    scored = pq.read_table(tmp_path / "scored/part-00000.parquet").to_pylist()
    endpoint = serving.Endpoint(serving.read_package_facts(tmp_path / "package"))
    endpoint.model = model

    def answer(body, kind):
        return endpoint.answers([serving.Question(body.encode(), kind, kind, {})])[0]

    names = (*model.classes, UNKNOWN)
    for values, expected in zip(rows.values.tolist(), scored, strict=True):
        found = json.loads(answer(json.dumps({"instances": [values]}), JSON))["predictions"][0]
        label, *figures = answer(",".join(map(str, values)), CSV).strip().split(",")
        assert names[found["label"]] == names[int(label)] == expected["predicted"]
        shares = [expected[f"probability_{name}"] for name in model.classes]
        own = np.float32([found["rarity"], found["unknown"], *found["probabilities"]]).tolist()
        assert own == np.float32(figures).tolist() == [expected["rarity"], expected["unknown"], *shares]


@pytest.fixture(scope="module")
def remembered(tmp_path_factory):
    """A training whose networks and trees are still in memory, its validation table, and the model that it saved.

    Rare users and some busy ones lie so far out that, clipped, they are alike: only the trees' neighbours tell them.
    """
    folder = tmp_path_factory.mktemp("remembered")
    crowd, far = table([0] * 300 + [1] * 200 + [2] * 6), table([0] * 8 + [1] * 6 + [2] * 4, 200)
    for users, busy in ((crowd, 494), (far, 8)):
        users.values[busy:, 0] = 3.0
        users.values[busy:, 1] = np.where(users.label[busy:] == 2, 1e6, 1e4)
    args = train.parser().parse_args(write(folder, crowd, far, definitions=ONE))
    splits = train.read_splits(args)
    rows = train.training_rows(splits, args)
    trained = train.train_members(rows, args, report=lambda evaluation: None)
    train.save_models(trained, rows, splits, args)
    return trained, rows, far, scorer.load_scorer(folder / "out" / "models" / "best_ranking")


def test_the_saved_model_equals_the_keras_model(remembered):
    trained, rows, far, model = remembered
    found = model.score(far.values)
    trained.networks.layer([e.iteration for e in trained.networks.evaluations].index(model.facts["iterations"]))
    logits, _ = trained.networks.discriminator(rows.inputs(far.values)[None])
    negatives = tf.nn.softmax(tf.reduce_mean(logits[..., :2], axis=0)).numpy()
    rest = found.probabilities[:, :2] / (1 - found.rarity[:, None])
    assert rest == pytest.approx(negatives, abs=1e-5)


def test_the_saved_model_is_as_sure_as_the_scores_it_was_chosen_by(remembered):
    """Networks and trees in the saved graph, against what training saw of the validation users."""
    trained, rows, far, model = remembered
    version = [e.iteration for e in trained.networks.evaluations].index(model.facts["iterations"])
    scores, label = trained.held_out[version], rows.held_out_label
    expected = delivered.calibrate(scores.rare, label == 2, scores.unknown).rarity(scores.rare[-len(far) :])
    assert np.ptp(expected) > 0.5
    assert model.score(far.values).rarity == pytest.approx(expected, abs=1e-5)


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(done, tmp_path, monkeypatch, called):
    folder, _ = done
    words = [*command(folder, "again", ONE), "--checkpoints", str(tmp_path / "checkpoints")]
    save = training.Checkpoint.save

    def save_then_die(self, model, evaluations):
        save(self, model, evaluations)
        if len(evaluations) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Checkpoint, "save", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        train.main(words)
    monkeypatch.setattr(training.Checkpoint, "save", save)
    called.clear()
    train.main(words)
    assert called == [40]
    curves = [(folder / out / "curves" / "curves.csv").read_text() for out in ("out", "again")]
    assert curves[0] == curves[1]
    whole, resumed = (scorer.load_scorer(folder / out / "models" / "best_ranking") for out in ("out", "again"))
    rows = table([0, 1, 2, -1], 300).values
    assert (whole.score(rows).rarity == resumed.score(rows).rarity).all()
    assert whole.thresholds == resumed.thresholds


def test_a_checkpoint_of_other_code_begins_anew(done, tmp_path, monkeypatch, called, unsaved):
    folder, _ = done
    kept = shutil.copytree(folder / "checkpoints", tmp_path / "checkpoints")
    words = [*command(folder, "older", ONE), "--checkpoints", str(kept)]
    train.main(words)
    assert called == []
    monkeypatch.setattr(train, "SOURCE", edited(tmp_path, "model/gan/losses.py"))
    train.main(words)
    assert called == [0, 20, 40]


def edited(folder, file):
    """A copy of the package's source below `folder`, in which one file has one more line."""
    source = folder / "source" / "scarcegan"
    if not source.exists():
        shutil.copytree(train.SOURCE / "scarcegan", source, ignore=shutil.ignore_patterns("__pycache__"))
    (source / file).write_text((source / file).read_text(encoding="utf-8") + "LATER = 1\n", encoding="utf-8")
    return source.parent


def test_the_fingerprint_of_a_checkpoint_changes_with_every_file_that_training_runs(tmp_path, monkeypatch):
    args = train.parser().parse_args(write(tmp_path))
    splits = train.read_splits(args)
    seen = [train.checkpoint_fingerprint(splits, args)]
    for file in ("model/gan/losses.py", "model/trees/boosting.py", "evaluation/selection.py"):
        monkeypatch.setattr(train, "SOURCE", edited(tmp_path, file))
        seen.append(train.checkpoint_fingerprint(splits, args))
    monkeypatch.setattr(train, "SOURCE", edited(tmp_path, "report/evaluation.py"))
    assert train.checkpoint_fingerprint(splits, args) == seen[-1], "what training does not run changes nothing"
    args.alpha = 0.5
    seen.append(train.checkpoint_fingerprint(splits, args))
    assert len(set(seen)) == 5


def test_without_unlabelled_rows_labelled_ones_stand_in_and_nothing_is_learnt_of_a_crowd(tmp_path, capsys, unsaved):
    words = write(tmp_path, definitions=ONE)
    write_features(table([], 100), tmp_path / "unlabelled")
    train.main(words)
    assert "no unlabelled rows; the labelled ones stand in" in capsys.readouterr().err
    facts = facts_of(tmp_path)["hyperparameters"]
    assert (facts["unlabelled_weight"], facts["neighbours"]) == (0, 0)


def test_trees_that_nobody_wants_are_not_grown(done, capsys):
    folder, _ = done
    train.main(command(folder, "bare", ONE, boosting=0))
    assert "growing" not in capsys.readouterr().err
    bare = scorer.load_scorer(folder / "bare" / "models" / "best_ranking")
    assert np.isfinite(bare.score(table([0, 2]).values).rarity).all()


def flat_from_the_second_evaluation(monkeypatch):
    """Evaluations whose PR-AUC is 0.2, then 0.5 for ever."""
    evaluate = training.Evaluator.__call__

    def flat(self, iteration, figures):
        return replace(evaluate(self, iteration, figures), pr_auc=np.full(2, 0.2 if iteration == 10 else 0.5))

    monkeypatch.setattr(training.Evaluator, "__call__", flat)


def test_training_ends_when_validation_stops_rising_and_says_where(
    done, tmp_path, monkeypatch, capsys, called, unsaved
):
    folder, _ = done
    flat_from_the_second_evaluation(monkeypatch)
    words = [*command(folder, "early", ONE, reports=6, patience=2), "--checkpoints", str(tmp_path)]
    train.main(words)
    assert called == [0, 10, 20, 30]  # the best evaluation is the second; two more bring nothing
    assert "stopped at iteration 40 of 60: validation PR-AUC has not risen for 2 reports" in capsys.readouterr().err
    facts = facts_of(folder, "early")
    assert facts["stopped_at"] == 40 and facts["stopped_early"]
    curve = (folder / "early" / "curves" / "curves.csv").read_text().splitlines()
    assert curve[-1].startswith("40,")
    train.main(words)  # a training that was killed after it had stopped
    assert called == [0, 10, 20, 30]
    assert facts_of(folder, "early") == facts


def test_patience_of_0_and_one_that_is_not_used_up_train_to_the_end(done):
    folder, _ = done
    facts = facts_of(folder)
    assert facts["stopped_at"] == 60 and not facts["stopped_early"]


@pytest.mark.parametrize(
    ("course", "patience", "ends"),
    [
        ([np.nan, np.nan, np.nan], 1, False),
        ([0.3, np.nan, np.nan], 1, True),
        ([0.3, np.nan, 0.4], 2, False),
        ([0.1, 0.2, 0.3], 1, False),
        ([0.3, 0.3], 1, True),
        ([0.3, 0.2, 0.4], 2, False),
        ([0.3, 0.2, 0.1], 2, True),
    ],
)
def test_a_training_is_stalled_when_its_best_evaluation_is_as_old_as_its_patience(course, patience, ends):
    evaluations = [SimpleNamespace(pr_auc=np.array([value - 0.05, value + 0.05, np.nan])) for value in course]
    assert training.stalled(evaluations, patience) is ends
    assert not training.stalled(evaluations, 0)


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_not_taken_up(tmp_path):
    model = scarcegan.ScarceGAN(3, 3, [1], settings(GanSettings, trunk=(4,), bins=0))
    training.Checkpoint(tmp_path, "mine").save(model, [])
    assert training.Checkpoint(tmp_path, "mine").path.is_file()
    assert training.Checkpoint(tmp_path, "other").load(model) == []
    path = training.Checkpoint(tmp_path, "mine").path
    path.write_bytes(path.read_bytes()[:100])
    assert training.Checkpoint(tmp_path, "mine").load(model) == []
    np.savez(path, fingerprint="mine", state_0=np.ones(3))
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


@pytest.mark.parametrize("label", [3, -2])
def test_a_validation_row_of_no_class_is_refused(tmp_path, label):
    with pytest.raises(UserError, match=r"validation: a label outside 0 to 2\. Run split again"):
        train.main(write(tmp_path, validation=table([0, 1, 2, -1, label], 200)))


def test_a_training_that_diverges_says_so_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"diverged: after 20 iterations 2 of 2 networks .* Lower train\.learning_rate"):
        train.main(write(tmp_path, learning_rate=1e30))


def test_definitions_that_are_no_json_are_refused_before_anything_is_read(tmp_path, capsys):
    with pytest.raises(SystemExit):
        train.main([*command(tmp_path / "nowhere"), "--definitions", "{"])
    assert "argument --definitions: invalid" in capsys.readouterr().err


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


def test_a_class_of_one_row_is_seen_by_the_model_of_every_fold():
    """Fold 0 holds the one rare row; the model that leaves fold 0 out keeps it all the same."""
    seen = member.seen_by_fold(np.array([0, 0, 1, 1]), np.array([2, 0, 0, 0]))
    assert seen.tolist() == [[True, False, True, True], [True, True, False, False]]


def test_one_fold_is_trained_on_whole():
    assert member.seen_by_fold(np.array([0, 0]), np.array([0, 1])).all()


def test_figures_go_to_mlflow_when_a_tracking_server_is_named(tmp_path, monkeypatch, empty_database):
    uri = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"
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


def histories(uri):
    """The parameters and the curves, {name: [(iteration, value)]}, of each run in MLflow's experiment "tiny"."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    return [
        (
            run.data.params,
            {
                name: [(m.step, pytest.approx(m.value, 1e-5)) for m in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            },
        )
        for run in runs
    ]


def test_curves_that_went_with_the_database_come_back_without_training(tmp_path, monkeypatch, empty_database):
    first, second = (f"sqlite:///{shutil.copy(empty_database, tmp_path / name)}" for name in ("first.db", "second.db"))
    there = {"MLFLOW_TRACKING_URI": first, "MLFLOW_EXPERIMENT_NAME": "tiny"}
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    train.main(write(tmp_path))
    from scarcegan.registry.tracking import restore_training

    names = (*TRAINING_FIGURES, "Validation_PR_AUC")
    outputs = tmp_path / "out" / "models", tmp_path / "out" / "curves"
    assert not restore_training(*outputs, names, there)
    assert restore_training(*outputs, names, there | {"MLFLOW_TRACKING_URI": second})
    assert not restore_training(*outputs, names, there | {"MLFLOW_TRACKING_URI": second})
    [before], [after] = histories(first), histories(second)
    assert set(before[1]) == set(names)
    assert after == before
