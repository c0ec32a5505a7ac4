"""The model registry as the rest of the house sees it: packages, one champion, decisions. No storage; see local.py.

A model package is a folder: `model/` (SavedModel under `1/`, model.json), `evaluation/evaluation.json`,
`baseline/statistics.json`, `baseline/constraints.json`, and package.json with the facts below. Packages of one run are
registered as one model set under a `set_id`: all of them or none.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from scarcegan.errors import UserError

Status = Literal["PendingManualApproval", "Approved", "Rejected"]
PENDING: Status = "PendingManualApproval"
APPROVED: Status = "Approved"
REJECTED: Status = "Rejected"

HEADLINE = ("pr_auc", "recall", "precision", "f_beta", "share_unknown")  # the metrics people ask for first
REQUIRED_FILES = (
    "model/1/saved_model.pb",
    "model/model.json",
    "evaluation/evaluation.json",
    "baseline/statistics.json",
    "baseline/constraints.json",
)


@dataclass(frozen=True)
class PackageRequest:
    """One package to register. files: path inside the package -> the file to copy there (see REQUIRED_FILES).

    config, gate: as JSON would hold them. metrics: name -> value on the untouched test split.
    """

    definition: str
    files: Mapping[str, Path]
    metrics: Mapping[str, float] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    data_fingerprint: str = ""
    code_version: str = ""
    description: str = ""


@dataclass(frozen=True)
class ModelPackage:
    """A registered package. Times are ISO 8601 in UTC; decided_*: who last approved or rejected it, when and why."""

    version: int
    group: str
    set_id: str
    definition: str
    status: Status
    champion: bool
    created: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    data_fingerprint: str = ""
    code_version: str = ""
    description: str = ""
    decided_at: str = ""
    decided_by: str = ""
    note: str = ""


@dataclass(frozen=True)
class Event:
    """One decision about a package. at: ISO 8601 in UTC."""

    at: str
    version: int
    decision: Literal["approved", "rejected"]
    by: str
    note: str = ""


class Registry(Protocol):
    """One model package group. Methods raise UserError for a mistake of the user's, an unknown version included."""

    group: str

    def register_set(self, set_id: str, requests: Sequence[PackageRequest]) -> list[ModelPackage]:
        """Register the packages as one set, pending approval; in the order of the requests.

        All or none: a set that was broken off is never listed, and the next call withdraws what was left of it.
        Idempotent: a set_id that is registered already is returned as it stands.
        """
        ...

    def packages(self) -> list[ModelPackage]:
        """Every package of every complete set, oldest version first."""
        ...

    def package(self, version: int) -> ModelPackage: ...

    def champion(self) -> ModelPackage | None:
        """The package now in production."""
        ...

    def approve(self, version: int, note: str = "") -> ModelPackage:
        """Approve a package and make it the champion; for an earlier one that is a roll back.

        Where a deployment follows (SageMaker), it is the deployment that makes it the champion.
        """
        ...

    def reject(self, version: int, note: str = "") -> ModelPackage:
        """Reject a package; nothing else changes. The present champion cannot be rejected."""
        ...

    def history(self) -> list[Event]:
        """Approvals and rejections, oldest first."""
        ...

    def export(self, version: int, folder: Path) -> Path:
        """Write the package's folder, package.json with its present status included. Never half: it appears whole."""
        ...


def fingerprint(requests: Sequence[PackageRequest]) -> str:
    """A set_id out of the content of every file but the evaluation's: the same models and baselines, the same id.

    An evaluation also speaks of the champion, so it changes when the champion does; the models are still the same set.
    So they are when TensorFlow saves them again, though it draws a new id for its own fingerprint.pb each time.
    """
    digest = hashlib.sha256()
    for request in sorted(requests, key=lambda r: r.definition):
        for name, path in sorted(request.files.items()):
            if name.startswith("evaluation/") or name.endswith("/fingerprint.pb"):
                continue
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(json.dumps([request.definition, name, content]).encode())
    return digest.hexdigest()[:16]


def check_set(requests: Sequence[PackageRequest]) -> None:
    """Raise UserError for an empty set, a business definition named twice, or a package that lacks a file."""
    if not requests:
        raise UserError("no model package to register. Train first: a model set has one per business definition.")
    names = [request.definition for request in requests]
    if len(set(names)) < len(names):
        raise UserError(f"a business definition stands twice in one set ({', '.join(names)}). Register each once.")
    for request in requests:
        missing = [name for name in REQUIRED_FILES if not (name in request.files and request.files[name].is_file())]
        if missing:
            raise UserError(
                f"package '{request.definition}' lacks {', '.join(missing)}. Run the pipeline from train on again."
            )


def unknown_version(group: str, version: int, there: Sequence[int], see: str) -> UserError:
    """What to say of a version that is not there. see: the command that lists those that are."""
    known = f"there are: {', '.join(map(str, there))}" if there else "there is none yet; run the pipeline first"
    return UserError(f"{group} has no version {version} ({known}). See: {see}.")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the other's place when the block ends well; else nothing has happened."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def package_json(package: ModelPackage, config: Mapping[str, Any]) -> str:
    """The text of package.json."""
    return json.dumps({**asdict(package), "config": dict(config)}, indent=2, sort_keys=True) + "\n"
