"""A project's folder on this machine: its settings, data, runs and registry, and what the verbs do with them."""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scarcegan.errors import UserError
from scarcegan.pipeline import config as settings
from scarcegan.pipeline import definition
from scarcegan.registry.database import tracking_uri

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scarcegan.local.runner import RunResult
    from scarcegan.registry.contract import ModelPackage, Registry
    from scarcegan.registry.sagemaker.registry import SageMakerRegistry


@dataclass(frozen=True)
class Outcome:
    """What a verb that ran a pipeline has to say. Paths are absolute."""

    run: str
    status: str
    exit_code: int
    reason: str = ""
    reports: tuple[Path, ...] = ()
    packages: Sequence[Mapping[str, Any]] = ()
    suggested: int | None = None
    lines: tuple[str, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workspace:
    """Root folder and settings. Relative paths in config.yaml are relative to the root."""

    root: Path
    config: settings.Config

    @classmethod
    def open(cls, path: Path, changes: Iterable[str] = ()) -> "Workspace":
        """Read the settings; raises UserError for a missing file or a bad value."""
        return cls(path.resolve().parent, settings.load_config(path, changes))

    def path(self, path: str | Path) -> Path:
        return (self.root / Path(path).expanduser()).resolve()

    def show(self, path: Path) -> str:
        """A path as a person would type it: relative where it lies below the present folder."""
        return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)

    @property
    def runs_folder(self) -> Path:
        return self.path(self.config.local.folder)

    @property
    def database(self) -> Path:
        return self.runs_folder / "mlflow.db"

    @property
    def environment(self) -> dict[str, str]:
        """What steps and MLflow find in their environment, as a job in the cloud would."""
        return {
            "MLFLOW_TRACKING_URI": tracking_uri(self.database),
            "MLFLOW_EXPERIMENT_NAME": self.config.project.name,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",  # the same sums in the same order on every processor
        }

    def refuse_to_overwrite(self, folder: Path, *names: str) -> None:
        """Raise UserError when one of the names is in the folder already."""
        there = [name for name in names if (folder / name).exists()]
        if there:
            raise UserError(
                f"{self.show(folder / there[0])}: exists already, nothing was written. "
                "Name another folder with --out, or delete it first."
            )

    def registry(self, cloud: bool = False) -> "Registry":
        """The registry on this machine; UserError while nothing has been registered or logged here.

        cloud: the model package group in SageMaker instead; use it inside `pipeline.aws.plainly`.
        """
        if cloud:
            return self.cloud_registry()
        if not self.database.exists():
            raise UserError(f"no models in {self.show(self.runs_folder)} yet. Type: scarcegan run")
        from scarcegan.registry.local import LocalRegistry

        return LocalRegistry(self.environment["MLFLOW_TRACKING_URI"], self.config.project.model_package_group)

    def cloud_registry(self) -> "SageMakerRegistry":
        from scarcegan.aws.client import connect
        from scarcegan.registry.sagemaker.registry import SageMakerRegistry

        door = connect(self.config)
        return SageMakerRegistry(door.names, self.config.project.model_package_group, door.session)

    def champion(self) -> "ModelPackage | None":
        return self.registry().champion() if self.database.exists() else None

    def package(self, version: int | None) -> "ModelPackage":
        """A version, or the champion; UserError when there is none."""
        if version is not None:
            return self.registry().package(version)
        package = self.champion()
        if package is None:
            raise UserError("no model is approved yet. Type: scarcegan models, then: scarcegan approve VERSION.")
        return package

    def exported(self, package: "ModelPackage") -> Path:
        """The package as a folder (`model/`, `evaluation/`, `baseline/`, `package.json`), written once."""
        folder = self.runs_folder / ".packages" / f"{package.group}-{package.version}-{package.set_id}"
        if not (folder / "package.json").exists():
            self.registry().export(package.version, folder)
        return folder

    def data_sources(self) -> dict[str, Path]:
        """Telemetry (or the ready table) and labels as the pipeline's sources. UserError when they are not there."""
        data = self.config.data
        path = self.path(data.path)
        if not path.exists():
            raise UserError(
                f"{self.show(path)}: no data there. Type 'scarcegan data make' for the sample, "
                "or set data.path in config.yaml to your own."
            )
        if data.labels in ("inside", "folders"):
            return {"telemetry": path}
        labels = self.path(data.labels)
        if not labels.exists():
            raise UserError(
                f"{self.show(labels)}: no labels there. Set data.labels in config.yaml to a file of user and label."
            )
        return {"telemetry": path, "labels": labels}

    def train(self, from_step: str | None = None, cache: bool = True) -> Outcome:
        """Run the training pipeline against the present champion."""
        from scarcegan.local.plan import code_version, fingerprint_data

        sources = self.data_sources()
        data_fingerprint = fingerprint_data(sources.values(), self.runs_folder)
        pipeline = definition.training(self.config, data_fingerprint, code_version())
        champion = self.champion()
        if champion is not None:
            sources["champion"] = self.exported(champion)
        result = self._run(pipeline, sources, from_step, cache)
        packages = read_list(result.output("register", "packages") / "packages.json") if result.finished else []
        return outcome(
            result,
            report=result.output("evaluate", "evaluation") / "report.html",
            packages=packages,
            suggested=next((p["version"] for p in packages if p["definition"] == self.config.gate.definition), None),
        )

    def score(self, telemetry: Path | None = None, version: int | None = None, cache: bool = True) -> Outcome:
        """Score a user base with a version, or with the champion."""
        package = self.package(version)
        path = self.path(telemetry) if telemetry else self.data_sources()["telemetry"]
        if not path.exists():
            raise UserError(f"{self.show(path)}: no telemetry there. Name a file or folder that exists.")
        sources = {"telemetry": path, "model": self.exported(package)}
        result = self._run(definition.scoring(self.config), sources, None, cache, {"version": package.version})
        folder = result.output("score", "scored")
        if not result.finished:
            return outcome(result)
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        lines = (
            f"{summary['users']:,} users scored with version {package.version} ({package.definition}): "
            f"{summary['flagged']:,} flagged as {summary['rare_class']}, {summary['unknown_share']:.1%} unknown",
            f"flagged users: {self.show(folder / 'flagged.csv')}",
            f"all scores: {self.show(folder)}",
        )
        return outcome(result, lines=lines, result=summary)

    def explain(self, user: str, orders: int = 8) -> dict[str, Any]:
        """Why the champion ranks a user where it does: rarity, and by how much each feature moves it from that of the
        median user it scored, strongest first. A category goes by its text, the median user has the most frequent one.
        UserError for a user it has not scored."""
        import numpy as np

        package = self.package(None)
        folder = next((path for path in self.seen_by(package) if path.name == "scored"), None)
        if folder is None:
            raise UserError(f"version {package.version} has scored nobody yet. Type: scarcegan score")
        os.environ.update(self.environment)  # before TensorFlow is loaded: it is quiet, as in a step
        from scarcegan.data.categories import display_value, places
        from scarcegan.evaluation.explain import explain, reference
        from scarcegan.model import scorer

        model = scorer.load(self.exported(package) / "model")
        users, values = scored_rows(folder, model.features)
        place = np.flatnonzero(users == user)
        if not len(place):
            raise UserError(
                f"user '{user}' is not among the {len(users):,} users in {self.show(folder)}. Score them first."
            )
        row, median = values[place[-1:]], reference(values, places(model.features, model.categories))
        moves = explain(model, row, median, orders)[0]
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
        """Compare what the champion saw with its baseline; by default all it has scored and answered."""
        package = self.package(None)
        folders = [self.path(path) for path in captured] or self.seen_by(package)
        if not folders:
            raise UserError(
                f"version {package.version} has neither scored nor answered anything yet. "
                "Type: scarcegan score, or name a folder of scored or captured rows."
            )
        missing = [path for path in [*folders, *([self.path(truth)] if truth else [])] if not path.exists()]
        if missing:
            raise UserError(f"{self.show(missing[0])}: not there. Name a file or folder that exists.")
        sources = {"captured": self.gathered(folders), "baseline": self.exported(package) / "baseline"}
        if truth:
            sources["truth"] = self.path(truth)
        result = self._run(definition.monitoring(self.config), sources, None, True, {"version": package.version})
        folder = result.output("monitor", "monitoring")
        if not result.finished:
            return outcome(result)
        verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        return outcome(result, report=folder / "report.html", lines=(verdict["reason"],), result=verdict)

    def seen_by(self, package: "ModelPackage") -> list[Path]:
        """Folders of rows this version scored (finished runs) or answered (data capture)."""
        from scarcegan.local.runner import list_runs, read_run

        runs = [r.run for r in list_runs(self.runs_folder) if r.pipeline == "scoring" and r.status == "finished"]
        scored = [run for run in runs if read_run(self.runs_folder, run)["settings"].get("version") == package.version]
        answered = self.capture_folder / str(package.version)
        folders = [self.runs_folder / run / "score" / "scored" for run in scored]
        return [*folders, *([answered] if answered.is_dir() else [])]

    def gathered(self, folders: Sequence[Path]) -> Path:
        """One folder that holds links to these. The same folders give the same one."""
        if len(folders) == 1:
            return folders[0]
        names = sorted(str(folder) for folder in folders)
        place = self.runs_folder / ".gathered" / hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        place.mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            with suppress(FileExistsError):
                (place / str(number)).symlink_to(name)
        return place

    @property
    def capture_folder(self) -> Path:
        return self.runs_folder / "capture"

    def serve(self, version: int | None, host: str, port: int | None) -> None:
        """Answer HTTP with a version, or with the champion, until a signal comes."""
        from scarcegan import serving

        serving.serve(
            self.exported(self.package(version)),
            host,
            self.config.serve.port if port is None else port,
            self.capture_folder,
            self.config.serve.capture_percentage,
        )

    def check_data(self) -> tuple[list[str], dict[str, Any]]:
        """Every problem of the data that config.yaml names, a sentence each, and a summary of what is there."""
        from scarcegan.data.check import check_data
        from scarcegan.data.rules import Layout

        data, sources = self.config.data, self.data_sources()
        layout = Layout(
            self.config.labels.classes,
            data.user_column,
            data.time_column,
            data.label_column,
            tuple(data.counters),
            data.start,
            data.days,
            tuple(data.categories),
        )
        return check_data(sources["telemetry"], sources.get("labels"), layout, data.kind, tuple(data.columns))

    def runs(self) -> list[dict[str, Any]]:
        """Every run, newest first."""
        from scarcegan.local.runner import list_runs

        return [asdict(run) for run in list_runs(self.runs_folder)]

    def clean(self, keep: int) -> list[str]:
        """Delete all but the newest runs, and what only they needed of the cache. Registered models stay."""
        from scarcegan.local.runner import clean

        return clean(self.runs_folder, keep)

    def models(self, cloud: bool = False) -> list[dict[str, Any]]:
        """Every registered package, oldest first, its figures beside its other facts."""
        packages = self.registry(cloud).packages() if cloud or self.database.exists() else []
        return [{**asdict(package), **package.metrics} for package in packages]

    def draw(self, name: str, form: str) -> str:
        """A pipeline as text, Mermaid or SVG."""
        from scarcegan.pipeline import graph

        pipelines = {make.__name__: make for make in (definition.training, definition.scoring, definition.monitoring)}
        forms = {"text": graph.as_text, "mermaid": graph.as_mermaid, "svg": graph.as_svg}
        for what, given, known in (("pipeline", name, pipelines), ("format", form, forms)):
            if given not in known:
                raise UserError(f"no {what} '{given}'. There are: {', '.join(known)}.")
        return forms[form](pipelines[name](self.config))

    def ui(self, port: int) -> None:
        """Become MLflow's server, until Ctrl-C. UserError when nothing has been logged yet, or the port is taken."""
        from scarcegan.serving import bind, url_of

        if not self.database.exists():
            raise UserError("nothing is logged yet. Type: scarcegan run")
        listener = bind("127.0.0.1", port)
        url = url_of(listener)
        listener.close()
        print(f"MLflow at {url}  (stop: Ctrl-C)", file=sys.stderr)
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", url.rsplit(":", 1)[1]]
        store = ["--backend-store-uri", self.environment["MLFLOW_TRACKING_URI"]]
        environment = {**os.environ, **self.environment, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        os.execve(sys.executable, [*command, *store], environment)  # so that signals reach it, and nobody else

    def _run(
        self,
        pipeline: definition.Pipeline,
        sources: Mapping[str, Path],
        from_step: str | None,
        cache: bool,
        settings: Mapping[str, Any] | None = None,
    ) -> "RunResult":
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
            )


def outcome(run: "RunResult", report: Path | None = None, **more: Any) -> Outcome:
    """What a run says, with its report when that was written."""
    reports = (report,) if report is not None and report.exists() else ()
    return Outcome(run.run, run.status, run.exit_code, run.reason, reports, **more)


def scored_rows(folder: Path, features: Sequence[str]) -> "tuple[NDArray, NDArray]":
    """User ids [n] and raw features float32 [n, d] of a folder of scored rows."""
    import numpy as np
    import pyarrow.parquet as pq

    table = pq.read_table(sorted(folder.glob("part-*.parquet")), columns=["user_id", *features])
    return table["user_id"].to_numpy(), np.column_stack([table[name].to_numpy() for name in features]).astype(
        np.float32
    )


def read_list(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))
