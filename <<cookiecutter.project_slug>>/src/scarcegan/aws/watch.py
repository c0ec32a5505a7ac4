"""Whether the security contact would be told (infra/security.yaml): who listens, the trail, the region of IAM's events.

Every call only reads.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from scarcegan.aws.client import Aws, none_if_missing
from scarcegan.aws.findings import OK, WARNING, Finding, look
from scarcegan.aws.names import Names

# Partition -> the region in which IAM works, and alone in which its changes become events; botocore has them too.
HOME_REGIONS = {"aws": "us-east-1", "aws-us-gov": "us-gov-west-1", "aws-cn": "cn-north-1"}
SOURCES = ("iam", "kms", "s3", "lambda", "codepipeline", "sagemaker", "scheduler", "events", "sns", "cloudformation")


def home_region(names: Names) -> str:
    """Return the region in which IAM reports changes of the project's roles."""
    return HOME_REGIONS[names.partition]


def topic(names: Names) -> str:
    """Return the name of the SNS topic of the security contact."""
    return f"{names.project}-security"


def forward_rule(names: Names) -> str:
    """Return the name of the rule of infra/home-region.yaml, which hands IAM's events on to the project's region."""
    return f"{names.project}-{names.region}-forward"


def watch_findings(aws: Aws, deployed: bool, tags: Mapping[str, str], boundary: str = "") -> Iterator[Finding]:
    """Yield findings about who is told of approvals and changes, and whether AWS reports these at all.

    - deployed: whether there is a toolchain with the stack `security`; without it, only the trail is looked at.
    - tags: tag -> value, of the project's stacks. boundary: ARN of the permissions boundary of its roles, "" for none.
    """
    yield from look("trail", lambda: trail_findings(aws))
    if not deployed:
        return
    yield from look("security contact", lambda: listener_findings(aws))
    if aws.names.region != home_region(aws.names):
        yield from look("changes of roles", lambda: forward_findings(aws, tags, boundary))


def trail_findings(aws: Aws) -> Iterator[Finding]:
    """Yield a finding about a CloudTrail trail that logs the calls that the rules of security.yaml wait for.

    Without one, EventBridge gets no event of a call, but those of approvals.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-service-event-cloudtrail.html
    """
    cloudtrail = aws.client("cloudtrail")
    why = "there is none"
    for trail in cloudtrail.describe_trails(includeShadowTrails=True)["trailList"]:
        arn = trail["TrailARN"]
        if not (trail.get("IsMultiRegionTrail") or trail.get("HomeRegion") == aws.names.region):
            continue
        if not cloudtrail.get_trail_status(Name=arn)["IsLogging"]:
            why = f"{trail['Name']} does not log now"
            continue
        missing = unlogged(cloudtrail.get_event_selectors(TrailName=arn))
        if not missing:
            yield Finding("trail", OK, f"{trail['Name']} logs the calls that the security contact is told of")
            return
        why = f"{trail['Name']} leaves out the management events of {', '.join(missing)}"
    fix = (
        "Have one made that logs management events of all regions (CloudTrail, Trails). Until then the security "
        "contact is told of approvals only, without who gave them."
    )
    yield Finding("trail", WARNING, f"CloudTrail has no trail that logs what the rules wait for: {why}", fix)


def unlogged(selectors: Mapping[str, Any]) -> list[str]:
    """Return the services among SOURCES whose changing calls a trail does not log, in their order.

    - selectors: as GetEventSelectors returns them.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/logging-management-events-with-cloudtrail.html
    """
    return [
        source
        for source in SOURCES
        if not any(plain_logs(one, source) for one in selectors.get("EventSelectors", []))
        and not any(advanced_logs(one, source) for one in selectors.get("AdvancedEventSelectors", []))
    ]


def plain_logs(selector: Mapping[str, Any], source: str) -> bool:
    """Whether an event selector logs the changing management events of a service, such as kms."""
    left_out = selector.get("ExcludeManagementEventSources", [])
    writes = selector.get("ReadWriteType", "All") != "ReadOnly"
    return bool(selector.get("IncludeManagementEvents", True)) and writes and f"{source}.amazonaws.com" not in left_out


def advanced_logs(selector: Mapping[str, Any], source: str) -> bool:
    """Whether an advanced event selector logs the changing management events of a service, such as kms.

    One that asks for more than category, reading and service counts as if it did not.
    """
    asked = {
        "eventCategory": "Management",
        "readOnly": "false",
        "eventSource": f"{source}.amazonaws.com",
    }
    fields = {field["Field"]: field for field in selector["FieldSelectors"]}
    return (
        "eventCategory" in fields
        and fields.keys() <= asked.keys()
        and all(field_takes(field, asked[name]) for name, field in fields.items())
    )


def field_takes(field: Mapping[str, Any], value: str) -> bool:
    """Whether a condition of an advanced event selector holds for the value of its field."""
    return value in field.get("Equals", [value]) and value not in field.get("NotEquals", [])


def listener_findings(aws: Aws) -> Iterator[Finding]:
    """Yield a finding about who is told: the subscribers of the security topic that have confirmed."""
    arn = aws.names.arn("sns", topic(aws.names))
    pages = aws.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
    found = [one for page in pages for one in page["Subscriptions"]]
    waiting = [one["Endpoint"] for one in found if not re.match("arn:", one["SubscriptionArn"])]
    told = [one["Endpoint"] for one in found if one["Endpoint"] not in waiting]
    if waiting:
        fix = "Follow the link in AWS's e-mail 'Subscription Confirmation'. It lapses after two days."
        yield Finding("security contact", WARNING, f"{', '.join(waiting)} has not confirmed and is told nothing", fix)
    elif told:
        yield Finding("security contact", OK, f"{', '.join(told)} is told of approvals and changes")
    else:
        fix = "Type: scarcegan toolchain deploy --set SecurityEmail=…, or subscribe what you have to that topic."
        yield Finding("security contact", WARNING, f"nobody listens to {arn}", fix)


def forward_findings(aws: Aws, tags: Mapping[str, str], boundary: str = "") -> Iterator[Finding]:
    """Yield a finding about the rule that hands changes of roles on from the region where IAM reports them.

    - tags, boundary: as for `watch_findings`.
    """
    names, home = aws.names, home_region(aws.names)
    there = Aws(Names(names.project, names.account, home), aws.session)
    rule = forward_rule(names)
    found = none_if_missing(lambda: there.client("events").describe_rule(Name=rule))
    if found and found.get("State") == "ENABLED":
        yield Finding("changes of roles", OK, f"{rule} in {home} hands them on")
        return
    fix = f"Type: {forward_command(names, tags, boundary)}"
    fact = f"IAM reports them in {home} only, and {rule} there {'is disabled' if found else 'does not exist'}"
    yield Finding("changes of roles", WARNING, f"nobody is told of them: {fact}", fix)


def forward_command(names: Names, tags: Mapping[str, str], boundary: str) -> str:
    """Return the shell command that deploys infra/home-region.yaml, to be typed in the project's folder.

    - tags, boundary: as for `watch_findings`.
    """
    edge = f" PermissionsBoundaryArn={boundary}" if boundary else ""
    given = " ".join(shlex.quote(f"{name}={value}") for name, value in tags.items())
    return (
        f"aws cloudformation deploy --region {home_region(names)} --stack-name {forward_rule(names)} "
        "--template-file infra/home-region.yaml --capabilities CAPABILITY_NAMED_IAM --parameter-overrides "
        f"SageMakerProjectName={names.project} ProjectRegion={names.region}{edge} --tags {given}"
    )
