"""Smoke test: checks that an endpoint answers real requests and runs the model that was released. Changes nothing.

Requests and answers have the formats of AWS's TensorFlow Serving image: rows and columns of JSON, CSV without empty
cells, an HTTP status of 4xx for a bad request.
https://github.com/aws/sagemaker-tensorflow-serving-container
"""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.errors import UserError
from scarcegan.jsonfile import read_json
from scarcegan.model.saved import EXPORT_AGAIN
from scarcegan.monitoring.rows import INFERENCE_ID
from scarcegan.monitoring.statistics import typical_row

JSON, CSV = "application/json", "text/csv"
SECONDS = 60  # to wait for an answer: a serverless endpoint may have to start first
STOPPED = "The release stops here; read the endpoint's log in CloudWatch."
NO_STACK = {
    "staging": "staging has an endpoint only while a release is tested. To keep it after the next release, type: "
    "scarcegan toolchain deploy --set StagingRuns=always",
    "production": "nothing was released to production yet. Approve a model first.",
}
UNAVAILABLE = (429, 500, 503, 530)  # HTTP statuses of SageMaker itself, when the container cannot answer
TOLERANCE = 1e-5  # CSV and JSON of one row may differ in the last digit
Send = Callable[[str, str], tuple[int, str]]  # sends (body, content type), returns (HTTP status, body)


@dataclass(frozen=True)
class Sample:
    """Users to send to an endpoint as rows of features, and what its answers are checked against.

    - features: names of the model's features.
    - classes: names of the model's classes; the rare one is last.
    - rows: one per user: finite numbers, one per feature in the order of `features`.
    """

    features: tuple[str, ...]
    classes: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]


def sample_of(package: Path) -> Sample:
    """Return a sample of three made-up users, from the baseline (baseline/statistics.json) of a model package.

    The first has the mean of each feature in the rows of the baseline, the second the minimum, the third the maximum. A
    figure that the baseline lacks, such as the mean of a category, is 0.

    - package: the folder that the package was exported to.

    Raises UserError when a file of the package is missing or is not JSON, or model.json names no features or classes.
    """
    model = read_json(package / "model" / "model.json", EXPORT_AGAIN)
    if not (model.get("features") and model.get("classes")):
        raise UserError(f"{package / 'model' / 'model.json'}: names no features or classes. {EXPORT_AGAIN}")
    statistics = {"features": []} | read_json(package / "baseline" / "statistics.json", EXPORT_AGAIN)
    rows = tuple(typical_row(statistics, model["features"], figure) for figure in ("mean", "min", "max"))
    return Sample(tuple(model["features"]), tuple(model["classes"]), rows)


# -- asking ---------------------------------------------------------------------------------------------------------


def sender_to_stage(aws: Aws, stage: str, inference_id: str = "") -> Send:
    """Return a function that sends a request to the endpoint of a stage in AWS.

    The function takes (body, content type) and returns (HTTP status, body), whether the request succeeded or not. They
    are those of the container behind the endpoint, or 429, 500, 503 or 530 with the error's text when SageMaker cannot
    get an answer from it. It raises botocore's ClientError for any other error of AWS, for example when there is no
    such endpoint.

    - stage: staging or production.
    - inference_id: is recorded with each request that data capture records; "" for none.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
    """
    from botocore.exceptions import ClientError

    runtime, name = aws.client("sagemaker-runtime"), aws.names.endpoint(stage)
    more = {"InferenceId": inference_id} if inference_id else {}

    def send(body: str, kind: str) -> tuple[int, str]:
        try:
            answer = runtime.invoke_endpoint(
                EndpointName=name, Body=body.encode(), ContentType=kind, Accept=JSON, **more
            )
        except ClientError as error:
            found = error.response
            if found["Error"]["Code"] == "ModelError":  # the container answered with another status than 2xx
                return int(found.get("OriginalStatusCode", 500)), str(found.get("OriginalMessage", ""))
            if found["ResponseMetadata"]["HTTPStatusCode"] not in UNAVAILABLE:
                raise
            return found["ResponseMetadata"]["HTTPStatusCode"], found["Error"]["Message"]
        return 200, answer["Body"].read().decode("utf-8")

    return send


def sender_to_url(url: str, inference_id: str = "", seconds: float = SECONDS) -> Send:
    """Return a function that sends a request to a server, such as `scarcegan serve`.

    The function takes (body, content type) and returns (HTTP status, body).

    - url: such as http://127.0.0.1:8080; requests go to <url>/invocations.
    - inference_id: as for `sender_to_stage`.
    - seconds: how long an answer is waited for.

    An answer with the HTTP status of an error is returned like any other.

    Raises UserError for text that does not begin with http:// or https://. The function raises UserError when the
    server cannot be reached or does not answer in time.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{url}' is no URL. Give one such as http://127.0.0.1:8080.")

    def send(body: str, kind: str) -> tuple[int, str]:
        headers = {"Content-Type": kind, "Accept": JSON}
        headers |= {INFERENCE_ID: inference_id} if inference_id else {}
        request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, answer.read().decode("utf-8")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            raise UserError(f"{url} does not answer ({error}). Start it first: scarcegan serve") from error

    return send


# -- judging --------------------------------------------------------------------------------------------------------


def run_smoke_test(send: Send, sample: Sample) -> list[str]:
    """Send good and bad requests to an endpoint and check its answers. Returns lines of text that say what was found.

    The users as JSON rows, JSON columns, CSV and JSON rows again must get equal answers; a row with missing values must
    be answered; a text in place of the rows and half a request must be refused with 4xx.

    - send: sends one request, as the functions that `sender_to_stage` and `sender_to_url` return.
    - sample: the users to send.

    Raises UserError for the first answer that is wrong. Errors of `send` pass through.
    """
    rows = [list(row) for row in sample.rows]
    as_rows, as_columns = json.dumps({"instances": rows}), json.dumps({"inputs": rows})
    as_csv = "".join(",".join(map(repr, row)) + "\n" for row in rows)
    typical, *more = rows[0]
    missing = json.dumps({"instances": [[typical, *(math.nan for _ in more)]]})

    first = answers(send, "JSON rows", as_rows, sample)
    alike = {
        "JSON columns": answers(send, "JSON columns", as_columns, sample, key="outputs"),
        "CSV": answers(send, "CSV", as_csv, sample, CSV),
    }
    answers(send, "a row with missing values", missing, sample, rows=1)
    refused = [
        require_refusal(send, "a word for rows", '{"instances": "rows"}'),
        require_refusal(send, "half a request", as_rows[:-2]),
    ]
    alike["the same request a second time"] = answers(send, "the same request a second time", as_rows, sample)
    for words, found in alike.items():
        if not same_answers(first, found):
            raise UserError(f"{words}: another answer than to JSON rows of the same users. {STOPPED}")
    name = (*sample.classes, "unknown")[first[0]["label"]]
    return [
        f"{len(rows)} users answered as JSON rows, JSON columns and CSV, alike each time; missing values are taken",
        f"the typical user is {name}, rarity {first[0]['rarity']:.3f}",
        *refused,
    ]


def answers(
    send: Send,
    words: str,
    body: str,
    sample: Sample,
    kind: str = JSON,
    key: str = "predictions",
    rows: int | None = None,
) -> list[dict[str, Any]]:
    """Send a good request and return its answer: per user a dictionary of label, rarity, probabilities and unknown.

    - words: what the request is called in errors.
    - sample: its classes, and its number of users unless `rows` is given, are what the answer is checked against.
    - kind: content type of the body.
    - key: where the answer holds its values: "predictions" (a dictionary per user) or "outputs" (a list per name, which
      is turned into a dictionary per user).
    - rows: number of users in `body`; None: as many as the sample has.

    Raises UserError when the status is not 200, the answer has another number of users, or `answer_problem` finds a
    fault in it.
    """
    status, said = send(body, kind)
    if status != 200:
        raise UserError(f"{words}: answered with {status} ({said[:200]!r}), expected 200. {STOPPED}")
    try:
        answer = json.loads(said)[key]
        found = by_row(answer) if key == "outputs" else answer
        fault = next((fault for fault in (answer_problem(row, sample) for row in found) if fault), "")
        if len(found) != (rows or len(sample.rows)):
            fault = f"{len(found)} rows answered"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
    if fault:
        raise UserError(f"{words}: no answer of this model ({fault}): {said[:200]!r}. {STOPPED}")
    return found


def by_row(outputs: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Turn an answer in columns (name -> a value per row) into a list of rows (name -> value).

    Raises ValueError when the columns differ in length.
    """
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


def answer_problem(row: Mapping[str, Any], sample: Sample) -> str:
    """Return what is wrong with the answer for one user, as the end of a sentence; "" when it is right.

    Right are K probabilities, rarity and unknown, all from 0 to 1, and a label that is an int from 0 to K. Whether the
    probabilities add up to 1 is not checked.

    - row: the answer: label, rarity, unknown and probabilities.
    - sample: K is the number of its classes; the label K means "unknown".

    Raises LookupError or TypeError for an answer that lacks one of these, or holds no numbers.
    """
    k = len(sample.classes)
    if len(row["probabilities"]) != k:
        return f"{len(row['probabilities'])} probabilities for {k} classes"
    shares: dict[Any, float] = {name: row[name] for name in ("rarity", "unknown")}
    shares |= dict(enumerate(row["probabilities"]))
    wrong = [name for name, value in shares.items() if not 0 <= value <= 1 + TOLERANCE]
    if wrong:
        return f"{wrong[0]} is {shares[wrong[0]]}, outside 0 to 1"
    if type(row["label"]) is not int or not 0 <= row["label"] <= k:
        return f"label is {row['label']!r}, expected a whole number from 0 to {k}"
    return ""


def same_answers(these: Sequence[Mapping[str, Any]], those: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two answers for the same users have equal labels, and rarities that differ by at most 0.00001.

    Both have a row per user, in the same order.

    Raises ValueError when they have different numbers of users.
    """
    return all(
        a["label"] == b["label"] and math.isclose(a["rarity"], b["rarity"], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        for a, b in zip(these, those, strict=True)
    )


def require_refusal(send: Send, words: str, body: str) -> str:
    """Send a bad request as JSON, which the endpoint must refuse with 4xx. Returns a line of text that says so.

    - words: what the request is called in that line and in errors.

    Raises UserError for another status.
    """
    status, answer = send(body, JSON)
    if not 400 <= status < 500:
        raise UserError(f"{words}: answered with {status} ({answer[:200]!r}), expected 4xx. {STOPPED}")
    return f"{words} is refused with {status}"


# -- is it the wanted one? ------------------------------------------------------------------------------------------


def verify_stage(aws: Aws, stage: str, version: int | None = None) -> dict[str, str]:
    """Check that the endpoint of a stage runs what its CloudFormation stack wants. Returns the stack's outputs.

    The outputs are those of `stack_outputs`. CloudFormation can report success although SageMaker has rolled the
    endpoint back because of an alarm.

    - stage: staging or production.
    - version: the version of the model that the stage must serve; None accepts any.

    Raises UserError when there is no stack or endpoint, the stack is for another version, or the endpoint is not in
    service or was rolled back.
    """
    wanted = stack_outputs(aws, stage)
    if version is not None and wanted["Version"] != str(version):
        raise UserError(
            f"the stack of {stage} is for version {wanted['Version']}, not {version}: another release has replaced it. "
            f"To release {version} again, type: scarcegan release --rollback {version}"
        )
    found = describe_endpoint(aws, wanted["EndpointName"])
    name, state, runs = wanted["EndpointName"], found["EndpointStatus"], found["EndpointConfigName"]
    if state != "InService":
        reason = f" ({found['FailureReason']})" if found.get("FailureReason") else ""
        raise UserError(f"endpoint {name} is {state}{reason}, not InService. Read its events in SageMaker.")
    if runs != wanted["EndpointConfigName"]:
        raise UserError(
            f"endpoint {name} was rolled back: it runs {runs}, wanted was {wanted['EndpointConfigName']} with version "
            f"{wanted['Version']}. See in CloudWatch which alarm {aws.names.stack(stage)}-… went off, then release "
            "again."
        )
    return wanted


def require_served_package(aws: Aws, wanted: Mapping[str, str], arn: str) -> None:
    """Check that an endpoint serves a model package, and nothing beside it.

    - wanted: the outputs of its stack, as `verify_stage` returns them.
    - arn: of the model package.

    Raises UserError when the endpoint serves another model, or one that is no registered package.
    """
    found = []
    for variant in variants(aws, wanted["EndpointConfigName"]):
        model = aws.client("sagemaker").describe_model(ModelName=variant["ModelName"])
        containers = model.get("Containers") or [model.get("PrimaryContainer", {})]
        found += [container.get("ModelPackageName") or container.get("ModelDataUrl", "") for container in containers]
    if found != [arn]:
        raise UserError(
            f"endpoint {wanted['EndpointName']} serves {', '.join(found) or 'no model'}, not {arn} of version "
            f"{wanted['Version']}. Find out who changed it, then release again: "
            f"scarcegan release --rollback {wanted['Version']}"
        )


def variants(aws: Aws, config: str) -> list[dict[str, Any]]:
    """Return the production variants of an endpoint config, as SageMaker describes them. config: its name."""
    return list(aws.client("sagemaker").describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"])


def describe_endpoint(aws: Aws, name: str) -> dict[str, Any]:
    """Return SageMaker's description of an endpoint, a dictionary with EndpointStatus, EndpointConfigName and more.

    - name: the endpoint's name in AWS.

    Raises UserError when the endpoint does not exist.
    """
    found = none_if_missing(lambda: aws.client("sagemaker").describe_endpoint(EndpointName=name))
    if found is None:
        raise UserError(
            f"endpoint {name} was deleted, but its stack still exists. Delete the stack, then release again."
        )
    return found


def stack_outputs(aws: Aws, stage: str) -> dict[str, str]:
    """Return output -> value of a stage's CloudFormation stack: EndpointName, EndpointConfigName, Version and others.

    - stage: staging or production.

    Raises UserError when the stack does not exist or lacks one of these three.
    """
    stack = aws.names.stack(stage)
    answer = none_if_missing(lambda: aws.client("cloudformation").describe_stacks(StackName=stack))
    if answer is None:
        raise UserError(f"there is no stack '{stack}': {NO_STACK[stage]}")
    found = answer["Stacks"][0]
    there = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if not {"EndpointName", "EndpointConfigName", "Version"} <= set(there):
        raise UserError(
            f"stack '{stack}' is {found['StackStatus']} and has no endpoint. Read its events in CloudFormation."
        )
    return there
