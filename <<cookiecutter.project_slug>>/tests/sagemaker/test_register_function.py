"""The register step as a Lambda function: S3 in, one set in the registry out. AWS is moto's, the lineage stubbed."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.stub import Stubber

from registry_contract import CONTENT, DEFINITIONS
from registry_in_moto import GROUP, NAMES, SHARED, Breaker, Broken, Session, aws, keys, open_registry, refused, versions
from scarcegan.errors import UserError
from scarcegan.registry.contract import PACKAGE_FILE, ModelPackage, set_id_of
from scarcegan.registry.sagemaker import lineage, set_record
from scarcegan.registry.sagemaker import registry as sagemaker
from scarcegan.sagemaker import register_function as step
from scarcegan.sagemaker.bundle import lambda_bundle
from scarcegan.sagemaker.register_function import handler
from scarcegan.steps.register import Lineage, requests_of

ROOT = Path(__file__).parents[2]
RUN = "runs/abc123"
CLASSES = ["dormant", "normal", "risky"]
EVALUATION = {"scarcegan": {"metrics": {"pr_auc": {"value": 0.75}, "recall": {"value": 0.5}}}}
GATE = {"passed": True, "reason": "0.75 is over 0.3", "definition": "high_precision", "metric": "pr_auc"}
EXECUTION = "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/risky-training/execution/abc123"


def content(name: str, definition: str) -> bytes:
    if name == "model/model.json":
        return json.dumps({"definition": definition, "keep": "highest_pr_auc", "classes": CLASSES}).encode()
    value = EVALUATION if name == "evaluation/evaluation.json" else {"about": definition}
    return json.dumps(value).encode()


def put(key: str, body: bytes) -> None:
    Session().client("s3").put_object(Bucket=NAMES.bucket, Key=key, Body=body)


def trained(start: str = "") -> bytes:
    """What SageMaker writes after training: one archive, a folder per output."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        files = {f"curves/{number}.csv": b"1,2" for number in range(3)}
        for definition in DEFINITIONS:
            parts = [name for name in CONTENT if name.startswith("model/")]
            files |= {f"models/{definition}/{name[6:]}": content(name, definition) for name in parts}
        for name, body in files.items():
            entry = tarfile.TarInfo(start + name)
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return out.getvalue()


@pytest.fixture
def event(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The event SageMaker would send, after an execution that has put its outputs into the bucket."""
    with aws(monkeypatch) as session:
        monkeypatch.setenv("BUCKET", NAMES.bucket)
        monkeypatch.setenv("GROUP", GROUP)
        monkeypatch.setattr(sagemaker.SageMakerRegistry, "client", lambda self, service: session.client(service))
        put(f"{RUN}/train/model.tar.gz", trained())
        for definition in DEFINITIONS:
            for name in CONTENT:
                part, rest = name.split("/", 1)
                step = {"evaluation": "evaluate", "baseline": "baseline"}.get(part)
                if step:
                    put(f"{RUN}/{step}/{part}/{definition}/{rest}", content(name, definition))
        put(f"{RUN}/evaluate/evaluation/predictions.parquet", b"large, and no part of a package")
        put(f"{RUN}/evaluate/gate/gate.json", json.dumps(GATE).encode())
        yield {
            "models": NAMES.uri(RUN, "train", "model.tar.gz"),
            "models_folder": "models",
            "evaluation": NAMES.uri(RUN, "evaluate", "evaluation"),
            "gate": NAMES.uri(RUN, "evaluate", "gate"),
            "baseline": NAMES.uri(RUN, "baseline", "baseline"),
            "packages_out": NAMES.uri(RUN, "register", "packages"),
            "group": GROUP,
            "classes": ",".join(CLASSES),
            "run": "abc123",
            "data_fingerprint": "d4t4-1ab3l",
            "code_version": "c0de",
            "config": '{"train": {"seed": 7}}',
            "execution_arn": EXECUTION,
        }


def written() -> list[dict[str, Any]]:
    """packages.json as the function wrote it."""
    key = f"{RUN}/register/packages/packages.json"
    return json.loads(Session().client("s3").get_object(Bucket=NAMES.bucket, Key=key)["Body"].read())


def test_the_function_registers_four_packages_as_one_set_in_moto(event: dict[str, str]) -> None:
    answer = handler(event)
    packages = open_registry().packages()
    assert answer == {"set_id": packages[0].set_id, "versions": "1,2,3,4", "group": GROUP}
    assert [package.definition for package in packages] == list(DEFINITIONS)
    assert {package.status for package in packages} == {"PendingManualApproval"}
    assert packages[0].metrics == {"pr_auc": 0.75, "recall": 0.5}
    assert packages[0].gate == GATE
    assert (packages[0].run, packages[0].data_fingerprint, packages[0].code_version) == ("abc123", "d4t4-1ab3l", "c0de")
    assert [each["version"] for each in written()] == [1, 2, 3, 4]


def test_a_set_has_the_same_id_as_on_the_laptop_in_moto(event: dict[str, str], tmp_path: Path) -> None:
    for definition in DEFINITIONS:
        for name in CONTENT:
            part, rest = name.split("/", 1)
            path = tmp_path / {"model": "models"}.get(part, part) / definition / rest
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content(name, definition))
    folders = [tmp_path / name for name in ("models", "evaluation", "baseline")]
    here = set_id_of(requests_of(*folders, Lineage(), CLASSES))
    assert handler(event)["set_id"] == here


def test_the_packages_hold_what_the_steps_wrote_and_nothing_more_in_moto(event: dict[str, str], tmp_path: Path) -> None:
    handler(event)
    folder = open_registry().export(3, tmp_path / "out")
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert set(files) == {*CONTENT, "package.json"}
    assert {name: files[name].read_bytes() for name in CONTENT} == {n: content(n, "high_precision") for n in CONTENT}
    assert json.loads(files["package.json"].read_text())["config"] == {"train": {"seed": 7}}


def test_a_retried_function_registers_nothing_twice_in_moto(event: dict[str, str]) -> None:
    first, before = handler(event), keys()
    assert handler(event) == first
    assert keys() == before
    assert versions() == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["CreateModelPackage", "PutObject", "DescribeModelPackage"])
def test_a_function_killed_at_any_stage_is_completed_by_its_retry_in_moto(
    event: dict[str, str], monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(set_record, "LEASE", timedelta(0))  # a killed one is believed dead at once
    with Breaker(3, "dead", operation), pytest.raises(Broken):
        handler(event)
    assert open_registry().packages() == []
    answer = handler(event)
    assert len(versions()) == len(written()) == 4
    assert answer["versions"] == ",".join(str(version) for version in versions())


def test_without_fingerprints_of_the_data_none_is_claimed_in_moto(event: dict[str, str]) -> None:
    handler(event | {"data_fingerprint": "-"})
    assert {package.data_fingerprint for package in open_registry().packages()} == {""}


@pytest.mark.parametrize("start", ["", "./"])
def test_of_the_trainings_archive_only_the_models_are_unpacked(tmp_path: Path, start: str) -> None:
    from scarcegan.archive import unpack

    (tmp_path / "model.tar.gz").write_bytes(trained(start))
    unpack(tmp_path / "model.tar.gz", tmp_path / "out", "models")
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(DEFINITIONS)


def test_a_file_that_would_leave_its_folder_is_refused(tmp_path: Path) -> None:
    from scarcegan.archive import unpack

    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("models/../../escaped"), io.BytesIO())
    unpack(tmp_path / "bad.tar.gz", tmp_path / "deep" / "out", "models")  # not below models: left out
    with pytest.raises(UserError):
        unpack(tmp_path / "bad.tar.gz", tmp_path / "deep" / "out")
    assert not (tmp_path / "deep" / "escaped").exists()


# -- parameters -----------------------------------------------------------------------------------------------------

RULES = {
    "TrainSeed": {"type": "integer", "minimum": 0, "key": "train.seed"},
    "TrainTrunk": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "key": "train.scarcegan.trunk"},
    "TrainInstanceType": {"type": "string", "pattern": r"^ml\.[a-z0-9-]+\.[a-z0-9]+$", "key": "cloud.instances.train"},
}
VALUES = {"rules": json.dumps(RULES), "TrainSeed": 8, "TrainTrunk": "8,4", "TrainInstanceType": "ml.m5.large"}
FORGED = '8],"gate":{"minimum":0.9},"x":["'


def test_the_values_of_the_execution_are_recorded_in_their_types_in_moto(event: dict[str, str], tmp_path: Path) -> None:
    handler(event | VALUES | {"config": '{"train": {"seed": 7, "scarcegan": {"trunk": [64, 32]}}}'})
    folder = open_registry().export(1, tmp_path / "out")
    assert json.loads((folder / "package.json").read_text())["config"] == {
        "train": {"seed": 8, "scarcegan": {"trunk": [8, 4]}}
    }


def test_a_first_step_checks_the_parameters_and_does_nothing_else() -> None:
    assert handler(VALUES) == {"checked": "3"}


def released(event: dict[str, str], version: int = 1) -> ModelPackage:
    """The champion, after a training, an approval and a promotion."""
    handler(event)
    registry = open_registry()
    registry.approve(version)
    return registry.promote(version)


def test_before_scoring_it_also_answers_which_model_the_registry_has_as_the_champion_in_moto(
    event: dict[str, str],
) -> None:
    champion = released(event)
    assert handler(VALUES | {"digest_of": "champion"}) == {"checked": "3", "model_digest": champion.model_digest}


def test_nothing_is_scored_without_a_champion_in_moto(event: dict[str, str]) -> None:
    with pytest.raises(UserError, match="has no champion yet"):
        handler(VALUES | {"digest_of": "champion"})


def test_nothing_is_scored_with_a_package_that_somebody_has_changed_in_sagemaker_in_moto(event: dict[str, str]) -> None:
    released(event)
    Session().client("sagemaker").update_model_package(
        ModelPackageArn=open_registry().arn(1), CustomerMetadataProperties={"model_digest": "0" * 64}
    )
    with pytest.raises(UserError, match="its property model_digest is '000000000000'"):
        handler(VALUES | {"digest_of": "champion"})


def test_nothing_is_scored_with_a_champion_that_has_no_digest_in_moto(
    event: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = replace(released(event), model_digest="")
    monkeypatch.setattr(sagemaker.SageMakerRegistry, "checked_champion", lambda self: old)
    with pytest.raises(UserError, match=r"version 1 of .*, the champion, was registered without a digest.*Train again"):
        handler(VALUES | {"digest_of": "champion"})


@pytest.mark.parametrize("value", [FORGED, 'a"b', "a\\b", "8\n4", "8,4\n", "8,\n4", ""])
def test_a_value_that_could_forge_the_record_fails_the_first_step_and_is_never_recorded_in_moto(
    event: dict[str, str], value: str
) -> None:
    bad = VALUES | {"TrainTrunk": value}
    for asked_for in (bad, event | bad):
        with pytest.raises(UserError, match=r"TrainTrunk=.*: must be a list.* Start the execution again"):
            handler(asked_for)
    assert versions() == []


def test_a_parameter_that_the_event_lacks_is_refused() -> None:
    with pytest.raises(UserError, match="TrainSeed=: must be a whole number at least 0"):
        handler({name: value for name, value in VALUES.items() if name != "TrainSeed"})


def test_nothing_in_an_event_approves_a_model_in_moto(event: dict[str, str]) -> None:
    handler(event | {"approval_status": "Approved", "ApprovalStatus": "Approved"})
    assert {package.status for package in open_registry().packages()} == {"PendingManualApproval"}


# -- refusals -------------------------------------------------------------------------------------------------------


def test_an_event_that_lacks_something_is_refused() -> None:
    with pytest.raises(UserError, match=r"the event lacks gate, group \(it has: baseline"):
        handler({name: "x" for name in step.REQUIRED_IN_EVENT if name not in ("gate", "group")})


def test_a_closed_gate_registers_nothing_in_moto(event: dict[str, str]) -> None:
    put(f"{RUN}/evaluate/gate/gate.json", b'{"passed": false, "reason": "0.2 is under 0.3"}')
    with pytest.raises(UserError, match=r"the gate is closed, nothing was registered: 0\.2 is under 0\.3"):
        handler(event)
    assert versions() == []


def test_a_channel_with_nothing_in_it_is_named_in_moto(event: dict[str, str]) -> None:
    with pytest.raises(UserError, match=rf"{RUN}/nowhere: nothing there\. Check the step that writes it"):
        handler(event | {"baseline": NAMES.uri(RUN, "nowhere")})
    assert versions() == []


def test_what_aws_refuses_the_function_is_one_sentence_in_moto(event: dict[str, str]) -> None:
    with refused("s3", "GetObject", "AccessDenied"), pytest.raises(UserError, match="access denied: your role may not"):
        handler(event)


def test_the_function_waits_for_another_no_longer_than_its_own_time_allows() -> None:
    assert step.seconds_to_wait(None) == 300
    assert step.seconds_to_wait(SimpleNamespace(get_remaining_time_in_millis=lambda: 600_000)) == 540
    assert step.seconds_to_wait(SimpleNamespace(get_remaining_time_in_millis=lambda: 30_000)) == 0


def evaluated(event: dict[str, str], pr_auc: float) -> dict[str, str]:
    """The event of a pushed definition: the same models with another evaluation."""
    for definition in DEFINITIONS:
        figures = {"scarcegan": {"metrics": {"pr_auc": {"value": pr_auc}}}}
        put(f"runs/other/evaluate/evaluation/{definition}/evaluation.json", json.dumps(figures).encode())
    return event | {"evaluation": NAMES.uri("runs/other/evaluate/evaluation"), "config": '{"forged": true}'}


def stored(prefix: str = "packages/") -> dict[str, bytes]:
    s3 = Session().client("s3")
    return {key: s3.get_object(Bucket=NAMES.bucket, Key=key)["Body"].read() for key in keys(prefix)}


@pytest.mark.parametrize("group", ["nothing-here", SHARED])
def test_an_event_names_no_other_group_than_the_toolchains_in_moto(event: dict[str, str], group: str) -> None:
    handler(event)
    open_registry().approve(1)
    before = stored()
    with pytest.raises(UserError, match=f"asks for the model package group '{group}', but the toolchain has '{GROUP}'"):
        handler(evaluated(event, 0.99) | {"group": group})
    assert stored() == before


@pytest.mark.parametrize("place", [f"s3://{NAMES.bucket}/packages/set-1", "s3://fraud-123456789012-eu-west-1/runs/x"])
def test_an_event_writes_its_list_of_packages_below_runs_only_in_moto(event: dict[str, str], place: str) -> None:
    with pytest.raises(UserError, match=rf"packages_out is {place}, not below s3://{NAMES.bucket}/runs/"):
        handler(event | {"packages_out": place})
    assert versions() == []


def test_figures_and_settings_of_a_registered_set_stay_when_it_is_registered_with_others_in_moto(
    event: dict[str, str],
) -> None:
    handler(event)
    before = stored()
    handler(evaluated(event, 0.99))
    assert stored() == before
    [gone] = [key for key in before if key.endswith("high_recall/evaluation/evaluation.json")]
    Session().client("s3").delete_object(Bucket=NAMES.bucket, Key=gone)
    with pytest.raises(UserError, match=r"files of .*/4 are gone, and this run has other figures"):
        handler(evaluated(event, 0.99))
    assert stored() == {key: body for key, body in before.items() if key != gone}
    handler(event)
    assert stored() == before


def test_a_package_that_was_deleted_is_registered_anew_with_the_figures_of_the_new_run_in_moto(
    event: dict[str, str], tmp_path: Path
) -> None:
    handler(event)
    Session().client("sagemaker").delete_model_package(ModelPackageName=open_registry().arn(2))
    assert handler(evaluated(event, 0.8))["versions"] == "1,5,3,4"
    registry = open_registry()
    assert (registry.package(1).metrics["pr_auc"], registry.package(5).metrics["pr_auc"]) == (0.75, 0.8)
    folder = registry.export(5, tmp_path / "package")
    assert json.loads((folder / "package.json").read_text())["config"] == {"forged": True}


@pytest.mark.parametrize(
    "name", ["code/inference.py", "code/requirements.txt", "1/assets.extra/x", "1/keras.py", "x/saved_model.pb"]
)
def test_a_model_with_a_file_that_an_endpoint_could_run_is_refused_in_moto(event: dict[str, str], name: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        with tarfile.open(fileobj=io.BytesIO(trained())) as honest:
            for entry in honest:
                archive.addfile(entry, honest.extractfile(entry))
        archive.addfile(tarfile.TarInfo(f"models/high_recall/{name}"), io.BytesIO())
    put(f"{RUN}/train/model.tar.gz", out.getvalue())
    with pytest.raises(UserError, match=f"'high_recall' has files that no model of this project has: model/{name}"):
        handler(event)
    assert versions() == [] and stored() == {}


@pytest.mark.parametrize(
    "name", ["model.json", "learnt_from.json", "1/saved_model.pb", "1/fingerprint.pb", "1/variables/variables.index"]
)
def test_what_training_writes_into_a_models_folder_may_be_registered(name: str) -> None:
    assert PACKAGE_FILE.fullmatch(f"model/{name}")


# -- lineage --------------------------------------------------------------------------------------------------------


def test_each_model_derives_from_the_training_and_its_evaluation_and_baseline_contribute_stubbed(
    event: dict[str, str],
) -> None:
    handler(event)
    registry, client = open_registry(), Session().client("sagemaker")
    [package] = registry.packages()[:1]
    model = registry.uri(package, "model.tar.gz")
    artifact = "arn:aws:sagemaker:eu-west-1:123456789012:artifact/{}".format
    with Stubber(client) as stub:
        stub.add_response("list_artifacts", {"ArtifactSummaries": []}, {"SourceUri": event["models"]})
        asked_for = {"Source": {"SourceUri": event["models"]}, "ArtifactType": "Model"}
        stub.add_response("create_artifact", {"ArtifactArn": artifact("models")}, asked_for)
        for name, uri in (("evaluation", event["evaluation"]), ("model", model)):
            there = {"ArtifactSummaries": [{"ArtifactArn": artifact(name)}]}
            stub.add_response("list_artifacts", there, {"SourceUri": uri})
        for name, kind in (("models", "DerivedFrom"), ("evaluation", "ContributedTo")):
            ends = {"SourceArn": artifact(name), "DestinationArn": artifact("model")}
            there = [{"SourceArn": artifact(name)}] if name == "evaluation" else []
            stub.add_response("list_associations", {"AssociationSummaries": there}, ends)
            if not there:
                stub.add_response("add_association", {}, {**ends, "AssociationType": kind})
        lineage.record_lineage(registry, [package], {name: event[name] for name in ("models", "evaluation")})
        stub.assert_no_pending_responses()


def test_a_lineage_that_cannot_be_told_is_no_failure_in_moto(
    event: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    handler(event)  # moto knows no lineage
    assert "the lineage was not recorded" in capsys.readouterr().err


# -- what is deployed -----------------------------------------------------------------------------------------------


def test_the_deployed_function_needs_nothing_but_python_and_boto3_checked_in_a_process_of_its_own(
    tmp_path: Path,
) -> None:
    [archive] = lambda_bundle(ROOT, "register").objects.values()
    (tmp_path / "function.zip").write_bytes(archive)
    program = """
import sys
sys.path.insert(0, sys.argv[1])
class Only:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ALLOWED:
            raise ImportError(f"the function imports {name}")
ALLOWED = {"scarcegan", "boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3", "certifi"}
sys.meta_path.insert(0, Only())
from scarcegan.sagemaker.register_function import handler
from scarcegan.registry.sagemaker import lineage, set_record, registry
print(handler.__module__, sys.modules["scarcegan"].__file__)
try:
    handler({})
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program, str(tmp_path / "function.zip")],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": ""},
    )
    assert f"scarcegan.sagemaker.register_function {tmp_path}/function.zip/" in done.stdout
    assert "UserError the event lacks models, evaluation, gate" in done.stdout
    assert len(archive) < 400_000  # bytes, not compressed; the whole package has four times as many
