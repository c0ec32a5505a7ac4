"""Objects in S3: listed, read, written (also only if absent or unchanged), fetched into folders.

The S3 client is handed in, so this file needs nothing but Python's own library.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scarcegan.aws.archive import unpack
from scarcegan.aws.client import Aws, known
from scarcegan.errors import UserError

CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey", "412", "409", "404")
OTHER = "application/octet-stream"


class Changed(Exception):
    """Somebody else has written or removed the object in the meantime."""


@dataclass(frozen=True)
class Bucket:
    """A bucket through one S3 client. Keys are without a leading slash.

    owner: the account it must belong to: S3 refuses a bucket of the same name in another account. Empty: any account.
    """

    s3: Any
    name: str
    owner: str = ""

    @property
    def _owned(self) -> dict[str, str]:
        return {"ExpectedBucketOwner": self.owner} if self.owner else {}

    def uri(self, key: str) -> str:
        """The s3:// address of a key."""
        return f"s3://{self.name}/{key}"

    def exists(self, key: str) -> bool:
        """Whether there is an object of exactly this key."""
        return known(lambda: self.s3.head_object(Bucket=self.name, Key=key, **self._owned)) is not None

    def listing(self, prefix: str) -> Iterator[dict[str, Any]]:
        """S3's entry (Key, Size, ETag, …) of every object below a prefix."""
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
            yield from page.get("Contents", [])

    def keys(self, prefix: str) -> Iterator[str]:
        """The key of every object below a prefix."""
        for item in self.listing(prefix):
            yield item["Key"]

    def folders(self, prefix: str) -> Iterator[str]:
        """The names of the folders below a prefix that ends in a slash."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix, Delimiter="/")
        for page in pages:
            for item in page.get("CommonPrefixes", []):
                yield item["Prefix"].removeprefix(prefix).rstrip("/")

    def read_json(self, key: str) -> tuple[Any, str] | None:
        """The value and its ETag, or None where there is no such object."""
        found = known(lambda: self.s3.get_object(Bucket=self.name, Key=key))
        if found is None:
            return None
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
        """Upload a file; its ending says the content type. The bucket's default encryption applies."""
        with path.open("rb") as file:
            self.put_bytes(key, file)

    def put_bytes(self, key: str, body: Any) -> None:
        """Upload bytes, or an open binary file."""
        kind = {".json": "application/json", ".gz": "application/gzip"}.get(PurePosixPath(key).suffix, OTHER)
        self.s3.put_object(Bucket=self.name, Key=key, Body=body, ContentType=kind, **self._owned)

    def remove(self, key: str) -> None:
        """Delete the object; nothing happens when there is none."""
        self.s3.delete_object(Bucket=self.name, Key=key)

    def get(self, key: str, target: Path) -> Path:
        """Download an object into a file, making its folder; returns the file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:  # in pieces, so that a model of any size fits into a small function
            for piece in self.s3.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(1 << 20):
                file.write(piece)
        return target


def project_bucket(door: Aws) -> Bucket:
    """The project's bucket; one of that name in another account is refused."""
    return Bucket(door.client("s3"), door.names.bucket, door.names.account)


class unchanged:
    """A block of conditional writes: what S3 answers when the condition does not hold becomes Changed."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        from botocore.exceptions import ClientError

        if isinstance(error, ClientError) and error.response["Error"]["Code"] in CHANGED:
            raise Changed from error


def fetch(s3: Any, uri: str, folder: Path, below: str = "", only: Collection[str] = ()) -> Path:
    """Download a .tar.gz (unpacked) or every object below a prefix into a folder; returns the folder.

    - uri: s3://bucket/key.tar.gz, or s3://bucket/prefix.
    - below: of an archive, the folder inside it whose content is wanted; empty: all of it.
    - only: of a prefix, the names of the top folders or files that are wanted; empty: all.

    Raises UserError when nothing is there, or when a name would lead out of the folder.
    """
    name, prefix = location(uri)
    bucket, prefix = Bucket(s3, name), prefix.rstrip("/")
    if prefix.endswith(".tar.gz"):
        archive = bucket.get(prefix, folder.with_name(f"{folder.name}.tar.gz"))
        unpack(archive, folder, below)
        archive.unlink()
    else:
        start = f"{prefix}/" if prefix else ""
        for key in bucket.keys(start):
            name = key.removeprefix(start)
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


def location(uri: str) -> tuple[str, str]:
    """The bucket and the key of an S3 address: s3://bucket/some/key -> ("bucket", "some/key").

    Raises UserError for anything else.
    """
    found = re.fullmatch(r"s3://([^/]+)/?(.*)", uri)
    if not found:
        raise UserError(f"'{uri}' is not an address in S3. Give one such as s3://bucket/folder.")
    return found[1], found[2]
