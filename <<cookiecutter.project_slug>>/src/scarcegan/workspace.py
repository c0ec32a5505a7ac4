"""A project's folder on this machine: its settings, data, runs and registry, and what the commands do with them."""

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scarcegan.errors import UserError, as_sentence
from scarcegan.jsonfile import find_json
from scarcegan.pipeline import config as settings
from scarcegan.pipeline import definition
from scarcegan.registry.contract import FilesGone, ModelPackage
from scarcegan.registry.database import tracking_uri

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scarcegan.local.engine import LocalEngine
    from scarcegan.local.runner import RunResult
    from scarcegan.profile.records import DataSource
    from scarcegan.registry.contract import Registry
    from scarcegan.registry.local import LocalRegistry
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry


@dataclass(frozen=True)
class Outcome:
    """The outcome of a command that has run a pipeline on this machine.

    - run: the id of the run.
    - status: "finished", "gate closed", "failed" or "interrupted".
    - exit_code: for the command line: 0 only when finished; RunResult in local/events.py lists the others.
    - reason: why it did not finish; "" when it did.
    - reports: absolute paths of the run's HTML reports; () when it wrote none.
    - packages: the model packages that a training registered, as dictionaries of the fields of ModelPackage; else
      empty.
    - suggested: the number of the version to approve next, of the model that the gate compared; None without packages,
      and when that version is the champion already.
    - lines: what to print for people.
    - notes: sentences about data that was left out or should be looked at; () when there are none, or no features.
    - result: the summary of a finished scoring, or the verdict of a finished monitoring, as JSON holds it; else {}.
    """

    run: str
    status: str
    exit_code: int
    reason: str = ""
    reports: tuple[Path, ...] = ()
    packages: Sequence[Mapping[str, Any]] = ()
    suggested: int | None = None
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workspace:
    """A project on this machine.

    - root: the absolute path of the folder of config.yaml. Relative paths in config.yaml, and those given to `score`
      and `monitor`, start there.
    - config: the settings.
    - file: the name of the file in `root` that they were read from.
    """

    root: Path
    config: settings.Config
    file: str = "config.yaml"

    @classmethod
    def open(cls, path: Path, changes: Iterable[str] = ()) -> "Workspace":
        """Read a config.yaml, and return its project.

        - path: of config.yaml.
        - changes: texts KEY=VALUE such as "train.iterations=4000"; VALUE is YAML. Each replaces a value of config.yaml,
          in memory only.

        Raises UserError for a missing file, a file that is not YAML, a change that is not KEY=VALUE, and a key or value
        that config.yaml may not have.
        """
        config = settings.load_config(path, changes)  # refuses a path that leads nowhere, which resolve() would not
        return cls(path.resolve().parent, config, path.resolve().name)

    def path(self, path: str | Path) -> Path:
        """Return the absolute path, links resolved, of a path that is relative to the root, or begins with ~ or /.

        Raises UserError for an address in S3, for a link that leads back to itself, and for the home (~name) of nobody.
        """
        if re.match("s3:/", str(path)):
            address = re.sub("^s3:/+", "s3://", str(path))  # a Path has lost a slash
            raise UserError(
                f"{address}: is in S3, and commands on this machine read files. Copy it (aws s3 sync {address} "
                "data/telemetry) and name that folder, or let AWS read it: scarcegan start."
            )
        try:
            return (self.root / Path(path).expanduser()).resolve()
        except RuntimeError as error:
            raise UserError(f"{path}: {error}. Name a file or folder that exists.") from None

    def show(self, path: Path) -> str:
        """Return an absolute path as text for people: relative if it is below the current folder, else as it is."""
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

    @property
    def runs_folder(self) -> Path:
        """The absolute path of the folder that holds all runs, from local.folder of config.yaml."""
        return self.path(self.config.local.folder)

    @property
    def database(self) -> Path:
        """The path of MLflow's database file of runs and registered models. It is missing before the first training."""
        return self.runs_folder / "mlflow.db"

    @property
    def environment(self) -> dict[str, str]:
        """Name -> value of the variables that steps and MLflow get on this machine, beside those of this process."""
        return {
            "MLFLOW_TRACKING_URI": tracking_uri(self.database),
            "MLFLOW_EXPERIMENT_NAME": self.config.project.name,
            "MLFLOW_RUN_CONTEXT": settings.run_tags(self.config),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def refuse_to_overwrite(self, folder: Path, *names: str) -> None:
        """Check that a folder holds no file or folder with one of these names. The folder may be missing.

        - folder: its absolute path.
        - names: such as "labels.csv".

        Raises UserError when one of them exists.
        """
        there = [name for name in names if (folder / name).exists()]
        if there:
            raise UserError(
                f"{self.show(folder / there[0])}: exists already, nothing was written. "
                "Name another folder with --out, or delete it first."
            )

    def registry(self, cloud: bool = False) -> "Registry":
        """Return the model registry on this machine, or, with cloud=True, the one in SageMaker.

        Call this and use the registry in SageMaker inside `errors_as_sentences` of aws/client.py, as AWS errors pass
        through.

        Raises UserError when there is no MLflow database on this machine yet, or, with cloud=True, for what
        `connect_to_aws` of aws/client.py refuses, such as a missing region.
        """
        if cloud:
            return self.cloud_registry()
        if not self.database.exists():
            raise UserError(f"no models in {self.show(self.runs_folder)} yet. Type: scarcegan run")
        return self.local_registry()

    def local_registry(self) -> "LocalRegistry":
        """Return the model registry on this machine, whose database need not exist."""
        from scarcegan.registry.local import LocalRegistry

        return LocalRegistry(self.environment["MLFLOW_TRACKING_URI"], self.config.project.model_package_group)

    def cloud_registry(self) -> "SageMakerRegistry":
        """Return the model registry in SageMaker, through a new connection to AWS.

        Call it inside `errors_as_sentences` of aws/client.py, as AWS errors pass through.

        Raises UserError for what `connect_to_aws` of aws/client.py refuses, such as a missing region or boto3.
        """
        from scarcegan.aws.client import connect_to_aws
        from scarcegan.registry.sagemaker.registry import SageMakerRegistry

        aws = connect_to_aws(self.config)
        return SageMakerRegistry(aws.names, self.config.project.model_package_group, aws.session)

    def champion(self) -> ModelPackage | None:
        """Return the package of the champion in the registry on this machine; None without one, or without a database
        yet.

        Raises UserError when MLflow's database cannot be used.
        """
        return self.registry().champion() if self.database.exists() else None

    def package(self, version: int | None) -> ModelPackage:
        """Return a package of the registry on this machine.

        - version: its version number; None: the champion.

        Raises UserError when there is no such version, when `version` is None and there is no champion, when nothing
        has been registered yet, or when MLflow's database cannot be used.
        """
        if version is not None:
            return self.registry().package(version)
        package = self.champion()
        if package is None:
            raise UserError("no model is approved yet. Type: scarcegan models, then: scarcegan approve VERSION.")
        return package

    def exported(self, package: ModelPackage) -> Path:
        """Return the folder of a package: model/, evaluation/, baseline/ and package.json.

        They are copied from the registry on this machine to a folder below the runs folder; a copy that is there is
        replaced when it is damaged or out of date. Files that the registry has lost, or that are damaged there, are
        restored from the run that trained the model, if that is still there.

        Raises UserError when the registry does not know the package's version, FilesGone when files of it are missing
        or damaged.
        """
        folder = self.exports_folder / export_name(package)
        try:
            return self.registry().export(package.version, folder)
        except FilesGone:
            if not self.restored(package):
                raise
        return self.registry().export(package.version, folder)

    @property
    def exports_folder(self) -> Path:
        """The folder below which `exported` copies packages, in a folder per version. It need not exist."""
        return self.runs_folder / ".packages"

    def restored(self, package: ModelPackage) -> bool:
        """Restore the files of a package from the outputs of the run that trained it, by registering it again.

        Returns whether that was done; not so when the run was deleted, or its outputs are no longer those of the set.
        """
        from scarcegan.local.state import find_run
        from scarcegan.registry.contract import PackageRequest, contents, set_id_of

        run, about = self.runs_folder / package.run, find_run(self.runs_folder, package.run)
        if about is None:
            return False
        config = about["settings"].get("config", {})
        kept = {key: value for key, value in config.items() if key not in definition.NOT_ABOUT_THE_MODEL}
        places = {"model": "train/models", "evaluation": "evaluate/evaluation", "baseline": "baseline/baseline"}
        requests = {}
        for model in (run / places["model"]).glob("*/model.json"):
            name = model.parent.name
            folders = {part: run / place / name for part, place in places.items()}
            files = {f"{part}/{file}": folder / file for part, folder in folders.items() for file in contents(folder)}
            requests[name] = PackageRequest(name, files, config=kept)
        if package.definition not in requests or set_id_of([*requests.values()]) != package.set_id:
            return False
        self.local_registry().register_set(package.set_id, [requests[package.definition]])
        print(f"restored the files of version {package.version} from run {package.run}", file=sys.stderr)
        return True

    def is_registered(self, outputs: Path) -> bool:
        """Return whether the packages that the register step registered are still in the registry on this machine, with
        their files.

        - outputs: the folder of the step's outputs.
        """
        if not self.database.is_file():
            return False
        registry = self.local_registry()
        listed = read_json_list(outputs / "packages" / "packages.json")
        return all(registry.has_files(ModelPackage(**package)) for package in listed)

    def data_sources(self) -> dict[str, Path]:
        """Return the sources of the training pipeline that config.yaml names, as name -> absolute path.

        - "telemetry": the data in data.path, a file or folder, also if data.kind is "features".
        - "labels": only when labels are in a file or folder of their own.

        Raises UserError when one of the paths does not exist.
        """
        data = self.config.data
        path = self.path(data.path)
        if not path.exists():
            raise UserError(
                f"{self.show(path)}: no data there. Type 'scarcegan data make' for the sample, "
                "or set data.path in config.yaml to your own."
            )
        if data.labels in definition.LABELS_IN_DATA:
            return {"telemetry": path}
        labels = self.path(data.labels)
        if not labels.exists():
            raise UserError(
                f"{self.show(labels)}: no labels there. Set data.labels in config.yaml to a file of user and label."
            )
        return {"telemetry": path, "labels": labels}

    def train(self, from_step: str | None = None, cache: bool = True) -> Outcome:
        """Run the training pipeline, which compares the new models with the champion, if any, and show its progress.

        Returns its outcome; a step that fails raises nothing, and the outcome's status tells of it.

        - from_step: the name of a step, which runs again with all after it, even if their results are cached; None:
          none.
        - cache: False runs every step again; True takes the results of a step from the cache where they are there.

        A champion whose files are gone or damaged is not compared; a line on stderr says so.

        Raises UserError when the data is missing or cannot be read, or when the run cannot start.
        """
        from scarcegan.local.plan import code_version, fingerprint_data

        sources = self.data_sources()
        data_fingerprint = fingerprint_data(sources.values(), self.runs_folder)
        pipeline = definition.training(self.config, data_fingerprint, code_version())
        champion = self.champion()
        if champion is not None:
            try:
                sources["champion"] = self.exported(champion)
            except FilesGone:
                words = f"files of the champion, version {champion.version}, are gone or damaged, and its run is gone"
                print(f"{words}: the new models are not compared with it", file=sys.stderr)
        result = self._run(pipeline, sources, from_step, cache)
        self._restore_curves(result)
        packages = read_json_list(result.output("register", "packages") / "packages.json") if result.finished else []
        compared = next((p["version"] for p in packages if p["definition"] == self.config.gate.definition), None)
        return outcome(
            result,
            report=result.output("evaluate", "evaluation") / "report.html",
            packages=packages,
            suggested=None if champion and compared == champion.version else compared,
        )

    def _restore_curves(self, run: "RunResult") -> None:
        """Write the curves of a training that was taken from the cache to MLflow again, when its database lacks them.

        A line on stderr says so, or why it could not be done. Nothing is done after a run that failed or was stopped.
        """
        from scarcegan.local.state import CLOSED, FINISHED
        from scarcegan.registry.tracking import restore_training

        state = run.steps.get("train")
        if run.status not in (FINISHED, CLOSED) or state is None or not state.cached:
            return
        curves = "the curves of the training, which was cached,"
        outputs = run.output("train", "models"), run.output("train", "curves")
        try:
            if restore_training(*outputs, (*definition.TRAINING_FIGURES, "Validation_PR_AUC"), self.environment):
                print(f"wrote {curves} to MLflow again", file=sys.stderr)
        except (UserError, OSError) as error:  # the run itself is done
            print(f"{curves} were not restored in MLflow: {as_sentence(error)}", file=sys.stderr)

    def score(self, telemetry: Path | None = None, version: int | None = None, cache: bool = True) -> Outcome:
        """Run the scoring pipeline, which scores users with a version of the model, and show its progress.

        Returns its outcome; a step that fails raises nothing, and the outcome's status tells of it.

        - telemetry: file or folder of the users' data, of the kind data.kind in config.yaml; None: data.path of
          config.yaml.
        - version: the model's version number; None: the champion.
        - cache: False runs every step again; True takes results from the cache where they are there.

        Raises UserError when the telemetry, the version or (with None) a champion does not exist, when files of the
        package are missing, or when the run cannot start.
        """
        package = self.package(version)
        path = self.path(telemetry) if telemetry else self.data_sources()["telemetry"]
        if not path.exists():
            raise UserError(f"{self.show(path)}: no telemetry there. Name a file or folder that exists.")
        sources = {"telemetry": path, "model": self.exported(package)}
        pipeline = definition.scoring(self.config, package.model_digest)
        result = self._run(pipeline, sources, None, cache, {"version": package.version})
        folder = result.output("score", "scored")
        if not result.finished:
            return outcome(result)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        last = max(summary["as_of"], default="")  # "" for rows without a day
        day = f" as of {last}" if last else ""
        lines = (
            f"{summary['users']:,} users scored{day} with version {package.version} ({package.definition}): "
            f"{summary['flagged']:,} flagged as {summary['rare_class']}, {summary['unknown_share']:.1%} unknown",
            f"flagged users: {self.show(folder / 'flagged.csv')}",
            f"all scores: {self.show(folder)}",
        )
        return outcome(result, lines=lines, result=summary)

    def explain(self, user: str, orders: int = 8) -> dict[str, Any]:
        """Explain the champion's score of a user in its last finished scoring.

        - user: the id of the user. If the user has several rows, the last one is explained.
        - orders: how many random orders of the features are averaged; more are more exact and slower.

        Returns these keys:
        - user: the id.
        - version: of the champion.
        - rarity: the rarity of the user, from 0 to 1.
        - predicted: the name of a class, or "unknown".
        - features: a dictionary per feature, the strongest first: "feature" (its name), "value" (the user's),
          "median_user" (the median over all scored users; of a category, the most frequent value) and "moves_rarity_by"
          (how far the user's value moves the rarity from that of a user with all medians; above zero: up). A category's
          value is text.

        It sets the variables of `environment` in this process.

        Raises UserError when there is no champion, when it has scored nobody yet or not this user, or when files of its
        package are missing or damaged.
        """
        import numpy as np

        package = self.package(None)
        folder = next((path for path in self.seen_by(package) if path.name == "scored"), None)
        if folder is None:
            raise UserError(f"version {package.version} has scored nobody yet. Type: scarcegan score")
        os.environ.update(self.environment)  # before TensorFlow is imported, so that it prints no notices
        from scarcegan.data.categories import display_value, places
        from scarcegan.evaluation.explain import shapley_values, typical_training_row
        from scarcegan.model import scorer

        model = scorer.load_scorer(self.exported(package) / "model")
        users, values = scored_rows(folder, model.features)
        place = np.flatnonzero(users == user)
        if not len(place):
            raise UserError(
                f"user '{user}' is not among the {len(users):,} users in {self.show(folder)}, where a user is called "
                f"'{users[0]}'. Name one of them, or score others first."
            )
        row, median = values[place[-1:]], typical_training_row(values, places(model.features, model.categories))
        moves = shapley_values(model, row, median, orders)[0]
        found = model.score(row)
        order = np.argsort(-np.abs(moves))
        features = [
            {
                "feature": model.features[i],
                "value": display_value(float(row[0, i]), model.features[i], model.categories),
                "median_user": display_value(float(median[i]), model.features[i], model.categories),
                "moves_rarity_by": float(moves[i]),
            }
            for i in order
        ]
        predicted = (*model.classes, "unknown")[int(found.label[0])]
        return {
            "user": user,
            "version": package.version,
            "rarity": float(found.rarity[0]),
            "predicted": predicted,
            "features": features,
        }

    def monitor(self, captured: Sequence[Path] = (), truth: Path | None = None) -> Outcome:
        """Run the monitoring pipeline, which compares rows that the champion has scored with its baseline.

        Shows its progress and returns its outcome; a step that fails raises nothing, and the outcome's status tells of
        it. Cached results are used.

        - captured: folders of scored users or recorded requests; empty: all that `seen_by` finds for the champion.
        - truth: a file or folder of true labels; None: the model's quality is not measured.

        Raises UserError when there is no champion, when it has no such rows, when a path does not exist, when files of
        the champion's package are missing, or when the run cannot start.
        """
        package = self.package(None)
        folders = [self.path(path) for path in captured] or self.seen_by(package)
        if not folders:
            raise UserError(
                f"version {package.version} has scored no users and answered no requests yet. "
                "Type: scarcegan score, or name a folder of scored users or recorded requests."
            )
        missing = [path for path in [*folders, *([self.path(truth)] if truth else [])] if not path.exists()]
        if missing:
            raise UserError(f"{self.show(missing[0])}: not there. Name a file or folder that exists.")
        self.exported(package)  # restores files that are gone
        # The registry's own folder, so that an error in its constraints.json names the file to correct.
        baseline = self.local_registry().folder_of(package.version) / "baseline"
        sources = {"captured": self.linked_together(folders), "baseline": baseline}
        if truth:
            sources["truth"] = self.path(truth)
        result = self._run(definition.monitoring(self.config), sources, None, True, {"version": package.version})
        folder = result.output("monitor", "monitoring")
        if not result.finished:
            return outcome(result)
        verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        return outcome(result, report=folder / "report.html", lines=(verdict["reason"],), result=verdict)

    def seen_by(self, package: ModelPackage) -> list[Path]:
        """Return the folders of rows that a version has scored: one per finished scoring run with it, the newest first.

        The folder of the version's recorded requests comes last, if it exists. [] when there is nothing.
        """
        from scarcegan.local.runner import list_runs, read_run

        runs = [r.run for r in list_runs(self.runs_folder) if r.pipeline == "scoring" and r.status == "finished"]
        scored = [run for run in runs if read_run(self.runs_folder, run)["settings"].get("version") == package.version]
        answered = self.capture_folder / str(package.version)
        folders = [self.runs_folder / run / "score" / "scored" for run in scored]
        return [*folders, *([answered] if answered.is_dir() else [])]

    def linked_together(self, folders: Sequence[Path]) -> Path:
        """Return one folder that stands for several: it is made below the runs folder and holds a link to each.

        A single folder is returned as it is. The same folders always give the same folder, in whatever order.

        - folders: absolute paths, at least one.
        """
        if len(folders) == 1:
            return folders[0]
        names = sorted(str(folder) for folder in folders)
        linked = self.runs_folder / ".gathered" / hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        linked.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            with suppress(FileExistsError):
                (linked / str(number)).symlink_to(name)
        return linked

    @property
    def capture_folder(self) -> Path:
        """The folder below which `scarcegan serve` records requests, in a folder per version. It need not exist."""
        return self.runs_folder / "capture"

    def serve(self, version: int | None, host: str, port: int | None, allowed_hosts: Sequence[str] = ()) -> None:
        """Serve a version of the model over HTTP until SIGINT or SIGTERM comes, and print its address to stderr.

        serve.capture_percentage per cent of the requests are recorded below `capture_folder`.

        - version: its version number; None: the champion.
        - host: the address to listen on.
        - port: 0 chooses a free one; None takes serve.port of config.yaml.
        - allowed_hosts: names, beside those of the address, under which the server may be called.

        Raises UserError when there is no such version or (with None) no champion, when files of its package are missing
        or damaged, or when the address or the port cannot be used.
        """
        from scarcegan import serving

        serving.serve_package(
            self.exported(self.package(version)),
            host,
            port=self.config.serve.port if port is None else port,
            capture=self.capture_folder,
            capture_percentage=self.config.serve.capture_percentage,
            allowed_hosts=allowed_hosts,
        )

    def check_data(self) -> tuple[list[str], dict[str, Any]]:
        """Check the data that config.yaml names. It writes only temporary files.

        Returns the problems, a message each ([] for none), and a summary of the data, {name: value}, both as
        `check_data` of profile/check.py does.

        Raises UserError when the data or the labels do not exist. Other faults of the data are problems.
        """
        return self.profiled().check()

    def profile_data(self, against: Path | None = None, out: Path | None = None) -> tuple[Path, dict[str, Any]]:
        """Describe the data that config.yaml names, good or bad, on an HTML page.

        Shows its progress. Returns the page's path, and the figures on it as JSON can hold them: see
        `Profile.as_json` of profile/profile.py.

        - against: file or folder of other data, which is compared with it; None: none.
        - out: where to write the page; None: data-profile.html in the folder of runs. An older page is replaced.

        Raises UserError when the data or the labels do not exist, or nothing of the data, or of `against`, can be read.
        """
        from scarcegan.profile.profile import make_profile
        from scarcegan.report.profile import write_profile_page

        other = self.path(against) if against else None
        if other and not other.exists():
            raise UserError(f"{self.show(other)}: no data there. Name a file or folder that exists.")
        page = self.path(out) if out else self.runs_folder / "data-profile.html"
        if page.is_dir():
            raise UserError(f"{self.show(page)}: this is a folder. Name a file, such as profile.html, with --out.")
        found = make_profile(self.profiled(), other)
        config = self.config
        write_profile_page(page, found, config.project.description, config.monitor.drift_threshold)
        return page, found.as_json()

    def profiled(self) -> "DataSource":
        """Return the data that config.yaml names, as check_data and profile_data read it.

        Raises UserError when the data or the labels do not exist.
        """
        from scarcegan.data.class_sizes import Shares
        from scarcegan.data.coverage import DaysNeeded
        from scarcegan.data.rules import Layout
        from scarcegan.profile.records import DataSource

        config, sources = self.config, self.data_sources()
        data, split = config.data, config.split
        layout = Layout.of(
            {**data.model_dump(), "classes": config.labels.classes, "labels_in": definition.labels_in_data(config)}
        )
        return DataSource(
            sources["telemetry"],
            sources.get("labels"),
            layout,
            data.kind == "telemetry",
            tuple(data.columns),
            DaysNeeded(config.features.window_days, tuple(dict.fromkeys((split.test_weeks, 0)))),
            Shares(split.test_share, split.validation_share, split.folds),
            drop=data.bad_rows == "drop",
        )

    def runs(self) -> list[dict[str, Any]]:
        """Return a summary of every run on this machine, newest first, as dictionaries with these keys:

        - run: its id.
        - pipeline: "training", "scoring" or "monitoring".
        - status: "running", "finished", "failed", "gate closed" or "interrupted".
        - started: local time, ISO 8601.
        - seconds: how long it ran. The time of a process that was killed or still runs is not counted.
        - reason: why it did not finish, or "".
        - steps: {name of a step or gate: its status}.

        Raises UserError when the run.json of one of them is not JSON.
        """
        from scarcegan.local.runner import list_runs

        return [asdict(run) for run in list_runs(self.runs_folder)]

    def clean(self, keep: int) -> list[str]:
        """Delete all runs but the newest `keep`, the cache entries that no remaining run uses, and the exported copies
        of versions that are no longer registered.

        Registered models stay. A run that is going on stays too, even if it is not among the newest.

        Returns the ids of the runs it deleted, oldest first.
        """
        from scarcegan.local.runner import clean

        deleted = clean(self.runs_folder, keep)
        copies = [*self.exports_folder.glob("[!.]*")]
        registered = {export_name(package) for package in self.local_registry().packages()} if copies else set()
        for copy in copies:
            if copy.name not in registered:
                shutil.rmtree(copy)
        return deleted

    def models(self, cloud: bool = False) -> list[dict[str, Any]]:
        """Return every registered package, oldest first, as dictionaries; [] for none or for no database yet.

        Each holds the fields of ModelPackage and, beside them, every metric under its own name, such as "recall".
        Those on this machine have "run_deleted", too: whether the run is gone, as `clean` deletes runs, not models.

        - cloud: True asks SageMaker's registry, False the one on this machine. With True, call it inside
          `errors_as_sentences` of aws/client.py, as AWS errors pass through.

        Raises UserError when MLflow's database cannot be used, or, with cloud=True, for what `connect_to_aws` refuses.
        """
        packages = self.registry(cloud).packages() if cloud or self.database.exists() else []
        found = [{**asdict(package), **package.metrics} for package in packages]
        if cloud:
            return found
        from scarcegan.local.state import run_ids

        there = set(run_ids(self.runs_folder))
        return [{**package, "run_deleted": package["run"] not in there} for package in found]

    def local_engine(self) -> "LocalEngine":
        """Return the engine that runs the project's training pipeline on this machine.

        Its `start` reads the settings' file again, so changes that were given to `open` do not count there.
        """
        from scarcegan.local.engine import LocalEngine

        def train(changes: Sequence[str]) -> str:
            return Workspace.open(self.root / self.file, changes).train().run

        return LocalEngine(self.runs_folder, self.config, train)

    def draw(self, name: str, form: str) -> str:
        """Return a drawing of a pipeline, as text.

        - name: training, scoring or monitoring.
        - form: "text", "mermaid" or "svg".

        Raises UserError for another name or form.
        """
        from scarcegan.pipeline import graph

        pipelines = definition.every_pipeline(self.config)
        forms = {"text": graph.draw_text, "mermaid": graph.draw_mermaid, "svg": graph.draw_svg}
        for what, given, known in (("pipeline", name, pipelines), ("format", form, forms)):
            if given not in known:
                raise UserError(f"no {what} '{given}'. There are: {', '.join(known)}.")
        return forms[form](pipelines[name])

    def ui(self, port: int) -> None:
        """Replace this process by MLflow's web server, which shows the project's runs and models. It does not return.

        The address is printed to stderr first.

        - port: 0 chooses a free one.

        Raises UserError when nothing has been logged yet, or the port cannot be used.
        """
        from scarcegan.serving import listen, url_of

        if not self.database.exists():
            raise UserError("no runs to show yet. Type: scarcegan run")
        listener = listen("127.0.0.1", port)
        url = url_of(listener)
        listener.close()
        print(f"MLflow at {url}  (stop: Ctrl-C)", file=sys.stderr)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1]]
        store = ["--backend-store-uri", self.environment["MLFLOW_TRACKING_URI"]]
        environment = {**os.environ, **self.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        os.execve(
            sys.executable, [*command, *store], environment
        )  # replaces this process, so that signals reach MLflow

    def _run(
        self,
        pipeline: definition.Pipeline,
        sources: Mapping[str, Path],
        from_step: str | None,
        cache: bool,
        settings: Mapping[str, Any] | None = None,
    ) -> "RunResult":
        """Run a pipeline on this machine, show its progress on stderr, and return how it ended.

        If the newest run of the same plan (see run_pipeline) was interrupted or failed, that run is continued, and the
        steps that it has finished do not run again. A failed step raises nothing; the result tells of it.

        - sources: name of each source of the pipeline -> its file or folder.
        - from_step: the name of a step, which runs again with all after it, even if their results are cached; None:
          none.
        - cache: False runs every step again.
        - settings: saved in the run's run.json, beside the settings of config.yaml.

        Raises UserError when the run cannot start.
        """
        from scarcegan.local import live, runner

        with live.watching(pipeline) as observer:
            return runner.run_pipeline(
                pipeline,
                sources,
                self.runs_folder,
                settings={"config": self.config.model_dump(), **(settings or {})},
                from_step=from_step,
                cache=cache,
                workers=self.config.local.workers,
                environment=self.environment,
                observer=observer,
                still_there={"register": self.is_registered},
            )


def export_name(package: ModelPackage) -> str:
    """Return the name of the folder that a package is exported to."""
    return f"{package.group}-{package.version}-{package.set_id}"


def outcome(run: "RunResult", report: Path | None = None, **more: Any) -> Outcome:
    """Return the Outcome of a run.

    - report: the path of the run's HTML report, which goes into `reports` when the file exists.
    - more: values of further fields of Outcome: packages, suggested, lines, result.
    """
    from scarcegan.data.coverage import COVERAGE_FILE

    reports = (report,) if report is not None and report.exists() else ()
    coverage = find_json(run.output("features", "features") / COVERAGE_FILE)
    notes = tuple(coverage.get("notes", ())) if isinstance(coverage, dict) else ()
    return Outcome(run.run, run.status, run.exit_code, run.reason, reports, notes=notes, **more)


def scored_rows(folder: Path, features: Sequence[str]) -> "tuple[NDArray, NDArray]":
    """Return the user ids, text [n], and the feature values, float32 [n, d], of the n rows in a table of scored users.

    A user may have several rows.

    - folder: holds the table as part-*.parquet files, which are read in name order.
    - features: the names of the d features, which the columns of the values follow.
    """
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(sorted(folder.glob("part-*.parquet")), columns=["user_id", *features])
    return table["user_id"].to_numpy(), np.column_stack([table[name].to_numpy() for name in features]).astype(
        np.float32
    )


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """Read a JSON file that holds a list of dictionaries, and return the list. Its type is not checked.

    Raises OSError when the file cannot be read, and ValueError when it is not JSON.
    """
    return json.loads(path.read_text(encoding="utf-8"))
