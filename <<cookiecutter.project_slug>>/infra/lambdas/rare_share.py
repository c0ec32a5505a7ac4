"""Rare share: a file of captured requests in, how many rows were answered and how many of them flagged out, as metrics.

EventBridge calls it for every file that an endpoint's data capture writes to S3; two alarms of endpoint.yaml divide
the sums. Needs nothing but the Lambda runtime. The counts are published for the minute in which they arrive: a record
is minutes old by then, and an alarm does not look back. An event that comes twice counts twice, in both sums alike.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture.html
"""

import base64
import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LINE_BYTES = 16 * 2**20  # a request and its answer have at most 6 MB each, base64 makes that 16 together


@dataclass(frozen=True)
class Counts:
    """rows: answered; flagged: of these, as the rare class; unreadable: records that could not be counted."""

    rows: int = 0
    flagged: int = 0
    unreadable: int = 0


def handler(event: Mapping[str, Any], context: Any) -> dict[str, int]:
    """Count one file and publish. event: EventBridge's "Object Created" of S3, whose key is not URL-encoded."""
    import boto3

    place = event["detail"]
    bucket, key = place["bucket"]["name"], place["object"]["key"]
    if not key.endswith(".jsonl"):
        return {}
    body = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"]
    counts = count(body.iter_lines(), int(os.environ["RARE_LABEL"]))
    print(json.dumps({"key": key, **vars(counts)}))
    if counts.rows:
        data = metric_data(counts, os.environ["ENDPOINT"])
        boto3.client("cloudwatch").put_metric_data(Namespace=os.environ["NAMESPACE"], MetricData=data)
    return dict(vars(counts))


def metric_data(counts: Counts, endpoint: str) -> list[dict[str, Any]]:
    """The sums as PutMetricData takes them."""
    dimensions = [{"Name": "EndpointName", "Value": endpoint}]
    return [
        {"MetricName": name, "Value": float(value), "Unit": "Count", "Dimensions": dimensions}
        for name, value in (("Rows", counts.rows), ("FlaggedRows", counts.flagged))
    ]


def count(lines: Iterable[bytes], rare: int) -> Counts:
    """The answers in lines of data capture. rare: what the model's `label` says of a flagged row."""
    rows = flagged = unreadable = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            labels = labels_of(json.loads(line)) if len(line) <= LINE_BYTES else None
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            labels = None
        if labels is None:
            unreadable += 1
        else:
            rows += len(labels)
            flagged += sum(label == rare for label in labels)
    return Counts(rows, flagged, unreadable)


def labels_of(record: Mapping[str, Any]) -> list[float]:
    """The label of every row of one answer; raises for a record that holds none."""
    side = record["captureData"]["endpointOutput"]
    kind, data = side.get("encoding", "JSON"), side["data"]
    if kind == "BASE64":
        data = base64.b64decode(data, validate=True).decode("utf-8")
        kind = "CSV" if "csv" in side.get("observedContentType", "") else "JSON"
    if kind == "CSV":
        return [float(line[0]) for line in csv.reader(data.splitlines()) if line]
    answer = json.loads(data) if isinstance(data, str) else data
    cells = [row["label"] for row in answer["predictions"]] if "predictions" in answer else answer["outputs"]["label"]
    return [float(cell[0] if isinstance(cell, list) else cell) for cell in cells]  # [n] or [n, 1]
