"""The SageMaker engine: implements Engine of pipeline/engine.py with executions of the training pipeline in AWS."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scarcegan.aws import client
from scarcegan.aws.client import Aws
from scarcegan.aws.names import PIPELINES
from scarcegan.local.durable import remove
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Gate, Pipeline
from scarcegan.pipeline.engine import RunFacts
from scarcegan.progress import PrintLine
from scarcegan.sagemaker import executions
from scarcegan.sagemaker import start as starting
from scarcegan.sagemaker.bundle import PACKAGE_FUNCTIONS
from scarcegan.sagemaker.compiler import gate_of
from scarcegan.sagemaker.pipelines import configured, deployed_parameters
from scarcegan.sagemaker.refusals import InvalidPipeline
from scarcegan.workspace import Workspace

SAGEMAKER_KINDS = ("processing", "training", "lambda")


def cannot_run(pipeline: Pipeline) -> list[str]:
    """Return the parts of a pipeline that cannot run in SageMaker Pipelines, a sentence each; [] when all of it can.

    - the whole pipeline, unless it is training or scoring.
    - a step that waits for two gates of which neither waits for the other.
    - a step of a kind that SageMaker does not have, or of the kind lambda without a Lambda function.
    """
    found = []
    if pipeline.name not in PIPELINES:
        sources = ", ".join(pipeline.sources)
        found.append(f"the whole {pipeline.name} pipeline: nothing in AWS gives it what it reads ({sources}) yet")
    for step in pipeline.steps:
        try:
            gate_of(pipeline, step)
        except InvalidPipeline as error:
            found.append(str(error))
        if isinstance(step, Gate):
            continue
        if step.kind not in SAGEMAKER_KINDS:
            found.append(f"step '{step.name}': SageMaker Pipelines has no step of kind '{step.kind}' here")
        if step.kind == "lambda" and step.name not in PACKAGE_FUNCTIONS:
            found.append(f"step '{step.name}': it has no Lambda function; name its module in sagemaker/bundle.py")
    return found


@dataclass(frozen=True)
class SageMakerEngine:
    """Runs the training pipeline in AWS. A run is an execution of it; its id is the last part of the execution's ARN.

    - config_file: the path of the project's config.yaml.
    - config: the settings that config.yaml holds.
    - downloads: the folder on this machine below which outputs of executions are downloaded, each once.
    - name: the engine's name for people.

    Every method that asks AWS raises UserError for a mistake of the user's, and for errors of AWS that a user can do
    something about, such as missing credentials. Other errors of AWS pass through.
    """

    config_file: Path
    config: Config
    downloads: Path
    name: str = "sagemaker"

    @contextmanager
    def aws(self) -> Iterator[Aws]:
        """Context manager: connect to AWS for the project, and yield the connection.

        Raises UserError when the connection fails, and for errors of AWS inside the block that a user can do something
        about.
        """
        with client.errors_as_sentences(self.config):
            yield client.connect_to_aws(self.config)

    def cannot_run(self, pipeline: Pipeline) -> list[str]:
        """Return the parts of a pipeline that this engine cannot run, a sentence each; [] when it can run all of it."""
        return cannot_run(pipeline)

    def start(self, changes: Sequence[str]) -> str:
        """Start the training pipeline in AWS, and return the id of the execution at once.

        - changes: KEY=VALUE each, for this execution only; KEY is a key of config.yaml or a pipeline parameter.

        Raises UserError for a change that no execution can make or that has no effect, when the pipeline is not in AWS
        yet, when there is no data to read, or for errors of AWS.
        """
        with self.aws() as aws:
            base = configured("training", self.config, aws.names)
            plan = starting.plan_start(base, self.config_file, changes)
            return starting.start_execution(starting.complete(plan, base, aws), aws).rsplit("/", 1)[1]

    def watch(self, run: str, report: PrintLine) -> str:
        """Wait until an execution has ended. Returns its status, such as Succeeded or Failed.

        - run: the id of the execution.
        - report: called with a line of text for each change of a step, and at the end with the reason of a failure, or
          the status if there is none.

        Raises UserError when there is no such execution, or for errors of AWS.
        """
        with self.aws() as aws:
            for found, changed in executions.watch(aws, executions.find_execution(aws, run, "training")):
                last = [found.reason or found.status] if found.ended else []
                for line in [*(step.line for step in changed), *last]:
                    report(line)
        return found.status

    def runs(self, newest: int) -> list[RunFacts]:
        """Return the newest executions of the training pipeline, newest first. Each is a dictionary with these keys:

        - run: the id of the execution.
        - status: as SageMaker names it, such as Executing or Succeeded.
        - started: the time as text, with its time zone, such as 2026-01-31 09:30:00+00:00.
        - changed: pipeline parameter -> value in the execution, as text, where it differs from the present default in
          AWS; fingerprints of data are left out.

        newest: how many to return at most.

        Raises UserError when the pipeline is not in AWS yet, or for errors of AWS.
        """
        with self.aws() as aws:
            defaults = deployed_parameters(aws, "training")
            return [
                {
                    "run": found["PipelineExecutionArn"].rsplit("/", 1)[1],
                    "status": found["PipelineExecutionStatus"],
                    "started": str(found["StartTime"]),
                    "changed": executions.changed_parameters(aws, found["PipelineExecutionArn"], defaults),
                }
                for found in executions.newest_executions(aws, "training", newest)
            ]

    def folder(self, run: str, step: str, output: str) -> Path:
        """Return the folder <downloads>/<run>/<step>/<output>, which holds an output of a step.

        The first call downloads it, completely or not at all; later calls ask nothing of AWS. For an output that a
        training step has not written, the folder is empty.

        - run: the id of an execution of the training pipeline.
        - step, output: such as "evaluate" and "gate". The step runs as a processing or training job.

        Raises UserError when there is no such execution, when the step has not succeeded in it, when a processing step
        has no such output, or for errors of AWS.
        """
        folder = self.downloads / run / step / output
        if not folder.exists():
            unfinished = folder.with_name(f".{output}.unfinished")
            remove(unfinished)
            unfinished.mkdir(parents=True)
            with self.aws() as aws:
                executions.fetch_output(aws, executions.find_execution(aws, run, "training"), step, output, unfinished)
            unfinished.rename(folder)
        return folder


def sagemaker_engine(workspace: Workspace) -> SageMakerEngine:
    """Return the engine that runs the project's training pipeline in AWS. It connects only when a method is called."""
    return SageMakerEngine(workspace.root / "config.yaml", workspace.config, workspace.runs_folder / ".cloud")
