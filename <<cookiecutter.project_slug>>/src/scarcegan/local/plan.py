"""What one run of a pipeline would do: its sources, code and keys, and the command of each step. Nothing runs here."""

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
from scarcegan.local.fingerprint import Fingerprint, fingerprint_of
from scarcegan.local.state import Places
from scarcegan.pipeline.code import digest_of, step_code_digest
from scarcegan.pipeline.definition import RUN_ID, Gate, Pipeline, Step, value_text

SOURCE_FOLDER = Path(scarcegan.__file__).resolve().parents[1]
EMPTY = digest_of([])  # of a folder that holds nothing
BYTES_PER_WORKER = 2 << 30  # TensorFlow with a sample of users


@dataclass(frozen=True)
class Plan:
    """A pipeline bound to its sources. from_step, cache: which steps run even if their result is in the cache."""

    pipeline: Pipeline
    paths: Mapping[str, Path]
    prints: Mapping[str, Fingerprint]
    code: Mapping[str, str]
    given: Mapping[str, str]
    from_step: str | None = None
    cache: bool = True

    @cached_property
    def forced(self) -> frozenset[str]:
        """Steps that run again whatever the cache holds."""
        if not self.cache:
            return frozenset(step.name for step in self.pipeline.steps)
        return frozenset([self.from_step, *self.after(self.from_step)]) if self.from_step else frozenset()

    def after(self, name: str) -> list[str]:
        """Every step that needs this one, at first or second hand."""
        found: list[str] = []
        for step in self.pipeline.steps:
            if {name, *found} & set(self.pipeline.parents(step)):
                found.append(step.name)
        return found

    def before(self, name: str) -> list[str]:
        """Every step that this one needs, in order."""
        return [step.name for step in self.pipeline.steps if name in self.after(step.name)]

    @cached_property
    def digest(self) -> str:
        """Equal for two runs that would do the same work; a run cut short is continued by a run of the same digest."""
        steps = [json.dumps(asdict(step), sort_keys=True) for step in self.pipeline.steps]
        prints = sorted((name, print_.digest) for name, print_ in self.prints.items())
        acting = any(getattr(step, "kind", "") == "lambda" for step in self.pipeline.steps)
        given = sorted(self.given.items()) if acting else []
        return digest_of([self.pipeline.name, *steps, prints, sorted(self.code.items()), given, sorted(self.forced)])

    def key(self, step: Step, digests: Mapping[str, str]) -> str:
        """Cache key: content of the inputs, arguments, code. digests: of sources and of 'step.output'.

        A lambda step acts on something outside its folders, which the given environment names, so that counts too.
        """
        about = {
            "module": step.module,
            "code": self.code[step.module],
            "arguments": dict(step.arguments),
            "inputs": {channel: digests.get(origin, EMPTY) for channel, origin in step.inputs.items()},
            "outputs": step.outputs,
            "environment": dict(self.given) if step.kind == "lambda" else {},
        }
        return digest_of([json.dumps(about, sort_keys=True)])[:40]

    def command(self, step: Step, places: Places, run: str, outputs: Path, key: str) -> list[str]:
        """The step's process: `python -m module --channel DIR … --output-out DIR … --argument VALUE …`."""
        words = [sys.executable, "-m", step.module]
        for channel, origin in step.inputs.items():
            words += [f"--{channel}", str(self.folder(origin, places, run))]
        for output in step.outputs:
            words += [f"--{output}-out", str(outputs / output)]
        for name, value in step.arguments.items():
            said = run if value == RUN_ID else value_text(value)
            # argparse would take a value that begins with a dash for the next option.
            words += [f"--{name}={said}"] if said.startswith("-") else [f"--{name}", said]
        return [*words, "--checkpoints", str(places.checkpoints(key))] if step.checkpoints else words

    def folder(self, origin: str, places: Places, run: str) -> Path:
        """Where a channel's files lie: an output of a step, a source, or an empty folder."""
        if "." in origin:
            return places.root.joinpath(run, *origin.split(".", 1))
        return self.paths.get(origin, places.empty)

    def environment(self) -> dict[str, str]:
        """A step's environment: the caller's own, what was given, and this package first on the path.

        UTF-8 whatever the locale; no module of the present folder is taken for a library.
        """
        paths = [*map(str, search_folders(self.given)), *filter(None, [os.environ.get("PYTHONPATH")])]
        fixed = {"PYTHONUNBUFFERED": "1", "PYTHONUTF8": "1", "PYTHONSAFEPATH": "1"}
        return {**os.environ, **self.given, **fixed, "PYTHONPATH": os.pathsep.join(paths)}

    def describe(self) -> dict[str, Any]:
        """The plan as run.json tells it."""
        sources = {
            name: {"path": str(self.paths[name]), "digest": p.digest, "files": p.files, "bytes": p.size}
            for name, p in self.prints.items()
        }
        return {
            "pipeline": self.pipeline.name,
            "plan_digest": self.digest,
            "sources": sources,
            "steps": [step.name for step in self.pipeline.steps],
            "plan": [asdict(step) for step in self.pipeline.steps],
            "forced": sorted(self.forced),
        }


def make_plan(
    pipeline: Pipeline,
    sources: Mapping[str, Path],
    places: Places,
    given: Mapping[str, str],
    from_step: str | None = None,
    cache: bool = True,
) -> Plan:
    """Look at sources and code. UserError for a source that is missing and a step that is not there."""
    if from_step is not None:
        try:
            pipeline.step(from_step)
        except KeyError as error:
            said = error.args[0] if error.args[0].endswith("?") else f"{error.args[0]}."
            raise UserError(f"{said} There are: {', '.join(s.name for s in pipeline.steps)}.") from None
    unknown = [name for name in sources if name not in pipeline.sources]
    missing = [name for name in pipeline.sources if name not in sources and name not in pipeline.optional]
    if unknown or missing:
        raise UserError(
            f"the {pipeline.name} pipeline reads {', '.join(pipeline.sources)}; "
            f"not given: {', '.join(missing) or 'none'}; not known: {', '.join(unknown) or 'none'}."
        )
    paths = {name: Path(os.path.abspath(path)) for name, path in sources.items()}
    prints = {name: fingerprint_source(path, places, f" (source '{name}')") for name, path in paths.items()}
    modules = {step.module for step in pipeline.steps if isinstance(step, Step)}
    code = {module: step_code_digest(module, search_folders(given)) for module in sorted(modules)}
    return Plan(pipeline, paths, prints, code, dict(given), from_step, cache)


def fingerprint_source(path: Path, places: Places, words: str = "") -> Fingerprint:
    try:
        return fingerprint_of(path, places.memory)
    except OSError as error:
        place = f"{error.filename or path}{words}"
        raise UserError(f"{place}: {error.strerror}. Name a folder that can be read.") from error


def fingerprint(paths: Iterable[Path], root: Path) -> str:
    """One digest of the content of files or folders, remembered below the runs folder. UserError if one is missing."""
    places = Places(Path(os.path.abspath(root)))
    return digest_of(fingerprint_source(Path(os.path.abspath(path)), places).digest for path in paths)[:16]


def search_folders(given: Mapping[str, str]) -> tuple[Path, ...]:
    """Where a step's own code is looked for: the running package's folder, then the PYTHONPATH that was given."""
    return (SOURCE_FOLDER, *(Path(path) for path in given.get("PYTHONPATH", "").split(os.pathsep) if path))


def refuse_what_is_missing(plan: Plan, places: Places) -> None:
    """UserError when --from names a step whose predecessors are not in the cache as they would be now."""
    digests = {name: print_.digest for name, print_ in plan.prints.items()}
    for name in plan.before(plan.from_step) if plan.from_step else ():
        step = plan.pipeline.step(name)
        if isinstance(step, Gate):
            continue
        manifest = places.cache.look_up(plan.key(step, digests))
        if manifest is None:
            raise UserError(
                f"--from {plan.from_step} needs the outputs of '{name}', and there are none for this data, these "
                f"arguments and this code. Run once without --from, or with --from {name}."
            )
        digests.update({f"{name}.{output}": manifest.digest(output) for output in step.outputs})


def default_workers() -> int:
    """A step per core, as far as memory allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(cores, memory // BYTES_PER_WORKER))


def code_version() -> str:
    """The commit this package lies in, with -dirty when files differ from it; "" outside a repository."""
    command = ["git", "-C", str(SOURCE_FOLDER), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
