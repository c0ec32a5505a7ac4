"""What SageMaker does with S3 around a job: inputs come down before it, outputs go up after it."""

import tarfile
from pathlib import Path

from rehearsal.references import Refused


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of an s3:// URI."""
    if not uri.startswith("s3://"):
        raise Refused(f"'{uri}' is no s3:// URI")
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def keys(uri: str) -> list[str]:
    """Every key that begins with the URI's, as S3Prefix means it; Refused when there is no such bucket."""
    import boto3
    from botocore.exceptions import ClientError

    bucket, prefix = split(uri)
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    try:
        return sorted(item["Key"] for page in pages for item in page.get("Contents", ()))
    except ClientError as error:
        raise Refused(f"{uri}: {error}") from error


def download(uri: str, folder: Path, *, may_be_empty: bool = False) -> None:
    """Every object below a prefix, or the one object of that name; Refused when there is nothing."""
    import boto3

    bucket, prefix = split(uri)
    found = [key for key in keys(uri) if not key.endswith("/")]
    if not found and not may_be_empty:
        raise Refused(f"no S3 objects found under {uri}")
    for key in found:
        path = key.removeprefix(prefix).lstrip("/") or Path(key).name
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        boto3.client("s3").download_file(bucket, key, str(target))


def upload(folder: Path, uri: str) -> int:
    """Every file of a folder, hidden ones too; how many there were."""
    import boto3

    bucket, prefix = split(uri)
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in files:
        key = f"{prefix.rstrip('/')}/{path.relative_to(folder).as_posix()}"
        boto3.client("s3").upload_file(str(path), bucket, key)
    return len(files)


def put(text: bytes, uri: str) -> None:
    import boto3

    bucket, key = split(uri)
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=text)


def read(uri: str) -> bytes:
    """One object; Refused when there is none."""
    import boto3
    from botocore.exceptions import ClientError

    bucket, key = split(uri)
    try:
        return boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    except ClientError as error:
        raise Refused(f"{uri}: {error}") from error


def packed(folder: Path, archive: Path) -> Path:
    """The folder's content as a .tar.gz, as a training job leaves it."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as file:
        for path in sorted(folder.iterdir()):
            file.add(path, path.name)
    return archive
