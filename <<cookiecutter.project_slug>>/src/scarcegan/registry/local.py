"""The registry on this machine: MLflow with SQLite (`runs/mlflow.db`), packages as files beside it (`mlartifacts/`).

A model set is registered completely or not at all: runs, files and model versions are written first, then one tag of
the registered model lists the versions of the set. The tag is written in one SQLite transaction, and versions that no
such tag lists are ignored. The next registration deletes what a killed one has left.

MLflow takes seconds to import, so it is imported when the first method is called.
"""

import getpass
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from scarcegan.jsonfile import find_json
from scarcegan.pipeline.code import hash_file
from scarcegan.registry.contract import (
    APPROVED,
    PENDING,
    REJECTED,
    REQUIRED_FILES,
    ApprovalStatus,
    Decision,
    FilesGone,
    ModelPackage,
    PackageRequest,
    champion_not_rejected,
    check_set,
    contents,
    is_content,
    iso,
    package_json,
    replace_folder,
    unknown_version,
)
from scarcegan.registry.database import (
    artifacts_folder,
    database_of,
    errors_as_sentences,
    locked,
    open_database,
    open_experiment,
    tag_version,
)

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel
    from mlflow.tracking import MlflowClient

CHAMPION_ALIAS = "champion"
SET_TAG = "set."  # + set_id: tag of the registered model; JSON list of the set's versions, written last
DECISION_TAG = "event."  # + time: tag of a model version; one decision as JSON
EDITABLE = "baseline/constraints.json"  # the one file of a package that a person may change
DIGESTS_TAG = "digests"  # tag of a model version: JSON, path of each of the package's files -> SHA-256
# The keys of the tag `facts` of a model version, which is JSON.
FACTS_IN_TAG = ("run", "data_fingerprint", "code_version", "metrics", "gate", "model_digest", "evaluation_digest")
LAST_DECISION_TAGS = ("decided_at", "decided_by", "note")
DESCRIPTION = "Rare-class models, one per business definition. The alias `champion` marks the one in production."


class LocalRegistry:
    """The Registry (contract.py) on MLflow and SQLite.

    A model package group is one registered model of MLflow, and a package is a version of it. The alias `champion`
    marks the package in production.

    - tracking_uri: MLflow's URI of a SQLite file.
    - group: the name of the model package group, or an ARN, of which the name at its end is taken.
    - clock: a function that returns the present time; tests give their own.
    - user: a function that returns the user's name, which is stored with decisions; None: whoami.

    Raises UserError for a tracking URI that does not name a SQLite file. Its methods raise it, too, when the database
    cannot be opened or written.
    """

    def __init__(
        self,
        tracking_uri: str,
        group: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        user: Callable[[], str] | None = None,
    ) -> None:
        self.uri, self.group = tracking_uri, group.rsplit("/", 1)[-1]
        self.database = database_of(tracking_uri)
        self.folder = artifacts_folder(self.database)
        self._clock, self._user = clock, user or whoami

    @cached_property
    def client(self) -> "MlflowClient":
        """The MLflow client through which the database is read and written. It is made at first use, and so is a
        missing database.
        """
        return open_database(self.uri)

    # -- reading ----------------------------------------------------------------------------------------------------

    def packages(self) -> list[ModelPackage]:
        """Return every registered package, lowest version first; [] when there is none or no database. Model sets that
        are incomplete are left out.
        """
        return [self._package(version, model) for version, model in self._registered()]

    def package(self, version: int) -> ModelPackage:
        """Return the package with this version number. Raises UserError when there is none."""
        return self._package(*self._version(version))

    def champion(self) -> ModelPackage | None:
        """Return the package in production, which is the one approved last, or None if none was approved."""
        return next((package for package in self.packages() if package.champion), None)

    def history(self) -> list[Decision]:
        """Return all approvals and rejections of registered packages, oldest first."""
        found = [
            Decision(**json.loads(value))
            for version, _ in self._registered()
            for key, value in version.tags.items()
            if key.startswith(DECISION_TAG)
        ]
        return sorted(found, key=lambda decision: decision.at)

    def export(self, version: int, folder: Path) -> Path:
        """Write the files of the package with this version into `folder`, with its present status in package.json.
        Returns `folder`.

        An existing folder that does not hold the same is replaced, see replace_folder.

        Raises UserError for an unknown version, FilesGone when files of the package are missing or damaged.
        """
        record, model = self._version(version)
        package, source = self._package(record, model), self._files(record)
        config, lost = settings_in(source), self._lost(record)
        if config is None or lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise FilesGone(
                f"{source}: files of version {version} are gone or damaged ({lost[0]}{more}). Type 'scarcegan run': it "
                f"restores them if data, settings and code are those of run {package.run}, and otherwise trains models "
                "to approve instead."
            )
        with replace_folder(folder) as unfinished:
            shutil.copytree(source, unfinished)
            (unfinished / "package.json").write_text(package_json(package, config), encoding="utf-8")
        return folder

    def folder_of(self, version: int) -> Path:
        """Return the folder in which the registry keeps the files of the package with this version.

        Raises UserError for an unknown version.
        """
        return self._files(self._version(version)[0])

    def has_files(self, package: ModelPackage) -> bool:
        """Return whether a package is registered, and none of its files is missing or damaged."""
        records = {int(record.version): record for record, _ in self._registered()}
        record = records.get(package.version)
        return record is not None and record.tags["set_id"] == package.set_id and not self._lost(record)

    # -- deciding ---------------------------------------------------------------------------------------------------

    def approve(self, version: int, note: str = "") -> ModelPackage:
        """Approve the package with this version, make it the champion, and return it.

        Nothing changes, and the note is not stored, when it is the approved champion already.

        - note: why it is approved.

        Raises UserError for an unknown version.
        """
        with self._writing():
            found = self.package(version)
            if not (found.champion and found.status == APPROVED):
                self._decide(found.version, APPROVED, note, CHAMPION_ALIAS)
            return self.package(found.version)

    def reject(self, version: int, note: str = "") -> ModelPackage:
        """Reject the package with this version and return it.

        Nothing changes when it is rejected already, unless there is a new note.

        - note: why it is rejected.

        Raises UserError for the champion and for an unknown version.
        """
        with self._writing():
            found = self.package(version)
            if found.champion:
                raise champion_not_rejected(found)
            if found.status != REJECTED or note not in ("", found.note):
                self._decide(found.version, REJECTED, note)
            return self.package(found.version)

    def _decide(self, version: int, status: ApprovalStatus, note: str, alias: str = "") -> None:
        """Write a decision into the MLflow tags of a version: its status, when, by whom and why it was decided. Another
        tag keeps the decision for `history`. All of it is one transaction.

        - status: the new one, APPROVED or REJECTED.
        - note: why.
        - alias: of the registered model, which then points to the version; "" for none.
        """
        at = self._now()
        decision = Decision(at, version, cast(Any, status.lower()), self._user(), note)
        entry = {f"{DECISION_TAG}{at}": json.dumps(asdict(decision))}
        tags = {**entry, "decided_at": at, "decided_by": decision.by, "note": note}
        tag_version(self.client, self.group, version, {**tags, "status": status}, alias)

    # -- registering ------------------------------------------------------------------------------------------------

    def register_set(self, set_id: str, requests: Sequence[PackageRequest]) -> list[ModelPackage]:
        """Register packages as one model set, pending approval, and return them in the order of the requests.

        All packages are registered or none. A set that is registered already keeps its versions and decisions. Only
        packages that it lacks are added, and files of its packages that are missing or damaged are written again.
        Remains of interrupted registrations are deleted first. MLflow's registered model gets the team and description
        in the settings of the first request.

        - set_id: the name of the set.

        Raises UserError for a set that `check_set` refuses.
        """
        check_set(requests)
        with self._writing():
            experiment = self._experiment()
            self._tell_of_project(project_of(requests[0]))
            self._delete_leftovers(experiment)
            there = {v.tags["definition"]: v for v, _ in self._registered() if v.tags["set_id"] == set_id}
            for request in requests:
                if request.definition in there:
                    self._restore_files(there[request.definition], request)
            new = [request for request in requests if request.definition not in there]
            if new:
                self._add(experiment, set_id, new, [int(version.version) for version in there.values()])
            found = {p.definition: p for p in self.packages() if p.set_id == set_id}
            return [found[request.definition] for request in requests]

    def _add(self, experiment: str, set_id: str, new: Sequence[PackageRequest], there: Sequence[int]) -> None:
        """Write new packages of a model set, then the tag of the registered model that makes them visible.

        - experiment: id of the MLflow experiment that gets a run per package.
        - there: the numbers of the set's versions that are visible already.
        """
        runs = [self._write_run(experiment, set_id, request) for request in new]
        versions = [self._write_version(set_id, request, run) for request, run in zip(new, runs, strict=True)]
        self.client.set_registered_model_tag(self.group, SET_TAG + set_id, json.dumps(sorted([*there, *versions])))

    def _restore_files(self, version: "ModelVersion", request: PackageRequest) -> None:
        """Write the files of a registered package that are missing or damaged again, from the request.

        A file that may differ in an equal set, such as evaluation.json, is written only when it is missing or damaged.
        """
        folder, lost = self._files(version), self._lost(version)
        there = contents(folder)
        rewritten = {
            name: path
            for name, path in request.files.items()
            if name in lost
            or name not in there
            or (is_content(name) and name != EDITABLE and there[name] != hash_file(path))
        }
        if lost or rewritten:
            copy_files(rewritten, folder)
            self._describe(version, request)
            digests = json.dumps({name: hash_file(folder / name) for name in request.files})
            self.client.set_model_version_tag(self.group, version.version, DIGESTS_TAG, digests)

    def _lost(self, version: "ModelVersion") -> list[str]:
        """Return the paths of the files of a version that are missing or damaged, sorted.

        A package that was registered before digests were stored has only its missing files listed, of those that every
        package has. EDITABLE counts as damaged only when it is no JSON.
        """
        folder = self._files(version)
        there = contents(folder)
        digests = dict.fromkeys(REQUIRED_FILES) | json.loads(version.tags.get(DIGESTS_TAG, "{}"))
        lost = [name for name, digest in digests.items() if name not in there or digest not in (None, there[name])]
        if EDITABLE in there:
            whole = isinstance(find_json(folder / EDITABLE), dict)
            lost = [name for name in lost if name != EDITABLE] + ([] if whole else [EDITABLE])
        return sorted([*lost, *([] if settings_in(folder) is not None else ["package.json"])])

    def _describe(self, version: "ModelVersion", request: PackageRequest) -> None:
        """Write the package.json of a version into its folder, with "champion" false, which `export` corrects."""
        text = package_json(self._package(version, None), request.config)
        (self._files(version) / "package.json").write_text(text, encoding="utf-8")

    def _write_run(self, experiment: str, set_id: str, request: PackageRequest) -> str:
        """Create a finished MLflow run with a package's metrics, first 100 settings and files. Returns the run's id.

        - experiment: id of the MLflow experiment that gets the run.
        """
        from mlflow.entities import Metric, Param, RunTag

        tags = {"set_id": set_id, "definition": request.definition, "mlflow.note.content": request.description}
        tags |= {"team": project_of(request)["team"]} if "team" in project_of(request) else {}
        run = self.client.create_run(experiment, run_name=request.definition, tags=tags).info.run_id
        now = int(self._clock().timestamp() * 1000)
        self.client.log_batch(
            run,
            metrics=[Metric(mlflow_name(name), value, now, 0) for name, value in request.metrics.items()],
            params=[Param(name, text) for name, text in flat_config(request)[:100]],
            tags=[RunTag("data_fingerprint", request.data_fingerprint), RunTag("code_version", request.code_version)],
        )
        copy_files(request.files, self._place(run))
        self.client.set_terminated(run)
        return run

    def _write_version(self, set_id: str, request: PackageRequest, run: str) -> int:
        """Create an MLflow model version for a package, and write its package.json. Returns the version number.

        `packages` does not list the version yet.

        - run: id of the MLflow run that holds the package's files.
        """
        facts = json.dumps({name: getattr(request, name) for name in FACTS_IN_TAG})
        tags = {"definition": request.definition, "status": PENDING, "set_id": set_id, "facts": facts}
        tags[DIGESTS_TAG] = json.dumps({name: hash_file(path) for name, path in request.files.items()})
        source = self._place(run).as_uri()
        version = self.client.create_model_version(self.group, source, run, tags=tags, description=request.description)
        self._describe(version, request)
        return int(version.version)

    def _delete_leftovers(self, experiment: str) -> None:
        """Delete the versions, runs and files of model sets whose registration was interrupted.

        - experiment: id of the MLflow experiment in which the runs are.
        """
        model = self._model()
        complete = set_versions(model) if model else set()
        for version in self._versions():
            if int(version.version) not in complete:
                self.client.delete_model_version(self.group, version.version)
        kept = {version.run_id for version in self._versions()}
        for run in self._runs(experiment):
            if run not in kept:
                shutil.rmtree(self._place(run).parent, ignore_errors=True)
                self.client.delete_run(run)

    def _experiment(self) -> str:
        """Return the id of this group's MLflow experiment. It and the registered model are created when missing."""
        if self._model() is None:
            self.client.create_registered_model(self.group, description=DESCRIPTION)
        return open_experiment(self.client, f"{self.group} packages", self._root().as_uri())

    def _tell_of_project(self, project: Mapping[str, str]) -> None:
        """Write the project's team and description into the group's registered model, where MLflow shows them.

        - project: the section `project` of config.yaml. What is missing in it stays as it was; {} changes nothing.
        """
        if "team" in project:
            self.client.set_registered_model_tag(self.group, "team", project["team"])
        if "description" in project:
            words = f"{project['description']}\n\n{DESCRIPTION}".strip()
            self.client.update_registered_model(self.group, description=words)

    # -- MLflow's side ----------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> "Iterator[MlflowClient]":
        """Context manager: yield the MLflow client while this process holds the database's lock; others wait to write.

        Raises UserError for errors of the database that errors_as_sentences knows.
        """
        client = self.client  # before the lock is taken: to create the database takes the same lock
        with errors_as_sentences(self.database), locked(self.database):
            yield client

    def _root(self) -> Path:
        """Return the folder below which the files of all packages of this group are."""
        return self.folder / f"{self.group}-packages"

    def _place(self, run: str) -> Path:
        """Return the folder with the package files of the MLflow run with this id.

        It is computed from the database's path, not stored, so database and files can be moved together.
        """
        return self._root() / run / "artifacts"

    def _files(self, version: "ModelVersion") -> Path:
        """Return the folder with the files of the package that this MLflow model version is."""
        return self._place(str(version.run_id))

    def _model(self) -> "RegisteredModel | None":
        """Return MLflow's registered model of this group, or None before the first registration."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(self.group)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _versions(self) -> "list[ModelVersion]":
        """Return all MLflow versions of this group's registered model, lowest number first, also of incomplete sets."""
        found: list[ModelVersion] = []
        token = None
        while token != "":
            page = self.client.search_model_versions(f"name='{self.group}'", max_results=1000, page_token=token)
            found, token = [*found, *page], page.token or ""
        return sorted(found, key=lambda version: int(version.version))

    def _runs(self, experiment: str) -> list[str]:
        """Return the ids of all MLflow runs in the experiment with this id, except deleted ones."""
        found: list[str] = []
        token = None
        while token != "":
            page = self.client.search_runs([experiment], max_results=1000, page_token=token)
            found, token = [*found, *(run.info.run_id for run in page)], page.token or ""
        return found

    def _registered(self) -> "list[tuple[ModelVersion, RegisteredModel]]":
        """Return a pair (MLflow version, the group's registered model) for each version in a complete set.

        The lowest number comes first; [] when there is no database or no registration yet.
        """
        if not self.database.exists():
            return []
        model = self._model()
        if model is None:
            return []
        complete = set_versions(model)
        return [(version, model) for version in self._versions() if int(version.version) in complete]

    def _version(self, version: int) -> "tuple[ModelVersion, RegisteredModel]":
        """Return (MLflow version, the group's registered model) for a version number, which must be in a complete set.

        Raises UserError, which lists the versions there are, when there is none.
        """
        found = {str(each.version): (each, model) for each, model in self._registered()}
        if str(version) not in found:
            raise unknown_version(self.group, version, [int(each) for each in found], "scarcegan models")
        return found[str(version)]

    def _package(self, version: "ModelVersion", model: "RegisteredModel | None") -> ModelPackage:
        """Return the ModelPackage of an MLflow version, from its tags.

        - model: the registered model, whose alias tells whether the package is the champion; None: it is not.
        """
        tags = version.tags
        facts: dict[str, Any] = json.loads(tags["facts"]) | {name: tags.get(name, "") for name in LAST_DECISION_TAGS}
        created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
        return ModelPackage(
            version=int(version.version),
            group=self.group,
            set_id=tags["set_id"],
            definition=tags["definition"],
            status=cast(ApprovalStatus, tags["status"]),
            champion=model is not None and str(model.aliases.get(CHAMPION_ALIAS, "")) == str(version.version),
            created=iso(created),
            description=version.description or "",
            **facts,
        )

    def _now(self) -> str:
        """Return the present time, by the registry's clock, as ISO 8601 text in UTC."""
        return iso(self._clock())


def set_versions(model: "RegisteredModel") -> set[int]:
    """Return the version numbers in complete model sets: those in the tags set.<set_id> of the registered model."""
    return {number for key, value in model.tags.items() if key.startswith(SET_TAG) for number in json.loads(value)}


def settings_in(folder: Path) -> dict[str, Any] | None:
    """Return the settings in the package.json of a package's folder; None when it is missing or damaged."""
    found = find_json(folder / "package.json")
    config = found.get("config") if isinstance(found, dict) else None
    return config if isinstance(config, dict) else None


def project_of(request: PackageRequest) -> Mapping[str, str]:
    """Return the section `project` of the settings that a package was trained with; {} when request.config has none."""
    return request.config.get("project", {})


def flat_config(request: PackageRequest) -> list[tuple[str, str]]:
    """Return the settings of a request as pairs (dotted key, value), such as ("train.seed", "7"), in their order there.

    Keys have mlflow_name applied. Values that are not text, such as lists, are written as JSON. No settings give [].
    """

    def flat(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                yield from flat(inner, f"{name}.{key}" if name else str(key))
        else:
            yield mlflow_name(name), value if isinstance(value, str) else json.dumps(value)

    return list(flat(request.config, "")) if request.config else []


def mlflow_name(name: str) -> str:
    """Return the name of a metric or parameter as MLflow allows it.

    Each character that MLflow refuses becomes "_", and the result is cut to 250 characters.
    """
    return re.sub(r"[^\w.\-/ ]", "_", name)[:250]


def copy_files(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files into a folder, over files that are there; missing folders are made.

    - files: path below `folder` -> the file to copy there.

    Raises OSError, whose filename is the target and not the source, because it is the target's disk that may be full.
    """
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except OSError as error:
            error.filename = error.filename2 or error.filename
            raise


def whoami() -> str:
    """Return the name of the user on this machine, or "unknown" where the system has none, as in some containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"
