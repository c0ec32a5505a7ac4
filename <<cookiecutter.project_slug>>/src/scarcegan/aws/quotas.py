"""Machines: those that the toolchain lets jobs and endpoints have, and Service Quotas: how many are needed,
and how many there may be.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import combinations
from typing import Any

from scarcegan.aws.accounts import STAGES, accounts_of_stages, enter, profile_to_type
from scarcegan.aws.client import Aws, find_ssm_parameter
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING, WOULD_FAIL, Finding, from_sentence, look
from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Pipeline, Step, scoring, training

SERVICE = "sagemaker"
# SageMaker's names of its quotas. https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
PROCESSING = "{} for processing job usage"
TRAINING = "{} for training job usage"
SPOT = "{} for spot training job usage"
ENDPOINT = "{} for endpoint usage"
ALL_ENDPOINTS = "Number of instances across active endpoints"


@dataclass(frozen=True)
class Need:
    """A quota that the settings need.

    - quota: its name in Service Quotas.
    - least: without so many, a run or a release fails.
    - most: so many are used when the endpoint is at its largest and a new model takes over.
    - why: what they are for.
    """

    quota: str
    least: int
    most: int
    why: str


def job_machines(config: Config) -> dict[str, str]:
    """Return key of config.yaml, such as cloud.instances.train -> instance type, for each step that is a job in AWS."""
    steps = [*training(config).steps, *scoring(config).steps]
    return {f"cloud.instances.{s.name}": s.instance for s in steps if isinstance(s, Step) and s.kind != "lambda"}


def endpoint_machine(config: Config, stage: str) -> dict[str, str]:
    """Return {"cloud.endpoint.instance": instance type} of the endpoint of a stage; {} when it is serverless."""
    endpoint = config.cloud.endpoint
    serverless = stage == "staging" and endpoint.serverless_staging
    return {} if serverless else {"cloud.endpoint.instance": endpoint.instance}


def refused_machines(
    machines: Mapping[str, str], allowed: str, whose: str = "job", command: str = "scarcegan toolchain deploy"
) -> str:
    """Return which machines jobs or endpoints may not have and what to do, as a sentence; "" when they may have all.

    - machines: what sets each -> instance type.
    - allowed: the parameter JobInstanceTypes or EndpointInstanceTypes, separated by commas; a star stands for anything.
    - whose: job or endpoint.
    - command: what an administrator types to change that parameter, without --set.
    """
    patterns = allowed.split(",")
    refused = [f"{key}={it}" for key, it in machines.items() if not any(fnmatchcase(it, one) for one in patterns)]
    if not refused:
        return ""
    more = ",".join([allowed, *dict.fromkeys(one.partition("=")[2] for one in refused)])
    return (
        f"the toolchain lets no {whose} have {', '.join(refused)}. Choose among {', '.join(patterns)}; or an "
        f"administrator allows more: {command} --set {whose.capitalize()}InstanceTypes={shlex.quote(more)}"
    )


def refused_endpoint_machine(aws: Aws, there: Aws, config: Config, stage: str) -> str:
    """Return that the endpoint of a stage may not have its machine and what to do, as a sentence; "" when it may.

    A toolchain, or an account of the stage's own, that does not publish which it may have is not asked further.

    - aws: access to the account of the toolchain. there: what `access_to_stage` returns of it.
    """
    name, command = "endpoint-instance-types", "scarcegan toolchain deploy"
    if there is not aws:
        name = f"{stage}/{name}"
        command = f"scarcegan toolchain deploy-target {stage} --profile {profile_to_type(aws, there)}"
    allowed = find_ssm_parameter(there, name)
    return refused_machines(endpoint_machine(config, stage), allowed, "endpoint", command) if allowed else ""


def require_allowed_machines(aws: Aws, machines: Mapping[str, str]) -> None:
    """Check that the toolchain in AWS lets jobs have machines. One that does not publish which is not asked further.

    - machines: what sets each, such as cloud.instances.train -> instance type.

    Raises UserError when it does not: every execution would fail at its first such job.
    """
    allowed = find_ssm_parameter(aws, "job-instance-types")
    refused = refused_machines(machines, allowed) if allowed else ""
    if refused:
        raise UserError(refused)


def job_needs(config: Config) -> list[Need]:
    """Return the quotas that the jobs of both pipelines need by config.yaml, each once."""
    found: dict[str, Need] = {}
    for pipeline in (training(config), scoring(config)):
        for machine, count in machines_at_once(pipeline, "processing").items():
            name = PROCESSING.format(machine)
            if name not in found or found[name].least < count:
                found[name] = Need(name, count, count, f"jobs of a {pipeline.name} that run at the same time")
        for machine, count in machines_at_once(pipeline, "training").items():
            name = (SPOT if config.cloud.spot else TRAINING).format(machine)
            found[name] = Need(name, count, count, "training jobs of an execution")
    return list(found.values())


def endpoint_needs(config: Config, stages: Sequence[str] = STAGES) -> list[Need]:
    """Return the quotas of instances that an account needs for the endpoints of stages; none without an instance.

    While a new model takes over, the instances of the old and of the new one run side by side.
    https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green.html

    - stages: those whose endpoints are in that account.
    """
    endpoint = config.cloud.endpoint
    wanted = {"staging": 0 if endpoint.serverless_staging else 1, "production": endpoint.min_instances}
    here = {stage: wanted[stage] for stage in stages if wanted[stage]}
    if not here:
        return []
    least = most = sum(here.values())
    why = " and ".join(f"{stage} {number}" for stage, number in here.items())
    if "production" in here:
        most += 2 * endpoint.max_instances - endpoint.min_instances
        why += f"; with {endpoint.max_instances} in production, {most} while a new model takes over"
    why += "; endpoints of other projects need more"
    return [Need(name, least, most, why) for name in (ENDPOINT.format(endpoint.instance), ALL_ENDPOINTS)]


def machines_at_once(pipeline: Pipeline, kind: str) -> Counter[str]:
    """Return instance type -> the largest number of a pipeline's jobs that have it and may run at the same time.

    - kind: processing or training.
    """
    jobs = [step for step in pipeline.steps if isinstance(step, Step) and step.kind == kind]
    before = {step.name: ancestors(pipeline, step.name) for step in pipeline.steps}
    found: Counter[str] = Counter()
    for size in range(1, len(jobs) + 1):
        for group in combinations(jobs, size):
            if all(a.name not in before[b.name] and b.name not in before[a.name] for a, b in combinations(group, 2)):
                found |= Counter(step.instance for step in group)
    return found


def ancestors(pipeline: Pipeline, name: str) -> set[str]:
    """Return the names of all steps and gates that must have ended before a step or gate starts."""
    parents = pipeline.parents(pipeline.step(name))
    return set(parents).union(*(ancestors(pipeline, parent) for parent in parents))


def quota_findings(aws: Aws, config: Config, parameters: Mapping[str, str]) -> Iterator[Finding]:
    """Yield a finding for every quota that the settings need, in each account that needs it. Reads Service Quotas; asks
    for no increase.

    - aws: access to the account of the toolchain, where the jobs are.
    - parameters: template parameter -> value, of the toolchain: the accounts of the stages.
    """
    elsewhere = accounts_of_stages(parameters, aws.names.account)
    at_home = [stage for stage in STAGES if stage not in elsewhere]
    yield from look("quotas", partial(findings_of_needs, aws, [*job_needs(config), *endpoint_needs(config, at_home)]))
    for number in dict.fromkeys(elsewhere.values()):
        stages = [stage for stage, account in elsewhere.items() if account == number]
        wanted = endpoint_needs(config, stages)
        if wanted:
            yield from quotas_elsewhere(aws, number, stages, wanted)


def quotas_elsewhere(aws: Aws, number: str, stages: Sequence[str], wanted: Sequence[Need]) -> Iterator[Finding]:
    """Yield findings about the quotas of an account that hosts stages, or that they cannot be seen.

    - aws: access to the account of the toolchain.
    - number: the other account.
    - stages: those that it hosts. The role of the first one is assumed.
    """
    place = f" in account {number} of {' and '.join(stages)}"
    try:
        there = enter(aws, number, stages[0], "look")
    except UserError as error:
        yield from_sentence(f"quotas{place}", COULD_NOT_LOOK, str(error))
        return
    yield from look(f"quotas{place}", lambda: findings_of_needs(there, wanted, place))


def findings_of_needs(aws: Aws, wanted: Sequence[Need], place: str = "") -> Iterator[Finding]:
    """Yield a finding for every quota that an account needs.

    - aws: access to that account.
    - place: which one it is, as the end of a check's name; "" for the toolchain's.
    """
    quotas = applied_quotas(aws, [need.quota for need in wanted])
    for need in wanted:
        if need.quota == ALL_ENDPOINTS and need.quota not in quotas:
            continue  # not every account has this one
        yield quota_finding(need, quotas.get(need.quota), aws.names.region, place)


def applied_quotas(aws: Aws, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return name -> quota, as Service Quotas describes it, for those of the wanted quotas that it knows.

    First come the values of the account; a quota that has none there has AWS's default.
    https://docs.aws.amazon.com/servicequotas/2019-06-24/apireference/API_ListServiceQuotas.html
    """
    client = aws.client("service-quotas")
    found: dict[str, dict[str, Any]] = {}
    for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
        for page in client.get_paginator(operation).paginate(ServiceCode=SERVICE):
            named = {quota["QuotaName"]: quota for quota in page["Quotas"] if quota["QuotaName"] in wanted}
            found = {**named, **found}
            if len(found) == len(set(wanted)):
                return found
    return found


def quota_finding(need: Need, quota: dict[str, Any] | None, region: str, place: str) -> Finding:
    """Return the finding about one quota.

    - quota: as Service Quotas describes it; None when it knows no quota of that name.
    - place: as for `findings_of_needs`.
    """
    check = f"quota {need.quota}{place}"
    if quota is None:
        fix = "Look whether the region has that machine: the name under cloud in config.yaml may be misspelt."
        return Finding(check, WARNING, f"Service Quotas lists none of that name in {region}", fix)
    has = int(quota["Value"])
    fact = f"{has}, needed {need.least if has < need.least else need.most} ({need.why})"
    if has >= need.most:
        return Finding(check, OK, fact)
    new = " A new account often has 0." if has == 0 else ""
    ask = (
        f"aws service-quotas request-service-quota-increase --region {region} --service-code {SERVICE} "
        f"--quota-code {quota['QuotaCode']} --desired-value {need.most}"
    )
    fix = f"Ask for more{place}, which may take days:{new} {ask}"
    if has >= need.least:
        return Finding(check, WARNING, fact, f"Enough for the first release. {fix}")
    return Finding(check, WOULD_FAIL, fact, fix)
