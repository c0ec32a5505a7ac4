"""A sample of the users: everybody with a label, and a share of the others, always the same ones."""

import json

import numpy as np
import pytest

from scarcegan.data.schema import UNLABELLED
from scarcegan.steps.features import Sample
from telemetry_samples import HEADER, run_features, write

OTHERS = 400


@pytest.fixture
def telemetry(tmp_path):
    users = ["ann", "bob", *(f"user-{number}" for number in range(OTHERS))]
    lines = [f"{user},2026-01-0{day},1,{number}" for number, user in enumerate(users) for day in (5, 6, 7)]
    return write(tmp_path / "telemetry.csv", HEADER, *lines)


@pytest.fixture
def labels(tmp_path):
    return write(tmp_path / "labels.csv", "user_id,label", "ann,calm", "bob,risky")


def users_of(table) -> set[str]:
    return set(table.user_id)


def test_a_sample_has_every_labelled_user_and_about_its_share_of_the_others(telemetry, labels, tmp_path):
    table = run_features(telemetry, tmp_path / "out", labels, sample=0.25)
    assert {"ann", "bob"} <= users_of(table)
    assert 70 <= len(table) - 2 <= 130, "100 of 400 are expected, four standard deviations are 35"


def test_without_a_sample_everybody_is_there_and_nothing_is_said(telemetry, labels, tmp_path):
    assert len(run_features(telemetry, tmp_path / "out", labels)) == OTHERS + 2
    assert not any("sample" in note for note in json.loads((tmp_path / "out/coverage.json").read_text())["notes"])


def test_a_sample_is_the_same_in_batches_of_any_size_and_a_larger_one_holds_it(telemetry, labels, tmp_path):
    small, in_batches, larger = (
        users_of(run_features(telemetry, tmp_path / str(number), labels, sample=share, batch_users=batch))
        for number, (share, batch) in enumerate([(0.1, 5000), (0.1, 20), (0.3, 5000)])
    )
    assert small == in_batches and small < larger


def test_a_ready_table_is_sampled_alike(tmp_path, labels):
    rows = [f"{user},{number}" for number, user in enumerate(["ann", "bob", *(f"user-{n}" for n in range(OTHERS))])]
    path = write(tmp_path / "ready.csv", "user_id,spent", *rows)
    table = run_features(path, tmp_path / "out", labels, kind="features", counters="", sample=0.25)
    assert {"ann", "bob"} <= users_of(table) and 70 <= len(table) - 2 <= 130


def test_a_sample_is_noted_with_how_many_were_left_out(telemetry, labels, tmp_path, capsys):
    table = run_features(telemetry, tmp_path / "out", labels, sample=0.25)
    left_out = OTHERS + 2 - len(table)
    said = f"a sample: all users with a label and 25% of the others; {left_out} were left out."
    assert said in json.loads((tmp_path / "out/coverage.json").read_text())["notes"]
    assert said in capsys.readouterr().err


def test_a_user_is_sampled_independently_of_the_split():
    """If both went by the same hash, a sample would be all test users or none."""
    from scarcegan.steps.split import user_hashes

    users = np.array([f"user-{number}" for number in range(2000)], dtype=object)
    chosen = Sample(0.5).choose(users, np.full(len(users), UNLABELLED))
    first = np.argsort(np.argsort(user_hashes(users, 0))) < len(users) / 2
    assert 0.4 < first[chosen].mean() < 0.6
