"""When everybody is scored: what EventBridge Scheduler takes, and what it refuses, is told before anything is sent."""

import re

import pytest

from scarcegan.errors import UserError
from scarcegan.pipeline.config import load_config
from scarcegan.pipeline.schedule import schedule_problem
from stacks import body_of

# Of the service's own guide and of people's templates.
GOOD = """
rate(1 minute) rate(5 minutes) rate(1 hour) rate(7 days) rate(30 days)
cron(0 5 ? * MON *) cron(0 10 * * ? *) cron(15 12 * * ? *) cron(0 18 ? * MON-FRI *) cron(0 8 1 * ? *)
cron(0/15 * * * ? *) cron(0/10 * ? * MON-FRI *) cron(0/5 8-17 ? * MON-FRI *) cron(0/30 20-23 ? * MON,TUE,WED,THU,FRI *)
cron(15 10 ? * 6L 2022-2026) cron(0 9 ? * 2#1 *) cron(0 9 ? * MON#1 *)
cron(0 9 L * ? *) cron(0 9 3W * ? *) cron(0 9 LW * ? *)
cron(0-15/1 8-8 ? * 2,3,4,5,6,7 *) cron(1-31/30 1-1 ? * 1,7 *) cron(05 08 1,15 JAN,JUL ? 2027/2) cron(0 0 ? 1-12 L *)
cron(0 5 ? * mon *) cron(0 5 */2 * ? *)
"""
BAD = {
    "cron(0 5 * * *)": "has 5 fields, EventBridge takes 6",
    "cron(0 5 ? * MON * *)": "has 7 fields",
    "cron()": "has 1 field,",
    "cron(0  5 ? * MON *)": "has 7 fields",
    "cron(61 99 ? * FOO *)": "'61' is not minutes (0-59)",
    "cron(0 24 ? * MON *)": "'24' is not hours (0-23)",
    "cron(0 5 32 * ? *)": "'32' is not day of month (1-31)",
    "cron(0 5 0 * ? *)": "'0' is not day of month",
    "cron(0 5 ? 13 MON *)": "'13' is not month (1-12 or JAN-DEC)",
    "cron(0 5 ? * FOO *)": "'FOO' is not day of week (1-7 or SUN-SAT)",
    "cron(0 5 ? * 0 *)": "'0' is not day of week",
    "cron(0 5 ? * 8 *)": "'8' is not day of week",
    "cron(0 5 ? * 3#6 *)": "'3#6' is not day of week",
    "cron(0 5 ? * 3#1,6#3 *)": "'3#1,6#3' is not day of week",
    "cron(0 5 ? * MON 1969)": "'1969' is not year (1970-2199)",
    "cron(*/60 5 ? * MON *)": "'*/60' is not minutes",
    "cron(*/0 5 ? * MON *)": "'*/0' is not minutes",
    "cron(? 5 ? * MON *)": "'?' is not minutes",
    "cron(L 5 ? * MON *)": "'L' is not minutes",
    "cron(5, 5 ? * MON *)": "'5,' is not minutes",
    "cron(-5 5 ? * MON *)": "'-5' is not minutes",
    "cron(0 5 * * * *)": "one of day of month and day of week is ?, and only one",
    "cron(0 5 ? * ? *)": "one of day of month and day of week is ?, and only one",
    "cron(0 5 1 * MON *)": "one of day of month and day of week is ?, and only one",
    "rate(7)": "expected rate(7 days) or cron(0 5 ? * MON *)",
    "rate(0 days)": "a rate is at least 1",
    "rate(-1 days)": "expected rate(7 days)",
    "rate(1.5 hours)": "expected rate(7 days)",
    "rate(2 weeks)": "expected rate(7 days)",
    "rate(7 days )": "expected rate(7 days)",
    "rate(٣ days)": "expected rate(7 days)",
    "at(2026-12-01T05:00:00)": "at(…) would run once; type scarcegan start --pipeline scoring then",
    "0 5 * * *": "expected rate(7 days)",
    "@daily": "expected rate(7 days)",
    "weekly": "expected rate(7 days)",
    "rate(7 days)\n": "expected rate(7 days)",
}


def good():
    return re.findall(r"(?:rate|cron)\([^)]*\)", GOOD)


@pytest.mark.parametrize("text", good())
def test_a_schedule_of_the_service_is_taken_here_and_by_the_template(text):
    assert schedule_problem(text) == ""
    assert re.fullmatch(body_of("toolchain.yaml")["Parameters"]["ScoringSchedule"]["AllowedPattern"], text)


@pytest.mark.parametrize("text", BAD)
def test_a_schedule_that_the_service_refuses_is_refused_here_and_says_why(text):
    assert BAD[text] in schedule_problem(text)


def test_a_bad_schedule_is_refused_when_the_settings_are_read(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("cloud:\n  scoring_schedule: cron(0 5 * * *)\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 2: cloud.scoring_schedule: .* 5 fields, .* cron\(0 5 \? \* MON \*\)"):
        load_config(path)
    path.write_text("cloud:\n  scoring_schedule: ''\n", encoding="utf-8")
    assert load_config(path).cloud.scoring_schedule == ""


def test_a_schedule_of_the_greatest_length_is_judged_as_soon_as_a_short_one():
    for text in ("1," * 120, "1-1" * 80, "*/" * 120, "?" * 250):
        assert schedule_problem(f"cron({text} 5 ? * MON *)")
    assert schedule_problem("rate(" + "9" * 5000 + " days)")
