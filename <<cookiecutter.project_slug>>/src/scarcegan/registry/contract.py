"""The interface of the model registry: model packages, the champion, decisions. local.py and sagemaker/ implement it.

A model package is a folder: `model/` (SavedModel under `1/`, model.json), `evaluation/evaluation.json`,
`baseline/statistics.json`, `baseline/constraints.json`, and package.json, which holds the fields of a ModelPackage and
the settings of the run. The packages of one run are registered together as one model set, which is named by a `set_id`:
all of them or none. A package waits for approval until a person approves or rejects it.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from scarcegan.archive import packed_digest
from scarcegan.errors import UserError, short, shortened
from scarcegan.jsonfile import read_json, replace_nan
from scarcegan.model.saved import EXPORT_AGAIN
from scarcegan.pipeline.code import hash_file

ApprovalStatus = Literal["PendingManualApproval", "Approved", "Rejected"]
PENDING: ApprovalStatus = "PendingManualApproval"
APPROVED: ApprovalStatus = "Approved"
REJECTED: ApprovalStatus = "Rejected"

HEADLINE_METRICS = ("pr_auc", "recall", "precision", "f_beta", "share_unknown")  # the metrics shown first
REQUIRED_FILES = (
    "model/1/saved_model.pb",
    "model/model.json",
    "evaluation/evaluation.json",
    "baseline/statistics.json",
    "baseline/constraints.json",
)
FIGURES = ("baseline/constraints.json", "baseline/statistics.json", "evaluation/evaluation.json")
# What TensorFlow writes as a SavedModel, and this project beside it. TensorFlow Serving's image in SageMaker would run
# a file code/inference.py. https://github.com/aws/sagemaker-tensorflow-serving-container#prepost-processing
PACKAGE_FILE = re.compile(
    "|".join(map(re.escape, FIGURES))
    + r"|model/(model|learnt_from)\.json|model/[0-9]+/(saved_model\.pb|fingerprint\.pb|(variables|assets)/[^/]+)"
)


class FilesGone(UserError):
    """Files of a registered package are missing or damaged, so it cannot be used until they are restored."""


@dataclass(frozen=True)
class PackageRequest:
    """All that is needed to register one model package. It is not registered yet.

    - definition: the name of the business definition that the model was chosen by.
    - files: path inside the package, such as "model/model.json" -> the file to copy there; it must hold REQUIRED_FILES.
    - metrics: name of a metric -> its value on the test split, which was not used in training.
    - gate: the content of gate.json.
    - config: the settings of the run, as read from config.yaml.
    - run: the id of the run on this machine, or of the execution in SageMaker, that trained the model.
    - data_fingerprint: a digest of the training data.
    - code_version: the git commit of the code.
    - description: a sentence or two for people.

    What is not known is "" or {}.
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

    @cached_property
    def evaluation_digest(self) -> str:
        """The digest of FIGURES, as `figures_digest` calculates it.

        Raises OSError for a file that cannot be read.
        """
        return figures_digest({name: hash_file(self.files[name]) for name in FIGURES})

    @cached_property
    def model_digest(self) -> str:
        """The SHA-256 of model.tar.gz, in hexadecimal: the archive that `pack` makes of the `model_files`.

        Raises OSError for a file that cannot be read.
        """
        return packed_digest(model_files(self.files))


@dataclass(frozen=True)
class ModelPackage:
    """A registered model package. Times are ISO 8601 text in UTC.

    - version: its number in the group, from 1.
    - group: the name of its model package group.
    - set_id: the model set it belongs to.
    - status: PendingManualApproval, Approved or Rejected.
    - champion: whether it is the model in production, with which new models are compared.
    - created: when it was registered.
    - definition, metrics, gate, run, data_fingerprint, code_version, description: as in PackageRequest.
    - model_digest, evaluation_digest: as in PackageRequest; "" for a package that was registered before packages had
      one.
    - decided_at, decided_by: when, and by whom, it was approved or rejected last; "" before the first time.
    - note: the reason that was given then; "" for none.

    The settings of the run are not here; they are in package.json, which `export` writes.
    """

    version: int
    group: str
    set_id: str
    definition: str
    status: ApprovalStatus
    champion: bool
    created: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    data_fingerprint: str = ""
    code_version: str = ""
    description: str = ""
    model_digest: str = ""
    evaluation_digest: str = ""
    decided_at: str = ""
    decided_by: str = ""
    note: str = ""


@dataclass(frozen=True)
class Decision:
    """One approval or rejection of a model package.

    - at: the time, ISO 8601 in UTC.
    - version: the version number of the package.
    - decision: "approved" or "rejected".
    - by: the name of the person or role that decided.
    - note: why, "" if not given.
    - recorded: the name and time were written down by who decided, and nothing else confirms them: that name; "" if
      they are confirmed, or the registry is on this machine.
    """

    at: str
    version: int
    decision: Literal["approved", "rejected"]
    by: str
    note: str = ""
    recorded: str = ""


class Registry(Protocol):
    """The registry of one model package group, which is a numbered list of model packages.

    - group: the group's name.

    Every method raises UserError for a mistake of the user's, such as an unknown version.
    """

    group: str

    def register_set(self, set_id: str, requests: Sequence[PackageRequest]) -> list[ModelPackage]:
        """Register packages as one model set, pending approval, and return them in the order of the requests.

        All packages are registered or none. A set whose registration was interrupted is never listed, and the next call
        deletes its remains. A set that is registered already keeps its versions and decisions, and its packages are
        returned.

        - set_id: the name of the set, from set_id_of.

        Raises UserError for a set that `check_set` refuses.
        """
        ...

    def packages(self) -> list[ModelPackage]:
        """Return every registered package, lowest version first; [] when there is none. Model sets that are incomplete
        are left out.
        """
        ...

    def package(self, version: int) -> ModelPackage:
        """Return the package with this version number. Raises UserError when there is none."""
        ...

    def champion(self) -> ModelPackage | None:
        """Return the package that is in production, or None if there is none."""
        ...

    def approve(self, version: int, note: str = "") -> ModelPackage:
        """Approve the package with this version, make it the champion, and return it.

        Approving an earlier package is a rollback. In SageMaker the approval starts a deployment, and only at its end
        the package becomes the champion.

        - note: why it is approved.

        Raises UserError for an unknown version.
        """
        ...

    def reject(self, version: int, note: str = "") -> ModelPackage:
        """Reject the package with this version and return it; other packages stay as they are.

        Nothing changes when it is rejected already, unless there is a new note.

        - note: why it is rejected.

        Raises UserError for the champion and for an unknown version.
        """
        ...

    def history(self) -> list[Decision]:
        """Return all approvals and rejections of the group's packages, oldest first."""
        ...

    def export(self, version: int, folder: Path) -> Path:
        """Write the files of the package with this version into `folder`, with its present status in package.json.
        Returns `folder`.

        An existing folder is replaced, unless it holds the same already. After an interruption it is complete or
        absent, never half-written.

        Raises UserError for an unknown version, FilesGone when files of the package are gone.
        """
        ...


def set_id_of(requests: Sequence[PackageRequest]) -> str:
    """Return the set_id of the model set that these requests make: 16 hexadecimal digits.

    It is equal for equal models and baselines, whose packages then have equal model digests too. It is a digest of the
    definitions, and of the paths and content of all files but two kinds. The evaluation is left out, as it changes with
    the champion, and so is fingerprint.pb, which TensorFlow writes with a new random id each time a model is saved. The
    order of the requests does not matter.

    Raises OSError for a file that cannot be read.
    """
    digest = hashlib.sha256(
        b"with model and evaluation digests"
    )  # sets of earlier versions, without them, have other ids
    for request in sorted(requests, key=lambda r: r.definition):
        for name, path in sorted(request.files.items()):
            if is_content(name):
                digest.update(json.dumps([request.definition, name, hash_file(path)]).encode())
    return digest.hexdigest()[:16]


def is_content(name: str) -> bool:
    """Return whether a file of a package, by its path, counts for the set_id of its model set; see set_id_of."""
    return not (name.startswith("evaluation/") or name.endswith("/fingerprint.pb"))


def model_files(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return path inside model.tar.gz -> file, for the files of a package below model/, such as "model.json".

    TensorFlow's fingerprint.pb is left out, so that model sets of equal set_id have equal archives.

    - files: path inside the package -> file.
    """
    return {
        name.removeprefix("model/"): path
        for name, path in files.items()
        if name.startswith("model/") and is_content(name)
    }


def figures_digest(hashes: Mapping[str, str]) -> str:
    """Return the digest of a package's figures, 64 hexadecimal digits; infra/lambdas/check_approval.py has a copy.

    - hashes: path of each of FIGURES -> the SHA-256 of the file, in hexadecimal.
    """
    return hashlib.sha256(json.dumps([[name, hashes[name]] for name in FIGURES]).encode()).hexdigest()


def check_model(package: Path) -> str:
    """Check that the model in the folder of an exported package is the one that was registered. Returns its digest.

    The result is "" for a folder without package.json, and for a package that has no digest because it was registered
    by an earlier version of this project.

    - package: a folder that `Registry.export` has written, or a copy of one.

    Raises UserError when package.json is damaged, or the files below model/ do not have the digest in it.
    """
    if not (package / "package.json").is_file():
        return ""
    wanted = str(read_json(package / "package.json", EXPORT_AGAIN).get("model_digest") or "")
    paths = (path for path in (package / "model").rglob("*") if path.is_file())
    found = wanted and packed_digest(model_files({path.relative_to(package).as_posix(): path for path in paths}))
    if found != wanted:
        raise UserError(
            f"{package}: its model has the digest {short(found)}, but {short(wanted)} was registered, so it was "
            f"changed afterwards, and it is not used. {EXPORT_AGAIN}"
        )
    return wanted


def check_set(requests: Sequence[PackageRequest]) -> None:
    """Check that the model set of these requests can be registered.

    Raises UserError for an empty set, for a business definition that occurs twice, and for a package in which one of
    REQUIRED_FILES is not among `files` or does not exist on disk, or which has a file that is not a PACKAGE_FILE.
    """
    if not requests:
        raise UserError("no model package to register. Train first: a model set has one per business definition.")
    names = [request.definition for request in requests]
    if len(set(names)) < len(names):
        raise UserError(f"a business definition occurs twice in one set ({', '.join(names)}). Register each once.")
    for request in requests:
        missing = [name for name in REQUIRED_FILES if not (name in request.files and request.files[name].is_file())]
        if missing:
            raise UserError(
                f"package '{request.definition}' lacks {', '.join(missing)}. "
                "Run the training pipeline again from the step train."
            )
        unknown = [name for name in sorted(request.files) if not PACKAGE_FILE.fullmatch(name)]
        if unknown:
            raise UserError(
                f"package '{request.definition}' has files that no model of this project has: "
                f"{shortened(', '.join(unknown))}. An endpoint could run them as code, so nothing was registered. Find "
                "out which step writes them, and train again without them."
            )


def unknown_version(group: str, version: int, there: Sequence[int], see: str) -> UserError:
    """Return the error, to be raised by the caller, for a version that does not exist in a group.

    - version: the one that was asked for.
    - there: the versions that exist; [] for none.
    - see: the command that lists them.
    """
    known = f"there are: {', '.join(map(str, there))}" if there else "there are none yet; run the pipeline first"
    return UserError(f"{group} has no version {version} ({known}). See: {see}.")


def one_line(note: str) -> str:
    """Return a note with its lines joined by spaces, the form in which SageMaker's registry stores it."""
    return " ".join(note.splitlines())


def champion_not_rejected(package: ModelPackage) -> UserError:
    """Return the error, to be raised by the caller, for an attempt to reject this package, which is the champion."""
    return UserError(
        f"version {package.version} ({package.definition}) is the champion. Approve another version first, "
        "then reject this one."
    )


@contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """Context manager: yield a path at which the block must create a folder, which then replaces `folder`.

    The path is beside `folder` and does not exist at first. A folder that holds the same files already, or one after an
    error in the block, is left as it was, and what the block wrote is deleted. A process that is killed leaves `folder`
    old, new or absent, never half-written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        yield unfinished
        if contents(unfinished) != contents(folder):
            if folder.is_dir():
                shutil.rmtree(folder)
            else:
                folder.unlink(missing_ok=True)
            os.replace(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def contents(folder: Path) -> dict[str, str]:
    """Return path below a folder -> SHA-256 in hexadecimal, of every file in it; {} when it is missing or no folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in paths}


def iso(moment: datetime) -> str:
    """Return a time as ISO 8601 text in UTC: 2026-03-01T12:00:00.000000Z.

    A time without a zone is taken as local time.
    """
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def package_json(package: ModelPackage, config: Mapping[str, Any]) -> str:
    """Return the text of package.json: JSON with the fields of a package and, under "config", its run's settings.

    A number that JSON does not know, such as NaN, becomes null.
    """
    return json.dumps(replace_nan({**asdict(package), "config": dict(config)}), indent=2, sort_keys=True) + "\n"
