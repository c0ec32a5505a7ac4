"""Start of a SageMaker job: prepares the folders and arguments of a step as in a local run, then runs the step.

Processing jobs: `python -m scarcegan.sagemaker.job MODULE_PARAMETER --<channel> /opt/ml/processing/input/<channel> …`.
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

from scarcegan.archive import unpack
from scarcegan.errors import UserError

CONTAINER_ROOT = "/opt/ml"  # folder in the arguments of a job; tests set SAGEMAKER_BASE_DIR to use another one
MARKER = ".empty"  # S3 has no empty folders: an object of this name represents one
ARCHIVES = ("model.tar.gz", "package.tar.gz")  # unpacked into the folder of the channel that holds them
CODE_CHANNELS = ("code", "wheels")  # channels that job.sh reads, not the step
EMPTY_VALUE = "(empty)"  # represents "", because SageMaker refuses empty parameters
CONTINUED = "+:"  # begins an argument that continues the one before it: SageMaker takes 256 characters each
ARGUMENT_CHARACTERS = 256
MODULE_PARAMETER = "scarcegan_module"  # hyperparameters that job.py reads, not the step
OUTPUTS_PARAMETER = "scarcegan_outputs"
RESERVED_PREFIXES = ("sagemaker_", "scarcegan_")
MESSAGE_CHARACTERS = 1000  # characters of a failure that SageMaker shows


def argument(name: str, value: str) -> str:
    """Return a command-line argument as one text `--name=value`, so that a value may begin with a dash.

    The value "(empty)" becomes ""; any other is left as it is, without quotes or escapes.
    """
    return f"--{name}={'' if value == EMPTY_VALUE else value}"


def split_argument(word: str) -> list[str]:
    """Split a command-line argument into parts of at most 256 characters, the longest that SageMaker takes.

    Each part after the first begins with "+:", which counts among its characters. A shorter argument is returned as the
    only part. `join_arguments` joins the parts again.
    """
    first, rest, step = word[:ARGUMENT_CHARACTERS], word[ARGUMENT_CHARACTERS:], ARGUMENT_CHARACTERS - len(CONTINUED)
    return [first, *(CONTINUED + rest[start : start + step] for start in range(0, len(rest), step))]


def join_arguments(words: Iterable[str]) -> list[str]:
    """Return command-line arguments in which those that `split_argument` has split are joined again.

    `--name=(empty)` becomes `--name=`.
    """
    found: list[str] = []
    for word in words:
        if word.startswith(CONTINUED) and found:
            found[-1] += word.removeprefix(CONTINUED)
        else:
            found.append(word)
    return [
        word.removesuffix(EMPTY_VALUE) if word.startswith("--") and word.endswith(f"={EMPTY_VALUE}") else word
        for word in found
    ]


def training_arguments(root: Path) -> list[str]:
    """Return the module of a training step, then its command-line arguments.

    These are, in this order:
    - "--<channel>" and its folder, for each channel but `code` and `wheels`.
    - "--<output>-out" and its folder, for each output.
    - "--<name>=<value>" for each value of the step.
    - "--checkpoints" and its folder.

    The folders are those below /opt/ml, whatever `root` is. All is read from the files that SageMaker gives a training
    job, because the image's toolkit would pass hyperparameters as Python values (True, {'a': 1}).

    - root: the folder that SageMaker calls /opt/ml.
    """
    given = json.loads((root / "input/config/hyperparameters.json").read_text(encoding="utf-8"))
    channels = json.loads((root / "input/config/inputdataconfig.json").read_text(encoding="utf-8"))
    words = [given[MODULE_PARAMETER]]
    for channel in sorted(set(channels) - set(CODE_CHANNELS)):
        words += [f"--{channel}", f"{CONTAINER_ROOT}/input/data/{channel}"]
    for output in given[OUTPUTS_PARAMETER].split(","):
        words += [f"--{output}-out", f"{CONTAINER_ROOT}/model/{output}"]
    own = sorted(name for name in given if not name.startswith(RESERVED_PREFIXES))
    words += [argument(name, given[name]) for name in own]
    return [*words, "--checkpoints", f"{CONTAINER_ROOT}/checkpoints"]


class Folders:
    """The folders of a job: finds the real folder behind each argument, and unpacks archives for the step.

    Channels may be read-only, so a channel that must be changed is rebuilt as links in a folder of its own.

    - root: the folder that SageMaker calls /opt/ml.
    - work: an empty folder, for the rebuilt channels.
    - training: whether the job is a training job; else it is a processing job.
    """

    def __init__(self, root: Path, work: Path, training: bool) -> None:
        self.root = root
        self.work = work
        self.channels = root / ("input/data" if training else "processing/input")
        self.outputs = root / ("model" if training else "processing/output")

    def real_path(self, word: str) -> str:
        """Return a command-line argument as the step gets it: a path below /opt/ml becomes the same path below `root`.

        A path in a channel becomes one in the folder that `channel` returns, so archives are unpacked by this call. An
        argument that does not begin with /opt/ml/ is returned as it is; so is `--name=/opt/ml/…`.

        Raises UserError as `channel` does.
        """
        if not word.startswith(f"{CONTAINER_ROOT}/"):
            return word
        path = self.root / word.removeprefix(f"{CONTAINER_ROOT}/")
        if not path.is_relative_to(self.channels):
            return str(path)
        channel, *rest = path.relative_to(self.channels).parts
        return str(self.channel(channel).joinpath(*rest))

    def channel(self, name: str) -> Path:
        """Return the folder that the step reads for a channel: without the file .empty, and with archives unpacked.

        The archives are model.tar.gz and package.tar.gz. A channel that has one of these files directly in its folder
        is rebuilt as `work`/<channel>, by the first call only; a missing folder is rebuilt as an empty one. For any
        other channel, its own folder is returned.

        Raises UserError for an archive that `unpack` refuses.
        """
        folder, view = self.channels / name, self.work / name
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else {MARKER}
        if not there & {MARKER, *ARCHIVES}:
            return folder
        if not view.exists():
            link_files(folder, view)
            for archive in sorted(there.intersection(ARCHIVES)):
                unpack(folder / archive, view)
        return view

    def mark_empty_outputs(self) -> None:
        """Write the file .empty into the folder of each output that has no file, at any depth.

        SageMaker would upload nothing for it, and the next job, whose channel it is, would fail. A folder that does not
        exist is not made.
        """
        for folder in self.outputs.iterdir() if self.outputs.is_dir() else ():
            if folder.is_dir() and not any(path.is_file() for path in folder.rglob("*")):
                (folder / MARKER).write_text("This object stands for an empty folder.\n", encoding="utf-8")


def link_files(folder: Path, view: Path) -> None:
    """Rebuild a folder at `view`, which must not exist yet, with links to its files.

    Files named .empty, model.tar.gz or package.tar.gz are left out at every depth. Subfolders are created, not linked,
    because Python's search for files below a folder does not follow linked folders. A missing folder gives an empty
    one.
    """
    view.mkdir(parents=True)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir():
            link_files(path, view / path.name)
        elif path.name not in (MARKER, *ARCHIVES):
            (view / path.name).symlink_to(path)


def run_module(module: str, words: Sequence[str], message: Path) -> int:
    """Run the module of a step with its arguments in a process of its own. Returns the exit code of that process.

    The stderr of that process is printed to this one's. From now on, SIGTERM to this process terminates that one.

    - module: the full name of the module.
    - words: the command-line arguments.
    - message: the file to write the reason into when the process fails; SageMaker shows it. Of the last 20 lines of
      stderr, the reason is the last one that begins with "error: ", or else the last one that is not blank, cut to
      1,000 characters. Without any line, the reason is the exit code.
    """
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
        write_message(message, said[-1] if said else f"{module} ended with {process.returncode}")
    return process.returncode


def write_message(file: Path, text: str) -> None:
    """Write the reason of a failure, cut to MESSAGE_CHARACTERS, into the file that SageMaker shows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text[:MESSAGE_CHARACTERS], "utf-8")


def main(argv: Sequence[str]) -> int:
    """Run a step inside a SageMaker job. Returns the exit code of the step.

    After a success, empty output folders get a file .empty. After a failure, the reason is written to output/failure
    (training job) or output/message (processing job) below /opt/ml, or below SAGEMAKER_BASE_DIR if that is set.

    - argv: module and command-line arguments of a processing job; a training job reads them from SageMaker's files.
    """
    root = Path(os.environ.get("SAGEMAKER_BASE_DIR", CONTAINER_ROOT))
    training = (root / "input/config/hyperparameters.json").exists()
    module, *words = training_arguments(root) if training else join_arguments(argv)
    message = root / "output" / ("failure" if training else "message")
    with tempfile.TemporaryDirectory(prefix="scarcegan-channels-") as work:
        folders = Folders(root, Path(work), training)
        try:
            found = [folders.real_path(word) for word in words]
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            write_message(message, f"error: {error}")
            return 2
        code = run_module(module, found, message)
        if code == 0:
            folders.mark_empty_outputs()
        return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
