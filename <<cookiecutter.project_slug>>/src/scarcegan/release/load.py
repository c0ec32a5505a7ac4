"""Load test: asks an endpoint for a minute as often as one instance may be asked in production, and judges the answers.

It sends requests at fixed times, whether earlier ones were answered or not, as users do. Its requests carry an id by
which monitoring leaves them out. It changes nothing, and starts no further instance: staging has one. So it shows what
one instance takes; that production starts more of them in time is not tested.
https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-scaling-loadtest.html
"""

import itertools
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from scarcegan.aws import client
from scarcegan.aws.client import Aws
from scarcegan.errors import UserError
from scarcegan.monitoring.rows import LOAD_TEST
from scarcegan.pipeline.config import EndpointSettings
from scarcegan.release.release import one_line_ascii
from scarcegan.release.smoke import JSON, STOPPED, Sample, Send, sender_to_stage

SECONDS, MOST_SECONDS = 60, 300
MOST_RATE = 200  # requests per second; one process of Python on a small machine sends no more
MOST_CONNECTIONS = 128
SERVERLESS_CONCURRENCY = 5  # MaxConcurrency in infra/endpoint.yaml; more requests at once would be throttled
TIMEOUT = 10  # seconds for one answer
WARM_UP_REQUESTS, WARM_UP_SECONDS = 5, 120
TOLERATED_ERRORS = 0.01  # the share at which ErrorAlarm of infra/endpoint.yaml goes off
LATE_MS, BUSY_CPU = 100, 0.8  # from which the client counts as slow: requests sent late, and share of one processor
LOAD_CHARACTERS = 160  # of the approval's text, behind the summary of the release
MINUTE = 60  # the period of the alarms' metrics
CLOUDWATCH_TRIES, CLOUDWATCH_WAIT = 10, 20  # seconds; metrics appear a minute or two later
ENOUGH = 100  # requests in a minute, so that its slowest one in a hundred is one
THROTTLED, MODEL_ERROR, SERVER_ERROR = "throttled", "model error", "5xx"
TIMED_OUT, UNREACHABLE = "timeout", "no connection"
NOT_SENT = "not sent"  # because the test had to end; no error of the endpoint
Ask = Callable[[int], tuple[str, str]]  # sends the request of that number, returns kind and text of its error


@dataclass(frozen=True)
class Clock:
    """The time, in seconds: since some moment, that this process has used of a processor, since 1970; and waiting."""

    ticks: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


# -- what to ask for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadPlan:
    """What a load test asks of an endpoint.

    - endpoint: the settings that the answers are measured by.
    - machine: the instance type of the only instance; "serverless", or "" for a server that is no endpoint in AWS.
    - rate: requests per second.
    - seconds: for how long.
    """

    endpoint: EndpointSettings
    machine: str
    rate: float
    seconds: int

    @property
    def requests(self) -> int:
        """How many requests are sent, one at least."""
        return max(1, round(self.rate * self.seconds))

    @property
    def connections(self) -> int:
        """How many requests may be under way: twice as many as there are when each takes as long as it may."""
        if self.machine == "serverless":
            return SERVERLESS_CONCURRENCY
        return min(MOST_CONNECTIONS, max(4, math.ceil(2 * self.rate * self.endpoint.latency_ms / 1000)))


def plan_load(endpoint: EndpointSettings, machine: str, seconds: int = SECONDS, rate: float | None = None) -> LoadPlan:
    """Return the plan of a load test.

    - rate: requests per second; None: as many as production's scaling gives one instance, but 200 at most.
    """
    return LoadPlan(endpoint, machine, rate or min(MOST_RATE, endpoint.invocations_per_instance / 60), seconds)


def machine_of(variants: Sequence[Mapping[str, Any]]) -> str:
    """Return what the first variant of an endpoint runs on: its instance type, or "serverless"."""
    return "serverless" if "ServerlessConfig" in variants[0] else str(variants[0]["InstanceType"])


# -- asking ---------------------------------------------------------------------------------------------------------


def load_sender(aws: Aws, stage: str, connections: int) -> Send:
    """Return a function that sends a request to the endpoint of a stage, once: what AWS refuses is not repeated.

    It takes (body, content type) and returns (HTTP status, body), like that of `sender_to_stage`. 429 also stands for a
    request that AWS throttles with another status. It raises TimeoutError or ConnectionError when no answer comes.

    - connections: how many may be open.
    """
    from botocore import exceptions as refused
    from botocore.config import Config

    once = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=TIMEOUT,
        read_timeout=TIMEOUT,
        max_pool_connections=connections,
    )
    session = aws.session or client.library("boto3").Session(region_name=aws.names.region)
    runtime = session.client("sagemaker-runtime", region_name=aws.names.region, config=once)
    send_once = sender_to_stage(Aws(aws.names, session, {"sagemaker-runtime": runtime}), stage, LOAD_TEST)

    def send(body: str, kind: str) -> tuple[int, str]:
        try:
            return send_once(body, kind)
        except refused.ClientError as error:
            if error.response["Error"].get("Code") not in client.BUSY_CODES:
                raise
            return client.TOO_MANY_REQUESTS, str(error.response["Error"].get("Message", ""))
        except (refused.ReadTimeoutError, refused.ConnectTimeoutError) as error:
            raise TimeoutError(client.flat(error)) from error
        except (refused.HTTPClientError, refused.ConnectionError, refused.IncompleteReadError) as error:
            raise ConnectionError(client.flat(error)) from error

    return send


def asker(send: Send, sample: Sample) -> Ask:
    """Return a function that asks about one user of a sample at a time, and returns the error: its kind and its text.

    Both are "" for an answer. The kinds are throttled (429), model error (another 4xx), 5xx, timeout and no connection.
    Errors of `send` that are none of these pass through.
    """
    bodies = [json.dumps({"instances": [list(row)]}) for row in sample.rows]

    def ask(number: int) -> tuple[str, str]:
        try:
            status, said = send(bodies[number % len(bodies)], JSON)
        except (UserError, TimeoutError, ConnectionError) as error:
            return no_answer_kind(error), str(error)
        return ("", "") if status < 400 else (status_kind(status), f"{status} {said[:100]}")

    return ask


def status_kind(status: int) -> str:
    """Return the kind of error of an HTTP status of 400 or more."""
    if status == client.TOO_MANY_REQUESTS:
        return THROTTLED
    return SERVER_ERROR if status >= 500 else MODEL_ERROR


def no_answer_kind(error: BaseException | None) -> str:
    """Return whether a request without an answer has timed out or found no server, by the error and its causes."""
    while error is not None:
        if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
            return TIMED_OUT
        error = error.__cause__
    return UNREACHABLE


def warm_up(ask: Ask, clock: Clock) -> float:
    """Send one request after the other until five were answered. Returns the milliseconds until the first answer.

    A serverless endpoint may have to start, and a model's first answers are slow. None of these requests is measured.

    Raises UserError when a request is refused or finds no server, and when two minutes did not suffice.
    """
    begin, answered, first = clock.ticks(), 0, 0.0
    for number in itertools.count():
        kind, text = ask(number)
        passed = clock.ticks() - begin
        if not kind:
            answered, first = answered + 1, first or passed
            if answered == WARM_UP_REQUESTS:
                break
        elif kind in (MODEL_ERROR, UNREACHABLE) or passed > WARM_UP_SECONDS:
            raise UserError(f"no load test, because single requests are not answered: {kind} ({text}). {STOPPED}")
        else:
            clock.sleep(1)
    return 1000 * first


@dataclass(frozen=True)
class Answer:
    """One request: when it was due, sent and answered, in seconds since the test began, and its error ("": none)."""

    due: float
    sent: float
    ended: float
    kind: str = ""
    text: str = ""


def send_requests(
    ask: Ask, plan: LoadPlan, clock: Clock, threads: Callable[[int], Executor] = ThreadPoolExecutor
) -> tuple[list[Answer], float]:
    """Send the requests of a plan, each when it is due. Returns them, and the share of one processor that this took.

    A request that no connection was free for until ten seconds after the last was due is not sent; so the test ends at
    most 20 seconds after its time, whatever the endpoint does.
    """
    begin, used = clock.ticks(), clock.cpu()

    def request(number: int, due: float) -> Answer:
        sent = clock.ticks() - begin
        if sent > plan.seconds + TIMEOUT:
            return Answer(due, sent, sent, NOT_SENT)
        kind, text = ask(number)
        return Answer(due, sent, clock.ticks() - begin, kind, text)

    with threads(plan.connections) as pool:
        waiting = []
        for number in range(plan.requests):
            due = number / plan.rate
            early = begin + due - clock.ticks()
            if early > 0:
                clock.sleep(early)
            waiting.append(pool.submit(request, number, due))
        answers = [each.result() for each in waiting]
    return answers, (clock.cpu() - used) / max(clock.ticks() - begin, 1e-9)


# -- what the endpoint itself measured ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelLatency:
    """What the model took in the minute with the slowest answers, in milliseconds, as CloudWatch has it."""

    p50_ms: float
    p95_ms: float
    p99_ms: float


def wait_for_a_full_minute(clock: Clock) -> None:
    """Wait until a minute begins, so that the metrics of its minutes hold no request of the warm-up."""
    clock.sleep(-clock.now() % MINUTE)


def model_latency(aws: Aws, stage: str, begin: float, end: float, requests: int, clock: Clock) -> ModelLatency | None:
    """Return ModelLatency of the endpoint of a stage from CloudWatch; None when it cannot be read.

    Of the minutes with at least 100 requests, or else the one with most, that with the highest p99 counts, as for the
    alarm, which looks at minutes too. The metrics are waited for, three minutes at most.

    - begin, end: seconds since 1970. requests: how many were answered between them.

    https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
    """
    from botocore.exceptions import BotoCoreError, ClientError

    cloudwatch, found = aws.client("cloudwatch"), None
    asked = latency_question(aws.names.endpoint(stage), begin, end)
    for attempt in range(CLOUDWATCH_TRIES):
        if attempt:
            clock.sleep(CLOUDWATCH_WAIT)
        try:
            minutes = latency_minutes(cloudwatch.get_metric_data(**asked))
        except (ClientError, BotoCoreError):  # not allowed, or no way to CloudWatch from this VPC
            return None
        found = slowest_minute(minutes)
        if sum(minute["requests"] for minute in minutes) >= requests:
            break
    return found


def latency_question(endpoint: str, begin: float, end: float) -> dict[str, Any]:
    """Return the arguments of CloudWatch's GetMetricData for ModelLatency of an endpoint in each minute of a time."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "AllTraffic"}]
    metric = {"Namespace": "AWS/SageMaker", "MetricName": "ModelLatency", "Dimensions": dimensions}
    statistics = {"requests": "SampleCount", "p50": "p50", "p95": "p95", "p99": "p99"}
    return {
        "MetricDataQueries": [
            {"Id": name, "MetricStat": {"Metric": metric, "Period": MINUTE, "Stat": stat, "Unit": "Microseconds"}}
            for name, stat in statistics.items()
        ],
        "StartTime": begin // MINUTE * MINUTE,
        "EndTime": -(-end // MINUTE) * MINUTE,
    }


def latency_minutes(answer: Mapping[str, Any]) -> list[dict[str, float]]:
    """Return a dictionary per minute (requests; p50, p95 and p99 in microseconds) from an answer of GetMetricData."""
    minutes: dict[Any, dict[str, float]] = {}
    for series in answer["MetricDataResults"]:
        for moment, value in zip(series["Timestamps"], series["Values"], strict=True):
            minutes.setdefault(moment, {})[series["Id"]] = value
    return [minute for minute in minutes.values() if len(minute) == 4]


def slowest_minute(minutes: Sequence[Mapping[str, float]]) -> ModelLatency | None:
    """Return the latencies of the minute that counts, as `model_latency` says; None without minutes."""
    if not minutes:
        return None
    full = [minute for minute in minutes if minute["requests"] >= ENOUGH]
    worst = max(full, key=lambda minute: minute["p99"]) if full else max(minutes, key=lambda minute: minute["requests"])
    return ModelLatency(*(worst[name] / 1000 for name in ("p50", "p95", "p99")))


# -- judging --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoadResult:
    """What a load test found.

    - requests: how many were sent; errors: kind -> how many of them; not_sent: how many were not, for lack of time.
    - rate: answered requests per second.
    - p50_ms, p95_ms, p99_ms: of the answered requests, by the client; 0 without any.
    - model: the same as SageMaker measures it; None where that could not be read.
    - first_answer_ms: of the first request of the warm-up; that of a serverless endpoint may include its start.
    - problems: sentences; the test failed if there is one. notes: what the figures do not say.
    - summary: for the person who approves; one line of at most 160 ASCII characters.
    """

    requests: int
    errors: Mapping[str, int]
    not_sent: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    model: ModelLatency | None
    first_answer_ms: float
    client_was_slow: bool
    problems: Sequence[str]
    notes: Sequence[str]
    summary: str

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        rows = [("by the client", self.p50_ms, self.p95_ms, self.p99_ms)]
        rows += [("in the model", self.model.p50_ms, self.model.p95_ms, self.model.p99_ms)] if self.model else []
        errors = ", ".join(f"{count:,} {kind}" for kind, count in self.errors.items()) or "none"
        return [
            f"{self.requests:,} requests, {self.rate:.1f} answered per second; errors: {errors}",
            *(f"{who}: p50 {p50:.0f} ms, p95 {p95:.0f} ms, p99 {p99:.0f} ms" for who, p50, p95, p99 in rows),
            f"warm-up, not counted: the first answer came after {self.first_answer_ms:.0f} ms",
            *self.notes,
        ]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` % of the values do not exceed; 0 without values."""
    return sorted(values)[math.ceil(percent / 100 * len(values)) - 1] if values else 0.0


def most_under_way(answers: Sequence[Answer]) -> int:
    """Return how many requests were under way at the same time, at most."""
    moments = sorted([(it.sent, 1) for it in answers] + [(it.ended, -1) for it in answers])
    return max(itertools.accumulate(step for _, step in moments), default=0)


def client_was_slow(answers: Sequence[Answer], cpu: float, connections: int) -> bool:
    """Whether the client, not the endpoint, is the reason why requests were sent late.

    It is when one in a hundred was sent 100 ms late or more, and the client had used up its processor or had
    connections free. When all connections waited for answers and the client had time, it is the endpoint.

    - cpu: the share of one processor that the client used.
    - connections: how many there were.
    """
    late = 1000 * percentile([it.sent - it.due for it in answers], 99)
    return late >= LATE_MS and (cpu >= BUSY_CPU or most_under_way(answers) < connections)


def judge_load(
    plan: LoadPlan, answers: Sequence[Answer], cpu: float, first_answer_ms: float, model: ModelLatency | None = None
) -> LoadResult:
    """Judge the answers by what the alarms of a release tolerate: p99 (cloud.endpoint.latency_ms) and errors (1 %).

    ModelLatency counts where it is known, as for the alarm. Otherwise the client's p99 does, unless the client was
    slow. A serverless endpoint, which may start more copies meanwhile, is judged by its errors only, and not by being
    throttled, since production has instances.

    - answers, cpu: as `send_requests` returns them. first_answer_ms: as `warm_up` returns it.
    - model: ModelLatency; None when it is not known.
    """
    sent = [it for it in answers if it.kind != NOT_SENT]
    took = [1000 * (it.ended - it.sent) for it in sent if not it.kind]
    errors = dict(Counter(it.kind for it in sent if it.kind).most_common())
    slow = client_was_slow(answers, cpu, plan.connections)
    p50, p95, p99 = (percentile(took, each) for each in (50, 95, 99))
    rate = len(took) / max([plan.seconds, *(it.ended for it in sent)])
    problems = [*error_problem(plan, sent), *latency_problem(plan, p99, model, slow)]
    not_sent = len(answers) - len(sent)
    notes = [*client_notes(plan, p99, model, slow, not_sent), *scaling_notes(plan, rate, bool(problems))]
    return LoadResult(
        len(sent), errors, not_sent, rate, p50, p95, p99, model, first_answer_ms, slow,
        problems, notes, summary(plan, errors, len(sent), p99, model, slow),
    )  # fmt: skip


def error_problem(plan: LoadPlan, sent: Sequence[Answer]) -> list[str]:
    """Return a sentence when more than 1 % of the requests ended in an error, else none."""
    tolerated = {"", THROTTLED} if plan.machine == "serverless" else {""}
    failed = [it for it in sent if it.kind not in tolerated]
    if len(failed) <= TOLERATED_ERRORS * len(sent):
        return []
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(it.kind for it in failed).most_common())
    return [
        f"under load {len(failed):,} of {len(sent):,} requests ({len(failed) / len(sent):.1%}) ended in an error: "
        f"{kinds}. The release's alarm tolerates {TOLERATED_ERRORS:.0%}. The first one: {failed[0].text}. {STOPPED}"
    ]


def latency_problem(plan: LoadPlan, p99: float, model: ModelLatency | None, slow: bool) -> list[str]:
    """Return a sentence when the p99 that counts is over the limit, else none. slow: the client was."""
    limit = plan.endpoint.latency_ms
    counts = model.p99_ms if model else 0.0 if slow else p99
    if counts <= limit or plan.machine == "serverless":
        return []
    what = f"one {plan.machine}" if plan.machine else "this server"
    return [
        f"at {plan.rate:.1f} requests a second, the slowest in a hundred took {what} {counts:.0f} ms; the release's "
        f"alarm goes off above {limit} ms (cloud.endpoint.latency_ms). Production gives one instance "
        f"{plan.endpoint.invocations_per_instance:,} requests a minute before it starts another: lower "
        "cloud.endpoint.invocations_per_instance, or choose a larger cloud.endpoint.instance, then release again."
    ]


def client_notes(plan: LoadPlan, p99: float, model: ModelLatency | None, slow: bool, not_sent: int) -> list[str]:
    """Return sentences on whether the client's figures are the endpoint's."""
    notes = []
    if slow:
        unsent = f" ({not_sent:,} not at all)" if not_sent else ""
        notes.append(f"note: this client was slow and sent requests late{unsent}; its figures say little.")
    if model and p99 > plan.endpoint.latency_ms >= model.p99_ms:
        notes.append("note: the model was fast enough; the rest of the client's p99 is the network or the client.")
    if plan.machine and not model:
        notes.append("note: CloudWatch gave no ModelLatency, which the alarm looks at; the client's p99 counts.")
    return notes


def scaling_notes(plan: LoadPlan, rate: float, failed: bool) -> list[str]:
    """Return sentences on what the test says about production's scaling. rate: answered requests per second."""
    it = plan.endpoint
    if not plan.machine or plan.machine == "serverless":
        what = "a serverless endpoint" if plan.machine else "this server"
        return [f"note: {what} says nothing about what one {it.instance} takes in production."]
    most = it.max_instances * it.invocations_per_instance
    least = it.min_instances * it.invocations_per_instance
    scaling = (
        f"production has {it.min_instances} instances for up to {least:,} requests a minute, and at most "
        f"{it.max_instances} for up to {most:,}"
    )
    if failed:
        return [f"{scaling}, if one takes {it.invocations_per_instance:,}; this test does not show that."]
    if 60 * rate < 0.95 * it.invocations_per_instance:
        return [
            f"note: one instance took {60 * rate:,.0f} requests a minute; nothing is said about the "
            f"{it.invocations_per_instance:,} that production gives it before it starts another."
        ]
    return [f"{scaling}; one took its {it.invocations_per_instance:,}. That another starts in time was not tested."]


def summary(
    plan: LoadPlan, errors: Mapping[str, int], sent: int, p99: float, model: ModelLatency | None, slow: bool
) -> str:
    """Return the result for the person who approves: one line of at most 160 ASCII characters."""
    latency = f"p99 {model.p99_ms:.0f} ms in the model, " if model else "p99 "
    words = [
        f"Load test of {plan.machine or 'a server'}, {plan.rate:.1f} requests/s for {plan.seconds} s: {latency}"
        f"{p99:.0f} ms by the client, {sum(errors.values()) / max(sent, 1):.1%} errors.",
        "The client was slow." if slow else "",
    ]
    return one_line_ascii(" ".join(filter(None, words)), LOAD_CHARACTERS)


# -- all of it ------------------------------------------------------------------------------------------------------


def load_test_server(plan: LoadPlan, ask: Ask, clock: Clock) -> LoadResult:
    """Test a server such as `scarcegan serve`. Raises UserError when it does not answer single requests."""
    first = warm_up(ask, clock)
    answers, cpu = send_requests(ask, plan, clock)
    return judge_load(plan, answers, cpu, first)


def load_test_stage(aws: Aws, stage: str, plan: LoadPlan, ask: Ask, clock: Clock) -> LoadResult:
    """Test the endpoint of a stage in AWS. Takes up to seven minutes more than the plan's seconds.

    Raises UserError when it does not answer single requests; ClientError of botocore when AWS refuses them.
    """
    first = warm_up(ask, clock)
    wait_for_a_full_minute(clock)
    begin = clock.now()
    answers, cpu = send_requests(ask, plan, clock)
    answered = sum(not it.kind for it in answers)
    model = model_latency(aws, stage, begin, clock.now(), answered, clock) if answered else None
    return judge_load(plan, answers, cpu, first, model)


def require_passed(result: LoadResult) -> None:
    """Raises UserError with the problems that a load test found, if there are any."""
    if result.problems:
        raise UserError(" ".join(result.problems))
