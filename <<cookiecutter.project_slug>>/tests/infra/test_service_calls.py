"""What AWS's services ask of our key, topic and queues: the calls that they are documented to make, and strangers'.

Statically: the policies are worked out from the templates and weighed by the tests' own evaluator (enforcement.py). The
calls are derived from the templates too: every rule with a topic, a queue or a function behind it, every alarm, every
encrypted log group. What each service tells a policy about its call is what its documentation says it tells.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

import every_template
from enforcement import allowed, arn, several
from every_template import PROJECT, VARIANTS, Everything
from stacks import ACCOUNT, REGION

GUIDE = "https://docs.aws.amazon.com"
# EventBridge tells a queue's policy which rule calls, and a topic's policy nothing: it may have no condition. For an
# encrypted topic the key is asked as well, and told neither rule nor account; SNS names the topic.
EVENTS = f"{GUIDE}/eventbridge/latest/userguide/eb-use-resource-based.html"
EVENTS_TO_KEY = f"{GUIDE}/sns/latest/dg/sns-key-management.html"
ALARMS = f"{GUIDE}/sns/latest/dg/sns-access-policy-use-cases.html"
LOGS = f"{GUIDE}/AmazonCloudWatch/latest/logs/encrypt-log-data-kms.html"
USES_TOPIC_KEY = ("kms:Decrypt", "kms:GenerateDataKey")
USES_LOG_KEY = ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey")


class Call(NamedTuple):
    """A service's call. policy: of which resource it is asked. told: condition keys that come with it."""

    principal: str
    action: str
    policy: str
    resource: str
    told: Mapping[str, str]
    source: str


def of(kind: str, everything: Everything) -> Mapping[str, Any]:
    return everything.of_type(f"AWS::{kind}")


def calls(everything: Everything) -> Iterator[Call]:
    """Every call that services make to work as the templates tell them."""
    topics = {arn("sns", topic["TopicName"]) for topic in of("SNS::Topic", everything).values()}
    encrypted = {arn("sns", t["TopicName"]) for t in of("SNS::Topic", everything).values() if "KmsMasterKeyId" in t}
    queues = {arn("sqs", queue["QueueName"]) for queue in of("SQS::Queue", everything).values()}
    for rule in of("Events::Rule", everything).values():
        told = {"aws:SourceArn": arn("events", f"rule/{rule['Name']}")}
        for target in rule["Targets"]:
            if target["Arn"] in topics:
                yield Call("events.amazonaws.com", "sns:Publish", "topic", target["Arn"], {}, EVENTS)
            if target["Arn"] in encrypted:
                yield from key_calls("events.amazonaws.com", {}, target["Arn"], EVENTS_TO_KEY)
            for queue in {target["Arn"], target.get("DeadLetterConfig", {}).get("Arn")} & queues:
                yield Call("events.amazonaws.com", "sqs:SendMessage", "queue", queue, told, EVENTS)
    for name, alarm in of("CloudWatch::Alarm", everything).items():
        # CloudFormation names an alarm <stack>-<name in the template>-<random>.
        told = {
            "aws:SourceArn": arn("cloudwatch", f"alarm:{PROJECT}-production-{name.split()[-1]}-1A2B"),
            "aws:SourceAccount": ACCOUNT,
        }
        for action in ("AlarmActions", "OKActions", "InsufficientDataActions"):
            for topic in set(alarm.get(action, ())) & topics:
                yield Call("cloudwatch.amazonaws.com", "sns:Publish", "topic", topic, told, ALARMS)
                yield from key_calls("cloudwatch.amazonaws.com", told, topic, EVENTS_TO_KEY)
    for group in of("Logs::LogGroup", everything).values():
        if "KmsKeyId" in group:
            told = {"kms:EncryptionContext:aws:logs:arn": arn("logs", f"log-group:{group['LogGroupName']}")}
            for action in USES_LOG_KEY:
                yield Call(f"logs.{REGION}.amazonaws.com", action, "key", "*", told, LOGS)


def key_calls(principal: str, told: Mapping[str, str], topic: str, source: str) -> Iterator[Call]:
    """To send to an encrypted topic, a service uses the topic's key; SNS adds the topic as encryption context."""
    for action in USES_TOPIC_KEY:
        yield Call(principal, action, "key", "*", {**told, "kms:EncryptionContext:aws:sns:topicArn": topic}, source)


def strangers() -> Iterator[Call]:
    """Calls that the same services could be made to make for somebody else."""
    other, account = f"arn:aws:%s:{REGION}:999988887777:%s", {"aws:SourceAccount": ACCOUNT}
    topic, bus, alarms = arn("sns", f"{PROJECT}-notifications"), "events.amazonaws.com", "cloudwatch.amazonaws.com"
    queue = arn("sqs", f"{PROJECT}-production-rare-share")
    for rule in (other % ("events", f"rule/{PROJECT}-outcome"), arn("events", "rule/another")):
        yield Call(bus, "sqs:SendMessage", "queue", queue, {"aws:SourceArn": rule}, EVENTS)
    theirs = {"aws:SourceArn": other % ("cloudwatch", f"alarm:{PROJECT}-x"), "aws:SourceAccount": "999988887777"}
    for told in (theirs, account | {"aws:SourceArn": arn("cloudwatch", "alarm:another-errors")}):
        yield Call(alarms, "sns:Publish", "topic", topic, told, ALARMS)
        yield from key_calls(alarms, told, topic, ALARMS)
    for their_topic in (arn("sns", "another-notifications"), other % ("sns", f"{PROJECT}-notifications")):
        yield from key_calls(bus, {}, their_topic, EVENTS_TO_KEY)
    yield Call(bus, "kms:Decrypt", "key", "*", {}, EVENTS_TO_KEY)
    for group in (
        arn("logs", "log-group:/aws/lambda/another-register"),
        other % ("logs", f"log-group:/aws/x/{PROJECT}-x"),
    ):
        told = {"kms:EncryptionContext:aws:logs:arn": group}
        yield Call(f"logs.{REGION}.amazonaws.com", "kms:Decrypt", "key", "*", told, LOGS)
    for action in ("kms:Decrypt", "kms:CreateGrant"):
        yield Call("ec2.amazonaws.com", action, "key", "*", account, EVENTS_TO_KEY)
    yield Call("s3.amazonaws.com", "sns:Publish", "topic", topic, account, EVENTS)


POLICIES = {"key": "AWS::KMS::Key", "topic": "AWS::SNS::TopicPolicy", "queue": "AWS::SQS::QueuePolicy"}


def statements(everything: Everything, policy: str) -> list[dict[str, Any]]:
    kinds = {name: kind for name, kind, _ in everything.resources()}
    return [s for name, own in everything.own_policies().items() if kinds[name] == POLICIES[policy] for s in own]


def may(own: list[dict[str, Any]], call: Call) -> bool:
    """Whether a resource's policy lets a service make the call. Services call over TLS."""
    to_them = [s for s in own if speaks_to(s["Principal"], call.principal)]
    return allowed(to_them, call.action, call.resource, {"aws:SecureTransport": "true", **call.told})


def speaks_to(principal: Any, service: str) -> bool:
    return principal == "*" or service in several(principal.get("Service", []))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_service_may_make_the_calls_it_is_documented_to_make_checked_statically(variant: str) -> None:
    everything = every_template.everything(variant)
    made = list(calls(everything))
    assert {call.policy for call in made} >= {"topic", "key"}
    assert [call for call in made if not may(statements(everything, call.policy), call)] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_service_may_call_for_somebody_else_checked_statically(variant: str) -> None:
    everything = every_template.everything(variant)
    assert [call for call in strangers() if may(statements(everything, call.policy), call)] == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_rule_may_call_its_functions_and_a_schedule_has_a_role_checked_statically(variant: str) -> None:
    """https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html"""
    everything = every_template.everything(variant)
    functions = {arn("lambda", f"function:{f['FunctionName']}") for f in of("Lambda::Function", everything).values()}
    granted = {
        (given["Principal"], given["Action"], given["SourceArn"])
        for given in of("Lambda::Permission", everything).values()
    }
    for rule in of("Events::Rule", everything).values():
        for target in rule["Targets"]:
            if target["Arn"] in functions:
                whose = arn("events", f"rule/{rule['Name']}")
                assert ("events.amazonaws.com", "lambda:InvokeFunction", whose) in granted, rule["Name"]


# -- faults that must be seen ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sid", "old", "new"),
    [
        ("EventsToTheTopic", "kms:EncryptionContext:aws:sns:topicArn", "kms:EncryptionContext:aws:sns:topic"),
        ("EventsToTheTopic", "kms:EncryptionContext:aws:sns:topicArn", "aws:SourceArn"),
        ("AlarmsOfThisProject", "aws:SourceAccount", "aws:SourceOwner"),
        ("LogsOfThisProject", "kms:EncryptionContext:aws:logs:arn", "kms:EncryptionContext:aws:logs"),
    ],
)
def test_a_condition_key_that_no_service_sends_is_seen(sid: str, old: str, new: str) -> None:
    everything = every_template.everything("plain")
    own = copy.deepcopy(statements(everything, "key"))
    [seeded] = [statement for statement in own if statement["Sid"] == sid]
    for asked in seeded["Condition"].values():
        if old in asked:
            asked[new] = asked.pop(old)
    assert [call for call in calls(everything) if call.policy == "key" and not may(own, call)]


def test_a_condition_on_events_to_a_topic_is_seen() -> None:
    everything = every_template.everything("plain")
    own = copy.deepcopy(statements(everything, "topic"))
    for statement in own:
        if speaks_to(statement["Principal"], "events.amazonaws.com") and statement["Effect"] == "Allow":
            statement["Condition"] = {"ArnLike": {"aws:SourceArn": arn("events", f"rule/{PROJECT}-*")}}
    assert [call for call in calls(everything) if call.policy == "topic" and not may(own, call)]


def test_a_policy_that_asks_nothing_of_a_service_is_seen() -> None:
    own = copy.deepcopy(statements(every_template.everything("plain"), "key"))
    for statement in own:
        statement.pop("Condition", None)
    assert {call.principal for call in strangers() if call.policy == "key" and may(own, call)} >= {
        "events.amazonaws.com",
        "cloudwatch.amazonaws.com",
    }
