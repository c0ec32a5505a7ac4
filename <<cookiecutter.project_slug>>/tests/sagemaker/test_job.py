"""A job, proved on this machine: job.sh and job.py run for real in folders laid out as SageMaker lays them out."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from job_folders import SOURCE, Job, make_job, seen
from scarcegan.data.schema import FeatureTable, write_features
from scarcegan.sagemaker import job
from scarcegan.sagemaker.job import join_arguments, split_argument
from step_arguments import arguments

INPUT, OUTPUT = "/opt/ml/processing/input", "/opt/ml/processing/output"


@pytest.fixture
def here(tmp_path: Path) -> Job:
    return make_job(tmp_path)


def archive(files: dict[str, str], link: str = "") -> bytes:
    """A tar.gz of these files; link: the name of a link that leads out of it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            file.addfile(info, io.BytesIO(text.encode()))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
            file.addfile(info)
    return out.getvalue()


def test_a_job_installs_the_wheels_of_its_channel(here):
    assert "/libraries/probe.py" in seen(here.start("probe"))["file"]


def test_a_job_takes_no_wheel_from_an_index_even_where_there_is_one(here):
    index = here.root / "simple/probe"
    index.mkdir(parents=True)
    [wheel] = here.channels.glob("wheels/*.whl")
    wheel.rename(index / wheel.name)
    (index / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>', encoding="utf-8")
    done = here.start("probe", PIP_INDEX_URL=index.parent.as_uri())
    assert done.returncode == 2 and "is missing" in here.message


def test_a_missing_wheel_ends_the_job_with_a_sentence_that_names_it(here):
    next(here.channels.glob("wheels/*.whl")).unlink()
    done = here.start("probe")
    assert done.returncode == 2
    assert "probe==1.0" in here.message and "is missing" in here.message and "scarcegan upsert" in here.message


def test_a_wheel_that_is_not_the_one_of_the_list_is_refused(here):
    path = next(here.channels.glob("wheels/*.whl"))
    path.write_bytes(path.read_bytes() + b"\0")
    done = here.start("probe")
    assert done.returncode == 2 and "HASH" in done.stderr.upper()
    assert "cannot be installed" in here.message


@pytest.mark.parametrize(
    ("channel", "words"), [("wheels", "no such channel"), ("code/source.tar.gz", "no source.tar.gz")]
)
def test_a_channel_that_did_not_come_is_told(here, channel, words):
    (here.channels / channel).rename(here.root / "elsewhere")
    assert here.start("probe").returncode == 2
    assert words in here.message


def test_a_marker_is_never_shown_to_a_step_and_an_empty_folder_is_empty(here):
    here.put("champion", {".empty": b"nothing"})
    here.put("telemetry", {".empty": b"nothing", "a.csv": b"1", "deep/b.csv": b"2"})
    here.put("labels", {"labels.csv": b"3"})
    words = [f"{INPUT}/{name}" for name in ("champion", "telemetry", "labels")]
    found = seen(here.start("probe", *words))
    assert found["seen"] == [{}, {"a.csv": "1", "deep/b.csv": "2"}, {"labels.csv": "3"}]
    assert found["words"][2] == str(here.channels / "labels"), "what needs no change is read where it lies"
    assert (here.channels / "champion/.empty").exists(), "channels may be read-only: nothing is written there"


def test_archives_are_unpacked_and_a_training_steps_output_is_a_folder_of_its_archive(here):
    here.put("models", {"model.tar.gz": archive({"models/best/model.json": "{}", "curves/curves.csv": "1"})})
    here.put(
        "champion", {"package.tar.gz": archive({"model/1/saved_model.pb": "x", "package.json": "{}"}), ".empty": b""}
    )
    found = seen(here.start("probe", f"{INPUT}/models/models", f"{INPUT}/champion"))
    assert found["seen"] == [{"best/model.json": "{}"}, {"model/1/saved_model.pb": "x", "package.json": "{}"}]


@pytest.mark.parametrize(("files", "link"), [({"../out.txt": "x"}, ""), ({}, "etc")])
def test_an_archive_that_leads_out_of_its_folder_or_holds_a_link_is_refused(here, files, link):
    here.put("models", {"model.tar.gz": archive(files, link)})
    done = here.start("probe", f"{INPUT}/models/models")
    assert done.returncode == 2 and "error: model.tar.gz was not unpacked: " in done.stderr
    assert "Traceback" not in done.stderr
    [told] = here.root.rglob("message")
    assert told.read_text().startswith("error: model.tar.gz was not unpacked: ")
    assert not list(here.root.rglob("out.txt"))


@pytest.mark.parametrize("value", ["", "-1e-05", "--x", "a b 'c' \"d\" $e", "é" * 300, "+:x", "x" * 1000, "a=b=c"])
def test_a_value_comes_through_as_it_was_whatever_it_looks_like(value):
    words = split_argument(f"--name={value}")
    assert max(map(len, words)) <= 256
    assert join_arguments(["toy.module", *words, "--next=1"]) == ["toy.module", f"--name={value}", "--next=1"]


def test_words_and_output_folders_reach_the_step_and_a_stand_in_for_nothing_is_taken_away(here):
    long = ",".join(f"column_{number}" for number in range(80))
    found = seen(
        here.start("probe", "--out-out", f"{OUTPUT}/out", *split_argument(f"--columns={long}"), "--start=(empty)")
    )
    assert found["words"] == ["--out-out", str(here.root / "processing/output/out"), f"--columns={long}", "--start="]


def table(users: int = 60) -> FeatureTable:
    rng = np.random.default_rng(7)
    label = np.resize([0, 1, 2, 3, -1, -1], users).astype(np.int8)
    days = np.full(users, np.datetime64("2026-01-05"))
    names = np.array([f"u{number}" for number in range(users)], dtype=object)
    return FeatureTable(names, days, label, ("a", "b"), rng.normal(size=(users, 2)).astype(np.float32))


@pytest.mark.slow
def test_a_real_step_writes_in_a_job_what_it_writes_on_a_laptop(here, tmp_path):
    """The split step, through job.sh with the wheels really installed, against the same step run directly."""
    write_features(table(), here.channels / "features")
    outputs = ("labelled", "unlabelled", "validation", "test", "folds")
    values = arguments("split")
    module = "scarcegan.steps.split"
    folders = [word for name in outputs for word in (f"--{name}-out", f"{OUTPUT}/{name}")]
    done = here.start(module, "--features", f"{INPUT}/features", *folders, *values)
    assert done.returncode == 0, done.stderr
    laptop = [word for name in outputs for word in (f"--{name}-out", str(tmp_path / "laptop" / name))]
    command = [sys.executable, "-m", module, "--features", str(here.channels / "features"), *laptop, *values]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(SOURCE)}, capture_output=True)
    written = {p.relative_to(tmp_path / "laptop"): p.read_bytes() for p in (tmp_path / "laptop").rglob("*.parquet")}
    assert len(written) == len(outputs)
    assert {name: (here.root / "processing/output" / name).read_bytes() for name in written} == written


def test_a_mistake_of_the_user_is_the_sentence_sagemaker_shows(here):
    here.put("features", {".empty": b""})
    folders = [
        word for name in ("labelled", "unlabelled", "validation", "test", "folds") for word in (f"--{name}-out", "x")
    ]
    values = arguments("split", classes="normal,risky")
    done = here.start("scarcegan.steps.split", "--features", f"{INPUT}/features", *folders, *values)
    assert done.returncode == 2
    assert here.message.startswith("error: ") and "Traceback" not in done.stderr
    assert here.message in done.stderr, "the log has it too"


def test_a_training_job_reads_its_hyperparameters_as_they_were_written_not_as_the_toolkit_decodes_them(tmp_path):
    here = make_job(tmp_path, training=True)
    here.put("labelled", {"part-0.parquet": b"rows"})
    here.put("folds", {".empty": b""})
    hyperparameters = {
        "sagemaker_program": "job.sh",
        job.MODULE_PARAMETER: "probe",
        job.OUTPUTS_PARAMETER: "models,curves",
        "expert": "true",
        "definitions": '{"a": {"keep": "x"}}',
        "weight-decay": "-0.0",
        "class-weights": "(empty)",
    }
    config = here.root / "input/config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters), encoding="utf-8")
    channels = {name: {"TrainingInputMode": "File"} for name in ("code", "wheels", "labelled", "folds")}
    (config / "inputdataconfig.json").write_text(json.dumps(channels), encoding="utf-8")
    copied = here.root / "code"  # where the toolkit copies the channel `code` before it runs job.sh
    (here.channels / "code").rename(copied)
    found = seen(here.start("--expert", "True", "--definitions", "a={'keep': 'x'}", at=copied))
    given = dict(zip(found["words"][:-6:2], found["words"][1:-6:2], strict=False))
    assert given["--labelled"] == str(here.channels / "labelled")
    assert found["seen"][found["words"].index("--folds") + 1] == {}
    assert given["--models-out"] == str(here.root / "model/models")
    assert found["words"][-6:] == [
        "--class-weights=",
        '--definitions={"a": {"keep": "x"}}',
        "--expert=true",
        "--weight-decay=-0.0",
        "--checkpoints",
        str(here.root / "checkpoints"),
    ]


def test_a_training_job_that_cannot_begin_says_why_where_sagemaker_looks(tmp_path):
    here = make_job(tmp_path, training=True)
    config = here.root / "input/config"
    config.mkdir(parents=True)
    (config / "hyperparameters.json").write_text("{}", encoding="utf-8")
    (here.channels / "wheels").rename(here.root / "elsewhere")
    assert here.start().returncode == 2
    assert "no such channel" in (here.root / "output/failure").read_text(encoding="utf-8")


def test_an_output_without_files_is_marked_for_sagemaker_uploads_no_empty_folder(here):
    for name in ("none", "some"):
        (here.root / "processing/output" / name / "deep").mkdir(parents=True)
    (here.root / "processing/output/some/deep/file").write_text("x")
    seen(here.start("probe", "--none-out", f"{OUTPUT}/none"))
    assert (here.root / "processing/output/none/.empty").read_text()
    assert not (here.root / "processing/output/some/.empty").exists()


def test_a_job_that_is_stopped_stops_its_step(here, tmp_path):
    """SageMaker sends SIGTERM to the first process of the container, which job.sh has become."""
    sleeper = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    (tmp_path / "sleeper.py").write_text(sleeper, encoding="utf-8")
    command = [sys.executable, "-m", "scarcegan.sagemaker.job", "sleeper", str(tmp_path / "pid")]
    with subprocess.Popen(command, env={"PYTHONPATH": f"{SOURCE}{os.pathsep}{tmp_path}"}) as process:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait(60) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_job_needs_pythons_own_library_alone():
    """It runs before anything is known to work, and says what is wrong."""
    told = "import sys; sys.path.insert(0, sys.argv[1]); import scarcegan.sagemaker.job"
    subprocess.run([sys.executable, "-I", "-S", "-c", told, str(SOURCE)], check=True)
