"""Schedules: what EventBridge takes for the time at which it starts the scoring pipeline or looks for an update.

https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

import re

LONGEST = 256  # https://docs.aws.amazon.com/scheduler/latest/APIReference/API_CreateSchedule.html
EXPECTED = "expected rate(7 days) or cron(0 5 ? * MON *)"
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def field(first: int, last: int, names: list[str] | None = None, items: str = "", alone: str = "") -> str:
    """Return the regular expression of a cron field: numbers, names, ranges and steps, joined by commas.

    - first, last: its numbers.
    - names: of the same values.
    - items, alone: further expressions, with VALUE for a value, that may be in such a list, or instead of it.
    """
    value = f"(?:0?(?:{'|'.join(map(str, range(first, last + 1)))}){''.join(f'|{name}' for name in names or [])})"
    step = f"(?:{'|'.join(map(str, range(1, last + 1)))})"
    item = rf"(?:(?:\*|{value}(?:-{value})?)(?:/{step})?{items})"
    return rf"{item}(?:,{item})*{alone}".replace("VALUE", value)


FIELDS = {
    "minutes (0-59)": field(0, 59),
    "hours (0-23)": field(0, 23),
    "day of month (1-31)": field(1, 31, items="|LW?|VALUEW", alone=r"|\?"),
    "month (1-12 or JAN-DEC)": field(1, 12, MONTHS),
    "day of week (1-7 or SUN-SAT)": field(1, 7, WEEKDAYS, items="|(?:VALUE)?L", alone=r"|VALUE#[1-5]|\?"),
    "year (1970-2199)": field(1970, 2199),
}


def schedule_problem(text: str) -> str:
    """Return why EventBridge Scheduler refuses a schedule, as the end of a sentence; "" for one that it takes.

    - text: rate(…) or cron(…). at(…), which runs once, is refused too, although the service knows it.
    """
    if text.startswith("at("):
        return f"at(…) would run once; type scarcegan start --pipeline scoring then; {EXPECTED}"
    rate = re.fullmatch(r"rate\(([0-9]+) (?:minute|hour|day)s?\)", text)
    if rate and len(text) <= LONGEST:
        return "" if rate[1].strip("0") else f"a rate is at least 1; {EXPECTED}"
    cron = re.fullmatch(r"cron\((.*)\)", text)
    if not cron or len(text) > LONGEST:
        return EXPECTED
    values = cron[1].split(" ")
    if len(values) != len(FIELDS):
        return (
            f"has {len(values)} field{'s' * (len(values) > 1)}, EventBridge takes 6 (minutes, hours, day of "
            f"month, month, day of week, year), one blank between two; {EXPECTED}"
        )
    for (name, pattern), value in zip(FIELDS.items(), values, strict=True):
        if not re.fullmatch(pattern, value, re.IGNORECASE):
            return f"'{value}' is not {name}; {EXPECTED}"
    if values.count("?") != 1:
        return f"one of day of month and day of week is ?, and only one; {EXPECTED}"
    return ""


def rule_schedule_problem(text: str) -> str:
    """Return why a rule of EventBridge refuses a schedule, as the end of a sentence; "" for one that it takes.

    A rule takes what EventBridge Scheduler takes, but the unit of a rate of 1 is in the singular, any other in the
    plural.
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-rate-expressions.html
    """
    rate = re.match(r"rate\(0*([0-9]+) [a-z]+?(s?)\)", text)
    problem = schedule_problem(text)
    if not problem and rate and (rate[1] == "1") == bool(rate[2]):
        return f"a rate of 1 has minute, hour or day, any other minutes, hours or days; {EXPECTED}"
    return problem
