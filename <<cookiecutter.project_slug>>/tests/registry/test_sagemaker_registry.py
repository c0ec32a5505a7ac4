"""SageMaker's registry keeps the contract (registry_contract.py), whatever breaks. SageMaker, S3 and SSM are moto's."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from moto.sagemaker.models import sagemaker_backends

from registry_contract import CONTENT, DEFINITIONS, PROJECT, Contract, clock, request, requests
from registry_in_moto import (
    GROUP,
    NAMES,
    SHARED,
    Breaker,
    Broken,
    Deployed,
    Session,
    asked,
    at_call,
    aws,
    contents,
    forget_digest,
    keys,
    open_registry,
    refused,
    versions,
)
from rehearsal.shapes import problems
from scarcegan.archive import pack, packed_digest, unpack
from scarcegan.errors import UserError
from scarcegan.registry.contract import PackageRequest, check_model, model_files
from scarcegan.registry.sagemaker.package_facts import escaped, unescaped, without_refused
from scarcegan.registry.sagemaker.package_group import Group
from scarcegan.registry.sagemaker.registry import SageMakerRegistry

FILES = {"model.tar.gz", "package.json", *(name for name in CONTENT if not name.startswith("model/"))}


class TestSageMakerRegistryInMoto(Contract):
    """The contract, on a model package group and a bucket."""

    @pytest.fixture
    def registry(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerRegistry]:
        with aws(monkeypatch) as session:
            yield Deployed(NAMES, GROUP, session, clock=clock(), user=lambda: "ada", sleep=lambda _: None)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[SageMakerRegistry]:
    with aws(monkeypatch):
        yield open_registry()


@pytest.fixture
def four(registry: SageMakerRegistry, tmp_path: Path) -> SageMakerRegistry:
    """A registry with one set: versions 1 to 4."""
    registry.register_set("set-1", requests(tmp_path))
    return registry


# -- all or none ----------------------------------------------------------------------------------------------------


def assert_exactly(*sets: str, definitions: int = 2) -> None:
    """The group and the bucket hold these sets and nothing else, no package and no object."""
    listed = open_registry().packages()
    assert sorted({package.set_id for package in listed}) == sorted(sets)
    assert len(listed) == definitions * len(sets)
    assert versions() == [package.version for package in listed]
    wanted = {f"packages/{p.set_id}/{p.definition}/{file}" for p in listed for file in FILES}
    records = {f"packages/{name}/set.{NAMES.account}.{GROUP}.json" for name in sets}
    assert keys("packages/") == wanted | records


def broken_at_every_call(how: str, asked_for: list[PackageRequest]) -> Iterator[tuple[str, bool]]:
    """Register a set per call that a registration makes, each broken one call later, until none breaks.

    Gives the name of each and whether it can be seen.
    """
    writes = ("PutObject", "CreateModelPackage") if how == "answer" else ()  # a lost answer to a question is `once`
    for nth in count(1):
        with Breaker(nth, how, *writes) as breaker, suppress(Broken, UserError):
            open_registry().register_set(f"set-{nth}", asked_for)
        if not breaker.broke:
            return
        yield f"set-{nth}", bool(open_registry().packages())


def start_afresh() -> None:
    """Forget every set, so that the next one is alone."""
    client = Session().client("sagemaker")
    for package in client.list_model_packages(ModelPackageGroupName=GROUP)["ModelPackageSummaryList"]:
        client.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    gone = {"Objects": [{"Key": key} for key in keys()]}
    Session().client("s3").delete_objects(Bucket=NAMES.bucket, Delete=gone)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["once", "answer"])
def test_whichever_call_fails_the_set_is_withdrawn_whole(registry: SageMakerRegistry, tmp_path: Path, how: str) -> None:
    withdrawn = 0
    for name, seen in broken_at_every_call(how, requests(tmp_path)[:2]):
        if seen:  # it was the look at the finished set that broke, or an answer that was lost
            assert_exactly(name)
            start_afresh()
        else:
            withdrawn += 1
            assert (versions(), keys()) == ([], set())
    assert withdrawn > 10


@pytest.mark.slow
def test_what_a_killed_registration_left_is_never_seen_and_withdrawn_by_the_next_one_of_any_set(
    registry: SageMakerRegistry, tmp_path: Path
) -> None:
    left, asked_for = 0, requests(tmp_path)[:2]
    for name, seen in broken_at_every_call("dead", asked_for):
        left += not seen and bool(versions())
        again = name if seen or left % 2 else "another"
        open_registry(later=600).register_set(again, asked_for)
        assert_exactly(again)
        start_afresh()
    assert left > 4


def test_while_one_registers_a_set_another_waits_and_gives_up_politely(
    registry: SageMakerRegistry, tmp_path: Path
) -> None:
    said = []

    def meanwhile() -> None:
        with pytest.raises(UserError, match="is being registered by another process") as raised:
            open_registry(patience_seconds=5).register_set("set-1", requests(tmp_path))
        said.append(raised.value)

    with at_call(30, meanwhile):
        registry.register_set("set-1", requests(tmp_path))
    assert len(said) == 1
    assert_exactly("set-1", definitions=4)


@pytest.mark.slow
def test_whoever_was_taken_for_dead_and_wakes_up_at_any_moment_changes_nothing(
    registry: SageMakerRegistry, tmp_path: Path
) -> None:
    asked_for = requests(tmp_path)[:2]
    for nth in count(1):
        name, begun = f"set-{nth}", []

        def take_over(name: str = name, begun: list = begun) -> None:
            begun.extend(open_registry(later=600).register_set(name, asked_for))

        with at_call(nth, take_over), suppress(UserError):
            assert open_registry().register_set(name, asked_for) == registry.packages()
        if not begun:
            break
        assert registry.packages() == begun
        assert_exactly(name)
        start_afresh()
    assert nth > 25


def test_who_withdraws_what_a_dead_one_left_spares_what_the_living_have_made_since(
    registry: SageMakerRegistry, tmp_path: Path
) -> None:
    asked_for = requests(tmp_path)[:2]
    with Breaker(2, "dead", "CreateModelPackage"), suppress(Broken):
        registry.register_set("set-1", asked_for)
    finished = []

    def overtake() -> None:
        finished.extend(open_registry(later=1200).register_set("set-1", asked_for))

    with at_call(1, overtake, "ListModelPackages"), suppress(UserError):
        open_registry(later=600).register_set("set-1", asked_for)
    assert [package.version for package in finished] == [2, 3]
    assert registry.packages() == finished
    assert_exactly("set-1")


def test_who_wakes_up_while_another_is_at_it_withdraws_only_its_own(
    registry: SageMakerRegistry, tmp_path: Path
) -> None:
    asked_for, at_work = requests(tmp_path)[:2], []

    def overtake() -> None:
        with Breaker(2, "dead", "CreateModelPackage"), suppress(Broken):
            open_registry(later=600).register_set("set-1", asked_for)
        at_work.extend([keys(), versions()])

    with at_call(2, overtake, "CreateModelPackage"), pytest.raises(UserError, match="another process is registering"):
        open_registry().register_set("set-1", asked_for)
    assert at_work == [keys(), [2]]
    assert versions() == [2]
    open_registry(later=1200).register_set("set-1", asked_for)
    assert_exactly("set-1")


def test_nothing_that_somebody_has_decided_about_is_withdrawn(registry: SageMakerRegistry, tmp_path: Path) -> None:
    with Breaker(2, "dead", "CreateModelPackage"), suppress(Broken):
        registry.register_set("set-1", requests(tmp_path)[:2])
    assert versions() == [1]
    client = Session().client("sagemaker")
    arn = client.list_model_packages(ModelPackageGroupName=GROUP)["ModelPackageSummaryList"][0]["ModelPackageArn"]
    properties = client.describe_model_package(ModelPackageName=arn)["CustomerMetadataProperties"]
    client.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved", CustomerMetadataProperties=properties
    )
    open_registry(later=600).register_set("set-1", requests(tmp_path)[:2])
    assert versions() == [1, 2, 3]
    assert [package.version for package in registry.packages()] == [2, 3]


def test_a_package_that_sagemaker_cannot_complete_withdraws_the_set(
    registry: SageMakerRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Group.describe

    def describe(self: Group, arn: str) -> dict[str, Any]:
        return {**real(self, arn), **({"ModelPackageStatus": "Failed"} if arn.endswith("/2") else {})}

    monkeypatch.setattr(Group, "describe", describe)
    with pytest.raises(UserError, match=r"has not completed the package \S+/2 \(Failed"):
        registry.register_set("set-1", requests(tmp_path)[:2])
    assert_exactly()


def test_a_registered_set_is_only_looked_at_the_next_time(four: SageMakerRegistry, tmp_path: Path) -> None:
    writes = []
    events = Session().client("s3").meta.events
    events.register("before-call.s3.PutObject", lambda **_: writes.append("put"), unique_id="writes")
    try:
        four.register_set("set-1", requests(tmp_path))
    finally:
        events.unregister("before-call.s3.PutObject", unique_id="writes")
    assert writes == []


def test_files_that_somebody_deleted_are_restored_by_the_next_run(four: SageMakerRegistry, tmp_path: Path) -> None:
    for key in keys("packages/set-1/few_unknown/"):
        Session().client("s3").delete_object(Bucket=NAMES.bucket, Key=key)
    with pytest.raises(UserError, match="the files of version 2 were deleted"):
        four.export(2, tmp_path / "out")
    four.register_set("set-1", requests(tmp_path))
    assert (four.export(2, tmp_path / "out") / "model/model.json").is_file()
    assert_exactly("set-1", definitions=4)


def test_a_package_deleted_in_sagemaker_is_gone_and_registered_anew_by_the_next_run(
    four: SageMakerRegistry, tmp_path: Path
) -> None:
    Session().client("sagemaker").delete_model_package(ModelPackageName=four.arn(2))
    assert [p.version for p in four.packages()] == [1, 3, 4]
    packages = four.register_set("set-1", requests(tmp_path))
    assert [(p.version, p.definition) for p in packages] == list(zip((1, 5, 3, 4), DEFINITIONS, strict=True))
    assert_exactly("set-1", definitions=4)


def test_two_groups_of_one_bucket_do_not_disturb_each_other(four: SageMakerRegistry, tmp_path: Path) -> None:
    Session().client("sagemaker").create_model_package_group(ModelPackageGroupName="second")
    second, before = open_registry("second"), four.packages()
    with Breaker(2, "once", "CreateModelPackage"), pytest.raises(Broken):
        second.register_set("set-1", requests(tmp_path))
    assert second.packages() == []
    assert four.packages() == before
    assert (four.export(1, tmp_path / "out") / "model/model.json").is_file()
    assert [p.version for p in second.register_set("set-1", requests(tmp_path))] == [2, 3, 4, 5]
    assert four.packages() == before


# -- what SageMaker is told -----------------------------------------------------------------------------------------


def long_request(folder: Path) -> PackageRequest:
    """A package whose every fact is longer or stranger than SageMaker takes."""
    return replace(
        request(folder, "best_ranking", "long"),
        metrics={"pr_auc": 0.75, **{f"metric {n} (ü, %)": n / 7 for n in range(80)}},
        gate={"passed": True, "reason": "0.75 > 0.3; " * 40, "definition": "best_ranking", "champion": None},
        description="Kept for „ranking“ …\n" * 100,
        run="r" * 300,
    )


@pytest.mark.parametrize("make", [lambda folder: request(folder, "best_ranking", "short"), long_request])
def test_every_request_fits_sagemakers_own_model(
    registry: SageMakerRegistry, tmp_path: Path, make: Callable[[Path], PackageRequest]
) -> None:
    with asked("sagemaker", "CreateModelPackage") as created, asked("sagemaker", "UpdateModelPackage") as updated:
        registry.register_set("set-1", [make(tmp_path)])
        registry.approve(1, "„gut“, sagt Zoë (50 % weniger Fehlalarme)\nzweite Zeile")
    assert (len(created), len(updated)) == (1, 1)
    assert problems("CreateModelPackage", created[0]) + problems("UpdateModelPackage", updated[0]) == []
    for sent in (created[0], updated[0]):  # the pattern of these is Java's, so it is read here
        entries = sent["CustomerMetadataProperties"].items()
        assert [entry for entry in entries if without_refused("".join(entry)) != " ".join("".join(entry).split())] == []
    assert not re.search(r"[\x00-\x1f]", created[0]["ModelPackageDescription"])


def test_a_package_names_its_image_its_files_and_where_it_comes_from(tmp_path: Path, monkeypatch: Any) -> None:
    execution = "arn:aws:sagemaker:eu-west-1:123456789012:pipeline/risky-training/execution/abc123"
    with aws(monkeypatch) as session, asked("sagemaker", "CreateModelPackage") as created:
        registry = SageMakerRegistry(NAMES, GROUP, session, made_by=execution, user=lambda: "ada")
        registry.register_set("set-1", requests(tmp_path)[:1])
    [sent] = created
    place = f"s3://{NAMES.bucket}/packages/set-1/best_ranking"
    [container] = sent["InferenceSpecification"]["Containers"]
    assert container["Image"] == NAMES.image("inference")
    assert (container["ModelDataUrl"], container["FrameworkVersion"]) == (f"{place}/model.tar.gz", "2.20")
    assert sent["InferenceSpecification"]["SupportedContentTypes"] == ["application/json", "text/csv"]
    for metrics in (sent["ModelMetrics"], sent["DriftCheckBaselines"]):
        assert metrics["ModelQuality"]["Statistics"]["S3Uri"] == f"{place}/evaluation/evaluation.json"
        assert metrics["ModelDataQuality"]["Statistics"]["S3Uri"] == f"{place}/baseline/statistics.json"
        assert metrics["ModelDataQuality"]["Constraints"]["S3Uri"] == f"{place}/baseline/constraints.json"
    assert sent["MetadataProperties"] == {"CommitId": "c0de", "GeneratedBy": execution}
    assert sent["ModelApprovalStatus"] == "PendingManualApproval"
    token = sent["CustomerMetadataProperties"].pop("attempt")
    assert len(token) == 16
    assert sent["CustomerMetadataProperties"] == {
        "set_id": "set-1",
        "business_definition": "best_ranking",
        "model_digest": requests(tmp_path)[0].model_digest,
        "evaluation_digest": requests(tmp_path)[0].evaluation_digest,
        "team": "care team",
        "run": "run-1",
        "data_fingerprint": "d4t4",
        "code_version": "c0de",
        "gate_passed": "true",
        "gate_reason": "0.75 is over 0.3",
        "metric_pr_auc": "0.75",
        "metric_recall": "0.5",
    }


def test_every_file_that_a_package_names_is_there_and_the_model_is_as_tensorflow_serving_wants_it(
    registry: SageMakerRegistry, tmp_path: Path
) -> None:
    with asked("sagemaker", "CreateModelPackage") as created:
        registry.register_set("set-1", requests(tmp_path))
    named = set(re.findall(rf"s3://{NAMES.bucket}/([^\"]+)", json.dumps(created)))
    assert len(named) == 4 * 4
    assert named <= keys()
    Session().client("s3").download_file(NAMES.bucket, "packages/set-1/few_unknown/model.tar.gz", str(tmp_path / "m"))
    model = contents(unpack(tmp_path / "m", tmp_path / "model"))
    assert set(model) == {"1/saved_model.pb", "1/variables/variables.index", "model.json"}
    assert model["1/saved_model.pb"] == b"graph first few_unknown"


def test_another_accounts_group_is_asked_by_its_arn(registry: SageMakerRegistry, tmp_path: Path) -> None:
    shared = open_registry(SHARED)
    with asked("sagemaker", "CreateModelPackage") as created, asked("sagemaker", "ListModelPackages") as listed:
        packages = shared.register_set("set-1", requests(tmp_path))
        assert shared.packages() == packages
    assert {sent["ModelPackageGroupName"] for sent in [*created, *listed]} == {SHARED}
    assert problems("CreateModelPackage", created[0]) + problems("ListModelPackages", listed[0]) == []
    assert packages[0].group == "risky-players"
    assert f"packages/set-1/set.210987654321.{GROUP}.json" in keys()


def test_a_group_of_another_region_is_refused() -> None:
    with pytest.raises(UserError, match=r"is in another region than the project \(eu-west-1\)"):
        open_registry(SHARED.replace("eu-west-1", "us-east-1"))


# -- deciding and promoting -----------------------------------------------------------------------------------------


def test_status_note_and_history_are_written_in_one_call(four: SageMakerRegistry) -> None:
    with asked("sagemaker", "UpdateModelPackage") as updated:
        four.approve(2, "reviewed, with the care team")
    [sent] = updated
    assert (sent["ModelApprovalStatus"], sent["ApprovalDescription"]) == ("Approved", "reviewed, with the care team")
    properties = sent["CustomerMetadataProperties"]
    assert re.fullmatch(
        r"2026-03-01T\S+Z approved by ada: reviewed=2C with the care team", properties["decision.000001"]
    )
    assert properties["set_id"] == "set-1"  # sent whole, whether SageMaker adds or replaces


def test_approving_deploys_nothing_by_itself(four: SageMakerRegistry) -> None:
    assert four.approve(2).champion is False
    assert four.champion() is None
    assert keys("champion/") == set()


def test_notes_are_kept_to_the_letter_and_only_long_ones_are_cut_in_the_history(four: SageMakerRegistry) -> None:
    note, long = "„gut“: 50 % weniger = besser, sagt Zoë/ada@example.com", "sehr lang, " * 90
    four.reject(2, note)
    assert four.package(2).note == note
    four.approve(2, long)
    assert four.package(2).note == long
    first, second = four.history()
    assert (first.note, first.decision, first.by) == (note, "rejected", "ada")
    assert long.startswith(second.note.removesuffix("..."))
    assert len(second.note) > 100
    with pytest.raises(UserError, match="has 1100 characters, SageMaker allows 1024"):
        four.reject(2, "sehr lang, " * 100)


@pytest.mark.parametrize("words", ["", "without_refused", "a=b", "=2C", "„ü“, (%) #\n🙂", "=" * 5])
def test_words_spelled_out_are_read_as_they_were(words: str) -> None:
    assert unescaped(escaped(words)) == words
    assert without_refused(escaped(words)) == " ".join(escaped(words).split())


def test_a_package_decided_about_very_often_keeps_its_newest_decisions(four: SageMakerRegistry) -> None:
    for n in range(20):
        (four.reject if n % 2 else four.approve)(1, f"note {n}")
    assert [event.note for event in four.history()] == [f"note {n}" for n in range(4, 20)]
    assert four.package(1).note == "note 19"


def test_an_approval_that_studio_renews_with_another_note_is_in_the_history(four: SageMakerRegistry) -> None:
    client, arn = Session().client("sagemaker"), four.arn(3)
    four.approve(3, "first  look")
    assert [event.note for event in four.history()] == ["first  look"]
    properties = client.describe_model_package(ModelPackageName=arn)["CustomerMetadataProperties"]
    for status, note in (("PendingManualApproval", ""), ("Approved", "second look")):
        client.update_model_package(
            ModelPackageArn=arn,
            ModelApprovalStatus=status,
            ApprovalDescription=note,
            CustomerMetadataProperties=properties,
        )
    assert [(event.decision, event.note) for event in four.history()] == [
        ("approved", "first  look"),
        ("approved", "second look"),
    ]


def test_a_decision_made_in_studio_is_in_the_history(four: SageMakerRegistry) -> None:
    client, arn = Session().client("sagemaker"), four.arn(3)
    properties = client.describe_model_package(ModelPackageName=arn)["CustomerMetadataProperties"]
    client.update_model_package(
        ModelPackageArn=arn,
        ModelApprovalStatus="Approved",
        ApprovalDescription="looks good",
        CustomerMetadataProperties=properties,
    )
    [event] = four.history()
    assert (event.version, event.decision, event.note, event.by) == (
        3,
        "approved",
        "looks good",
        "fake-user-profile-name",
    )
    assert (four.package(3).status, four.package(3).decided_by) == ("Approved", "fake-user-profile-name")


def test_who_decides_is_asked_of_aws(four: SageMakerRegistry) -> None:
    registry = SageMakerRegistry(NAMES, GROUP, Session())
    assert registry.approve(1).decided_by == "user/moto"


def test_the_champion_is_one_archive_that_names_its_version(four: SageMakerRegistry, tmp_path: Path) -> None:
    four.approve(4, "go")
    four.promote(4)
    four.approve(1, "back")
    four.promote(1)
    client = Session().client("ssm")
    assert client.get_parameter(Name="/risky/champion")["Parameter"]["Value"] == four.arn(1)
    assert keys("champion/") == {"champion/package.tar.gz"}
    Session().client("s3").download_file(NAMES.bucket, "champion/package.tar.gz", str(tmp_path / "c"))
    archived = contents(unpack(tmp_path / "c", tmp_path / "champion"))
    assert archived == contents(four.export(1, tmp_path / "exported"))
    facts = json.loads(archived["package.json"])
    assert (facts["version"], facts["champion"], facts["status"]) == (1, True, "Approved")
    assert facts["config"] == {"project": PROJECT, "train": {"seed": 7}, "gate": {"minimum": 0.3}}


def test_promoting_again_gives_the_same_bytes(four: SageMakerRegistry) -> None:
    four.approve(2)
    written = []
    for _ in range(2):
        four.promote(2)
        body = Session().client("s3").get_object(Bucket=NAMES.bucket, Key="champion/package.tar.gz")["Body"]
        written.append(body.read())
    assert written[0] == written[1]


def test_the_champions_files_are_compared_with_the_package_that_is_the_champion(
    four: SageMakerRegistry, tmp_path: Path
) -> None:
    """A promotion that broke off between the archive and the name of the champion; then it is repeated."""
    with pytest.raises(UserError, match="risky-players has no champion yet"):
        four.check_champion()
    for version in (1, 2):
        four.approve(version)
        four.promote(version)
    four.check_champion()
    with Breaker(1, "once", "PutParameter"), pytest.raises(Broken):
        four.promote(1)
    with pytest.raises(UserError, match=r"holds version 1 with the model .*, but the champion is version 2 with"):
        four.check_champion()
    four.promote(1)
    four.check_champion()


@pytest.mark.parametrize("with_digest", [True, False])
def test_a_champion_whose_model_somebody_has_changed_is_noticed(
    four: SageMakerRegistry, tmp_path: Path, with_digest: bool
) -> None:
    four.approve(2)
    four.promote(2)
    folder = four.export(2, tmp_path / "package")
    (folder / "model/1/saved_model.pb").write_text("another graph")
    if with_digest:
        facts = json.loads((folder / "package.json").read_text())
        paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        changed = {**facts, "model_digest": packed_digest(model_files(paths))}
        (folder / "package.json").write_text(json.dumps(changed))
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    body = pack(files, tmp_path / "package.tar.gz").read_bytes()
    Session().client("s3").put_object(Bucket=NAMES.bucket, Key="champion/package.tar.gz", Body=body)
    words = "holds version 2 with the model" if with_digest else "its model has the digest .* it was changed afterwards"
    with pytest.raises(UserError, match=words):
        four.check_champion()


def test_only_an_approved_package_is_promoted(four: SageMakerRegistry) -> None:
    with pytest.raises(UserError, match=r"version 2 \(few_unknown\) is PendingManualApproval.*approve 2 --cloud"):
        four.promote(2)
    assert keys("champion/") == set()


# -- others and refusals --------------------------------------------------------------------------------------------


def test_packages_registered_by_hand_are_left_alone(four: SageMakerRegistry, tmp_path: Path) -> None:
    client = Session().client("sagemaker")
    client.create_model_package(ModelPackageGroupName=GROUP)
    client.create_model_package(
        ModelPackageGroupName=GROUP, ModelApprovalStatus="Approved", ModelPackageDescription="by hand (set set-2)"
    )
    four.register_set("set-2", requests(tmp_path, "second"))
    assert [p.version for p in four.packages()] == [1, 2, 3, 4, 7, 8, 9, 10]
    assert versions() == list(range(1, 11))
    assert four.history() == []
    with pytest.raises(UserError, match="has no version 5"):
        four.approve(5)


@pytest.mark.parametrize(
    "change",
    [
        {"ModelDataUrl": f"s3://{NAMES.bucket}/packages/set-1/few_unknown/model.tar.gz"},
        {"Image": NAMES.image("inference").replace("763104351884", "999988887777")},
        {"Image": NAMES.image("inference").replace("2.20", "2.19")},
        {"Environment": {"SAGEMAKER_PROGRAM": "inference.py"}},
        {"AdditionalS3DataSource": {"S3Uri": "s3://elsewhere/code.tar.gz"}},
    ],
    ids=["model", "image", "tag", "environment", "source"],
)
def test_a_package_that_was_changed_to_serve_something_else_is_not_released(
    four: SageMakerRegistry, tmp_path: Path, change: dict[str, Any]
) -> None:
    four.approve(1)
    package = sagemaker_backends[NAMES.account][NAMES.region].model_packages[four.arn(1)]
    package.inference_specification["Containers"][0].update(change)
    for release in (lambda: four.export(1, tmp_path / "package"), lambda: four.promote(1)):
        with pytest.raises(UserError, match="version 1: an endpoint would"):
            release()
    assert four.champion() is None and not (tmp_path / "package").exists()


def test_a_model_whose_bytes_were_changed_in_s3_is_neither_exported_nor_promoted(
    four: SageMakerRegistry, tmp_path: Path
) -> None:
    four.approve(1)
    key = "packages/set-1/best_ranking/model.tar.gz"
    other = pack({"model.json": Path(__file__)}, tmp_path / "other.tar.gz").read_bytes()
    Session().client("s3").put_object(Bucket=NAMES.bucket, Key=key, Body=other)
    for release in (lambda: four.export(1, tmp_path / "package"), lambda: four.promote(1)):
        with pytest.raises(UserError, match=rf"version 1: s3://{NAMES.bucket}/{key} has the SHA-256 .* was registered"):
            release()
    assert keys("champion/") == set() and not (tmp_path / "package").exists()


def test_a_digest_that_was_changed_in_sagemaker_is_noticed(four: SageMakerRegistry, tmp_path: Path) -> None:
    Session().client("sagemaker").update_model_package(
        ModelPackageArn=four.arn(1), CustomerMetadataProperties={"model_digest": "f" * 64}
    )
    with pytest.raises(UserError, match="version 1: its property model_digest is 'ffffffffffff', but"):
        four.export(1, tmp_path / "package")


def test_an_evaluation_that_was_changed_in_the_bucket_is_neither_released_nor_promoted(
    four: SageMakerRegistry, tmp_path: Path
) -> None:
    four.approve(1)
    for name in ("evaluation/evaluation.json", "baseline/statistics.json"):
        key = f"packages/set-1/best_ranking/{name}"
        Session().client("s3").put_object(Bucket=NAMES.bucket, Key=key, Body=b'{"forged": 1}')
        for release in (lambda: four.export(1, tmp_path / "package"), lambda: four.promote(1)):
            with pytest.raises(UserError, match=r"version 1: evaluation and baseline below .* have the digest"):
                release()
        Session().client("s3").put_object(Bucket=NAMES.bucket, Key=key, Body=b"{}")
    assert keys("champion/") == set() and not (tmp_path / "package").exists()


def test_a_package_of_before_the_digests_can_still_be_read(four: SageMakerRegistry, tmp_path: Path) -> None:
    """As an earlier version of this project has left it: without a digest in the record and in the properties."""
    forget_digest(four, 1)
    assert four.package(1).model_digest == ""
    folder = four.export(1, tmp_path / "package")
    assert check_model(folder) == "" and (folder / "model/1/saved_model.pb").is_file()


def test_a_model_that_is_there_already_is_kept_and_another_one_in_its_place_is_refused(
    registry: SageMakerRegistry, tmp_path: Path
) -> None:
    """What a killed registration may have left, or somebody put there."""
    asked_for = requests(tmp_path)
    key = "packages/set-1/few_unknown/model.tar.gz"
    there = pack(model_files(asked_for[1].files), tmp_path / "m.tar.gz").read_bytes()
    Session().client("s3").put_object(Bucket=NAMES.bucket, Key=key, Body=there)
    with asked("s3", "PutObject") as put:
        registry.register_set("set-1", asked_for)
    written = [sent for sent in put if sent["Key"].endswith("model.tar.gz")]
    assert len(written) == 3 and {sent["IfNoneMatch"] for sent in written} == {"*"}
    Session().client("s3").put_object(Bucket=NAMES.bucket, Key=key.replace("set-1", "set-2"), Body=b"hostile")
    with pytest.raises(UserError, match=r"few_unknown/model.tar.gz is there already, but with another content"):
        registry.register_set("set-2", asked_for)
    assert {package.set_id for package in registry.packages()} == {"set-1"}


@pytest.mark.parametrize("name", ["/escaped", "../../../escaped", "model/../../../escaped"])
def test_an_object_whose_name_leads_out_of_the_folder_is_written_nowhere(
    four: SageMakerRegistry, tmp_path: Path, name: str
) -> None:
    outside = f"{tmp_path}/escaped" if name == "/escaped" else name
    prefix = "packages/set-1/best_ranking/"
    Session().client("s3").put_object(Bucket=NAMES.bucket, Key=prefix + outside, Body=b"hostile")
    folder = tmp_path / "a" / "b" / "package"
    with pytest.raises(UserError, match="leads out of the folder"):
        four.export(1, folder)
    with pytest.raises(UserError, match="leads out of the folder"):
        four.fetch(f"s3://{NAMES.bucket}/{prefix}", folder)
    assert not list(tmp_path.rglob("escaped"))


def test_entries_that_look_like_decisions_and_are_none_stop_nobody(four: SageMakerRegistry) -> None:
    odd = {"decision.²": "x", "decision.": "x", "decision.999x": "2026 approved by nobody"}
    Session().client("sagemaker").update_model_package(ModelPackageArn=four.arn(1), CustomerMetadataProperties=odd)
    assert four.approve(1, "looks right").note == "looks right"
    assert [event.note for event in four.history()] == ["looks right"]


def test_more_than_a_hundred_packages_are_listed(four: SageMakerRegistry, tmp_path: Path) -> None:
    client = Session().client("sagemaker")
    for _ in range(120):
        client.create_model_package(ModelPackageGroupName=GROUP, ModelApprovalStatus="PendingManualApproval")
    four.register_set("set-2", requests(tmp_path, "second"))
    assert [p.version for p in four.packages()] == [1, 2, 3, 4, 125, 126, 127, 128]


def test_a_group_that_is_not_there_is_named_and_nothing_is_left(registry: SageMakerRegistry, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model package group 'elsewhere' in eu-west-1"):
        open_registry("elsewhere").register_set("set-1", requests(tmp_path))
    assert keys() == set()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", r"access denied: .* may not CreateModelPackage"),
        ("ThrottlingException", r"AWS is busy \(ThrottlingException"),
        ("ResourceLimitExceeded", r"a limit of the AWS account is reached"),
    ],
)
def test_what_aws_refuses_is_said_in_one_sentence_and_nothing_is_left(
    registry: SageMakerRegistry, tmp_path: Path, code: str, words: str
) -> None:
    with refused("sagemaker", "CreateModelPackage", code), pytest.raises(UserError, match=words):
        registry.register_set("set-1", requests(tmp_path))
    assert keys() == set()


def test_what_cannot_be_withdrawn_for_lack_of_a_right_is_said_and_withdrawn_when_it_can(
    registry: SageMakerRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = refused("sagemaker", "DeleteModelPackage", "AccessDeniedException")
    with mine, Breaker(2, "once", "CreateModelPackage"), pytest.raises(Broken):
        registry.register_set("set-1", requests(tmp_path)[:2])
    assert "model set set-1: cleaning up failed" in capsys.readouterr().err
    assert (registry.packages(), versions()) == ([], [1])
    open_registry(later=600).register_set("set-1", requests(tmp_path)[:2])
    assert_exactly("set-1")


def test_a_failure_of_aws_itself_is_a_sentence_and_nothing_is_left(registry: SageMakerRegistry, tmp_path: Path) -> None:
    broken = refused("sagemaker", "CreateModelPackage", "InternalFailure")
    with broken, pytest.raises(UserError, match=r"CreateModelPackage failed in AWS by an error of its own"):
        registry.register_set("set-1", requests(tmp_path))
    assert keys() == set()
