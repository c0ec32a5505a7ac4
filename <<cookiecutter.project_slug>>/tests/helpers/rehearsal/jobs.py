"""Processing and training jobs, run as processes on this machine: a folder stands for /opt/ml, S3 is really used.

What is left out: images, instances, roles, networks, encryption, time limits. A job sees nothing of this process's
environment but PATH, HOME and how OpenBLAS takes this processor (OPENBLAS_…), without which sums are added in another
order than on the laptop; so what it needs must stand in its request. Programs are told by SAGEMAKER_BASE_DIR where
/opt/ml lies, as the image's own toolkit is.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rehearsal import storage
from rehearsal.references import Refused

ML = "/opt/ml"
ROOT = "SAGEMAKER_BASE_DIR"  # the toolkit's own name for the folder that stands for /opt/ml
TAIL = 1500  # characters of a job's output that go into the reason of its failure
# The image's toolkit. It would import TensorFlow to know the names of its errors; the step imports its own.
TOOLKIT = "import sys; sys.modules['tensorflow'] = None; from sagemaker_training.cli import train; train.main()"
HOST = {"current_host": "localhost", "hosts": ["localhost"]}


class Failed(Exception):
    """A step that began and did not succeed; the message is the step's FailureReason."""


@dataclass(frozen=True)
class Container:
    """Where a job runs: its folder, what stands for /opt/ml below it, and the region."""

    folder: Path
    region: str

    @property
    def ml(self) -> Path:
        return self.folder / "ml"

    def path(self, inside: str) -> Path:
        """A path below /opt/ml as this machine has it."""
        if inside != ML and not inside.startswith(f"{ML}/"):
            raise Refused(f"'{inside}' does not lie below {ML}")
        return self.ml / inside.removeprefix(ML).lstrip("/")

    def mapped(self, text: str) -> str:
        """A text with /opt/ml replaced, wherever it stands in it: for what the image itself reads, not the program."""
        return re.sub(rf"{ML}(?![\w-])", str(self.ml), text)

    def write(self, inside: str, value: Any) -> None:
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """Run to the end and return all it said (stdout and stderr together); Failed for an exit code but 0."""
        temporary = self.folder / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        log = self.folder / "log.txt"
        surroundings = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "HOME": os.environ.get("HOME", str(self.folder)),
            "TMPDIR": str(temporary),
            "AWS_REGION": self.region,
            ROOT: str(self.ml),
            **{name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")},
            **environment,
        }
        with log.open("wb") as said:
            done = subprocess.run(
                command,
                env=surroundings,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
            )
        text = log.read_text(encoding="utf-8", errors="replace")
        if done.returncode:
            raise Failed(f"AlgorithmError: exit code {done.returncode}: {self.said_last(text)}")
        return text

    def said_last(self, text: str) -> str:
        """What the job wrote as its failure, or the end of its log."""
        for inside in ("/opt/ml/output/failure", "/opt/ml/output/message"):
            if self.path(inside).is_file():
                return self.path(inside).read_text(encoding="utf-8", errors="replace")[-TAIL:] + "\n" + text[-TAIL:]
        return text[-TAIL:]


def fetch(source: Mapping[str, Any], folder: Path) -> None:
    """Bring one S3 source into a folder of the container."""
    if source.get("S3DataType", "S3Prefix") != "S3Prefix":
        raise Refused(f"S3DataType {source['S3DataType']} is not rehearsed")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        storage.download(source["S3Uri"], folder)
    except Refused as error:
        raise Failed(f"ClientError: {error}") from error


def processing(request: Mapping[str, Any], container: Container) -> dict[str, Any]:
    """Run a processing job and return what DescribeProcessingJob would say of it.

    The service makes the output folders and uploads nothing of an empty one; here that is a failure, since whoever
    reads the output next would find nothing. https://docs.aws.amazon.com/sagemaker/latest/dg/build-your-own-processing-container.html
    """
    for each in request.get("ProcessingInputs", ()):
        fetch(each["S3Input"], container.path(each["S3Input"]["LocalPath"]))
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", ())
    folders = {each["OutputName"]: container.path(each["S3Output"]["LocalPath"]) for each in outputs}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    container.write(f"{ML}/config/processingjobconfig.json", request)
    container.write(f"{ML}/config/resourceconfig.json", HOST)
    app = request["AppSpecification"]
    entrypoint = [container.mapped(word) for word in app.get("ContainerEntrypoint", ())]
    container.run([*entrypoint, *app.get("ContainerArguments", ())], request.get("Environment", {}))
    for each in outputs:
        if not (
            folders[each["OutputName"]].is_dir()
            and storage.upload(folders[each["OutputName"]], each["S3Output"]["S3Uri"])
        ):
            raise Failed(
                f"ClientError: the job left nothing in {each['S3Output']['LocalPath']} for output {each['OutputName']}"
            )
    return {**request, "ProcessingJobStatus": "Completed"}


def training(request: Mapping[str, Any], container: Container) -> dict[str, Any]:
    """Run a training job through the image's own toolkit and return what DescribeTrainingJob would say of it."""
    if find_spec("sagemaker_training") is None:
        raise Refused("sagemaker-training, the image's toolkit, is not installed: it is for Linux only")
    for channel in request.get("InputDataConfig", ()):
        fetch(channel["DataSource"]["S3DataSource"], container.path(f"{ML}/input/data/{channel['ChannelName']}"))
    checkpoints = request.get("CheckpointConfig")
    if checkpoints:
        place = container.path(checkpoints.get("LocalPath", f"{ML}/checkpoints"))
        place.mkdir(parents=True, exist_ok=True)
        storage.download(checkpoints["S3Uri"], place, may_be_empty=True)
    write_settings(request, container)
    name = request["TrainingJobName"]
    try:
        said = container.run(
            [sys.executable, "-c", TOOLKIT],
            {"TRAINING_JOB_NAME": name, **request.get("Environment", {})},
        )
    finally:
        if checkpoints:
            storage.upload(place, checkpoints["S3Uri"])
    artifact = deliver(request, container)
    return {
        **request,
        "TrainingJobStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": artifact},
        "FinalMetricDataList": metrics(request["AlgorithmSpecification"].get("MetricDefinitions", ()), said),
    }


def write_settings(request: Mapping[str, Any], container: Container) -> None:
    """The files below /opt/ml/input/config, and the folders a training container finds."""
    for folder in ("model", "output/data", "code"):
        container.path(f"{ML}/{folder}").mkdir(parents=True, exist_ok=True)
    hyperparameters = {
        name: container.mapped(value) if name.startswith("sagemaker_") else value
        for name, value in request.get("HyperParameters", {}).items()
    }
    container.write(f"{ML}/input/config/hyperparameters.json", hyperparameters)
    channels = {
        channel["ChannelName"]: {
            "TrainingInputMode": "File",
            "S3DistributionType": "FullyReplicated",
            "RecordWrapperType": "None",
        }
        for channel in request.get("InputDataConfig", ())
    }
    container.write(f"{ML}/input/config/inputdataconfig.json", channels)
    container.write(f"{ML}/input/config/resourceconfig.json", {**HOST, "network_interface_name": "lo"})


def deliver(request: Mapping[str, Any], container: Container) -> str:
    """Pack /opt/ml/model and upload it; its URI."""
    model = container.path(f"{ML}/model")
    if not any(model.iterdir()):
        raise Failed(f"ClientError: the job left nothing in {ML}/model")
    place = f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/output"
    for folder, name in ((model, "model"), (container.path(f"{ML}/output/data"), "output")):
        if any(folder.iterdir()):
            archive = storage.packed(folder, container.folder / f"{name}.tar.gz")
            storage.put(archive.read_bytes(), f"{place}/{name}.tar.gz")
    return f"{place}/model.tar.gz"


def metrics(definitions: Sequence[Mapping[str, str]], said: str) -> list[dict[str, Any]]:
    """The last figure each metric expression finds in a job's output; one that finds none is left out."""
    found = [(each["Name"], re.findall(each["Regex"], said)) for each in definitions]
    return [{"MetricName": name, "Value": float(values[-1])} for name, values in found if values]
