"""Objects in S3 as the registry uses them: read, written only if unchanged, fetched into folders. One bucket's worth.

boto3 is handed in; this file needs nothing but Python's own library.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scarcegan.aws.archive import unpack
from scarcegan.errors import UserError

CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")
ABSENT = ("NoSuchKey", "404")


class Changed(Exception):
    """Somebody else has written or removed the object in the meantime."""


@dataclass(frozen=True)
class Bucket:
    """A bucket through one S3 client. Keys are without a leading slash."""

    s3: Any
    name: str

    def uri(self, key: str) -> str:
        return f"s3://{self.name}/{key}"

    def keys(self, prefix: str) -> Iterator[str]:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            for item in page.get("Contents", []):
                yield item["Key"]

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders below a prefix that ends in a slash."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, Delimiter="/")
        for page in pages:
            for item in page.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def read_json(self, key: str) -> tuple[Any, str] | None:
        """The value and its ETag, or None where there is no such object."""
        from botocore.exceptions import ClientError

        try:
            found = self.s3.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ABSENT:
                return None
            raise
        return json.loads(found["Body"].read()), found["ETag"]

    def write_json(self, key: str, value: Any, etag: str = "") -> str:
        """Replace the object with that ETag, or write a new one; give the new ETag. Changed when it is another by now.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        body = (json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n").encode()
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        with unchanged():
            written = self.s3.put_object(
                Bucket=self.name, Key=key, Body=body, ContentType="application/json", **condition
            )
        return str(written["ETag"])

    def remove_unchanged(self, key: str, etag: str) -> None:
        """Remove the object with that ETag; Changed when it is another by now."""
        with unchanged():
            self.s3.delete_object(Bucket=self.name, Key=key, IfMatch=etag)

    def put(self, key: str, path: Path) -> None:
        kind = {".json": "application/json", ".gz": "application/gzip"}.get(path.suffix, "application/octet-stream")
        with path.open("rb") as file:
            self.s3.put_object(Bucket=self.name, Key=key, Body=file, ContentType=kind)

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.name, Key=key)

    def get(self, key: str, target: Path) -> Path:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:  # in pieces, so that a model of any size fits into a small function
            for piece in self.s3.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(1 << 20):
                file.write(piece)
        return target


class unchanged:
    """A block of conditional writes: what S3 answers when the condition does not hold becomes Changed."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from botocore.exceptions import ClientError

        if isinstance(error, ClientError) and error.response["Error"]["Code"] in CHANGED:
            raise Changed from error


def fetch(s3: Any, uri: str, folder: Path, below: str = "", only: Collection[str] = ()) -> Path:
    """Bring a .tar.gz (what lies below a folder of it) or a prefix into a folder.

    only: names of top folders or files to bring; empty: all. UserError when nothing is there.
    """
    bucket, prefix = Bucket(s3, bucket_of(uri)), key_of(uri).rstrip("/")
    if prefix.endswith(".tar.gz"):
        archive = bucket.get(prefix, folder.with_name(f"{folder.name}.tar.gz"))
        unpack(archive, folder, below)
        archive.unlink()
    else:
        for key in bucket.keys(f"{prefix}/"):
            name = key.removeprefix(f"{prefix}/")
            if not key.endswith("/") and (not only or name.partition("/")[0] in only):
                bucket.get(key, inside(folder, name))
    if not folder.is_dir():
        raise UserError(f"{uri}: nothing there. Look at the step that writes it, then start the execution again.")
    return folder


def inside(folder: Path, name: str) -> Path:
    """Where an object lies below a folder; UserError for a name that leads out of it, as S3 takes any."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise UserError(
            f"'{name}' in S3 leads out of the folder it is fetched into, so nothing more was fetched. This project "
            "writes no such name: find out who did, then delete the object."
        )
    return folder / path


def bucket_of(uri: str) -> str:
    """The bucket of s3://bucket/key; UserError for anything else."""
    if not uri.startswith("s3://") or "/" not in uri[5:]:
        raise UserError(f"'{uri}' is no place in S3. Give one such as s3://bucket/folder.")
    return uri[5:].partition("/")[0]


def key_of(uri: str) -> str:
    return uri.removeprefix("s3://").partition("/")[2]
