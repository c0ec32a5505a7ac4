"""Smoke test: does an endpoint answer real requests, and does it run the model that was wanted? Changes nothing.

What is sent and accepted is what the TensorFlow Serving image takes and gives without code of its own: rows and
columns of JSON, CSV without empty cells, an error of 4xx for a bad request.
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
from scarcegan.monitoring.statistics import typical_row

JSON, CSV = "application/json", "text/csv"
AGAIN = "Export the package again."
SECONDS = 60  # a serverless endpoint may have to start first
STOPPED = "The release stops here; look at the endpoint's log in CloudWatch."
BUSY = (429, 500, 503, 530)  # what SageMaker says instead of the container
NEAR = 1e-5  # CSV and JSON of one row give one answer, but for the last digit
Ask = Callable[[str, str], tuple[int, str]]  # (body, content type) -> (HTTP status, body)


@dataclass(frozen=True)
class Sample:
    """Rows to ask about, and what the answers must look like. rows: finite numbers, one per feature."""

    features: tuple[str, ...]
    classes: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]


def sample_of(package: Path) -> Sample:
    """The typical, the least and the largest user of a package's baseline. UserError when it is no package."""
    model = read_json(package / "model" / "model.json", AGAIN)
    if not (model.get("features") and model.get("classes")):
        raise UserError(f"{package / 'model' / 'model.json'}: names no features or classes. {AGAIN}")
    statistics = {"features": []} | read_json(package / "baseline" / "statistics.json", AGAIN)
    rows = tuple(typical_row(statistics, model["features"], figure) for figure in ("mean", "min", "max"))
    return Sample(tuple(model["features"]), tuple(model["classes"]), rows)


# -- asking ---------------------------------------------------------------------------------------------------------


def endpoint(aws: Aws, stage: str) -> Ask:
    """Asks a stage's endpoint in AWS. https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html"""
    from botocore.exceptions import ClientError

    runtime, name = aws.client("sagemaker-runtime"), aws.names.endpoint(stage)

    def ask(body: str, kind: str) -> tuple[int, str]:
        try:
            answer = runtime.invoke_endpoint(EndpointName=name, Body=body.encode(), ContentType=kind, Accept=JSON)
        except ClientError as error:
            found = error.response
            if found["Error"]["Code"] == "ModelError":  # what the container answered, if not 2xx
                return int(found.get("OriginalStatusCode", 500)), str(found.get("OriginalMessage", ""))
            if found["ResponseMetadata"]["HTTPStatusCode"] not in BUSY:
                raise
            return found["ResponseMetadata"]["HTTPStatusCode"], found["Error"]["Message"]
        return 200, answer["Body"].read().decode("utf-8")

    return ask


def server(url: str) -> Ask:
    """Asks an endpoint on a machine, such as `scarcegan serve`; UserError when nobody listens."""
    if not url.startswith(("http://", "https://")):
        raise UserError(f"'{url}' is no URL. Give one such as http://127.0.0.1:8080.")

    def ask(body: str, kind: str) -> tuple[int, str]:
        headers = {"Content-Type": kind, "Accept": JSON}
        request = urllib.request.Request(f"{url.rstrip('/')}/invocations", body.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return answer.status, answer.read().decode("utf-8")
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            raise UserError(f"{url} does not answer ({error}). Start it first: scarcegan serve") from error

    return ask


# -- judging --------------------------------------------------------------------------------------------------------


def smoke(ask: Ask, sample: Sample) -> list[str]:
    """Ask, and say a line for each thing seen. UserError for the first answer that is not as it must be."""
    rows = [list(row) for row in sample.rows]
    as_rows, as_columns = json.dumps({"instances": rows}), json.dumps({"inputs": rows})
    as_csv = "".join(",".join(map(repr, row)) + "\n" for row in rows)
    typical, *more = rows[0]
    missing = json.dumps({"instances": [[typical, *(math.nan for _ in more)]]})

    first = answers(ask, "JSON rows", as_rows, sample)
    alike = {
        "JSON columns": answers(ask, "JSON columns", as_columns, sample, key="outputs"),
        "CSV": answers(ask, "CSV", as_csv, sample, CSV),
    }
    answers(ask, "a row with missing values", missing, sample, rows=1)
    refused = [refusal(ask, "a word for rows", '{"instances": "rows"}'), refusal(ask, "half a request", as_rows[:-2])]
    alike["the same request a second time"] = answers(ask, "the same request a second time", as_rows, sample)
    for words, found in alike.items():
        if not same(first, found):
            raise UserError(f"{words}: another answer than to JSON rows of the same users. {STOPPED}")
    name = (*sample.classes, "unknown")[first[0]["label"]]
    return [
        f"{len(rows)} users answered as JSON rows, JSON columns and CSV, alike each time; missing values are taken",
        f"the typical user is {name}, rarity {first[0]['rarity']:.3f}",
        *refused,
    ]


def answers(
    ask: Ask,
    words: str,
    body: str,
    sample: Sample,
    kind: str = JSON,
    key: str = "predictions",
    rows: int | None = None,
) -> list[dict[str, Any]]:
    """The answer to a good request, a mapping per row (all of the sample's, or `rows`); UserError for any other."""
    status, said = ask(body, kind)
    if status != 200:
        raise UserError(f"{words}: answered with {status} ({said[:200]!r}), expected 200. {STOPPED}")
    try:
        answer = json.loads(said)[key]
        found = by_row(answer) if key == "outputs" else answer
        fault = next((fault for fault in (fault_of(row, sample) for row in found) if fault), "")
        if len(found) != (rows or len(sample.rows)):
            fault = f"{len(found)} rows answered"
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__}: {error}"
    if fault:
        raise UserError(f"{words}: no answer of this model ({fault}): {said[:200]!r}. {STOPPED}")
    return found


def by_row(outputs: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """TensorFlow Serving's columns as rows."""
    return [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]


def fault_of(row: Mapping[str, Any], sample: Sample) -> str:
    """What is wrong with one row's answer, or ""."""
    k = len(sample.classes)
    if len(row["probabilities"]) != k:
        return f"{len(row['probabilities'])} probabilities for {k} classes"
    shares: dict[Any, float] = {name: row[name] for name in ("rarity", "unknown")}
    shares |= dict(enumerate(row["probabilities"]))
    wrong = [name for name, value in shares.items() if not 0 <= value <= 1 + NEAR]
    if wrong:
        return f"{wrong[0]} is {shares[wrong[0]]}, outside 0 to 1"
    if type(row["label"]) is not int or not 0 <= row["label"] <= k:
        return f"label is {row['label']!r}, expected a whole number from 0 to {k}"
    return ""


def same(these: Sequence[Mapping[str, Any]], those: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two answers agree, but for the last digit."""
    return all(
        a["label"] == b["label"] and math.isclose(a["rarity"], b["rarity"], rel_tol=NEAR, abs_tol=NEAR)
        for a, b in zip(these, those, strict=True)
    )


def refusal(ask: Ask, words: str, body: str) -> str:
    """A line for a bad request that was refused as one; UserError when it was answered, or broke the server."""
    status, answer = ask(body, JSON)
    if not 400 <= status < 500:
        raise UserError(f"{words}: answered with {status} ({answer[:200]!r}), expected 4xx. {STOPPED}")
    return f"{words} is refused with {status}"


# -- is it the wanted one? ------------------------------------------------------------------------------------------


def verify(aws: Aws, stage: str, version: int | None = None) -> dict[str, str]:
    """The outputs of a stage's stack, once its endpoint is seen to run the config they name. UserError otherwise.

    version: which the stack must be of.

    CloudFormation can report success after SageMaker has rolled the endpoint back because an alarm rang.
    """
    wanted = outputs(aws, stage)
    if version is not None and wanted["Version"] != str(version):
        raise UserError(f"{stage} is of version {wanted['Version']}, not {version}: another release came between.")
    found = describe(aws, wanted["EndpointName"])
    name, state, runs = wanted["EndpointName"], found["EndpointStatus"], found["EndpointConfigName"]
    if state != "InService":
        reason = f" ({found['FailureReason']})" if found.get("FailureReason") else ""
        raise UserError(f"endpoint {name} is {state}{reason}, not InService. Look at its events in SageMaker.")
    if runs != wanted["EndpointConfigName"]:
        raise UserError(
            f"endpoint {name} was rolled back: it runs {runs}, wanted was {wanted['EndpointConfigName']} with version "
            f"{wanted['Version']}. Look which alarm {aws.names.stack(stage)}-… rang in CloudWatch, then release again."
        )
    return wanted


def describe(aws: Aws, name: str) -> dict[str, Any]:
    """SageMaker's description of an endpoint. Raises UserError when somebody has deleted it."""
    found = none_if_missing(lambda: aws.client("sagemaker").describe_endpoint(EndpointName=name))
    if found is None:
        raise UserError(f"endpoint {name} is gone, though its stack is there. Delete the stack, then release.")
    return found


def outputs(aws: Aws, stage: str) -> dict[str, str]:
    """The outputs of a stage's stack; UserError while there is none."""
    stack = aws.names.stack(stage)
    answer = none_if_missing(lambda: aws.client("cloudformation").describe_stacks(StackName=stack))
    if answer is None:
        raise UserError(f"there is no stack '{stack}': nothing was released to {stage} yet.")
    found = answer["Stacks"][0]
    there = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if not {"EndpointName", "EndpointConfigName", "Version"} <= set(there):
        raise UserError(f"stack '{stack}' is {found['StackStatus']} and has no endpoint. Look at its events.")
    return there
