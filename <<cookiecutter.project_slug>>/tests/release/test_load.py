"""The load test: its arithmetic by hand, a fake endpoint over HTTP, the local endpoint, and AWS stubbed.

No test looks at a real clock: the time stands still but for what a stand-in of the clock adds.
"""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError
from botocore.stub import Stubber
from typer.testing import CliRunner

from released import CLASSES, FEATURES, NAMES, client, package_files, stubbed
from scarcegan.aws.client import Aws
from scarcegan.cli import main as cli
from scarcegan.errors import UserError
from scarcegan.monitoring.rows import LOAD_TEST
from scarcegan.pipeline.config import EndpointSettings
from scarcegan.release import load, smoke
from scarcegan.release.load import Answer, Clock, ModelLatency
from scarcegan.release.smoke import JSON, Sample

ROOT = Path(__file__).parents[2]
SAMPLE = Sample(FEATURES, CLASSES, ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)))
SETTINGS = EndpointSettings()  # ml.m5.large, 2 to 4 instances, 3,000 requests a minute each, 500 ms


class Time:
    """A clock that goes on only when somebody waits, or uses it."""

    def __init__(self) -> None:
        self.moment = 0.0
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.moment += seconds

    def clock(self) -> Clock:
        now = lambda: self.moment  # noqa: E731
        return Clock(ticks=now, cpu=lambda: 0.0, now=lambda: 1_000_000_000 + self.moment, sleep=self.wait)


class OneAfterTheOther:
    """Threads of which each has ended before the next begins."""

    def __init__(self, connections: int) -> None:
        self.connections = connections

    def __enter__(self) -> "OneAfterTheOther":
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function, *given) -> Future:
        done: Future = Future()
        done.set_result(function(*given))
        return done


def plan(machine: str = "ml.m5.large", seconds: int = 60, rate: float | None = None, **settings: int) -> load.LoadPlan:
    return load.plan_load(SETTINGS.model_copy(update=settings), machine, seconds, rate)


def taking(*milliseconds: float, rate: float = 50, kinds: dict[int, str] | None = None, late: float = 0.0):
    """Answers that took so long, each sent so many seconds after it was due."""
    return [
        Answer(i / rate, i / rate + late, i / rate + late + took / 1000, (kinds or {}).get(i, ""), "why")
        for i, took in enumerate(milliseconds)
    ]


# -- what is asked for ----------------------------------------------------------------------------------------------


def test_one_instance_is_asked_what_productions_scaling_gives_it():
    """3,000 a minute are 50 a second; 2 x 50 a second x 0.5 s are 50 connections."""
    assert (plan().rate, plan().requests, plan().connections) == (50, 3000, 50)


def test_a_test_is_bounded_in_requests_and_connections():
    """200 a second for at most 300 seconds."""
    large = plan(invocations_per_instance=60_000, latency_ms=5000)
    assert (large.rate, large.requests, large.connections) == (200, 12_000, 128)
    assert load.MOST_RATE * load.MOST_SECONDS == 60_000
    assert plan(seconds=1, rate=0.1).requests == 1


def test_a_serverless_endpoint_gets_no_more_at_once_than_its_template_lets_it_answer():
    template = (ROOT / "infra/endpoint.yaml").read_text()
    assert f"MaxConcurrency: {load.SERVERLESS_CONCURRENCY}\n" in template
    assert plan("serverless").connections == load.SERVERLESS_CONCURRENCY


def test_the_errors_that_are_tolerated_are_those_of_the_alarm():
    _, _, alarm = (ROOT / "infra/endpoint.yaml").read_text().partition("  ErrorAlarm:\n")
    assert yaml.safe_load(alarm.partition("Threshold: ")[2].splitlines()[0]) == load.TOLERATED_ERRORS


def test_the_machine_is_that_of_the_endpoint():
    assert load.machine_of([{"InstanceType": "ml.c5.large"}]) == "ml.c5.large"
    assert load.machine_of([{"ServerlessConfig": {"MaxConcurrency": 5}}]) == "serverless"


# -- when it is sent ------------------------------------------------------------------------------------------------


def sent(wanted: load.LoadPlan, took: float) -> list[Answer]:
    time = Time()

    def ask(number: int) -> tuple[str, str]:
        time.moment += took
        return "", ""

    answers, _ = load.send_requests(ask, wanted, time.clock(), OneAfterTheOther)
    return answers


def test_requests_are_sent_when_they_are_due():
    assert [(it.due, it.sent, it.ended) for it in sent(plan(seconds=1, rate=4), 0.125)] == [
        (0.0, 0.0, 0.125),
        (0.25, 0.25, 0.375),
        (0.5, 0.5, 0.625),
        (0.75, 0.75, 0.875),
    ]


def test_a_test_ends_although_the_endpoint_hangs():
    """One connection, 10 s an answer, 4 requests due in the first second: after 11 s nothing more is sent."""
    answers = sent(plan(seconds=1, rate=4), 10)
    assert [(it.sent, it.kind) for it in answers] == [(0, ""), (10, ""), (20, "not sent"), (20, "not sent")]


def test_the_warm_up_is_no_part_of_the_test_and_says_when_the_first_answer_came():
    """Two refusals of a second each, a second's wait after each, then five answers of a second each."""
    time, replies = Time(), [("5xx", "503 starting"), ("throttled", "429"), *[("", "")] * 5]

    def ask(number: int) -> tuple[str, str]:
        time.moment += 1
        return replies[number]

    assert load.warm_up(ask, time.clock()) == 5000
    assert time.waits == [1, 1]


@pytest.mark.parametrize(("kind", "asked"), [("model error", 1), ("no connection", 1), ("5xx", 122), ("timeout", 122)])
def test_an_endpoint_that_answers_nobody_is_not_put_under_load(kind, asked):
    time, numbers = Time(), []
    with pytest.raises(UserError, match=rf"no load test, because .* {kind} \(why\)"):
        load.warm_up(lambda number: (numbers.append(number), (kind, "why"))[1], time.clock())
    assert len(numbers) == asked


def test_the_minute_of_the_metrics_begins_with_the_test():
    """1,000,000,000 s are 40 s past a full minute."""
    time = Time()
    load.wait_for_a_full_minute(time.clock())
    assert time.waits == [20]


# -- the arithmetic -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("percent", "value"), [(50, 30), (95, 50), (99, 50), (40, 20), (41, 30)])
def test_a_percentile_is_one_of_the_values(percent, value):
    assert load.percentile([50, 10, 40, 30, 20], percent) == value
    assert load.percentile([], percent) == 0


def test_p99_of_a_hundred_leaves_one_out():
    assert load.percentile(list(range(1, 101)), 99) == 99


def test_requests_under_way_are_counted_and_one_that_ends_makes_room():
    answers = [Answer(0, 0, 2), Answer(0, 1, 3), Answer(0, 2, 4), Answer(0, 5, 6)]
    assert load.most_under_way(answers) == 2


@pytest.mark.parametrize(
    ("late", "cpu", "connections", "slow"),
    [
        (0.0, 1.0, 50, False),  # busy, and in time
        (0.2, 1.0, 1, True),  # no processor left
        (0.2, 0.1, 50, True),  # connections were free: another program had the machine
        (0.2, 0.1, 1, False),  # all connections waited for the endpoint
    ],
)
def test_who_was_slow_is_told_apart(late, cpu, connections, slow):
    assert load.client_was_slow(taking(10, 10, late=late), cpu, connections) is slow


# -- the verdict ----------------------------------------------------------------------------------------------------


def judged(answers, wanted=None, model=None, cpu=0.1) -> load.LoadResult:
    return load.judge_load(wanted or plan(), answers, cpu, 80.0, model)


def test_an_instance_that_takes_its_share_passes_and_what_production_makes_of_it_is_said():
    """3,000 answers in 60 s; 2 x 3,000 and 4 x 3,000 a minute."""
    found = judged(taking(*[10.0] * 2900, *[20.0] * 100), model=ModelLatency(4, 5, 6))
    assert found.problems == []
    assert found.lines() == [
        "3,000 requests, 50.0 answered per second; errors: none",
        "by the client: p50 10 ms, p95 10 ms, p99 20 ms",
        "in the model: p50 4 ms, p95 5 ms, p99 6 ms",
        "warm-up, not counted: the first answer came after 80 ms",
        "production has 2 instances for up to 6,000 requests a minute, and at most 4 for up to 12,000; one took its "
        "3,000. That another starts in time was not tested.",
    ]
    assert found.summary == (
        "Load test of ml.m5.large, 50.0 requests/s for 60 s: p99 6 ms in the model, 20 ms by the client, 0.0% errors."
    )
    load.require_passed(found)


def test_an_instance_that_is_slower_than_the_alarm_fails():
    found = judged(taking(*[10.0] * 2900, *[20.0] * 100), model=ModelLatency(400, 490, 501))
    with pytest.raises(UserError, match=r"the slowest in a hundred took one ml\.m5\.large 501 ms; .* above 500 ms"):
        load.require_passed(found)
    assert found.notes[-1].endswith("if one takes 3,000; this test does not show that.")
    assert "lower cloud.endpoint.invocations_per_instance" in found.problems[0]


def test_a_network_that_is_slow_does_not_fail_the_model():
    found = judged(taking(*[600.0] * 3000), model=ModelLatency(4, 5, 500))
    assert found.problems == []
    assert "the model was fast enough" in found.notes[0]


def test_without_cloudwatch_the_clients_figures_count():
    found = judged(taking(*[10.0] * 2969, *[501.0] * 31))
    assert "took one ml.m5.large 501 ms" in found.problems[0]
    assert "CloudWatch gave no ModelLatency" in found.notes[0]
    assert judged(taking(*[10.0] * 2970, *[501.0] * 30)).problems == [], "30 of 3,000 are one in a hundred"


def test_a_slow_client_warns_instead():
    found = judged(taking(*[900.0] * 3000, late=2.0), cpu=0.95)
    assert found.client_was_slow and found.problems == []
    assert "this client was slow and sent requests late; its figures say little" in found.notes[0]
    assert found.summary.endswith("The client was slow.")


def test_errors_count_by_their_kind_and_one_in_a_hundred_is_tolerated():
    def with_errors(timeouts: int) -> load.LoadResult:
        kinds = dict.fromkeys(range(20), "throttled") | dict.fromkeys(range(20, 20 + timeouts), "timeout")
        return judged(taking(*[10.0] * 3000, kinds=kinds), model=ModelLatency(4, 5, 6))

    assert with_errors(10).problems == []
    found = with_errors(11)
    assert found.errors == {"throttled": 20, "timeout": 11}
    assert found.problems[0].startswith(
        "under load 31 of 3,000 requests (1.0%) ended in an error: 20 throttled, 11 timeout. The release's alarm "
        "tolerates 1%. The first one: why. "
    )
    assert "1.0% errors" in found.summary


def test_a_target_that_was_not_tried_is_not_said_to_be_met():
    """10 a second are 600 a minute."""
    found = judged(taking(*[10.0] * 600, rate=10), plan(rate=10), ModelLatency(4, 5, 6))
    assert found.notes == [
        "note: one instance took 600 requests a minute; nothing is said about the 3,000 that production gives it "
        "before it starts another."
    ]


def test_serverless_staging_is_judged_by_its_errors_only_and_says_nothing_of_an_instance():
    starts = taking(*[8000.0] * 100, rate=1, kinds=dict.fromkeys(range(50), "throttled"))
    found = judged(starts, plan("serverless"))
    assert found.problems == []
    assert found.notes[-1] == "note: a serverless endpoint says nothing about what one ml.m5.large takes in production."
    failed = taking(*[10.0] * 100, rate=1, kinds={1: "5xx", 2: "5xx"})
    assert "2 of 100 requests (2.0%)" in judged(failed, plan("serverless")).problems[0]


def test_the_text_for_the_approval_keeps_its_length_whatever_is_in_it():
    long = plan("ml.c7i.metal-48xlarge", 300, 199.9)
    found = judged(taking(*[123456.0] * 99, late=9.0), long, ModelLatency(1, 1, 1234567), cpu=1.0)
    assert len(found.summary) <= load.LOAD_CHARACTERS and found.summary.isascii()


# -- over HTTP ------------------------------------------------------------------------------------------------------


class Fake(BaseHTTPRequestHandler):
    """Answers with the next status of `statuses`; 0: hangs up."""

    statuses: list[int]
    seen: list[tuple[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.seen.append((body, self.headers[smoke.INFERENCE_ID]))
        status = self.statuses.pop(0) if self.statuses else 200
        if not status:
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"error": "told"}')

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def fake() -> Iterator[tuple[str, type[Fake]]]:
    """A fake endpoint; its URL."""
    handler = type("Handler", (Fake,), {"statuses": [], "seen": []})
    many = type("Server", (ThreadingHTTPServer,), {"request_queue_size": 128})
    server = many(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def test_every_kind_of_error_is_told_apart_over_http(fake):
    url, handler = fake
    handler.statuses[:] = [200, 429, 503, 500, 400, 0]
    ask = load.asker(smoke.sender_to_url(url, LOAD_TEST, 5), SAMPLE)
    kinds = [ask(number) for number in range(6)]
    assert [kind for kind, _ in kinds] == ["", "throttled", "5xx", "5xx", "model error", "no connection"]
    assert kinds[2][1] == '503 {"error": "told"}'
    assert [json.loads(body) for body, _ in handler.seen[:3]] == [
        {"instances": [[1.0, 2.0, 3.0]]},
        {"instances": [[4.0, 5.0, 6.0]]},
        {"instances": [[1.0, 2.0, 3.0]]},
    ]
    assert {mark for _, mark in handler.seen} == {LOAD_TEST}


def test_an_answer_that_does_not_come_in_time_is_a_timeout():
    def send(body: str, kind: str) -> tuple[int, str]:
        raise UserError("does not answer") from TimeoutError("timed out")

    assert load.asker(send, SAMPLE)(0) == ("timeout", "does not answer")


def test_a_test_over_http_with_threads_counts_every_request(fake):
    url, handler = fake
    handler.statuses[:] = [200] * 5 + [503] * 3
    time = Time()
    ask = load.asker(smoke.sender_to_url(url, LOAD_TEST, 5), SAMPLE)
    found = load.load_test_server(plan("", seconds=2, rate=50), ask, time.clock())
    assert (found.requests, found.errors) == (100, {"5xx": 3})
    assert "3 of 100 requests (3.0%) ended in an error: 3 5xx" in found.problems[0]
    assert found.notes[-1] == "note: this server says nothing about what one ml.m5.large takes in production."


@pytest.fixture
def project(tmp_path) -> Path:
    (tmp_path / "config.yaml").write_text("project: {name: risky}\ncloud: {endpoint: {latency_ms: 60000}}\n")
    package_files(tmp_path / "package")
    return tmp_path


def type_in(project: Path, *words: str):
    return CliRunner().invoke(cli.app, ["--config", str(project / "config.yaml"), "release", "load", *words])


def test_the_verb_tests_a_server_and_leaves_the_text_for_the_approval(fake, project):
    url, handler = fake
    words = ["--package", str(project / "package"), "--seconds", "1", "--requests-per-second", "20", "--json"]
    said = type_in(project, "--url", url, *words)
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert (found["requests"], found["errors"], len(handler.seen)) == (20, {}, 25)
    assert (project / "build/variables/LOAD").read_text() == found["summary"]
    assert found["summary"].startswith("Load test of a server, 20.0 requests/s for 1 s: p99 ")


def test_the_verb_fails_with_a_sentence_after_it_has_left_the_text(fake, project):
    url, handler = fake
    handler.statuses[:] = [200] * 5 + [500] * 99
    said = type_in(project, "--url", url, "--package", str(project / "package"), "--seconds", "1")
    assert said.exit_code == 1 and isinstance(said.exception, UserError)
    assert "ended in an error: 50 5xx" in str(said.exception)
    assert "100.0% errors" in (project / "build/variables/LOAD").read_text()


def test_production_is_not_put_under_load(project):
    assert "Test staging: scarcegan release load staging" in str(type_in(project, "production").exception)


# -- monitoring -----------------------------------------------------------------------------------------------------


def test_what_an_endpoint_records_of_a_load_test_is_no_users():
    """Monitoring leaves the request out and says so."""
    from scarcegan.monitoring.data_capture import read_record
    from scarcegan.monitoring.rows import Tally

    side = {"encoding": "JSON", "data": '{"instances": [[1.0, 2.0, 3.0]]}'}
    record = {"captureData": {"endpointInput": side}, "eventMetadata": {"inferenceId": LOAD_TEST, "eventId": "e"}}
    tally = Tally()
    assert read_record(record, FEATURES, CLASSES, tally) == []
    assert tally.as_sentence() == "0 rows in 0 files; 1 request of load tests left out"
    record["eventMetadata"]["inferenceId"] = "somebody's"
    assert len(read_record(record, FEATURES, CLASSES, tally)) == 1


# -- in AWS ---------------------------------------------------------------------------------------------------------

HOUR = 1_800_000_000 - 1_800_000_000 % 3600


def metrics(*minutes: tuple[float, float, float, float]) -> dict:
    """GetMetricData's answer of minutes: requests, p50, p95, p99 (microseconds)."""
    return {
        "MetricDataResults": [
            {"Id": name, "Timestamps": [HOUR + 60 * i for i in range(len(minutes))], "Values": list(values)}
            for name, values in zip(("requests", "p50", "p95", "p99"), zip(*minutes, strict=True), strict=True)
        ]
        if minutes
        else [{"Id": name, "Timestamps": [], "Values": []} for name in ("requests", "p50", "p95", "p99")]
    }


def read(*answers: dict | str, requests: int = 3000) -> tuple[ModelLatency | None, list[float]]:
    time, cloudwatch = Time(), client("cloudwatch")
    with Stubber(cloudwatch) as stub:
        for answer in answers:
            if isinstance(answer, str):
                stub.add_client_error("get_metric_data", answer, http_status_code=403)
            else:
                asked = load.latency_question("risky-staging", HOUR + 0.5, HOUR + 60.5)
                stub.add_response("get_metric_data", answer, asked)
        aws = stubbed(cloudwatch=cloudwatch)
        found = load.model_latency(aws, "staging", HOUR + 0.5, HOUR + 60.5, requests, time.clock())
        stub.assert_no_pending_responses()
    return found, time.waits


def test_the_latency_is_asked_for_as_the_alarm_asks_for_it():
    """Whole minutes around the test; metric, unit, period and dimensions of LatencyAlarm."""
    asked = load.latency_question("risky-staging", HOUR + 0.5, HOUR + 60.5)
    assert (asked["StartTime"], asked["EndTime"]) == (HOUR, HOUR + 120)
    _, _, text = (ROOT / "infra/endpoint.yaml").read_text().partition("  LatencyAlarm:\n")
    for query in asked["MetricDataQueries"]:
        stat = query["MetricStat"]
        assert f"Namespace: {stat['Metric']['Namespace']}\n" in text
        assert f"MetricName: {stat['Metric']['MetricName']}\n" in text
        assert f"Unit: {stat['Unit']}\n" in text and f"Period: {stat['Period']}\n" in text
        assert [it["Name"] for it in stat["Metric"]["Dimensions"]] == ["EndpointName", "VariantName"]
        assert stat["Metric"]["Dimensions"][1]["Value"] == "AllTraffic"


def test_the_metrics_are_waited_for_until_they_hold_all_requests_stubbed():
    found, waits = read(metrics(), metrics((2000, 1, 2, 3)), metrics((2990, 4000, 5000, 6000), (10, 1e6, 1e6, 1e6)))
    assert found == ModelLatency(4, 5, 6), "ten requests have no slowest one in a hundred"
    assert waits == [20, 20]


def test_the_minute_with_the_slowest_answers_counts_stubbed():
    found, _ = read(metrics((1500, 1, 1, 7000), (1500, 2000, 3000, 8000)))
    assert found == ModelLatency(2, 3, 8)


def test_few_requests_are_read_from_the_minute_that_has_most_stubbed():
    found, _ = read(metrics((20, 1000, 2000, 3000), (5, 1e6, 1e6, 1e6)), requests=25)
    assert found == ModelLatency(1, 2, 3)


def test_metrics_that_never_come_or_may_not_be_read_are_none_stubbed():
    found, waits = read(*[metrics()] * load.CLOUDWATCH_TRIES)
    assert found is None and sum(waits) == 180
    assert read("AccessDenied") == (None, [])


def test_no_way_to_cloudwatch_is_no_failure(monkeypatch):
    cloudwatch = client("cloudwatch")

    def unreachable(**_: object) -> None:
        raise EndpointConnectionError(endpoint_url="https://monitoring.eu-west-1.amazonaws.com/")

    monkeypatch.setattr(cloudwatch, "get_metric_data", unreachable)
    assert load.model_latency(stubbed(cloudwatch=cloudwatch), "staging", HOUR, HOUR + 60, 1, Time().clock()) is None


class Session:
    """Hands out one client, and keeps what it was configured with."""

    def __init__(self, runtime) -> None:
        self.runtime = runtime

    def client(self, service: str, region_name: str, config) -> object:
        self.config = config
        return self.runtime


def test_staging_is_asked_once_with_an_id_that_monitoring_knows_stubbed():
    runtime = client("sagemaker-runtime")
    session = Session(runtime)
    send = load.load_sender(Aws(NAMES, session), "staging", 50)
    assert session.config.retries == {"total_max_attempts": 1} and session.config.max_pool_connections == 50
    asked = {"EndpointName": "risky-staging", "Body": b"[]", "ContentType": JSON, "Accept": JSON}
    with Stubber(runtime) as stub:
        stub.add_client_error(
            "invoke_endpoint", "ThrottlingException", "Rate exceeded", http_status_code=400,
            expected_params={**asked, "InferenceId": LOAD_TEST},
        )  # fmt: skip
        assert send("[]", JSON) == (429, "Rate exceeded")
        stub.add_client_error("invoke_endpoint", "ServiceUnavailable", "busy", http_status_code=503)
        assert send("[]", JSON) == (503, "busy")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ReadTimeoutError(endpoint_url="https://x"), "timeout"),
        (EndpointConnectionError(endpoint_url="https://x"), "no connection"),
    ],
)
def test_what_the_network_does_in_between_has_its_kind(error, kind, monkeypatch):
    runtime = client("sagemaker-runtime")

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(runtime, "invoke_endpoint", fail)
    assert load.asker(load.load_sender(Aws(NAMES, Session(runtime)), "staging", 4), SAMPLE)(0)[0] == kind
