"""The smoke test: really against the local endpoint with a tiny model, and against answers that are not a model's.

AWS is botocore's Stubber.
"""

import io
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber
from typer.testing import CliRunner

from released import CLASSES, FEATURES, client, image, package_files, stubbed
from scarcegan.cli import main as cli
from scarcegan.errors import UserError
from scarcegan.monitoring.captured import read_captured
from scarcegan.monitoring.data_capture import Capture
from scarcegan.monitoring.rows import Tally
from scarcegan.release import smoke
from scarcegan.release.smoke import CSV, JSON, Sample
from scarcegan.serving import Endpoint, listen, load_model, read_package_facts, url_of
from tiny_models import save

ROWS = ((2.5, 1e-7, 0.0), (0.0, -3.0, 0.0), (9.0, 4e9, 0.0))
SAMPLE = Sample(FEATURES, CLASSES, ROWS)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A package whose model flags who deposits more than two."""
    folder = tmp_path_factory.mktemp("package")
    package_files(folder)
    save(folder / "model", names=FEATURES, classes=CLASSES)
    return folder


@pytest.fixture(scope="module")
def served(package) -> Iterator[str]:
    """The package behind the local endpoint; its URL."""
    with serving(package) as url:
        yield url


@contextmanager
def serving(package: Path, capture: Capture | None = None) -> Iterator[str]:
    endpoint = Endpoint(read_package_facts(package), capture)
    endpoint.model = load_model(package / "model")
    listener = listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(endpoint.app(), log_config=None, lifespan="off"))
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    yield url_of(listener)
    server.should_exit = True
    thread.join(30)


# -- against the local endpoint -------------------------------------------------------------------------------------


def test_the_local_endpoint_is_put_under_load_and_what_it_records_of_that_is_no_users(package, tmp_path):
    (tmp_path / "config.yaml").write_text("project: {name: risky}\ncloud: {endpoint: {latency_ms: 60000}}\n")
    words = ["release", "load", "--package", str(package), "--seconds", "1", "--requests-per-second", "10"]
    with serving(package, Capture(tmp_path / "captured")) as url:
        said = CliRunner().invoke(cli.app, ["--config", str(tmp_path / "config.yaml"), *words, "--url", url])
        smoke.answers(smoke.sender_to_url(url), "a user", '{"instances": [[1.0, 2.0, 3.0]]}', SAMPLE, rows=1)
    assert said.exit_code == 0, said.output
    assert "10 requests, " in said.stdout and "errors: none" in said.stdout
    tally = Tally()
    batches = list(read_captured(tmp_path / "captured", FEATURES, CLASSES, tally))
    assert [len(batch) for batch in batches] == [1]
    assert tally.as_sentence().endswith("; 15 requests of load tests left out")


def test_a_good_endpoint_passes(served, package):
    assert smoke.run_smoke_test(smoke.sender_to_url(served), smoke.sample_of(package)) == [
        "3 users answered as JSON rows, JSON columns and CSV, alike each time; missing values are taken",
        "the typical user is risky, rarity 0.622",
        "a word for rows is refused with 400",
        "half a request is refused with 400",
    ]


def test_the_typical_the_least_and_the_largest_user_are_asked_about(package):
    assert smoke.sample_of(package) == SAMPLE


def test_an_endpoint_with_another_models_features_fails(served):
    other = Sample(FEATURES[:2], CLASSES, tuple(row[:2] for row in ROWS))
    with pytest.raises(UserError, match=r"JSON rows: answered with 400 .*the model has 3 features"):
        smoke.run_smoke_test(smoke.sender_to_url(served), other)


def test_an_endpoint_with_another_models_classes_fails(served):
    with pytest.raises(UserError, match="3 probabilities for 2 classes"):
        smoke.run_smoke_test(smoke.sender_to_url(served), Sample(FEATURES, CLASSES[1:], ROWS))


def test_the_verb_asks_a_server(served, package, tmp_path):
    (tmp_path / "config.yaml").write_text("project: {name: risky}\n")
    words = ["release", "smoke", "--url", served, "--package", str(package)]
    said = CliRunner().invoke(cli.app, ["--config", str(tmp_path / "config.yaml"), *words])
    assert said.exit_code == 0
    assert "the typical user is risky" in said.stdout


@pytest.mark.parametrize(("url", "words"), [("http://127.0.0.1:1", "does not answer"), ("file:///etc", "is no URL")])
def test_a_server_that_is_not_there_is_said(url, words):
    with pytest.raises(UserError, match=words):
        smoke.run_smoke_test(smoke.sender_to_url(url), SAMPLE)


# -- against the image's own answers --------------------------------------------------------------------------------


def test_the_images_answers_pass():
    assert smoke.run_smoke_test(image, SAMPLE)[1] == "the typical user is risky, rarity 0.924"


def test_nothing_is_sent_that_the_image_cannot_take():
    """Its front compares content types letter by letter, and puts a CSV line into JSON as it is."""
    sent = []
    smoke.run_smoke_test(lambda body, kind: (sent.append((body, kind)), image(body, kind))[1], SAMPLE)
    assert {kind for _, kind in sent} == {"application/json", "text/csv"}
    [csv] = [body for body, kind in sent if kind == CSV]
    rows = [json.loads(f"[{line}]") for line in csv.strip().split("\n")]
    assert rows == [list(row) for row in ROWS]


def spoiled(change: Callable[[dict], object]) -> smoke.Send:
    """An image that answers the first row otherwise."""

    def ask(body: str, kind: str) -> tuple[int, str]:
        status, said = image(body, kind)
        answer = json.loads(said)
        if status == 200 and "predictions" in answer:
            change(answer["predictions"][0])
        return status, json.dumps(answer)

    return ask


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda row: row.update(label=1.0), "label is 1.0, expected a whole number from 0 to 3"),
        (lambda row: row.update(label=True), "label is True"),
        (lambda row: row.update(label=4), "label is 4"),
        (lambda row: row.update(label=-1), "label is -1"),
        (lambda row: row.update(rarity=1.5), "rarity is 1.5, outside 0 to 1"),
        (lambda row: row.update(rarity=math.nan), "rarity is nan, outside"),
        (lambda row: row.update(unknown=-0.1), "unknown is -0.1"),
        (lambda row: row.update(unknown=[0.1]), "TypeError"),
        (lambda row: row.update(probabilities=[0.5, 0.5]), "2 probabilities for 3 classes"),
        (lambda row: row.pop("rarity"), "KeyError: 'rarity'"),
    ],
)
def test_an_answer_that_is_not_the_models_fails(change, words):
    with pytest.raises(UserError, match=words):
        smoke.run_smoke_test(spoiled(change), SAMPLE)


def answering(when: Callable[[str, str], bool], status: int, said: str) -> smoke.Send:
    """The image, but for some questions."""
    return lambda body, kind: (status, said) if when(body, kind) else image(body, kind)


OTHER = json.dumps({"predictions": [{"label": 0, "rarity": 0.1, "unknown": 0.0, "probabilities": [0.9, 0, 0.1]}] * 3})


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda body, kind: (500, "oops"), r"JSON rows: answered with 500 \('oops'\)"),
        (lambda body, kind: (200, "<html>"), "JSON rows: no answer of this model"),
        (lambda body, kind: (200, '{"predictions": []}'), r"JSON rows: no answer of this model \(0 rows answered\)"),
        (answering(lambda body, kind: "NaN" in body, 200, OTHER), r"missing values: .* \(3 rows answered\)"),
        (answering(lambda body, kind: kind == CSV, 415, "no"), "CSV: answered with 415"),
        (answering(lambda body, kind: kind == CSV, 200, OTHER), "CSV: another answer than to JSON rows"),
        (answering(lambda body, kind: "NaN" in body, 400, "no"), "a row with missing values: answered with 400"),
        (answering(lambda body, kind: '"rows"' in body, 200, "{}"), "a word for rows: answered with 200"),
        (answering(lambda body, kind: not body.endswith("}") and kind == JSON, 500, ""), "half a request: .* 500"),
    ],
)
def test_an_endpoint_that_answers_badly_fails(ask, words):
    with pytest.raises(UserError, match=words):
        smoke.run_smoke_test(ask, SAMPLE)


# -- in AWS ---------------------------------------------------------------------------------------------------------


def test_the_endpoint_of_a_stage_is_asked_stubbed():
    runtime = client("sagemaker-runtime")
    asked = {"EndpointName": "risky-staging", "Body": b"[]", "ContentType": JSON, "Accept": JSON}
    with Stubber(runtime) as stub:
        answer = {"Body": StreamingBody(io.BytesIO("é".encode()), 2), "ContentType": JSON}
        stub.add_response("invoke_endpoint", answer, asked)
        assert smoke.sender_to_stage(stubbed(sagemaker_runtime=runtime), "staging")("[]", JSON) == (200, "é")


def test_what_the_container_refuses_comes_with_its_own_status_stubbed():
    """SageMaker answers 424 ModelError itself."""
    runtime = client("sagemaker-runtime")
    with Stubber(runtime) as stub:
        stub.add_client_error(
            "invoke_endpoint",
            "ModelError",
            http_status_code=424,
            modeled_fields={"OriginalStatusCode": 400, "OriginalMessage": "no rows", "LogStreamArn": "arn"},
        )
        assert smoke.sender_to_stage(stubbed(sagemaker_runtime=runtime), "staging")("[]", JSON) == (400, "no rows")


@pytest.mark.parametrize(("code", "status"), [("ServiceUnavailable", 503), ("ModelNotReadyException", 429)])
def test_an_endpoint_that_cannot_answer_fails_the_smoke_test_stubbed(code, status):
    runtime = client("sagemaker-runtime")
    with Stubber(runtime) as stub:
        stub.add_client_error("invoke_endpoint", code, "not now", http_status_code=status)
        with pytest.raises(UserError, match=rf"JSON rows: answered with {status} \('not now'\), expected 200"):
            smoke.run_smoke_test(smoke.sender_to_stage(stubbed(sagemaker_runtime=runtime), "staging"), SAMPLE)


def test_a_role_that_may_not_ask_is_no_fault_of_the_endpoint_stubbed():
    runtime = client("sagemaker-runtime")
    with Stubber(runtime) as stub:
        stub.add_client_error("invoke_endpoint", "AccessDeniedException", http_status_code=403)
        with pytest.raises(ClientError, match="AccessDenied"):
            smoke.sender_to_stage(stubbed(sagemaker_runtime=runtime), "staging")("[]", JSON)


STACK = {
    "StackName": "risky-production",
    "CreationTime": "2026-11-21T10:00:00Z",
    "StackStatus": "UPDATE_COMPLETE",
    "Outputs": [
        {"OutputKey": "EndpointName", "OutputValue": "risky-production"},
        {"OutputKey": "EndpointConfigName", "OutputValue": "config-new"},
        {"OutputKey": "Version", "OutputValue": "5"},
    ],
}


def verified(config: str = "config-new", state: str = "InService", version: int | None = 5, **more: str) -> dict:
    """What verify says of production whose stack wants config-new with version 5."""
    sagemaker, cloudformation = client("sagemaker"), client("cloudformation")
    found = {"EndpointName": "risky-production", "EndpointArn": "arn:aws:sagemaker:eu-west-1:1:endpoint/x"}
    found |= {"EndpointStatus": state, "EndpointConfigName": config, "CreationTime": 0, "LastModifiedTime": 0, **more}
    with Stubber(sagemaker) as stub, Stubber(cloudformation) as stacks:
        stacks.add_response("describe_stacks", {"Stacks": [STACK]}, {"StackName": "risky-production"})
        stub.add_response("describe_endpoint", found, {"EndpointName": ANY})
        return smoke.verify_stage(stubbed(sagemaker=sagemaker, cloudformation=cloudformation), "production", version)


def test_an_endpoint_that_runs_the_wanted_config_is_verified_stubbed():
    assert verified()["Version"] == "5"
    assert verified(version=None)["EndpointConfigName"] == "config-new"


def test_a_silent_roll_back_fails_stubbed():
    words = "risky-production was rolled back: it runs config-old, wanted was config-new with version 5"
    with pytest.raises(UserError, match=words):
        verified("config-old")


def test_an_endpoint_that_is_not_in_service_fails_with_its_reason_stubbed():
    with pytest.raises(UserError, match=r"is Failed \(no capacity\), not InService"):
        verified(state="Failed", FailureReason="no capacity")


def test_an_endpoint_that_somebody_has_deleted_is_said_stubbed():
    sagemaker = client("sagemaker")
    with Stubber(sagemaker) as stub:
        stub.add_client_error("describe_endpoint", "ValidationException", 'Could not find endpoint "risky-staging".')
        with pytest.raises(UserError, match="endpoint risky-staging was deleted"):
            smoke.describe_endpoint(stubbed(sagemaker=sagemaker), "risky-staging")


def test_another_release_that_came_between_fails_stubbed():
    with pytest.raises(UserError, match="the stack of production is for version 5, not 4: another release"):
        verified(version=4)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("ValidationError", "no stack 'risky-staging': staging has an endpoint only while a release is tested"),
        ({**STACK, "StackStatus": "ROLLBACK_COMPLETE", "Outputs": []}, "is ROLLBACK_COMPLETE and has no endpoint"),
    ],
)
def test_a_stage_without_a_stack_fails_stubbed(answer, words):
    cloudformation = client("cloudformation")
    with Stubber(cloudformation) as stub:
        if isinstance(answer, str):
            stub.add_client_error("describe_stacks", answer, "Stack with id risky-staging does not exist")
        else:
            stub.add_response("describe_stacks", {"Stacks": [answer]})
        with pytest.raises(UserError, match=words):
            smoke.verify_stage(stubbed(cloudformation=cloudformation), "staging")
