"""CodeBuild's way through a buildspec, over bash: phases, finally, variables, exported variables, artifacts.

https://docs.aws.amazon.com/codebuild/latest/userguide/build-spec-ref.html, version 0.2: all commands share one shell,
the first failure ends its phase, `finally` always runs, and post_build runs even when build has failed.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

PHASES = ("install", "pre_build", "build", "post_build")
KNOWN = {
    "version": (),
    "env": ("shell", "variables", "exported-variables", "git-credential-helper"),
    "phases": PHASES,
    "artifacts": ("files", "base-directory", "discard-paths"),
}
PHASE = ("runtime-versions", "commands", "finally")

# The commands lie in files, so that no text of theirs meets another shell than CodeBuild's own.
SCRIPT = """
export CODEBUILD_BUILD_SUCCEEDING=1
run() {
  for command in "$STEPS/$1"/*; do
    [ -e "$command" ] || continue
    echo "[$1] $(head -c 200 "$command")"
    eval "$(cat "$command")" || { echo "[$1] failed"; return 1; }
  done
}
phase() {
  local code=0
  run "$1.commands" || code=1
  run "$1.finally" || code=1
  [ $code = 0 ] || CODEBUILD_BUILD_SUCCEEDING=0
  return $code
}
if phase install && phase pre_build; then phase build; phase post_build; fi
for name in $EXPORTED; do printf '%s' "${!name}" > "$STEPS/exported/$name"; done
[ "$CODEBUILD_BUILD_SUCCEEDING" = 1 ]
"""


@dataclass(frozen=True)
class Build:
    """How a build ended. log: what it printed, phase by phase; exported: variables for later actions."""

    succeeded: bool
    log: str
    exported: Mapping[str, str]
    artifacts: Mapping[str, Path]


def run(buildspec: Path, source: Path, scratch: Path, variables: Mapping[str, str], path: str = "") -> Build:
    """Run a buildspec in a folder of source code.

    variables: what project and action set; they win over those of the buildspec. path: goes before PATH, for stand-ins.
    """
    spec = load(buildspec)
    steps = write_commands(spec["phases"], scratch / "steps")
    exported = spec["env"].get("exported-variables", [])
    environment = {
        **{key: os.environ[key] for key in ("HOME", "LANG", "TMPDIR") if key in os.environ},
        "PATH": os.pathsep.join([*([path] if path else []), os.environ["PATH"]]),
        **spec["env"].get("variables", {}),
        **variables,
        "CODEBUILD_SRC_DIR": str(source),
        "STEPS": str(steps),
        "EXPORTED": " ".join(exported),
    }
    done = subprocess.run(
        ["bash", "-c", SCRIPT], cwd=source, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    found = artifacts(spec.get("artifacts", {}), source) if done.returncode == 0 else {}
    return Build(
        done.returncode == 0,
        done.stdout,
        {name: (steps / "exported" / name).read_text() for name in exported},
        found,
    )


def load(buildspec: Path) -> dict:
    """The buildspec as data; AssertionError for a key that this runner, and maybe CodeBuild, would pass over."""
    spec = yaml.safe_load(buildspec.read_text(encoding="utf-8"))
    assert spec["version"] == 0.2 and spec["env"]["shell"] == "bash", f"{buildspec.name}: version 0.2 and bash"
    for key, value in spec.items():
        unknown = set(value) - set(KNOWN[key]) if KNOWN[key] else set()
        assert not unknown, f"{buildspec.name}: {key} has {sorted(unknown)}"
    for name, phase in spec["phases"].items():
        assert not set(phase) - set(PHASE), f"{buildspec.name}: {name} has {sorted(phase)}"
    return spec


def write_commands(phases: Mapping[str, Mapping], folder: Path) -> Path:
    """A file per command: steps/build.commands/00, …"""
    (folder / "exported").mkdir(parents=True)
    for phase, about in phases.items():
        for kind in ("commands", "finally"):
            (folder / f"{phase}.{kind}").mkdir()
            for number, command in enumerate(about.get(kind, [])):
                (folder / f"{phase}.{kind}" / f"{number:02}").write_text(command, encoding="utf-8")
    return folder


def artifacts(wanted: Mapping, source: Path) -> dict[str, Path]:
    """Name in the artifact -> file. AssertionError for a pattern that matches nothing: CodeBuild fails there too."""
    base = source / wanted.get("base-directory", ".")
    found: dict[str, Path] = {}
    for pattern in wanted.get("files", []):
        files = [path for path in base.glob(pattern) if path.is_file()]
        assert files, f"no artifact matches {pattern}"
        found |= {path.name if wanted.get("discard-paths") else str(path.relative_to(base)): path for path in files}
    return found
