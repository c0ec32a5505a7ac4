"""What the doctor says about the watch of security.yaml. AWS answers from a table; a call that it lacks is denied."""

import botocore.session
import pytest

from canned_aws import MISSING, NAMES, connected
from scarcegan.aws import watch
from scarcegan.aws.findings import COULD_NOT_LOOK, OK, WARNING
from scarcegan.aws.names import Names

TOPIC = NAMES.arn("sns", watch.topic(NAMES))
TAGS = {"sagemaker:project-name": NAMES.project, "team": "fraud & co"}
PLAIN = {"ReadWriteType": "All", "IncludeManagementEvents": True}


def trail(name="all", home="us-east-1", everywhere=True):
    arn = f"arn:aws:cloudtrail:{home}:{NAMES.account}:trail/{name}"
    return {"Name": name, "TrailARN": arn, "HomeRegion": home, "IsMultiRegionTrail": everywhere}


def trails(*found, logging=True, **selectors):
    return {
        "cloudtrail:DescribeTrails": {"trailList": list(found)},
        "cloudtrail:GetTrailStatus": {"IsLogging": logging},
        "cloudtrail:GetEventSelectors": selectors or {"EventSelectors": [PLAIN]},
    }


def fields(**asked):
    return [{"FieldSelectors": [{"Field": name, **how} for name, how in asked.items()]}]


IAM_MISSES = "leaves out the management events of iam"
MANAGEMENT = {"eventCategory": {"Equals": ["Management"]}}


@pytest.mark.parametrize(
    "selectors",
    [
        {"EventSelectors": [PLAIN]},
        {"EventSelectors": [{"ReadWriteType": "WriteOnly", "IncludeManagementEvents": True}]},
        {"EventSelectors": [{"ReadWriteType": "ReadOnly"}, PLAIN]},
        {"AdvancedEventSelectors": fields(**MANAGEMENT)},
        {"AdvancedEventSelectors": fields(**MANAGEMENT, readOnly={"Equals": ["false"]})},
    ],
)
def test_a_trail_that_logs_management_events_is_enough(selectors):
    (finding,) = watch.trail_findings(connected(trails(trail(), **selectors))[0])
    assert (finding.state, finding.found.split()[0]) == (OK, "all")


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (trails(), "there is none"),
        (trails(trail(everywhere=False)), "there is none"),
        (trails(trail(), logging=False), "does not log now"),
        (
            trails(trail(), EventSelectors=[{"IncludeManagementEvents": False}]),
            IAM_MISSES,
        ),
        (trails(trail(), EventSelectors=[{"ReadWriteType": "ReadOnly"}]), IAM_MISSES),
        (
            trails(trail(), EventSelectors=[{**PLAIN, "ExcludeManagementEventSources": ["kms.amazonaws.com"]}]),
            "leaves out the management events of kms",
        ),
        (
            trails(
                trail(),
                AdvancedEventSelectors=fields(**MANAGEMENT, eventSource={"NotEquals": ["kms.amazonaws.com"]}),
            ),
            "leaves out the management events of kms",
        ),
        (
            trails(trail(), AdvancedEventSelectors=fields(eventCategory={"Equals": ["Data"]})),
            IAM_MISSES,
        ),
    ],
)
def test_without_such_a_trail_the_doctor_warns_and_says_what_is_still_told(answers, why):
    (finding,) = watch.trail_findings(connected(answers)[0])
    assert finding.state == WARNING and finding.found.split(": ", 1)[1].removeprefix("all ").startswith(why)
    assert "approvals only" in finding.fix


def subscriptions(*arns):
    found = [
        {"SubscriptionArn": arn, "Protocol": "email", "Endpoint": f"p{n}@example.com"} for n, arn in enumerate(arns)
    ]
    return {"sns:ListSubscriptionsByTopic": {"Subscriptions": found}}


def test_nobody_who_listens_and_an_address_that_has_not_confirmed_are_warnings():
    (nobody,) = watch.listener_findings(connected(subscriptions())[0])
    assert nobody.state == WARNING and TOPIC in nobody.found and "SecurityEmail" in nobody.fix
    (waiting,) = watch.listener_findings(connected(subscriptions("PendingConfirmation", f"{TOPIC}:1"))[0])
    assert waiting.state == WARNING and waiting.found.startswith("p0@example.com has not confirmed")
    (told,) = watch.listener_findings(connected(subscriptions(f"{TOPIC}:1"))[0])
    assert told.state == OK and "p0@example.com" in told.found


def test_outside_the_region_of_iam_a_missing_or_disabled_forward_is_told_with_its_command():
    for answer, said in ((MISSING, "does not exist"), ({"State": "DISABLED"}, "is disabled")):
        (finding,) = watch.forward_findings(connected({"events:DescribeRule": answer})[0], TAGS)
        assert finding.state == WARNING and finding.found.endswith(said)
        assert "--region us-east-1" in finding.fix and "ProjectRegion=eu-west-1" in finding.fix
        assert "'team=fraud & co'" in finding.fix and "Boundary" not in finding.fix
    (bound,) = watch.forward_findings(connected({"events:DescribeRule": MISSING})[0], TAGS, "arn:aws:iam::1:policy/p")
    assert " PermissionsBoundaryArn=arn:aws:iam::1:policy/p " in bound.fix
    (fine,) = watch.forward_findings(connected({"events:DescribeRule": {"State": "ENABLED"}})[0], TAGS)
    assert fine.state == OK


def test_before_there_is_a_toolchain_only_the_trail_is_looked_at():
    aws, session = connected(trails(trail()))
    assert [finding.check for finding in watch.watch_findings(aws, False, TAGS)] == ["trail"]
    assert {name.split(":")[0] for name in session.made} == {"cloudtrail"}


def test_who_may_not_look_is_told_the_actions():
    found = list(watch.watch_findings(connected({})[0], True, TAGS))
    assert {finding.state for finding in found} == {COULD_NOT_LOOK}
    assert [finding.found for finding in found] == [
        "you lack cloudtrail:DescribeTrails",
        "you lack sns:ListSubscriptionsByTopic",
        "you lack events:DescribeRule",
    ]


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-east-1", "cn-northwest-1"])
def test_the_home_region_is_where_botocore_sends_calls_of_iam(region):
    names = Names("rare-players", NAMES.account, region)
    iam = botocore.session.get_session().create_client("iam", region)
    assert watch.home_region(names) == iam._request_signer.region_name
