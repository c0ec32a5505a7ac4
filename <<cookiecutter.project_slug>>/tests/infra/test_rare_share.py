"""The Lambda that counts flagged rows: what it makes of captured requests. AWS is moto, or botocore's Stubber."""

import base64
import json
from types import SimpleNamespace

import boto3
import numpy as np
import pytest
from botocore.exceptions import ClientError
from botocore.stub import ANY, Stubber
from moto import mock_aws

import lambdas
from scarcegan.data import wire
from scarcegan.monitoring.captured import read_captured
from scarcegan.monitoring.data_capture import Capture
from scarcegan.monitoring.rows import LOAD_TEST, Tally

FEATURES, CLASSES, RARE = ("deposits", "visits"), ("calm", "keen", "risky"), 2
JSON, CSV = wire.JSON, wire.CSV
rare_share = lambdas.load("rare_share")


def answer(labels, kind=JSON, columns=False):
    """What the endpoint answers for rows with these labels."""
    n = len(labels)
    scores = SimpleNamespace(
        probabilities=np.full((n, 3), 1 / 3), rarity=np.full(n, 0.5), unknown=np.zeros(n), label=np.array(labels)
    )
    return wire.render_scores(scores, wire.ScoreRequest(np.zeros((n, 2)), columns), kind)


def question(n):
    return json.dumps({"instances": [[1.0, 2.0]] * n})


def lines(folder):
    return [line for path in sorted(folder.rglob("*.jsonl")) for line in path.read_bytes().splitlines()]


def record(data, encoding="JSON", content_type=JSON):
    """A record of an endpoint in AWS, as its documentation shows one."""
    side = {"observedContentType": content_type, "mode": "OUTPUT", "data": data, "encoding": encoding}
    asked = {"observedContentType": "text/csv", "mode": "INPUT", "data": "1,2", "encoding": "CSV"}
    meta = {"eventId": "e1", "inferenceTime": "2026-11-20T10:00:00Z"}
    record = {"captureData": {"endpointInput": asked, "endpointOutput": side}, "eventMetadata": meta}
    return json.dumps(record | {"eventVersion": "0"}).encode()


@pytest.fixture
def captured(tmp_path):
    """Ten rows in four requests, three of them flagged: rows, columns and CSV, as the local endpoint records them."""
    capture = Capture(tmp_path / "captured")
    capture.record((JSON, question(4)), (JSON, answer([0, 2, 3, 2])))
    capture.record((JSON, question(3)), (JSON, answer([1, 1, 2], columns=True)))
    capture.record((CSV, "1,2\n1,2\n"), (CSV, answer([0, 0], CSV)))
    capture.record((JSON, question(1)), (JSON, answer([3])))
    return tmp_path / "captured"


def test_flagged_rows_are_counted_in_what_the_endpoint_captures(captured):
    assert rare_share.count(lines(captured), RARE) == rare_share.Counts(rows=10, flagged=3, unreadable=0)


def test_a_load_tests_requests_are_no_rows_and_no_fault():
    """Its sample would ring the alarms for flagged rows."""
    made = json.loads(record('{"predictions": [{"label": 2}]}'))
    assert rare_share.count([json.dumps(made).encode()], RARE) == rare_share.Counts(1, 1, 0)
    made["eventMetadata"]["inferenceId"] = LOAD_TEST
    assert rare_share.count([json.dumps(made).encode()], RARE) == rare_share.Counts(0, 0, 0)


def test_monitoring_reads_the_same_rows_and_flags(captured):
    batches = list(read_captured(captured, FEATURES, CLASSES, Tally()))
    read = [label for batch in batches for label in batch.label]
    counts = rare_share.count(lines(captured), RARE)
    assert (counts.rows, counts.flagged) == (len(read), read.count("risky"))


@pytest.mark.parametrize(
    "line",
    [
        record(answer([2, 0])),
        record(json.loads(answer([2, 0]))),
        record(base64.b64encode(answer([2, 0]).encode()).decode(), "BASE64"),
        record(base64.b64encode(b"2,.9,0,0,.1,.9\n0,.1,0,.9,0,.1\n").decode(), "BASE64", "text/csv; charset=utf-8"),
        record(answer([2, 0]).replace('"label": 2', '"label": [2]').replace('"label": 0', '"label": [0]')),
        record(answer([2, 0]).replace(", ", ",\n    ")),
    ],
    ids=["text", "object", "base64", "base64 csv", "n by 1", "pretty"],
)
def test_every_encoding_of_data_capture_is_read(line):
    assert rare_share.count([line], RARE) == rare_share.Counts(2, 1, 0)


@pytest.mark.parametrize(
    "line",
    [
        b'{"captureData": {"endp',
        b"[]",
        b"17",
        b"\xff\xfe",
        b"[" * 100_000,
        record('{"error": "no rows"}'),
        record('{"predictions": [{"rarity": 1}]}'),
        record('{"predictions": [{"label": null}]}'),
        record("not base64!", "BASE64"),
        record("label,rarity\n", "CSV"),
        b'{"captureData": {"endpointInput": {}}}',
    ],
)
def test_a_damaged_record_is_counted_apart_and_stops_nothing(line):
    assert rare_share.count([line, b"", record(answer([2]))], RARE) == rare_share.Counts(1, 1, 1)


def event(bucket, key):
    """https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html"""
    return {
        "version": "0",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {"key": key, "size": 5},
            "reason": "PutObject",
        },
    }


@pytest.fixture
def aws(captured, monkeypatch):
    """A bucket in moto with one captured file; the Lambda's environment."""
    for name, value in {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "NAMESPACE": "rare-players/staging",
        "ENDPOINT": "rare-players-staging",
        "RARE_LABEL": str(RARE),
        "ACCOUNT": "123456789012",
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="captured", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        key = "capture/staging/rare-players-staging/AllTraffic/2026/11/20/10/a b+c=%20é.jsonl"
        s3.put_object(Bucket="captured", Key=key, Body=b"\n".join(lines(captured)) + b"\n")
        s3.put_object(Bucket="captured", Key="capture/staging/empty.jsonl", Body=b"")
        yield event("captured", key)


def test_a_captured_file_becomes_two_sums_under_the_projects_namespace_in_moto(aws):
    assert rare_share.handler(aws, None) == {"rows": 10, "flagged": 3, "unreadable": 0}
    found = boto3.client("cloudwatch").list_metrics(Namespace="rare-players/staging")["Metrics"]
    dimensions = [{"Name": "EndpointName", "Value": "rare-players-staging"}]
    assert [(m["MetricName"], m["Dimensions"]) for m in found] == [("Rows", dimensions), ("FlaggedRows", dimensions)]


def test_nothing_is_published_for_a_file_without_rows_or_of_another_kind_in_moto(aws):
    assert rare_share.handler(event("captured", "capture/staging/empty.jsonl"), None)["rows"] == 0
    assert rare_share.handler(event("captured", "capture/staging/readme.txt"), None) == {}
    assert boto3.client("cloudwatch").list_metrics(Namespace="rare-players/staging")["Metrics"] == []


def test_s3_is_asked_for_the_bucket_of_this_account_only_stubbed(aws, monkeypatch):
    client = boto3.client("s3")
    monkeypatch.setattr(boto3, "client", lambda service: client)
    key = aws["detail"]["object"]["key"]
    with Stubber(client) as stub, pytest.raises(ClientError, match="AccessDenied"):
        asked = {"Bucket": "captured", "Key": key, "ExpectedBucketOwner": "123456789012"}
        stub.add_client_error("get_object", "AccessDenied", expected_params=asked)
        rare_share.handler(aws, None)


def test_cloudwatch_takes_the_metric_data_stubbed():
    client = boto3.client("cloudwatch", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    data = rare_share.metric_data(rare_share.Counts(10, 0, 0), "rare-players-staging")
    with Stubber(client) as stub:
        stub.add_response("put_metric_data", {}, {"Namespace": ANY, "MetricData": data})
        client.put_metric_data(Namespace="rare-players/staging", MetricData=data)
    assert [metric["Value"] for metric in data] == [10.0, 0.0]


def test_it_imports_nothing_that_the_lambda_runtime_lacks():
    assert lambdas.libraries("rare_share") <= {"boto3"}
