"""The plan of a run: fingerprints of its sources and code, the cache key and the command of each step. Runs nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import scarcegan
from scarcegan.errors import UserError
from scarcegan.local.fingerprint import HASHES_VARIABLE, Fingerprint, fingerprint_of
from scarcegan.local.state import RunsFolder
from scarcegan.pipeline.code import digest_of, step_code_digest
from scarcegan.pipeline.definition import RUN_ID, Gate, Pipeline, Step, value_text

SOURCE_FOLDER = Path(scarcegan.__file__).resolve().parents[1]
EMPTY_FOLDER_DIGEST = digest_of([])  # the digest of an output or source without files
BYTES_PER_WORKER = 2 << 30  # memory of a step that loads TensorFlow and a sample of users


@dataclass(frozen=True)
class RunPlan:
    """A pipeline with its sources, and all that decides which of its steps have to run.

    - paths: name of a source -> the absolute path of its file or folder; optional sources may be left out.
    - fingerprints: name of a source -> the fingerprint of its content.
    - code: module of a step -> the digest of its code.
    - extra_environment: variables that are added to the environment of each step.
    - from_step: this step and all that depend on it run even if their outputs are cached; None: no step is forced.
    - cache: False: every step runs even if its outputs are cached.
    """

    pipeline: Pipeline
    paths: Mapping[str, Path]
    fingerprints: Mapping[str, Fingerprint]
    code: Mapping[str, str]
    extra_environment: Mapping[str, str]
    from_step: str | None = None
    cache: bool = True

    @cached_property
    def forced(self) -> frozenset[str]:
        """The names of the steps and gates that run even if their outputs are cached; empty when neither from_step nor
        cache=False asks for it.
        """
        if not self.cache:
            return frozenset(step.name for step in self.pipeline.steps)
        return frozenset([self.from_step, *self.after(self.from_step)]) if self.from_step else frozenset()

    def after(self, name: str) -> list[str]:
        """Return the names of all steps and gates that depend on the one called `name`, directly or through others, in
        pipeline order.
        """
        found: list[str] = []
        for step in self.pipeline.steps:
            if {name, *found} & set(self.pipeline.parents(step)):
                found.append(step.name)
        return found

    def before(self, name: str) -> list[str]:
        """Return the names of all steps and gates that the one called `name` depends on, directly or through others, in
        pipeline order.
        """
        return [step.name for step in self.pipeline.steps if name in self.after(step.name)]

    @cached_property
    def digest(self) -> str:
        """A SHA-256, in hexadecimal, of the pipeline, the content of its sources, the code and the forced steps.

        With a step of the kind "lambda", `extra_environment` counts too. A run that was interrupted or failed is
        continued by the next command whose plan has the same digest.
        """
        steps = [json.dumps(asdict(step), sort_keys=True) for step in self.pipeline.steps]
        fingerprints = sorted((name, found.digest) for name, found in self.fingerprints.items())
        acting = any(getattr(step, "kind", "") == "lambda" for step in self.pipeline.steps)
        extra_environment = sorted(self.extra_environment.items()) if acting else []
        return digest_of(
            [
                self.pipeline.name,
                *steps,
                fingerprints,
                sorted(self.code.items()),
                extra_environment,
                sorted(self.forced),
            ]
        )

    def key(self, step: Step, digests: Mapping[str, str]) -> str:
        """Return the cache key of a step, 40 hexadecimal digits: a digest of its inputs, arguments, code and names of
        outputs.

        For a step of the kind "lambda" `extra_environment` counts too: it names what the step changes outside its
        folders, such as the registry.

        - digests: digest of the content of each source, by its name, and of each output, by "step.output". An input
          that is missing, such as an optional source without data, counts as an empty folder.
        """
        about = {
            "module": step.module,
            "code": self.code[step.module],
            "arguments": dict(step.arguments),
            "inputs": {channel: digests.get(origin, EMPTY_FOLDER_DIGEST) for channel, origin in step.inputs.items()},
            "outputs": step.outputs,
            "step_environment": dict(self.extra_environment) if step.kind == "lambda" else {},
        }
        return digest_of([json.dumps(about, sort_keys=True)])[:40]

    def command(self, step: Step, runs_folder: RunsFolder, run: str, outputs: Path, key: str) -> list[str]:
        """Return the command line of a step: `python -m module --channel PATH … --output-out DIR … --argument VALUE …`.

        - run: the id of the run, whose folder holds the inputs; it replaces an argument's value that equals
          definition.RUN_ID.
        - outputs: the folder in which the step makes a folder per output.
        - key: the step's cache key, which names the folder of its checkpoints; used only for a step that has some.
        """
        command = [sys.executable, "-m", step.module]
        for channel, origin in step.inputs.items():
            command += [f"--{channel}", str(self.folder(origin, runs_folder, run))]
        for output in step.outputs:
            command += [f"--{output}-out", str(outputs / output)]
        for name, value in step.arguments.items():
            text = run if value == RUN_ID else value_text(value)
            # argparse would take a value that begins with a dash for the next option.
            command += [f"--{name}={text}"] if text.startswith("-") else [f"--{name}", text]
        return [*command, "--checkpoints", str(runs_folder.checkpoints(key))] if step.checkpoints else command

    def folder(self, origin: str, runs_folder: RunsFolder, run: str) -> Path:
        """Return the path of a step's input; for an optional source that was not given, that of an empty folder.

        - origin: the name of a source, or "step.output" for a folder in the run.
        - run: the id of the run.
        """
        if "." in origin:
            return runs_folder.root.joinpath(run, *origin.split(".", 1))
        return self.paths.get(origin, runs_folder.empty_folder)

    def step_environment(self, runs_folder: RunsFolder) -> dict[str, str]:
        """Return all environment variables of a step: those of this process, `extra_environment`, where the hashes of
        the sources are stored, and settings of Python. Of two with the same name the later one counts.

        The settings use UTF-8 in every locale, write output without delay, and keep Python from importing modules of
        the current folder. PYTHONPATH has the folders of `search_folders` first, then those of this process.
        """
        paths = [*map(str, search_folders(self.extra_environment)), *filter(None, [os.environ.get("PYTHONPATH")])]
        fixed = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"}
        fixed[HASHES_VARIABLE] = str(runs_folder.hashes)
        return {**os.environ, **self.extra_environment, **fixed, "PYTHONPATH": os.pathsep.join(paths)}

    def describe(self) -> dict[str, Any]:
        """Return the part of run.json about the plan, a dictionary with these keys:

        - pipeline: its name.
        - plan_digest: `digest`.
        - sources: name -> a dictionary of path, digest, files (their number) and bytes.
        - steps: names of steps and gates, in pipeline order.
        - plan: the fields of each Step or Gate as a dictionary, a list in the same order.
        - forced: names of the forced steps and gates, sorted.
        """
        sources = {
            name: {"path": str(self.paths[name]), "digest": p.digest, "files": p.files, "bytes": p.size}
            for name, p in self.fingerprints.items()
        }
        return {
            "pipeline": self.pipeline.name,
            "plan_digest": self.digest,
            "sources": sources,
            "steps": [step.name for step in self.pipeline.steps],
            "plan": [asdict(step) for step in self.pipeline.steps],
            "forced": sorted(self.forced),
        }


def make_run_plan(
    pipeline: Pipeline,
    sources: Mapping[str, Path],
    runs_folder: RunsFolder,
    extra_environment: Mapping[str, str],
    from_step: str | None = None,
    cache: bool = True,
) -> RunPlan:
    """Make the plan of a run: read the sources and the code, and compute their digests. Nothing runs yet.

    - sources: name of each source of the pipeline -> its file or folder; optional ones may be left out.
    - runs_folder: where the hashes of source files are stored.
    - extra_environment, from_step, cache: as in RunPlan.

    Raises UserError for a name in `sources` that is no source of the pipeline, for a source that is left out, does not
    exist or cannot be read, and for a from_step that the pipeline does not have.
    """
    if from_step is not None:
        try:
            pipeline.step(from_step)
        except KeyError as error:
            fact = error.args[0] if error.args[0].endswith("?") else f"{error.args[0]}."
            raise UserError(f"{fact} There are: {', '.join(s.name for s in pipeline.steps)}.") from None
    unknown = [name for name in sources if name not in pipeline.sources]
    missing = [name for name in pipeline.sources if name not in sources and name not in pipeline.optional]
    if unknown or missing:
        raise UserError(
            f"the {pipeline.name} pipeline reads {', '.join(pipeline.sources)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}. "
            "Give it all its sources and no others."
        )
    paths = {name: Path(os.path.abspath(path)) for name, path in sources.items()}
    fingerprints = {name: fingerprint_source(path, runs_folder, f" (source '{name}')") for name, path in paths.items()}
    modules = {step.module for step in pipeline.steps if isinstance(step, Step)}
    code = {module: step_code_digest(module, search_folders(extra_environment)) for module in sorted(modules)}
    return RunPlan(pipeline, paths, fingerprints, code, dict(extra_environment), from_step, cache)


def fingerprint_source(path: Path, runs_folder: RunsFolder, role: str = "") -> Fingerprint:
    """Return the Fingerprint of a file or folder.

    - runs_folder: where the hashes of its files are stored.
    - role: text that the error message has after the path, such as " (source 'labels')".

    Raises UserError when something is missing or cannot be read, OSError when the hashes cannot be stored.
    """
    try:
        return fingerprint_of(path, runs_folder.hashes)
    except OSError as error:
        if Path(error.filename or path).is_relative_to(runs_folder.hashes.parent):
            raise
        raise UserError(
            f"{error.filename or path}{role}: {error.strerror}. Name a file or folder that can be read."
        ) from error


def fingerprint_data(paths: Iterable[Path], root: Path) -> str:
    """Return one digest, of 16 hexadecimal digits, of several files or folders: of Fingerprint.digest of each.

    - paths: their order counts; where a folder lies does not.
    - root: the folder of runs, in which the hashes of files are stored, so that the next call is quick.

    Raises UserError when one of the paths is missing or cannot be read.
    """
    runs_folder = RunsFolder(Path(os.path.abspath(root)))
    return digest_of(fingerprint_source(Path(os.path.abspath(path)), runs_folder).digest for path in paths)[:16]


def search_folders(extra_environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return the folders in which the code of steps is searched: the one that holds this package, then those in the
    variable PYTHONPATH of `extra_environment`.
    """
    return (SOURCE_FOLDER, *(Path(path) for path in extra_environment.get("PYTHONPATH", "").split(os.pathsep) if path))


def check_from_step(plan: RunPlan, runs_folder: RunsFolder) -> None:
    """Check that a run can begin at plan.from_step: the outputs of all steps that it depends on must be in the cache.

    Gates before it are not read. Without a from_step there is nothing to check.

    Raises UserError, which names the first step whose outputs are not cached for this data, arguments and code.
    """
    digests = {name: found.digest for name, found in plan.fingerprints.items()}
    for name in plan.before(plan.from_step) if plan.from_step else ():
        step = plan.pipeline.step(name)
        if isinstance(step, Gate):
            continue
        manifest = runs_folder.cache.find(plan.key(step, digests))
        if manifest is None:
            raise UserError(
                f"--from {plan.from_step} needs the outputs of '{name}', and there are none for this data, these "
                f"arguments and this code. Run once without --from, or with --from {name}."
            )
        digests.update({f"{name}.{output}": manifest.digest(output) for output in step.outputs})


def default_workers() -> int:
    """Return how many steps run at once by default: one per core that this process may use, but at most one per
    BYTES_PER_WORKER of the machine's memory; at least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, memory_bytes() // BYTES_PER_WORKER))


def memory_bytes() -> int:
    """Return the size of the machine's memory, in bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def code_version() -> str:
    """Return the git commit, 40 hexadecimal digits, of the repository that holds this package, with "-dirty" appended
    when files that git tracks differ from it; "" outside a repository or without git.
    """
    command = ["git", "-C", str(SOURCE_FOLDER), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
