"""The life after the laptop, played: compile, rehearse, register, approve, release, promote, retrain, roll back.

Every act is the project's own code against moto, which stands for AWS: the executor stands for SageMaker Pipelines, the
templates in infra/ for what CloudFormation would make of them, `scarcegan.serving` for the endpoints. Prints a line
per act: `make rehearse`.
"""

import json
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import stack_server
from rehearsal.executor import Execution
from rehearsal.project import Rehearsal, make, surroundings
from scarcegan.registry.contract import APPROVED, REJECTED, ModelPackage
from scarcegan.registry.sagemaker.registry import SageMakerRegistry
from scarcegan.release import release, smoke
from stacks import Stack, transformed

Say = Callable[[str], None]
SECOND = "train.seed=8"  # what the second training changes


class Life:
    """One project's life in an account. `lines`: what was said, an act each."""

    def __init__(self, rehearsal: Rehearsal, say: Say) -> None:
        self.it, self._say, self.lines, self.trainings = rehearsal, say, list[str](), list[Execution]()
        self.config = rehearsal.place.config
        self.registry = SageMakerRegistry(rehearsal.names, self.config.project.model_package_group, user=lambda: "ada")
        self.deploys = Deploys(rehearsal.toolchain)

    def say(self, act: str, words: str) -> None:
        self.lines.append(f"{act:<10} {words}")
        self._say(self.lines[-1])

    def play(self) -> None:
        """From the first compile to the way back."""
        self.compile()
        version = self.train_and_approve()
        self.release(version)
        self.score()
        self.release(self.train_and_approve(SECOND))
        self.roll_back(version)

    def train_and_approve(self, *changes: str) -> int:
        """From a start to the version that the deploy pipeline is told to release."""
        execution = self.rehearse(*changes)
        self.register(execution)
        return self.approve(execution)

    # -- acts -------------------------------------------------------------------------------------------------------

    def compile(self) -> None:
        plan = self.it.upsert()
        made = ", ".join(f"{each.name} ({len(each.definition):,} bytes)" for each in plan.pipelines.values())
        self.say("compile", f"{made}; {len(plan.objects)} objects uploaded")

    def rehearse(self, *changes: str) -> Execution:
        """Start the training pipeline and execute its definition. RuntimeError when it does not succeed."""
        execution = self.succeeded(self.it.run("training", changes))
        self.trainings.append(execution)
        cached = [name for name, step in execution.steps.items() if step.cached]
        ran = [name for name, step in execution.steps.items() if not step.cached]
        words = f"execution {execution.id}{' with ' if changes else ''}{', '.join(changes)}: {', '.join(ran)}"
        self.say("rehearse", words + (f"; from the cache: {', '.join(cached)}" if cached else ""))
        self.say("gate", self.gate(execution)["reason"])
        return execution

    def register(self, execution: Execution) -> None:
        packages = self.packages_of(execution)
        versions = ", ".join(f"{package.version} {package.definition}" for package in packages)
        self.say("register", f"set {packages[0].set_id}, {packages[0].status}: {versions}")

    def approve(self, execution: Execution) -> int:
        """Approve the model that the gate judged, and see whom the event of each decision would start."""
        judged = self.gate(execution)["definition"]
        packages = self.packages_of(execution)
        (chosen,) = (package for package in packages if package.definition == judged)
        other = next(package for package in packages if package.definition != judged)
        self.registry.approve(chosen.version, "approved in the rehearsal")
        self.registry.reject(other.version, "rejected in the rehearsal")
        self.say("approve", f"version {chosen.version} ({judged}); version {other.version} is rejected")
        approval, rejection = self.event(chosen.version), self.event(other.version)
        others = {
            "the rejection": rejection,
            "a metadata edit": changed(approval, UpdatedModelPackageFields=["CustomerMetadataProperties"]),
            "another group": changed(approval, ModelPackageGroupName="another-group"),
        }
        started = [words for words, event in others.items() if self.deploys.started_by(event)]
        if not self.deploys.started_by(approval) or started:
            raise RuntimeError(f"the deploy pipeline is started by: {started}, by the approval: {approval}")
        self.say("event", f"starts the deploy pipeline; {', '.join(others)} {'do' if len(others) > 1 else 'does'} not")
        return self.deploys.version(approval)

    def release(self, version: int) -> None:
        """Prepare, staging, smoke test, production, promotion: the deploy pipeline's stages."""
        prepared = release.prepare_release(
            self.it.connection, self.registry, self.config, str(version), release=f"r{version}"
        )
        stacks = {stage: Stack("endpoint.yaml", about["Parameters"]) for stage, about in prepared.stages.items()}
        self.say("prepare", prepared.variables["SUMMARY"])
        self.it.publish(stacks["staging"])
        with tempfile.TemporaryDirectory() as folder, served(self.served_by(version, Path(folder))) as url:
            said = smoke.run_smoke_test(smoke.sender_to_url(url), smoke.sample_of(Path(folder) / "package"))
        self.say("smoke", "; ".join(said))
        self.it.publish(stacks["production"])
        arn, mark = self.registry.arn(version), f"-{len(self.lines)}"
        stack_server.serve(self.it.connection, self.it.names, "production", version, arn, mark=mark)
        promoted = release.promote_served_version(self.it.connection, self.registry, version)
        self.say("promote", f"version {promoted.version} ({promoted.definition}) is the champion")

    def score(self) -> None:
        """The scoring pipeline with the champion."""
        execution = self.succeeded(self.it.run("scoring"))
        summary = json.loads(self.it.read(f"{execution.steps['score'].outputs['scored']}/summary.json"))
        flagged = f"{summary['flagged']:,} flagged as {summary['rare_class']}"
        self.say("score", f"{summary['users']:,} users scored by the champion, {flagged}")

    def roll_back(self, version: int) -> None:
        request = release.rollback_request(self.registry, self.it.names, version)
        (variable,) = request["variables"]
        self.say("roll back", f"{request['name']} is started with {variable['name']}={variable['value']}")
        self.release(int(variable["value"]))

    # -- what the acts look at --------------------------------------------------------------------------------------

    def succeeded(self, execution: Execution) -> Execution:
        if execution.status != "Succeeded":
            raise RuntimeError(f"execution {execution.id} {execution.status}: {execution.reason}")
        return execution

    def gate(self, execution: Execution) -> dict[str, Any]:
        return json.loads(self.it.read(f"{execution.steps['evaluate'].outputs['gate']}/gate.json"))

    def packages_of(self, execution: Execution) -> list[ModelPackage]:
        """The packages of the versions that the register step answered with."""
        versions = {int(version) for version in execution.steps["register"].outputs["versions"].split(",")}
        return [package for package in self.registry.packages() if package.version in versions]

    def event(self, version: int) -> dict[str, Any]:
        """What SageMaker sends about the decision on a version.

        https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
        """
        arn = self.registry.arn(version)
        seen = self.it.connection.client("sagemaker").describe_model_package(ModelPackageName=arn)
        told = ("ModelPackageGroupName", "ModelPackageVersion", "ModelPackageArn", "ModelApprovalStatus")
        if seen["ModelApprovalStatus"] not in (APPROVED, REJECTED):
            raise RuntimeError(f"nobody has decided about {arn}: {seen['ModelApprovalStatus']}")
        return {
            "source": "aws.sagemaker",
            "detail-type": "SageMaker Model Package State Change",
            "account": self.it.names.account,
            "region": self.it.names.region,
            "resources": [arn],
            "detail": {name: seen[name] for name in told} | {"UpdatedModelPackageFields": ["ModelApprovalStatus"]},
        }

    def served_by(self, version: int, folder: Path) -> Path:
        """The package's folder; its model is the archive that the endpoint's container would be given."""
        return self.registry.export(version, folder / "package")


class Deploys:
    """The rule of infra/toolchain.yaml that starts the deploy pipeline; moto's matcher stands for EventBridge's."""

    def __init__(self, toolchain: Stack) -> None:
        self.rule = toolchain.resources["ApprovalRule"]

    def started_by(self, event: Mapping[str, Any]) -> bool:
        from sent_events import matches

        return matches(self.rule, event)

    def version(self, event: Mapping[str, Any]) -> int:
        """VERSION as the rule's transformer hands it to the pipeline."""
        (target,) = self.rule["Targets"]
        text = transformed(target["InputTransformer"], event)
        (variable,) = json.loads(text)["variables"]
        return int(variable["value"])


def changed(event: Mapping[str, Any], **detail: Any) -> dict[str, Any]:
    return {**event, "detail": {**event["detail"], **detail}}


@contextmanager
def served(package: Path) -> Iterator[str]:
    """The local endpoint with a package, in a thread; its URL."""
    import uvicorn

    from scarcegan import serving

    endpoint = serving.Endpoint(serving.read_package_facts(package))
    endpoint.model = serving.load_model(package / "model")
    listener = serving.listen("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(endpoint.app(), log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield serving.url_of(listener)
    finally:
        server.should_exit = True
        thread.join()


def main() -> None:
    from moto import mock_aws

    os.environ.update(surroundings())
    logging.disable(logging.INFO)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, mock_aws():
        rehearsal = Rehearsal(make(Path(folder, "project")), Path(folder, "jobs"))
        rehearsal.found()
        Life(rehearsal, lambda line: print(line, flush=True)).play()
    print(f"done in {time.monotonic() - begun:.0f} s; no AWS account was touched", file=sys.stderr)


if __name__ == "__main__":
    main()
