"""What AWS would cost: hours times list price, from the settings and the table prices.json. Asks nobody.

The table has a date, a region and its sources. A prices.json beside config.yaml, with the figures of your region or of
your contract, counts instead.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scarcegan.errors import UserError
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import Pipeline, Step, scoring, training

TABLE = Path(__file__).with_name("prices.json")
SHOWN, OWN = "src/scarcegan/aws/prices.json", "prices.json beside config.yaml"
JOB_HOURS = 5 / 60  # of one job, its start and its wheels included: assumed, never measured in AWS
HOURS_A_MONTH = 730
DAYS_A_MONTH = 365 / 12
DAYS = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0}
BUILDS = {"push": (2, "BUILD_GENERAL1_MEDIUM"), "release": (6, "BUILD_GENERAL1_SMALL")}  # of CodeBuild, and their type
TRAININGS_A_MONTH = 1
RELEASES_A_MONTH = 1
TEST_HOURS = 0.5  # staging's endpoint in one release, until its tests have passed: assumed, never measured in AWS


@dataclass(frozen=True)
class Prices:
    """The table of list prices.

    - table: where they were read, SHOWN or OWN.
    - region, currency, date: what the prices are of.
    - machine_hour: instance type -> price of one hour.
    - build_minute: CodeBuild's compute type -> price of one minute.
    - key_month: price of a KMS key for a month.
    - storage_gb_month: price of a gigabyte in S3 for a month.
    """

    table: str
    region: str
    currency: str
    date: str
    machine_hour: Mapping[str, float]
    build_minute: Mapping[str, float]
    key_month: float
    storage_gb_month: float


@dataclass(frozen=True)
class Cost:
    """One line of the costs. Two figures are the least and the most; they are equal where nothing scales.

    - what: what is paid for.
    - hours: instance type -> hours, least and most; {} for what is not paid by the hour.
    - price: in the table's currency, of the machines whose price is known.
    - unknown: instance types that have no price in the table.
    """

    what: str
    hours: Mapping[str, tuple[float, float]]
    price: tuple[float, float]
    unknown: Sequence[str] = ()


@dataclass(frozen=True)
class Estimate:
    """What the settings would cost.

    - prices: the table.
    - one_training, one_scoring: once.
    - longest_training: once, if every job ran until cloud.max_hours stops it.
    - staging, production: the endpoints for a month.
    - month: the sum of a month.
    - notes: sentences about what the figures rest on.
    """

    prices: Prices
    one_training: Cost
    one_scoring: Cost
    longest_training: Cost
    staging: Cost
    production: Cost
    month: Cost
    notes: Sequence[str]

    @property
    def costs(self) -> list[Cost]:
        """All costs, in the order in which they are shown; the sum of a month last."""
        return [
            self.one_training,
            self.longest_training,
            self.one_scoring,
            self.staging,
            self.production,
            self.month,
        ]

    def describe(self) -> dict[str, Any]:
        """Return the estimate as values that JSON can hold: table, region, currency and date of the prices, costs,
        notes.
        """
        about = {name: getattr(self.prices, name) for name in ("table", "region", "currency", "date")}
        return {**about, "costs": [asdict(cost) for cost in self.costs], "notes": list(self.notes)}


def load_prices(root: Path | None = None) -> Prices:
    """Read the table of prices: prices.json beside config.yaml if it is there, else the template's.

    - root: the folder of config.yaml; None for the template's table.

    Raises UserError when the file is missing, is no JSON, lacks a field or a compute type of BUILDS, or has a field of
    the wrong type.
    """
    own = root / TABLE.name if root else TABLE
    table, shown = (own, OWN) if root and own.exists() else (TABLE, SHOWN)
    try:
        found = json.loads(table.read_text(encoding="utf-8"))
        numbers = [*found["machine_hour"].values(), *(found["build_minute"][kind] for _, kind in BUILDS.values())]
        numbers += [found["key_month"], found["storage_gb_month"]]
        if not all(type(number) in (int, float) and number >= 0 for number in numbers):
            raise TypeError("a price is no number")
        found["table"] = shown
        return Prices(**{name: found[name] for name in Prices.__dataclass_fields__})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        mend = "Correct or delete it: without it the template's table counts" if shown == OWN else "Restore it"
        raise UserError(f"{table}: no table of prices ({error}). {mend}.") from None


def estimate(config: Config, prices: Prices) -> Estimate:
    """Return what the settings of config.yaml would cost."""
    cloud, endpoint = config.cloud, config.cloud.endpoint
    trained, scored = jobs_by_machine(training(config)), jobs_by_machine(scoring(config))
    one_training = cost("one training", {machine: (n * JOB_HOURS,) * 2 for machine, n in trained.items()}, prices)
    one_scoring = cost("one scoring", {machine: (n * JOB_HOURS,) * 2 for machine, n in scored.items()}, prices)
    longest = {machine: (n * float(cloud.max_hours),) * 2 for machine, n in trained.items()}
    staged = {} if endpoint.serverless_staging else {endpoint.instance: (RELEASES_A_MONTH * TEST_HOURS,) * 2}
    fleet = (float(endpoint.min_instances * HOURS_A_MONTH), float(endpoint.max_instances * HOURS_A_MONTH))
    staging = cost("staging endpoint, a month", staged, prices)
    production = cost("production endpoint, a month", {endpoint.instance: fleet}, prices)
    scorings = scorings_a_month(cloud.scoring_schedule)
    parts = [
        (one_training, float(TRAININGS_A_MONTH)),
        (one_scoring, scorings or 0.0),
        (staging, 1.0),
        (production, 1.0),
    ]
    low, high = (prices.key_month + sum(part.price[side] * times for part, times in parts) for side in (0, 1))
    unknown = sorted({machine for part, times in parts if times for machine in part.unknown})
    return Estimate(
        prices,
        one_training,
        one_scoring,
        cost(f"one training, at most ({cloud.max_hours} h a job)", longest, prices),
        staging,
        production,
        Cost("a month in all" + (", no scorings" if scorings is None else ""), {}, (low, high), unknown),
        notes(config, prices, scorings),
    )


def jobs_by_machine(pipeline: Pipeline) -> Counter[str]:
    """Return instance type -> how many jobs of a pipeline have it. A step that runs as a function is no job."""
    return Counter(step.instance for step in pipeline.steps if isinstance(step, Step) and step.kind != "lambda")


def cost(what: str, hours: Mapping[str, tuple[float, float]], prices: Prices) -> Cost:
    """Return the cost of machines for hours. Those without a price are left out of the sum and named.

    - hours: instance type -> hours, least and most.
    """
    known = {machine: prices.machine_hour[machine] for machine in hours if machine in prices.machine_hour}
    low, high = (sum(hours[machine][side] * price for machine, price in known.items()) for side in (0, 1))
    return Cost(what, hours, (low, high), [machine for machine in hours if machine not in known])


def scorings_a_month(schedule: str) -> float | None:
    """Return how often a month a schedule scores; 0 without a schedule, None for one that is not counted, cron(…).

    - schedule: cloud.scoring_schedule of config.yaml.
    """
    if not schedule:
        return 0.0
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", schedule)
    return DAYS_A_MONTH / (int(rate[1]) * DAYS[rate[2]]) if rate else None


def notes(config: Config, prices: Prices, scorings: float | None) -> list[str]:
    """Return sentences about what the figures rest on.

    - scorings: how often a month, as `scorings_a_month` returns it.
    """
    cloud, region = config.cloud, config.project.region
    other = "your contract's" if region == prices.region else f"those of {region or 'your region'} or of your contract"
    scored = f"the scorings of {cloud.scoring_schedule}" if cloud.scoring_schedule else "no scoring"
    builds = [f"a {cause} has {n} at {prices.build_minute[kind]:g} a minute" for cause, (n, kind) in BUILDS.items()]
    own = "" if prices.table == OWN else f" Copy it beside config.yaml and replace its figures by {other}."
    found = [
        f"Prices of {prices.region}, {prices.date}, from {prices.table}.{own}",
        f"Rests on {JOB_HOURS * 60:.0f} minutes a job, assumed and not measured in AWS, and no cached step; production "
        f"runs {HOURS_A_MONTH} hours a month.",
        f"A month has {TRAININGS_A_MONTH} training, {RELEASES_A_MONTH} release, {scored}, both endpoints and the key.",
        f"Not counted: builds ({', '.join(builds)}), S3 ({prices.storage_gb_month:g} a GB and month), disks of "
        "machines, logs, alarms, requests to KMS, traffic, and the second set of instances while a new model takes "
        "over.",
    ]
    if scorings is None:
        found.append("How often a cron(…) scores is not counted: add one scoring for each time.")
    if cloud.spot:
        found.append("Training on spot instances costs less; its price changes, so the full one is counted.")
    if cloud.endpoint.serverless_staging:
        found.append("Serverless staging is paid per request, which is not counted.")
    elif cloud.endpoint.instance in prices.machine_hour:
        whole = HOURS_A_MONTH * prices.machine_hour[cloud.endpoint.instance]
        found.append(
            f"Staging is on while a release is tested, {TEST_HOURS:g} hours assumed. With the toolchain's "
            f"StagingRuns=always it costs {whole:,.2f} a month."
        )
    return found


def cost_lines(found: Estimate) -> list[str]:
    """Return an estimate as lines of text for people."""
    rows = [(one.what, price_text(one), hours_text(one.hours)) for one in found.costs]
    wide, tall = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"  {what:<{wide}}  {price:>{tall}}  {hours}".rstrip() for what, price, hours in rows]
    unknown = sorted({machine for one in found.costs for machine in one.unknown})
    if unknown:
        lines.append(
            f"  No price is known of {', '.join(unknown)}: the sums are without it. Add it under machine_hour in {OWN}."
        )
    return [f"costs ({found.prices.currency})", *lines, *(f"  {note}" for note in found.notes)]


def price_text(one: Cost) -> str:
    """Return a price as text: 83.95, 167.90 to 335.80 when it is not certain, at least 83.95 when one is not known."""
    low, high = one.price
    return ("at least " if one.unknown else "") + (f"{low:,.2f}" if low == high else f"{low:,.2f} to {high:,.2f}")


def hours_text(hours: Mapping[str, tuple[float, float]]) -> str:
    """Return hours of machines as text, such as: 0.17 h ml.m5.2xlarge + 0.25 h ml.m5.xlarge."""
    digits = 2 if any(low < 10 for low, _ in hours.values()) else 0
    texts = [
        f"{low:,.{digits}f} h {machine}" if low == high else f"{low:,.{digits}f} to {high:,.{digits}f} h {machine}"
        for machine, (low, high) in hours.items()
    ]
    return " + ".join(texts)
