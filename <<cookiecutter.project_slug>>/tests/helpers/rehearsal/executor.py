"""Executes a compiled pipeline definition: parameters, references, order, conditions, jobs, Lambda and Fail steps.

`execute` refuses what CreatePipeline and StartPipelineExecution would refuse (`Refused`), and answers with a failed
execution where the service would. It is stricter in two places: every request passes the service's model with its
resolved values, and an output that stays empty fails the job that should have written it.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rehearsal import jobs, shapes, storage
from rehearsal.references import VARIABLES, Refused, Scope, plain, references, resolve, tokens, walk

__all__ = ["Execution", "Refused", "StepResult", "execute"]

Handler = Callable[[dict, Any], Any]
Cache = MutableMapping[str, dict]
JOBS = {
    "Processing": ("CreateProcessingJob", "ProcessingJobName"),
    "Training": ("CreateTrainingJob", "TrainingJobName"),
}
# https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-default-keys.html
CACHED_BY = {
    "Processing": ("AppSpecification", "Environment", "ProcessingInputs"),
    "Training": ("AlgorithmSpecification", "CheckpointConfig", "Environment", "HyperParameters", "InputDataConfig"),
}
PARAMETER_TYPES: dict[str, Any] = {"String": str, "Integer": int, "Float": (int, float), "Boolean": bool}
LAMBDA_MS = 600_000  # a Lambda step may take ten minutes
EXPIRY = re.compile(r"P?(\d+[YyMmWwDd])*(T(\d+[HhMmSs])+)?")


@dataclass(frozen=True)
class StepResult:
    """How a step ended. outputs: output name -> S3 URI or Lambda's value. metrics: of a training job's log."""

    status: str
    outputs: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    cached: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Execution:
    """How an execution ended. steps: those that were begun, by name, in the order they ended."""

    id: str
    status: str
    reason: str
    steps: Mapping[str, StepResult]


@dataclass(frozen=True)
class Planned:
    """A step, the branch it stands in (condition's name, its outcome), and the steps it waits for."""

    body: Mapping[str, Any]
    branch: tuple[str, bool] | None
    parents: frozenset[str]

    @property
    def name(self) -> str:
        return self.body["Name"]


def execute(
    definition: Mapping[str, Any],
    parameters: Mapping[str, str],
    folder: Path,
    functions: Mapping[str, Handler],
    *,
    cache: Cache | None = None,
    pipeline: str = "rehearsal",
    region: str = "eu-west-1",
    account: str = "123456789012",
    parallel: int = 2,
) -> Execution:
    """Run a definition to its end. parameters: texts, as StartPipelineExecution takes them.

    functions: Lambda function ARN -> handler. cache: kept by the caller from one execution to the next, as the service
    keeps it for a pipeline. folder: a folder per step with `log.txt` and `ml/`, which stands for /opt/ml.
    """
    plan = planned(definition)
    run = Run(definition, plan, folder, functions, cache, region, parallel)
    name = secrets.token_hex(6)
    run.scope = Scope(values(definition, parameters), variables(name, pipeline, region, account), run.property_file)
    status, reason = run.go()
    return Execution(name, status, reason, run.results)


# -- what CreatePipeline checks ---------------------------------------------------------------------------------------


def planned(definition: Mapping[str, Any]) -> list[Planned]:
    """The steps in an order that respects every dependency; Refused for whatever leads nowhere or goes round."""
    plan = list(flat(definition["Steps"], None))
    names = [step.name for step in plan]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise Refused(f"two steps are called '{min(twice)}'")
    declared = {parameter["Name"]: "" for parameter in definition.get("Parameters", ())}
    for step in plan:
        if step.body["Type"] not in RUNNERS:
            raise Refused(f"step '{step.name}': type {step.body['Type']} (rehearsed are: {', '.join(RUNNERS)})")
    described = {step.name: skeleton(step.body) for step in plan}
    scope = Scope(declared, dict.fromkeys(VARIABLES, ""), lambda step, name: None, described)
    for step in plan:
        missing = sorted(step.parents - set(names))
        if missing:
            raise Refused(f"step '{step.name}' refers to step '{missing[0]}' (there are: {', '.join(names)})")
        check(step, scope)
    return ordered(plan)


def flat(steps: list[Mapping[str, Any]], branch: tuple[str, bool] | None) -> Iterator[Planned]:
    """Steps and those inside conditions; the latter wait for their condition."""
    for body in steps:
        arguments = body.get("Arguments", {})
        own = arguments
        if body["Type"] == "Condition":
            own = {"Conditions": arguments["Conditions"]}
            yield from flat(arguments["IfSteps"], (body["Name"], True))
            yield from flat(arguments["ElseSteps"], (body["Name"], False))
        read = {str(tokens(path)[1]) for path in references(own) if path.startswith("Steps.")}
        wanted = {*read, *body.get("DependsOn", ()), *([branch[0]] if branch else ())}
        yield Planned(body, branch, frozenset(wanted))


def skeleton(body: Mapping[str, Any]) -> dict[str, Any]:
    """What other steps may refer to before anything has run: the request, and what the service adds to it."""
    kind, arguments = body["Type"], body.get("Arguments", {})
    extra: dict[str, Any] = {}
    if kind == "Processing":
        outputs = [each["OutputName"] for each in arguments.get("ProcessingOutputConfig", {}).get("Outputs", ())]
        files = {each["PropertyFileName"]: each for each in body.get("PropertyFiles", ())}
        for each in files.values():
            if each["OutputName"] not in outputs:
                raise Refused(
                    f"step '{body['Name']}': property file {each['PropertyFileName']} lies in output "
                    f"'{each['OutputName']}', which it does not have (there are: {', '.join(outputs)})"
                )
        extra = {"ProcessingJobName": "", "PropertyFiles": files}
    elif kind == "Training":
        extra = {"TrainingJobName": "", "ModelArtifacts": {"S3ModelArtifacts": ""}}
    elif kind == "Lambda":
        extra = {"OutputParameters": {each["OutputName"]: "" for each in body.get("OutputParameters", ())}}
    elif kind == "Condition":
        extra = {"Outcome": ""}
    return {**arguments, **extra}


def check(step: Planned, scope: Scope) -> None:
    """Refused for a reference of a step that leads nowhere, or for settings the service does not know."""
    body = step.body
    own = body.get("Arguments", {})
    if body["Type"] == "Condition":
        own = {"Conditions": own["Conditions"]}
    for reference in references(own):
        root, *path = tokens(reference)
        roots = {"Parameters": scope.parameters, "Execution": scope.execution, "Steps": scope.steps}
        if root not in roots:
            raise Refused(f"step '{step.name}': '{reference}' begins with none of {', '.join(roots)}")
        try:
            walk(roots[str(root)], path, reference)
        except Refused as error:
            raise Refused(f"step '{step.name}': {error}") from None
    for policy in body.get("RetryPolicies", ()):
        if not policy.get("ExceptionType") or not {"MaxAttempts", "ExpireAfterMin"} & policy.keys():
            raise Refused(f"step '{step.name}': a retry policy needs ExceptionType and MaxAttempts or ExpireAfterMin")
    expiry = body.get("CacheConfig", {"ExpireAfter": "P1D"}).get("ExpireAfter", "")
    if not expiry or not EXPIRY.fullmatch(expiry):
        raise Refused(f"step '{step.name}': CacheConfig.ExpireAfter '{expiry}' is no duration such as P30D")


def ordered(plan: list[Planned]) -> list[Planned]:
    """Parents first, otherwise as written; Refused for a cycle."""
    done: list[Planned] = []
    left = list(plan)
    while left:
        names = {step.name for step in done}
        ready = [step for step in left if step.parents <= names]
        if not ready:
            raise Refused(f"the steps wait for each other in a circle: {', '.join(step.name for step in left)}")
        done.append(ready[0])
        left.remove(ready[0])
    return done


# -- what StartPipelineExecution checks -------------------------------------------------------------------------------


def values(definition: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, Any]:
    """Every declared parameter's value, in its type; Refused for unknown names, missing or impossible values."""
    declared = {each["Name"]: each for each in definition.get("Parameters", ())}
    unknown = sorted(given.keys() - declared.keys())
    if unknown:
        raise Refused(f"no pipeline parameter '{unknown[0]}' (there are: {', '.join(declared)})")
    return {name: value_of(each, given.get(name)) for name, each in declared.items()}


def value_of(declared: Mapping[str, Any], text: str | None) -> Any:
    name, kind = declared["Name"], declared["Type"]
    if kind not in PARAMETER_TYPES:
        raise Refused(f"parameter '{name}' has type {kind} (there are: {', '.join(PARAMETER_TYPES)})")
    if text is None:
        if "DefaultValue" not in declared:
            raise Refused(f"parameter '{name}' has no default and was not given")
        value = declared["DefaultValue"]
        if not isinstance(value, PARAMETER_TYPES[kind]) or isinstance(value, bool) != (kind == "Boolean"):
            raise Refused(f"parameter '{name}': the default {value!r} is no {kind}")
    else:
        value = parsed(name, kind, text)
    if declared.get("EnumValues") and value not in declared["EnumValues"]:
        raise Refused(f"parameter '{name}': {value!r} is none of {', '.join(map(str, declared['EnumValues']))}")
    return value


def parsed(name: str, kind: str, text: Any) -> Any:
    """A parameter's text in its type."""
    if not isinstance(text, str):
        raise Refused(f"parameter '{name}': values are given as text, not {text!r}")
    readers: dict[str, Callable[[str], Any]] = {
        "String": str,
        "Integer": int,
        "Float": float,
        "Boolean": {"true": True, "false": False}.__getitem__,
    }
    try:
        return readers[kind](text)
    except (ValueError, KeyError):
        raise Refused(f"parameter '{name}': '{text}' is no {kind}") from None


def variables(name: str, pipeline: str, region: str, account: str) -> dict[str, str]:
    """The execution's own variables."""
    arn = f"arn:aws:sagemaker:{region}:{account}:pipeline/{pipeline}"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return dict(zip(VARIABLES, (pipeline, arn, name, f"{arn}/execution/{name}", now, now), strict=True))


# -- the execution ----------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One execution under way."""

    definition: Mapping[str, Any]
    plan: list[Planned]
    folder: Path
    functions: Mapping[str, Handler]
    cache: Cache | None
    region: str
    parallel: int
    scope: Scope = field(init=False)
    results: dict[str, StepResult] = field(default_factory=dict)
    outcomes: dict[str, bool] = field(default_factory=dict)

    def go(self) -> tuple[str, str]:
        """Begin what is ready, a few steps at a time, until all is done or one has failed: status and reason."""
        waiting, over, running = list(self.plan), set[str](), dict[Future, Planned]()
        reason = ""
        with ThreadPoolExecutor(self.parallel) as pool:
            while running or (waiting and not reason):
                for step in [step for step in waiting if step.parents <= over and not reason]:
                    waiting.remove(step)
                    if self.taken(step):
                        running[pool.submit(self.step, step)] = step
                    else:
                        over.add(step.name)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    step = running.pop(future)
                    self.results[step.name] = result = future.result()
                    over.add(step.name)
                    if result.status != "Succeeded":
                        reason = reason or f"Step failure: {step.name}: {result.reason}"
        return ("Failed", reason) if reason else ("Succeeded", "")

    def taken(self, step: Planned) -> bool:
        """Whether a step's branch is the one its condition chose."""
        return step.branch is None or self.outcomes.get(step.branch[0]) == step.branch[1]

    def step(self, step: Planned) -> StepResult:
        try:
            return RUNNERS[step.body["Type"]](self, step)
        except (Refused, jobs.Failed) as error:
            return StepResult("Failed", reason=str(error))

    def job(self, step: Planned) -> StepResult:
        """A processing or training job, or an earlier one with the same cache key."""
        kind = step.body["Type"]
        operation, naming = JOBS[kind]
        name = f"pipelines-{self.scope.execution['PipelineExecutionId']}-{step.name}"[:60]
        request = {**resolve(step.body["Arguments"], self.scope), naming: name}
        wrong = shapes.problems(operation, request)
        if wrong:
            raise Refused(f"{operation}: " + "; ".join(wrong))
        key = json.dumps([step.name, kind, *(request.get(part) for part in CACHED_BY[kind])], sort_keys=True)
        cache: Cache = {}
        if self.cache is not None and step.body.get("CacheConfig", {}).get("Enabled", False):
            cache = self.cache
        cached = key in cache
        if not cached:
            run = {"Processing": jobs.processing, "Training": jobs.training}[kind]
            cache[key] = run(request, jobs.Container(self.folder / step.name, self.region))
        found = cache[key]
        self.scope.steps[step.name] = found
        figures = {each["MetricName"]: each["Value"] for each in found.get("FinalMetricDataList", ())}
        return StepResult("Succeeded", outputs_of(found), cached=cached, metrics=figures)

    def function(self, step: Planned) -> StepResult:
        """A Lambda step: event and answer go through JSON, declared outputs must be there, in their type."""
        arn = step.body["FunctionArn"]
        if arn not in self.functions:
            raise Refused(f"there is no function {arn} (there are: {', '.join(self.functions)})")
        event = json.loads(json.dumps(resolve(step.body["Arguments"], self.scope)))
        context = SimpleNamespace(
            aws_request_id=secrets.token_hex(16),
            invoked_function_arn=arn,
            get_remaining_time_in_millis=lambda: LAMBDA_MS,
        )
        log = self.folder / step.name / "log.txt"  # as CloudWatch keeps it
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with log.open("w", encoding="utf-8") as said, redirect_stdout(said), redirect_stderr(said):
                answer = json.loads(json.dumps(self.functions[arn](event, context)))
        except Exception as error:  # as Lambda does: whatever the handler raises is the step's failure
            raise jobs.Failed(f"ClientError: {type(error).__name__}: {error}") from error
        outputs = {each["OutputName"]: answered(answer, each) for each in step.body.get("OutputParameters", ())}
        self.scope.steps[step.name] = {"OutputParameters": outputs}
        return StepResult("Succeeded", outputs)

    def condition(self, step: Planned) -> StepResult:
        conditions = step.body["Arguments"]["Conditions"]
        outcome = all(holds(condition, self.scope) for condition in conditions)
        self.outcomes[step.name] = outcome
        self.scope.steps[step.name] = {"Outcome": outcome}
        return StepResult("Succeeded", {"Outcome": outcome})

    def fail(self, step: Planned) -> StepResult:
        message = resolve(step.body["Arguments"]["ErrorMessage"], self.scope)
        if not isinstance(message, str):
            raise Refused(f"ErrorMessage is a text, not {message!r}")
        return StepResult("Failed", reason=message)

    def property_file(self, step: str, name: str) -> Any:
        """The JSON of a property file, read from where the step's output lies in S3."""
        (body,) = (each.body for each in self.plan if each.name == step)
        (file,) = (each for each in body["PropertyFiles"] if each["PropertyFileName"] == name)
        outputs = outputs_of(self.scope.steps[step])
        uri = f"{outputs[file['OutputName']].rstrip('/')}/{file['FilePath']}"
        try:
            return json.loads(storage.read(uri))
        except ValueError as error:
            raise Refused(f"property file {uri} is no JSON: {error}") from error


def outputs_of(description: Mapping[str, Any]) -> dict[str, str]:
    """Output name -> S3 URI of a job."""
    if "ModelArtifacts" in description:
        return {"model": description["ModelArtifacts"]["S3ModelArtifacts"]}
    outputs = description.get("ProcessingOutputConfig", {}).get("Outputs", ())
    return {each["OutputName"]: each["S3Output"]["S3Uri"] for each in outputs}


def answered(answer: Any, declared: Mapping[str, str]) -> Any:
    """One declared output of a Lambda's answer."""
    name, kind = declared["OutputName"], declared["OutputType"]
    if not isinstance(answer, dict) or name not in answer:
        raise jobs.Failed(f"ClientError: the function's answer has no output '{name}': {answer!r}")
    value = answer[name]
    if not isinstance(value, PARAMETER_TYPES[kind]) or isinstance(value, bool) != (kind == "Boolean"):
        raise jobs.Failed(f"ClientError: output '{name}' is {value!r}, declared as {kind}")
    return value


COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "Equals": lambda left, right: left == right,
    "GreaterThan": lambda left, right: left > right,
    "GreaterThanOrEqualTo": lambda left, right: left >= right,
    "LessThan": lambda left, right: left < right,
    "LessThanOrEqualTo": lambda left, right: left <= right,
}


def holds(condition: Mapping[str, Any], scope: Scope) -> bool:
    """One condition of a Condition step. Refused for values of different types, which the service does not compare."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Expression"], scope)
    if kind == "Or":
        return any(holds(each, scope) for each in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], scope) in resolve(condition["Values"], scope)
    if kind not in COMPARED:
        raise Refused(f"unknown condition {kind}")
    left, right = (resolve(condition[side], scope) for side in ("LeftValue", "RightValue"))
    if family(left) != family(right):
        raise Refused(f"{kind} compares {plain(left)} ({family(left)}) with {plain(right)} ({family(right)})")
    return COMPARED[kind](left, right)


def family(value: Any) -> str:
    """Types that may be compared with each other have one name."""
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


RUNNERS: dict[str, Callable[[Run, Planned], StepResult]] = {
    "Processing": Run.job,
    "Training": Run.job,
    "Lambda": Run.function,
    "Condition": Run.condition,
    "Fail": Run.fail,
}
