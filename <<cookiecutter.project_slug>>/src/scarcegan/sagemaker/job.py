"""Between SageMaker and a step: gives the step folders and arguments as it has them on a laptop, then runs it.

Processing jobs: `python -m scarcegan.sagemaker.job MODULE --<channel> /opt/ml/processing/input/<channel> …`.
Training jobs: module, outputs and hyperparameters come from /opt/ml/input/config. Python's own library only.
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html
https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from scarcegan.aws.archive import unpack

ROOT = "/opt/ml"  # as the words of a job have it; SAGEMAKER_BASE_DIR says where it really lies
MARKER = ".empty"  # S3 has no empty folders: an object of this name stands for one
ARCHIVES = ("model.tar.gz", "package.tar.gz")  # unpacked in the place of the channel they come in
OURS = ("code", "wheels")  # channels that are job.sh's, not the step's
EMPTY = "(empty)"  # SageMaker refuses empty parameters
PIECE = "+:"  # begins a word that continues the one before: an argument has at most 256 characters
LONGEST = 256
MODULE = "scarcegan_module"  # hyperparameters that are ours
OUTPUTS = "scarcegan_outputs"
TOOLKIT = ("sagemaker_", "scarcegan_")
LAST_WORDS = 1000  # characters of a failure that SageMaker shows


def argument(name: str, value: str) -> str:
    """One word for an argument: `--name=value` is clear even when the value begins with a dash."""
    return f"--{name}={'' if value == EMPTY else value}"


def pieces(word: str) -> list[str]:
    """A word of any length as words SageMaker takes; `joined` is its opposite."""
    first, rest, step = word[:LONGEST], word[LONGEST:], LONGEST - len(PIECE)
    return [first, *(PIECE + rest[start : start + step] for start in range(0, len(rest), step))]


def joined(words: Iterable[str]) -> list[str]:
    """Words with their pieces put together, and stand-ins for nothing taken away."""
    found: list[str] = []
    for word in words:
        if word.startswith(PIECE) and found:
            found[-1] += word.removeprefix(PIECE)
        else:
            found.append(word)
    return [
        word.removesuffix(EMPTY) if word.startswith("--") and word.endswith(f"={EMPTY}") else word for word in found
    ]


def training_words(root: Path) -> list[str]:
    """The module and its words, from the files SageMaker gives a training job.

    The image's toolkit would hand hyperparameters over as Python's True and {'a': 1}; so they are read where they lie.
    """
    given = json.loads((root / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    channels = json.loads((root / "input/config/inputdataconfig.json").read_text(encoding="utf-8"))
    words = [given[MODULE]]
    for channel in sorted(set(channels) - set(OURS)):
        words += [f"--{channel}", f"{ROOT}/input/data/{channel}"]
    for output in given[OUTPUTS].split(","):
        words += [f"--{output}-out", f"{ROOT}/model/{output}"]
    own = sorted(name for name in given if not name.startswith(TOOLKIT))
    words += [argument(name, given[name]) for name in own]
    return [*words, "--checkpoints", f"{ROOT}/checkpoints"]


class Folders:
    """Where the words' folders really lie. A channel that a step must not see as it is gets a folder of its own.

    Channels may be read-only, so nothing is written into them.
    """

    def __init__(self, root: Path, work: Path, training: bool) -> None:
        self.root = root
        self.work = work
        self.channels = root / ("input/data" if training else "processing/input")
        self.outputs = root / ("model" if training else "processing/output")

    def real(self, word: str) -> str:
        """A word, or the real path of the folder it names."""
        if not word.startswith(f"{ROOT}/"):
            return word
        path = self.root / word.removeprefix(f"{ROOT}/")
        if not path.is_relative_to(self.channels):
            return str(path)
        channel, *rest = path.relative_to(self.channels).parts
        return str(self.channel(channel).joinpath(*rest))

    def channel(self, name: str) -> Path:
        """A channel without marker, its archives unpacked: itself when there is neither."""
        folder, view = self.channels / name, self.work / name
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else {MARKER}
        if not there & {MARKER, *ARCHIVES}:
            return folder
        if not view.exists():
            mirror(folder, view)
            for archive in sorted(there.intersection(ARCHIVES)):
                unpack(folder / archive, view)
        return view

    def mark_empty_outputs(self) -> None:
        """Put a marker into outputs without files: SageMaker would upload nothing, and the next step find no object."""
        for folder in self.outputs.iterdir() if self.outputs.is_dir() else ():
            if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
                (folder / MARKER).write_text("This object stands for an empty folder.\n", encoding="utf-8")


def mirror(folder: Path, view: Path) -> None:
    """Folders of its own with links to the files: a linked folder is passed over by those who look for files below."""
    view.mkdir(parents=True)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            mirror(path, view / path.name)
        elif path.name not in (MARKER, *ARCHIVES):
            (view / path.name).symlink_to(path)


def run(module: str, words: Sequence[str], message: Path) -> int:
    """Run a step as on a laptop; its last words, if it fails, go where SageMaker shows them."""
    command = [sys.executable, "-m", module, *words]
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace") as process:
        assert process.stderr is not None
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())  # SageMaker stops a job by asking this process
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            last.append(line.strip())
    if process.returncode:
        said = [line for line in last if line.startswith("error: ")] or [line for line in last if line]
        message.parent.mkdir(parents=True, exist_ok=True)
        message.write_text((said[-1] if said else f"{module} ended with {process.returncode}")[:LAST_WORDS], "utf-8")
    return process.returncode


def main(argv: Sequence[str]) -> int:
    root = Path(os.environ.get("SAGEMAKER_BASE_DIR", ROOT))
    training = (root / "input/config/hyperparameters.json").exists()
    module, *words = training_words(root) if training else joined(argv)
    with tempfile.TemporaryDirectory(prefix="scarcegan-channels-") as work:
        folders = Folders(root, Path(work), training)
        found = [folders.real(word) for word in words]
        code = run(module, found, root / "output" / ("failure" if training else "message"))
        if code == 0:
            folders.mark_empty_outputs()
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
