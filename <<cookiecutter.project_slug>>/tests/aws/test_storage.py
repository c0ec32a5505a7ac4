"""Objects in S3: whose bucket it is, what a failed download leaves, and what is missing. AWS is moto's."""

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from scarcegan.aws.storage import Bucket, Changed, download
from scarcegan.errors import UserError

OWNER = "123456789012"


@pytest.fixture
def s3(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="ours")
        yield client


def test_s3_is_asked_to_check_the_owner_in_every_call_in_moto(s3, tmp_path):
    asked = {}
    s3.meta.events.register(
        "provide-client-params.s3", lambda params, model, **_: asked.setdefault(model.name, []).append(params)
    )
    bucket = Bucket(s3, "ours", OWNER)
    bucket.put_bytes("a/b.json", b"1")
    etag = bucket.write_json("c.json", 1)
    assert bucket.exists("a/b.json") and not bucket.exists("a/none")
    assert list(bucket.keys("")) == ["a/b.json", "c.json"] and list(bucket.folders("")) == ["a"]
    assert bucket.read_json("c.json") == (1, etag)
    bucket.get("c.json", tmp_path / "c.json")
    download(s3, "s3://ours/a", tmp_path / "a", owner=OWNER)
    bucket.remove_unchanged("c.json", etag)
    bucket.remove("a/b.json")
    assert set(asked) == {"PutObject", "HeadObject", "HeadBucket", "ListObjectsV2", "GetObject", "DeleteObject"}
    without = [name for name, calls in asked.items() for call in calls if call.get("ExpectedBucketOwner") != OWNER]
    assert without == []


def test_a_missing_bucket_is_not_read_as_a_missing_object_in_moto(s3):
    with pytest.raises(ClientError, match="NoSuchBucket"):
        Bucket(s3, "theirs").exists("key")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        Bucket(s3, "theirs").read_json("key")
    assert not Bucket(s3, "ours").exists("key")


def test_a_download_that_fails_leaves_the_file_as_it_was_in_moto(s3, tmp_path, monkeypatch):
    bucket, file = Bucket(s3, "ours"), tmp_path / "file"
    file.write_text("old")
    with pytest.raises(ClientError):
        bucket.get("none", file)
    bucket.put_bytes("new", b"new")

    class Broken:
        def iter_chunks(self, size):
            yield b"ne"
            raise ConnectionError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(s3, "get_object", lambda **_: {"Body": Broken()})
        with pytest.raises(ConnectionError):
            bucket.get("new", file)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and file.read_text() == "old"
    assert bucket.get("new", file).read_text() == "new"


def test_an_archive_that_is_refused_is_not_left_behind_in_moto(s3, tmp_path):
    Bucket(s3, "ours").put_bytes("model.tar.gz", b"cut off")
    with pytest.raises(UserError, match="was not unpacked"):
        download(s3, "s3://ours/model.tar.gz", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_write_against_another_version_is_noticed_in_moto(s3):
    bucket = Bucket(s3, "ours", OWNER)
    bucket.write_json("a", 1)
    with pytest.raises(Changed):
        bucket.write_json("a", 2)
