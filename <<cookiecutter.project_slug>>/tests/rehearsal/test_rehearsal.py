"""The compiled pipelines run here, from upsert to roll back, and give what the laptop gives; seeded faults stop them.

moto stands for AWS, rehearsal/ for SageMaker Pipelines. One life is played and one laptop run is made for all tests.
"""

import copy
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from moto import mock_aws

from rehearsal.executor import Execution, Refused
from rehearsal.life import SECOND, Life
from rehearsal.project import Rehearsal, make, surroundings
from scarcegan.registry.contract import ModelPackage
from scarcegan.workspace import Workspace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the training image's toolkit is for Linux only"),
]
PARTS = {
    "features": ("features", "inputs"),
    "split": ("labelled", "unlabelled", "validation", "test", "folds"),
    "train": ("models", "curves"),
    "baseline": ("baseline",),
    "evaluate": ("evaluation", "gate"),
}


@dataclass(frozen=True)
class Both:
    """A life that was played, and the same project's run on this machine."""

    life: Life
    here: Workspace
    run: Path

    @property
    def it(self) -> Rehearsal:
        return self.life.it

    @property
    def first(self) -> Execution:
        return self.life.trainings[0]

    def registered(self) -> list[ModelPackage]:
        """The packages of the first execution, as the registry in moto has them."""
        return self.life.packages_of(self.first)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rehearsal")
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name, value in surroundings().items():
            patch.setenv(name, value)
        place = make(folder / "project")
        laptop = subprocess.Popen(
            [sys.executable, "-m", "scarcegan", "run"],
            cwd=place.root,
            env={**os.environ, "PYTHONPATH": str(place.root / "src")},
            stderr=subprocess.PIPE,
            text=True,
        )
        rehearsal = Rehearsal(place, folder / "jobs")
        rehearsal.found()
        life = Life(rehearsal, lambda line: None)
        try:
            life.play()
        finally:
            _, said = laptop.communicate()
        assert laptop.returncode == 0, said[-5000:]
        yield Both(life, place, place.runs_folder / place.runs()[0]["run"])


def files_here(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> content. TensorFlow draws a new id for each fingerprint.pb, so that is left out."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if path.name != "fingerprint.pb"}


def files_there(both: Both, step: str, output: str) -> dict[str, bytes]:
    """The same of an output in S3; a training job's outputs are folders of its archive."""
    outputs = both.first.steps[step].outputs
    if step == "train":
        with tarfile.open(fileobj=io.BytesIO(both.it.read(outputs["model"]))) as archive:
            found = {entry.name: archive.extractfile(entry).read() for entry in archive if entry.isfile()}
        start = f"{output}/"
    else:
        start = outputs[output].removeprefix(f"s3://{both.it.names.bucket}/") + "/"
        listed = both.it.connection.client("s3").list_objects_v2(Bucket=both.it.names.bucket, Prefix=start)["Contents"]
        found = {item["Key"]: both.it.read(both.it.names.uri(item["Key"])) for item in listed}
    mine = {name.removeprefix(start): data for name, data in found.items() if name.startswith(start)}
    return {name: data for name, data in mine.items() if not name.endswith("fingerprint.pb")}


# -- the same as on the laptop --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "output"), [(step, output) for step, parts in PARTS.items() for output in parts])
def test_each_output_holds_the_same_files_as_on_the_laptop_in_moto(both, step, output):
    here, there = files_here(both.run / step / output), files_there(both, step, output)
    assert here.keys() == there.keys() and here
    assert [name for name in here if here[name] != there[name]] == []


def test_the_figures_are_those_of_the_laptop_in_moto(both):
    here = {package["definition"]: package for package in both.here.models()}
    assert len(here) == 4
    for package in both.registered():
        assert package.metrics == pytest.approx(here[package.definition]["metrics"], abs=1e-6)
        assert package.gate == here[package.definition]["gate"]


def test_the_four_packages_are_the_laptops_set_in_moto(both, tmp_path):
    here = {package["definition"]: package for package in both.here.models()}
    packages = both.registered()
    assert {package.definition for package in packages} == here.keys()
    for fact in ("set_id", "model_digest"):
        assert {getattr(package, fact) for package in packages} == {package[fact] for package in here.values()}
    for package in packages:
        there = both.life.registry.export(package.version, tmp_path / "there" / package.definition)
        ours = both.here.registry().export(here[package.definition]["version"], tmp_path / "here" / package.definition)
        told, known = files_here(ours), files_here(there)
        assert json.loads(told.pop("package.json"))["config"] == json.loads(known.pop("package.json"))["config"]
        assert told == known


def test_every_figure_that_training_prints_is_found_by_its_metric_expression(both):
    definitions = step_of(both.it.definition("training"), "train")["Arguments"]["AlgorithmSpecification"]
    assert both.first.steps["train"].metrics.keys() == {each["Name"] for each in definitions["MetricDefinitions"]}


# -- the life -------------------------------------------------------------------------------------------------------


def test_the_whole_life_is_played_an_act_a_line_in_moto(both):
    release = ["prepare", "smoke", "promote"]
    training = ["rehearse", "gate", "register", "approve", "event"]
    acts = [line[:10].strip() for line in both.life.lines]
    assert acts == ["compile", *training, *release, "score", *training, *release, "roll back", *release]


def test_the_second_training_takes_features_and_split_from_the_cache_in_moto(both):
    _, second = both.life.trainings
    assert {name for name, step in second.steps.items() if step.cached} == {"features", "split"}
    assert f"with {SECOND}" in "\n".join(both.life.lines)


def test_the_second_model_set_was_measured_against_the_first_as_champion_in_moto(both):
    first, second = map(both.life.gate, both.life.trainings)
    assert first["champion"] is None
    assert second["champion"] == pytest.approx(first["challenger"])


def test_rolling_back_makes_the_first_version_champion_again_in_moto(both):
    champion = both.life.registry.champion()
    assert champion.set_id == both.first.steps["register"].outputs["set_id"]
    promoted = [line for line in both.life.lines if line.startswith("promote")]
    assert promoted[0] == promoted[2] != promoted[1]


def test_parameters_of_an_earlier_start_bring_back_its_models_and_no_verdict_against_its_champion_in_moto(both):
    """The first training had no champion. Whoever starts with its parameters is measured against today's."""
    assert both.life.gate(both.first)["champion"] is None
    again = both.it.execute("training", both.it.definition("training"), both.it.started[0], both.it.cache)
    assert {name for name, step in again.steps.items() if step.cached} == {"features", "split", "train", "baseline"}
    assert both.life.gate(again)["champion"] == pytest.approx(both.life.gate(again)["challenger"])


def test_a_closed_gate_says_its_figures_and_registers_nothing_in_moto(both):
    before = len(both.life.registry.packages())
    closed = replaced(both.it.definition("training"), "--gate-minimum=0.01", "--gate-minimum=0.999")
    execution = both.it.execute("training", closed, both.it.started[0], dict(both.it.cache))
    assert execution.status == "Failed"
    assert "gate-closed: The gate stays closed for " in execution.reason and "0.999" in execution.reason
    assert execution.reason.endswith("No model was registered.")
    assert "register" not in execution.steps
    assert len(both.life.registry.packages()) == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TrainTrunk", '64],"gate":{"minimum":0.9},"x":["'),
        ("TrainGenerator", 'a"b\\'),
        ("TrainIterations", "-5"),
        ("EvaluateInstanceType", "large"),
        ("TelemetryFingerprint", '"'),
    ],
)
def test_a_value_from_the_console_that_config_yaml_would_refuse_fails_before_any_job_in_moto(both, name, value):
    definition, given = both.it.definition("training"), {**both.it.started[0], name: value}
    execution = both.it.execute("training", definition, given, {})
    assert list(execution.steps) == ["check"]
    assert f"{name}=" in execution.reason and "must be" in execution.reason


# -- seeded faults --------------------------------------------------------------------------------------------------


def step_of(definition: dict, name: str) -> dict:
    steps = list(definition["Steps"])
    for each in definition["Steps"]:
        steps += each["Arguments"].get("IfSteps", []) if each["Type"] == "Condition" else []
    (found,) = (each for each in steps if each["Name"] == name)
    return found


def replaced(value, old: str, new: str):
    """The value with one text replaced wherever it stands."""
    return json.loads(json.dumps(value).replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))


def faulty(both: Both, fault, again: str = "") -> Execution:
    """The first execution once more, with a fault in its definition. again: a step that is not taken from the cache."""
    definition = copy.deepcopy(both.it.definition("training"))
    fault(definition)
    cache = {key: found for key, found in both.it.cache.items() if json.loads(key)[0] != again}
    return both.it.execute("training", definition, both.it.started[0], cache)


def misspelt_channel(definition):
    arguments = step_of(definition, "split")["Arguments"]
    arguments["ProcessingInputs"] = replaced(arguments["ProcessingInputs"], "input/features", "input/feature")


def misspelt_output_folder(definition):
    arguments = step_of(definition, "features")["Arguments"]
    outputs = arguments["ProcessingOutputConfig"]
    arguments["ProcessingOutputConfig"] = replaced(outputs, "output/features", "output/feature")


def wrong_module(definition):
    app = step_of(definition, "split")["Arguments"]["AppSpecification"]
    app["ContainerArguments"][0] = "scarcegan.steps.spilt"


def unknown_argument(definition):
    app = step_of(definition, "split")["Arguments"]["AppSpecification"]
    app["ContainerArguments"].append("--colour=red")


def code_not_uploaded(definition):
    arguments = step_of(definition, "split")["Arguments"]
    code = next(each for each in arguments["ProcessingInputs"] if each["InputName"] == "code")
    code["S3Input"]["S3Uri"] = code["S3Input"]["S3Uri"].replace("/code/", "/cods/")


def missing_property_file(definition):
    step_of(definition, "evaluate")["PropertyFiles"][0]["FilePath"] = "verdict.json"


def wrong_metric_path(definition):
    condition = step_of(definition, "gate")["Arguments"]["Conditions"][0]
    condition["LeftValue"]["Std:JsonGet"]["Path"] = "pased"


def lambda_channel_misspelt(definition):
    arguments = step_of(definition, "register")["Arguments"]
    arguments["evaluations"] = arguments.pop("evaluation")


def lambda_output_misspelt(definition):
    step_of(definition, "register")["OutputParameters"][0]["OutputName"] = "setid"


@pytest.mark.parametrize(
    ("fault", "again", "step", "words"),
    [
        (misspelt_channel, "split", "split", "features: no feature table"),
        (misspelt_output_folder, "features", "split", "features: no feature table"),
        (wrong_module, "split", "split", "No module named scarcegan.steps.spilt"),
        (unknown_argument, "split", "split", "unrecognized arguments: --colour=red"),
        (code_not_uploaded, "split", "split", "no S3 objects found under s3://"),
        (missing_property_file, "", "gate", "gate/verdict.json"),
        (wrong_metric_path, "", "gate", "no 'pased' (there are: passed"),
        (lambda_channel_misspelt, "", "register", "the event lacks evaluation"),
        (lambda_output_misspelt, "", "register", "no output 'setid'"),
    ],
)
def test_a_fault_in_the_definition_fails_its_step_in_moto(both, fault, again, step, words):
    execution = faulty(both, fault, again)
    assert execution.status == "Failed"
    assert execution.steps[step].status == "Failed", execution.reason
    assert words in execution.steps[step].reason


def wrong_output_name(definition):
    arguments = step_of(definition, "train")["Arguments"]
    arguments["InputDataConfig"] = replaced(arguments["InputDataConfig"], "Outputs['folds']", "Outputs['fold']")


def undeclared_property_file(definition):
    del step_of(definition, "evaluate")["PropertyFiles"]


def misspelt_parameter(definition):
    arguments = step_of(definition, "train")["Arguments"]
    arguments["HyperParameters"] = replaced(arguments["HyperParameters"], "TrainIterations", "TrainIteration")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (wrong_output_name, r"no 'fold' \(there are: labelled"),
        (undeclared_property_file, "no 'gate'"),
        (misspelt_parameter, "no 'TrainIteration'"),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_before_anything_runs_in_moto(both, fault, words):
    with pytest.raises(Refused, match=words):
        faulty(both, fault)
