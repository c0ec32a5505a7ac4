"""A job on this machine: the folders SageMaker would lay out, the real code bundle, wheels made by hand."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from scarcegan.sagemaker import bundle, job

SOURCE = Path(job.__file__).parents[2]
PROBE = """
import json, os, sys
from pathlib import Path
def tree(word):
    path = Path(word)
    if word.startswith("--") or not path.is_dir():
        return word
    return {p.relative_to(path).as_posix(): p.read_text() for p in sorted(path.rglob("*")) if p.is_file()}
print(json.dumps({"words": sys.argv[1:], "seen": [tree(word) for word in sys.argv[1:]], "file": __file__}))
"""


def wheel(folder: Path, name: str, code: str) -> str:
    """Write `name-1.0-py3-none-any.whl`, a wheel of one module; return its line in a list of requirements."""
    told = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": code,
        f"{told}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{told}/WHEEL": "Wheel-Version: 1.0\nGenerator: by hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={digest(text.encode())},{len(text.encode())}" for path, text in files.items()]
    files[f"{told}/RECORD"] = "\n".join([*record, f"{told}/RECORD,,", ""])
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for inside, text in files.items():
            file.writestr(inside, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Job:
    """/opt/ml as a folder. channels: where a processing or a training job finds its channels."""

    root: Path
    channels: Path

    def put(self, channel: str, files: dict[str, bytes]) -> Path:
        """A channel of these files."""
        for name, data in files.items():
            path = self.channels / channel / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self.channels / channel

    def start(self, *words: str, at: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
        """Run job.sh as a job would, in an environment of nothing but what an image has."""
        script = (at or self.channels / "code") / "job.sh"
        given = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}", "HOME": str(self.root)}
        given |= {"SAGEMAKER_BASE_DIR": str(self.root), "TMPDIR": str(self.root / "tmp")}
        (self.root / "tmp").mkdir(exist_ok=True)
        return subprocess.run(["bash", str(script), *words], env=given | environment, capture_output=True, text=True)

    @property
    def message(self) -> str:
        """What SageMaker would show of a failure."""
        return (self.root / "output/message").read_text(encoding="utf-8").strip()


def make_job(folder: Path, training: bool = False) -> Job:
    """A job with the project's code, and the probe in its wheels: a module that prints what it is given and sees."""
    root = folder / "ml"
    here = Job(root, root / ("input/data" if training else "processing/input"))
    line = wheel(here.channels / "wheels", "probe", PROBE)
    project = folder / "project"
    project.mkdir()
    (project / "src").symlink_to(SOURCE)
    (project / bundle.REQUIREMENTS).write_text(line, encoding="utf-8")
    objects = bundle.code_bundle(project).objects
    here.put("code", {key.rsplit("/", 1)[1]: data for key, data in objects.items()})
    return here


def seen(done: subprocess.CompletedProcess) -> dict:
    """What the probe printed; fails with all that was said."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
