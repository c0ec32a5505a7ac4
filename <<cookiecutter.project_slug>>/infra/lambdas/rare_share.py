"""Lambda function that counts the rows an endpoint has answered and flagged, and publishes both counts to CloudWatch.

EventBridge calls it for every file that the endpoint's data capture writes to S3. Two alarms of endpoint.yaml divide
the counts. It imports only what the Lambda runtime has. The counts are published with the time of the call, not of the
requests, which are minutes older, because an alarm does not look back. An event that arrives twice is counted twice,
which leaves the share the same.
https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture.html
"""

import base64
import csv
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

LOAD_TEST = "scarcegan-load-test"  # the inferenceId of requests that are no users'
LINE_BYTES = 16 * 2**20  # longest record: request and answer have at most 6 MB each, together 16 MB as base64


@dataclass(frozen=True)
class Counts:
    """Counts of the captured requests in one or more files.

    - rows: how many rows (users) the endpoint answered.
    - flagged: how many of these it labelled as the rare class.
    - unreadable: how many records could not be read; a record is one request with its answer.
    """

    rows: int = 0
    flagged: int = 0
    unreadable: int = 0


def handler(event: Mapping[str, Any], context: Any) -> dict[str, int]:
    """Count the rows in one file of captured requests, and publish the counts to CloudWatch if a row was answered.

    Returns the fields of Counts by name; {} for a file that is not .jsonl.

    - event: EventBridge's "Object Created" of S3, in which the key is not URL-encoded.

    Environment variables: RARE_LABEL is the label of the rare class, ENDPOINT the endpoint's name, NAMESPACE the
    CloudWatch namespace to publish in, and ACCOUNT the account that owns the bucket.
    """
    import boto3

    written = event["detail"]
    bucket, key = written["bucket"]["name"], written["object"]["key"]
    if not key.endswith(".jsonl"):
        return {}
    place = {"Bucket": bucket, "Key": key, "ExpectedBucketOwner": os.environ["ACCOUNT"]}
    body = boto3.client("s3").get_object(**place)["Body"]
    counts = count(body.iter_lines(), int(os.environ["RARE_LABEL"]))
    print(json.dumps({"key": key, **vars(counts)}))
    if counts.rows:
        data = metric_data(counts, os.environ["ENDPOINT"])
        boto3.client("cloudwatch").put_metric_data(Namespace=os.environ["NAMESPACE"], MetricData=data)
    return dict(vars(counts))


def metric_data(counts: Counts, endpoint: str) -> list[dict[str, Any]]:
    """Return counts as CloudWatch's PutMetricData takes them: the metrics Rows and FlaggedRows of an endpoint.

    - endpoint: the name of the endpoint.
    """
    dimensions = [{"Name": "EndpointName", "Value": endpoint}]
    return [
        {"MetricName": name, "Value": float(value), "Unit": "Count", "Dimensions": dimensions}
        for name, value in (("Rows", counts.rows), ("FlaggedRows", counts.flagged))
    ]


def count(lines: Iterable[bytes], rare: int) -> Counts:
    """Count the answered and flagged rows in captured requests.

    - lines: one record of data capture as JSON each; blank lines are skipped.
    - rare: the label of the rare class.

    A record that cannot be read is counted as unreadable.
    """
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
    """Return the label of every row that the endpoint answered in one record of data capture; of a load test none.

    The answer may be JSON or CSV, base64-encoded or not.

    Raises ValueError, LookupError, TypeError or AttributeError for a record without labels.
    """
    if record.get("eventMetadata", {}).get("inferenceId") == LOAD_TEST:
        return []
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
