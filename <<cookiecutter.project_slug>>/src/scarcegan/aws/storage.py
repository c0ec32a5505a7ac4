"""Objects in S3: list, read, write, write only if unchanged, delete, and download into folders.

The S3 client is passed in, so this file imports Python's own library only.
"""

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scarcegan.archive import unpack
from scarcegan.aws.client import Aws, is_missing, none_if_missing
from scarcegan.errors import UserError, short, shortened

CHANGED_CODES = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")
BINARY = "application/octet-stream"


class Changed(Exception):
    """A conditional write or deletion failed, because somebody else has created, replaced or deleted the S3 object."""


@dataclass(frozen=True)
class Bucket:
    """One S3 bucket, reached through one boto3 client. Keys have no leading slash.

    - s3: the boto3 S3 client.
    - name: the name of the bucket.
    - owner: the account that the bucket must belong to; "" accepts any. S3 checks it in every call, and denies access
      to a bucket of another account, which could have taken the name.
      https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-owner-condition.html

    Errors of S3 pass through as botocore's ClientError where a method does not say otherwise.
    """

    s3: Any
    name: str
    owner: str = ""

    @property
    def _owned(self) -> dict[str, str]:
        """The argument of boto3's S3 calls by which S3 checks the bucket's owner; {} when any account may own it."""
        return {"ExpectedBucketOwner": self.owner} if self.owner else {}

    def uri(self, key: str) -> str:
        """Return the s3:// address of a key in this bucket."""
        return f"s3://{self.name}/{key}"

    def exists(self, key: str) -> bool:
        """Whether the bucket has an object with exactly this key.

        Raises botocore's ClientError with the code NoSuchBucket when there is no such bucket.
        """
        found = none_if_missing(lambda: self.s3.head_object(Bucket=self.name, Key=key, **self._owned)) is not None
        if not found:
            self._require()  # the answer to HeadObject is the same without the object and without the bucket
        return found

    def _require(self) -> None:
        """Raise botocore's ClientError NoSuchBucket when there is no such bucket; not when that may not be asked."""
        from botocore.exceptions import ClientError

        try:
            self.s3.head_bucket(Bucket=self.name, **self._owned)
        except ClientError as error:
            if is_missing(error):
                about = {"Code": "NoSuchBucket", "Message": f"there is no bucket {self.name}"}
                raise ClientError({"Error": about}, error.operation_name) from error

    def listing(self, prefix: str) -> Iterator[dict[str, Any]]:
        """Yield a dictionary as S3 lists it (Key, Size, ETag, …) for every object whose key begins with a prefix.

        The objects come in the order of their keys. prefix: "" for the whole bucket.
        """
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, **self._owned):
            yield from page.get("Contents", [])

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every key that begins with a prefix, whole and in order. prefix: "" for the whole bucket."""
        for item in self.listing(prefix):
            yield item["Key"]

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the name of every folder directly below a prefix, in order, without the prefix and without a slash.

        - prefix: ends in a slash; "" for the whole bucket.
        """
        asked = {"Bucket": self.name, "Prefix": prefix, "Delimiter": "/", **self._owned}
        for page in self.s3.get_paginator("list_objects_v2").paginate(**asked):
            for item in page.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def read_json(self, key: str) -> tuple[Any, str] | None:
        """Read an object that holds JSON. Returns its value and its ETag, or None when there is no such object.

        The ETag changes with the content of the object; `write_json` takes it.

        Raises ValueError when the object is not JSON.
        """
        found = none_if_missing(lambda: self.s3.get_object(Bucket=self.name, Key=key, **self._owned))
        if found is None:
            return None
        return json.loads(found["Body"].read()), found["ETag"]

    def write_json(self, key: str, value: Any, etag: str = "") -> str:
        """Write a value as JSON, unless somebody else has written the object since. Returns the ETag of the new object.

        - etag: the ETag of the object to replace, from `read_json`; "" for an object that must not exist yet.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html

        Raises Changed when the object has another ETag by now, is gone, or exists although `etag` is "".
        """
        body = (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
        asked = {"Bucket": self.name, "Key": key, "Body": body, "ContentType": "application/json", **self._owned}
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with conditional_write():
            written = self.s3.put_object(**asked, **condition)
        return str(written["ETag"])

    def remove_unchanged(self, key: str, etag: str) -> None:
        """Delete an object if it still has this ETag, which `read_json` or `write_json` returned.

        Raises Changed when it has another ETag by now, or is gone.
        """
        with conditional_write():
            self.s3.delete_object(Bucket=self.name, Key=key, IfMatch=etag, **self._owned)

    def put(self, key: str, path: Path) -> None:
        """Upload a file to a key. An object with that key is replaced.

        The content type is that of `content_type`.
        """
        with path.open("rb") as file:
            self.put_bytes(key, file)

    def put_bytes(self, key: str, body: Any) -> None:
        """Upload bytes, or an open binary file, to a key, and replace the object that has the key.

        The content type is that of `content_type`.
        """
        self.s3.put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type(key), **self._owned)

    def put_once(self, key: str, body: bytes | Path) -> bool:
        """Upload bytes or a file to a key that is written once. Returns whether it was written by this call.

        An object that is there already with this content is left alone. S3 is asked to refuse the upload if somebody
        else is faster, and to keep the SHA-256 of the object.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html

        Raises UserError when there is an object with another content.
        """
        with io.BytesIO(body) if isinstance(body, bytes) else body.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            if self.same_content(key, digest.hexdigest()):
                return False
            file.seek(0)
            return self._put_new(key, file, digest.digest())

    def _put_new(self, key: str, file: Any, digest: bytes) -> bool:
        """Upload an open binary file to a key that had no object just now. Returns whether it was written by this call.

        - digest: SHA-256 of the file.

        Raises UserError when somebody else has meanwhile written another content.
        """
        checksum = base64.b64encode(digest).decode()
        try:
            with conditional_write():
                self.s3.put_object(
                    Bucket=self.name,
                    Key=key,
                    Body=file,
                    ContentType=content_type(key),
                    ChecksumSHA256=checksum,
                    IfNoneMatch="*",
                    **self._owned,
                )
        except Changed:
            if not self.same_content(key, digest.hex()):
                raise
            return False
        return True

    def same_content(self, key: str, digest: str) -> bool:
        """Return True when an object has the content with this digest, and False when there is no such object.

        - digest: SHA-256, in hexadecimal.

        Raises UserError when there is an object with another content.
        """
        found = self.sha256(key)
        if found not in (None, digest):
            move = "delete it and type the same command again"
            if key.startswith("packages/"):  # where only the register function may write and delete
                move = "register the model again: scarcegan start"
            raise UserError(
                f"{self.uri(key)} is there already, but with another content (SHA-256 {short(found)}, not "
                f"{short(digest)}). Such an object is written once and its name stands for its content, so nothing was "
                f"changed. Find out who wrote it (CloudTrail), then {move}."
            )
        return found == digest

    def sha256(self, key: str) -> str | None:
        """Return the SHA-256, in hexadecimal, of an object's content; None when there is no such object.

        S3 knows it if the upload gave it and had one part. Otherwise the object is read.
        https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
        """
        asked = {"Bucket": self.name, "Key": key, **self._owned}
        about = none_if_missing(lambda: self.s3.head_object(**asked, ChecksumMode="ENABLED"))
        if about is None:
            return None
        known = about.get("ChecksumSHA256", "")
        if known and "-" not in known and about.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
            return base64.b64decode(known).hex()
        digest = hashlib.sha256()
        for piece in self.s3.get_object(**asked)["Body"].iter_chunks(1 << 20):
            digest.update(piece)
        return digest.hexdigest()

    def remove(self, key: str) -> None:
        """Delete an object; does nothing when it does not exist."""
        self.s3.delete_object(Bucket=self.name, Key=key, **self._owned)

    def get(self, key: str, target: Path) -> Path:
        """Download an object into the file `target`, which is replaced. Returns `target`.

        The folder of the file is made if needed. A download that fails leaves the file as it was.

        Raises botocore's ClientError when the object does not exist.
        """
        body = self.s3.get_object(Bucket=self.name, Key=key, **self._owned)["Body"]
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{target.name[:200]}.{os.getpid()}.unfinished")
        try:
            with unfinished.open("wb") as file:  # 1 MiB at a time, so that a large model fits into a small function
                for piece in body.iter_chunks(1 << 20):
                    file.write(piece)
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return target


def content_type(key: str) -> str:
    """Return the content type that a key's ending stands for: JSON for .json, gzip for .gz, bytes for any other."""
    return {".json": "application/json", ".gz": "application/gzip"}.get(PurePosixPath(key).suffix, BINARY)


def project_bucket(aws: Aws) -> Bucket:
    """Return the project's bucket, with the project's account as its owner. Makes no call to AWS."""
    return Bucket(aws.client("s3"), aws.names.bucket, aws.names.account)


class conditional_write:
    """Context manager for conditional writes: raises Changed when S3 answers that the condition does not hold.

    It also does when the object to replace or delete does not exist. Other errors pass unchanged.
    """

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from botocore.exceptions import ClientError

        if isinstance(error, ClientError) and error.response["Error"]["Code"] in CHANGED_CODES:
            raise Changed from error


def download(s3: Any, uri: str, folder: Path, below: str = "", only: Collection[str] = (), owner: str = "") -> Path:
    """Download from S3 into a folder: a .tar.gz, which is unpacked, or every object below a prefix. Returns the folder.

    A .tar.gz is written to <folder>.tar.gz first, and deleted there once it is unpacked.

    - s3: a boto3 S3 client.
    - uri: s3://bucket/key.tar.gz, or s3://bucket/prefix, which counts as a folder with or without a slash at its end.
    - folder: where to write; it is made when it is missing.
    - below: for a .tar.gz, unpack only what lies in this folder of it; "" unpacks everything.
    - only: for a prefix, the names of the folders or files directly below it to download; empty downloads everything.
    - owner: the account that the bucket must belong to; "" accepts any.

    Raises:
    - UserError when nothing was downloaded and the folder does not exist, when a key below the prefix is an absolute
      path or has a part "..", or when `uri` is not an S3 address.
    - botocore's ClientError when the .tar.gz or the bucket does not exist.
    - UserError for an archive that `unpack` refuses.
    """
    name, prefix = split_s3_uri(uri)
    bucket, prefix = Bucket(s3, name, owner), prefix.rstrip("/")
    if prefix.endswith(".tar.gz"):
        archive = bucket.get(prefix, folder.with_name(f"{folder.name}.tar.gz"))
        try:
            unpack(archive, folder, below)
        finally:
            archive.unlink()
    else:
        start = f"{prefix}/" if prefix else ""
        for key in bucket.keys(start):
            name = key.removeprefix(start)
            if not key.endswith("/") and (not only or name.partition("/")[0] in only):
                bucket.get(key, path_below(folder, name))
    if not folder.is_dir():
        raise UserError(f"{uri}: nothing there. Check the step that writes it, then start the execution again.")
    return folder


def path_below(folder: Path, name: str) -> Path:
    """Return the path of a file below a folder. Its name comes from S3, which allows keys such as "../x" and "/x".

    - name: the part of an object's key below the prefix that is downloaded.

    Raises UserError for a name that is an absolute path or has a part "..", because it could lead out of the folder.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"'{name}' in S3 leads out of the folder it is downloaded into, so nothing more was downloaded. This "
            "project writes no such name: find out who did, then delete the object."
        )
    return folder / path


def split_s3_uri(uri: str) -> tuple[str, str]:
    """Split an S3 address into bucket and key: s3://bucket/some/key -> ("bucket", "some/key").

    The key is "" when the address names a bucket only.

    Raises UserError for text that is not an S3 address.
    """
    found = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    if not found:
        raise UserError(f"'{shortened(uri)}' is not an S3 address. Give one such as s3://bucket/folder.")
    return found[1], found[2]
