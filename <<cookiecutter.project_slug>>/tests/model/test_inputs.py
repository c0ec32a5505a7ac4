"""Categories inside the model: which get a column, what an unseen one does, and that names are nothing but names."""

import json

import numpy as np
import pytest

from scarcegan.data.categories import code
from scarcegan.data.schema import FeatureTable, write_features
from scarcegan.evaluation.explain import typical_training_row
from scarcegan.model import delivered, distance, lookups, scorer
from scarcegan.model.inputs import learn_inputs
from scarcegan.model.lookups import Lookup
from scarcegan.steps import train
from tiny_splits import DEFINITIONS, write

NAN = np.nan
TEXTS = ("tcp", "udp", "icmp", "sctp")


def told(*texts):
    return np.array([code(text) for text in texts], np.float32)


def users(label, first=0, called=TEXTS, missing=True):
    """Users whose number `a` and whose protocol (a category between two numbers) follow their class."""
    label = np.array(label, np.int8)
    rng = np.random.default_rng(first)
    numbers = 2.0 * np.maximum(label, 0)[:, None] + rng.normal(size=(len(label), 2))
    kind = np.minimum(np.maximum(label, 0) + rng.integers(0, 2, len(label)), 3)
    values = np.column_stack([numbers[:, 0], told(*called)[kind], numbers[:, 1]]).astype(np.float32)
    if missing:
        values[3, 1] = NAN
    ids = np.array([f"u{first + i}" for i in range(len(label))], object)
    texts = {text: int(code(text)) for text in called}
    day = np.full(len(label), "2026-01-01", "datetime64[D]")
    return FeatureTable(ids, day, label, ("a", "protocol", "b"), values, {"protocol": texts})


def trained(folder, called=TEXTS, **more):
    """A short training with a category; the folder of its model. more: see tiny_splits.command."""
    train.main(splits(folder, called, **more))
    return folder / "out" / "models" / "best_ranking"


def splits(folder, called=TEXTS, **more):
    """Splits below `folder`; the command line that reads them."""
    labelled, validation = [0] * 20 + [1] * 14 + [2] * 8, [0] * 8 + [1] * 6 + [2] * 4 + [-1] * 6
    words = write(folder, users(labelled, 0, called), users(validation, 200, called), **more)
    write_features(users([-1] * 30, 100, called), folder / "unlabelled")
    return words


def asked():
    """Users to score, some of whom have a category that no training row has."""
    rows = users([0, 1, 2, -1] * 5, 300).values
    rows[:3, 1] = [code("never seen"), NAN, 0.5]
    return rows


@pytest.fixture(scope="module")
def model_and_answers(tmp_path_factory):
    """The folder of a trained model, and what the graph of each definition said of `asked` when it was saved."""
    answers, save = [], delivered.save

    def ask_and_save(whole, *more):
        answers.append({key: value.numpy() for key, value in whole(asked()).items()})
        save(whole, *more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivered, "save", ask_and_save)
        return trained(tmp_path_factory.mktemp("categories")), answers


@pytest.fixture(scope="module")
def model(model_and_answers):
    return model_and_answers[0]


def test_the_frequent_codes_get_a_column_and_the_rare_ones_share_one(monkeypatch):
    monkeypatch.setattr(lookups, "MOST_COLUMNS", 2)
    values = np.array([9] * 5 + [3] * 6 + [7] * 5 + [1] * 4 + [NAN], np.float32)
    found = lookups.learn_lookup(values)
    assert found == Lookup(codes=(3, 9), missing=True)  # 7 is as frequent as 9 and comes later, 1 has fewer than 5 rows
    assert found.columns(np.array([3, 7, 1, NAN, 12345], np.float32)).tolist() == [
        [1, 0, 0, 0],
        [0, 0, 1, 0],
        [0, 0, 1, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
    ]


def test_a_category_missing_only_when_scoring_is_other():
    found = lookups.learn_lookup(np.array([7] * 5, np.float32))
    assert found.columns(np.array([NAN], np.float32)).tolist() == [[0, 1]]


def test_the_graph_does_what_numpy_does_and_leaves_numbers_alone():
    rows = np.array([[1, 7, 5], [2, 7, NAN], [3, 3, 7]] * 5 + [[4, NAN, 9]], np.float32)
    layer = learn_inputs(rows, ["a", "kind", "b"], {"kind": {}}, "standard")
    asked = np.concatenate([rows, np.array([[0, 99, 0], [0, np.inf, 0], [0, -1, 0]], np.float32)])
    plain = learn_inputs(rows[:, [0, 2]], ["a", "b"], {})
    out = layer(asked).numpy()
    assert layer.width == out.shape[1] == layer.numeric_width + 4
    np.testing.assert_array_equal(out[:, : layer.numeric_width], plain(asked[:, [0, 2]]).numpy())
    np.testing.assert_array_equal(out[:, layer.numeric_width :], layer.lookups[0][1].columns(asked[:, 1]))


def test_other_methods_get_the_columns_of_the_model_from_its_model_json():
    names, texts = ("a", "kind", "b"), {"kind": {"tcp": 7}}
    found = lookups.category_facts([(1, Lookup((7, 3), missing=True))], names, texts)
    assert found == {"kind": {"columns": [7, 3], "missing": True, "texts": {"tcp": 7}}}
    expand = lookups.expander(json.loads(json.dumps({"categories": found})), names)
    rows = np.array([[1.5, 3, 2], [NAN, NAN, 4]], np.float32)
    np.testing.assert_array_equal(expand(rows), [[1.5, 2, 0, 1, 0, 0], [NAN, 4, 0, 0, 0, 1]])
    assert lookups.expander({}, names)(rows) is rows


def test_the_usual_category_is_the_most_frequent_one():
    values = np.array([[1, 9, NAN], [3, 2, NAN], [8, 9, 5]], np.float32)
    np.testing.assert_array_equal(typical_training_row(values, [1, 2]), [3, 9, NAN])


def test_a_table_of_categories_alone_is_learnt():
    layer = learn_inputs(np.array([[7.0], [7], [7], [7], [7]], np.float32), ["kind"], {"kind": {}})
    assert layer.numeric_width == 0 and layer(np.array([[7], [8]], np.float32)).numpy().tolist() == [[1, 0], [0, 1]]


def test_one_training_row_in_fifty_forgets_its_category_and_nothing_else():
    rows = np.column_stack([np.arange(5000) % 5, np.arange(5000)]).astype(np.float32)
    layer = learn_inputs(rows, ["kind", "a"], {"kind": {}})
    out = layer(rows).numpy()
    forgotten = layer.forget_categories(out, seed=1)
    changed = (out != forgotten).any(axis=1)
    assert 0.01 < changed.mean() < 0.03
    assert (forgotten[changed][:, 1:].tolist()) == [[0, 0, 0, 0, 0, 1]] * changed.sum()
    np.testing.assert_array_equal(out[:, 0], forgotten[:, 0])
    assert (layer.forget_categories(out, seed=1) == forgotten).all()


def test_rows_without_categories_are_not_touched():
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    assert (learn_inputs(rows, ["a", "b", "c"], {}).forget_categories(rows, 7) == rows).all()


def test_a_category_no_labelled_row_has_is_some_three_standard_deviations_far_however_many_there_are():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 500)
    for kinds in (2, 20):
        numbers, kind = rng.normal(size=(1000, 4)), rng.integers(0, kinds, 1000)
        rows = np.column_stack([numbers, np.eye(kinds + 1)[kind]]).astype(np.float32)
        far = distance.learn_distance(rows, label, numeric_width=4)
        asked = np.zeros((3, 4 + kinds + 1), np.float32)
        asked[0, 4], asked[1, -1], asked[2, [0, 4]] = 1, 1, [3.5, 1]
        usual, unseen, odd_number = np.sqrt(np.expm1(far(asked).numpy()))
        assert usual < 2.5 < 3 < unseen < 4.5
        assert unseen == pytest.approx(odd_number, abs=1.2)


@pytest.mark.slow
def test_model_json_says_which_columns_are_categories_and_what_their_codes_mean(model):
    facts = json.loads((model / "model.json").read_text())["categories"]
    assert list(facts) == ["protocol"] and facts["protocol"]["missing"]
    assert facts["protocol"]["texts"] == {text: int(code(text)) for text in TEXTS}
    assert set(facts["protocol"]["columns"]) <= {int(code(text)) for text in TEXTS}
    assert scorer.load_scorer(model).categories == {"protocol": facts["protocol"]["texts"]}


@pytest.mark.slow
def test_an_unseen_a_missing_and_an_impossible_category_are_answered(model):
    rows = users([0, 1, 2] * 2, 300, missing=False).values
    rows[:, 1] = [code("never seen"), NAN, -5, 0.5, np.inf, 1e38]
    found = scorer.load_scorer(model).score(rows)
    assert np.isfinite(found.rarity).all() and np.isfinite(found.unknown).all()
    assert found.probabilities.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-6)


@pytest.mark.slow
def test_the_model_reads_the_category(model):
    rows = users([1, 1], 300, missing=False).values
    rows[1] = rows[0]
    rows[:, 1] = told("tcp", "sctp")
    rarity = scorer.load_scorer(model).score(rows).rarity
    assert rarity[0] != rarity[1]


@pytest.mark.slow
def test_other_names_for_the_same_categories_change_nothing_but_the_names(model, tmp_path):
    other = ("udp", "größe", "tcp", "ü")
    renamed = trained(tmp_path, other, definitions={"best_ranking": DEFINITIONS["best_ranking"]})
    label = [0, 1, 2, -1] * 5
    one, two = scorer.load_scorer(model), scorer.load_scorer(renamed)
    before, after = one.score(users(label, 300).values), two.score(users(label, 300, other).values)
    for key in ("probabilities", "rarity", "unknown", "label"):
        assert (getattr(before, key) == getattr(after, key)).all()
    assert one.thresholds == two.thresholds
    assert list(two.categories["protocol"]) == list(other)


@pytest.mark.slow
def test_the_saved_model_equals_the_keras_model_with_categories(model_and_answers):
    model, answers = model_and_answers
    for name, expected in zip(DEFINITIONS, answers, strict=True):
        found = scorer.load_scorer(model.parent / name).score(asked())
        for key in ("probabilities", "rarity", "unknown", "label"):
            assert getattr(found, key) == pytest.approx(expected[key], abs=1e-5)
