"""Settings: reads and checks config.yaml. Every default value of the project stands here and nowhere else.

A key that is unknown or renamed, a value of the wrong type and one out of its range are refused before anything runs,
with the line in config.yaml. What the values do is decided by definition.py and by the engines.
"""

import copy
import datetime
import difflib
import json
import keyword
import re
import unicodedata
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scarcegan.errors import UserError, shortened
from scarcegan.limits import FIRST_DAY, LAST_DAY, MOST_DAYS, RESERVED_CLASSES
from scarcegan.pipeline.config_text import Refused, read_yaml
from scarcegan.pipeline.schedule import schedule_problem

Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Instances = Annotated[int, Field(ge=1, le=100)]  # a slip of the keyboard is not paid for
Days = Annotated[int, Field(ge=1, le=MOST_DAYS)]
Units = Annotated[int, Field(ge=1, le=100_000)]
Weight = Annotated[float, Field(ge=0, le=1_000_000)]  # far below what a float of 32 bits holds
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]
# Lists of columns are handed to steps as one text with commas.
Column = Annotated[str, Field(pattern=r"^[^,\s]([^,]*[^,\s])?$")]
Place = Annotated[str, Field(min_length=1)]  # a path, or an s3:// address
Instance = Annotated[str, Field(pattern=r"^ml\.[a-z0-9-]+\.[a-z0-9]+$")]
# Machines whose disk is a local NVMe drive. SageMaker takes no key for it; the machine encrypts it.
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/InstanceStorage.html
LOCAL_DISK = re.compile(r"ml\.([cmr]\d+[a-z]*dn?|g\d[a-z]*|p3dn|p[4-9][a-z0-9-]*|trn\d[a-z]*|dl1)\.")
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
TagKey = Annotated[str, Field(pattern=r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$", max_length=128)]
TagValue = Annotated[str, Field(pattern=r"^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$", max_length=256)]
LONGEST_TAG_VALUE = 256
LONGEST_DESCRIPTION = 1024  # of a model package group
# The rules of names and texts that a new project is asked for. The template refuses the same answers, and a test of
# the template compares both.
# A region of 17 characters at most, so that every name in AWS fits with a project's name of 32. Empty: not chosen yet.
REGION_PATTERN = (
    "^(((us|eu|ap|sa|ca|me|af|il|mx|cn)-(central|(north|south)(east|west)?|east|west)"
    "|(us-gov|us-iso[bf]?|eu-isoe|eusc-de)-(central|north|south|east|west))-[1-9])?$"
)
VOLUME_KEY = r"^(project|none|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[0-9a-zA-Z-]+)$"
MLFLOW_APP = r"^(arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:mlflow-(app|tracking-server)/[A-Za-z0-9-]+)?$"
# The name of a model package group, or the group's ARN when another account shares it.
GROUP_PATTERN = r"^(arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:[0-9]{12}:model-package-group/)?[a-zA-Z0-9](-*[a-zA-Z0-9])*$"
LONGEST_GROUP = 63
KEPT_BY_AWS = ("aws", "ssm", "amzn-s3-demo-", "sthree-")  # no bucket's name may begin so
JOINERS = "\u200c\u200d"  # join Persian letters and emoji
# How a pattern begins -> a value that matches it, which an error message shows.
EXAMPLES = {
    r"^ml\.": "ml.m5.xlarge",
    "^subnet-": "subnet-0a1b2c3d",
    "^sg-": "sg-0a1b2c3d",
    "^(project|none|": "project, none, or a key's ARN",
    "^[a-z](-?": "rare-players",
    r"^[^,\s]": "night_minutes (no comma, no blank at its ends)",
    "^[a-z][a-z0-9_]*": "heavy_user",
    r"^[\p{L}": "cost-centre",
    "^(((us|eu|": "eu-west-1",
}
# How pydantic's type of a problem begins -> what to give instead of nothing.
KINDS = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "list_": "a list such as [a, b], or [] for none",
    "literal_": "{expected}",
    "string_": "a text",
}
MOST_PROBLEMS = 20  # of a config.yaml, that are shown one by one
LONGEST_MESSAGE = 400


def check_day(text: str) -> str:
    """Return a day such as 2026-01-05 unchanged.

    Raises ValueError for "", for a day in another form, and for one before FIRST_DAY or after LAST_DAY.
    """
    with suppress(ValueError):
        day = datetime.date.fromisoformat(text)
        if FIRST_DAY <= day <= LAST_DAY and day.isoformat() == text:
            return text
    raise ValueError(f"expected a day such as 2026-01-05, from {FIRST_DAY} to {LAST_DAY}")


class ConfigSection(BaseModel):
    """Base class of Config and of each section of config.yaml. Fields cannot be set again once the object is made.

    Raises pydantic's ValidationError for an unknown key, for a value that the type or the range of its field excludes,
    and for text with a line break or a control character, which no file name, column or command can have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def no_text_is_empty_text(cls, values: Any) -> Any:
        """Return the values of a section, with "" for each text that is null, as in `start:` or `--set data.start=`."""
        if not isinstance(values, dict):
            return values
        texts = {name for name, field in cls.model_fields.items() if field.annotation is str}
        return {name: "" if value is None and name in texts else value for name, value in values.items()}

    @field_validator("*")
    @classmethod
    def text_is_one_line(cls, value: Any) -> Any:
        """Return the value unchanged. Raises ValueError if it is, or lists, text with a line break or a control
        character.
        """
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
                raise ValueError("holds a line break or a control character; write it in one line")
        return value


class ProjectSettings(ConfigSection):
    """What the project is called and who owns it.

    - name: the parameter SageMakerProjectName; the names of all resources in AWS are made from it.
    - description: one line, shown in reports and in the model registry.
    - team: value of the tag `team` on everything in AWS, in the model registry and on every run in MLflow.
    - region: the AWS region, such as eu-west-1.
    - model_package_group: name of the group in the model registry, or its ARN when another account shares it.
    """

    name: str = Field(default="rare-players", pattern=r"^[a-z](-?[a-z0-9])*$", max_length=32)
    description: str = Field(default="", max_length=LONGEST_DESCRIPTION)
    team: str = "data-science"
    region: str = Field(default="eu-west-1", pattern=REGION_PATTERN)
    model_package_group: str = Field(default="rare-players", pattern=GROUP_PATTERN)

    @field_validator("name")
    @classmethod
    def name_is_free_in_aws(cls, value: str) -> str:
        """Return the name unchanged. Raises ValueError if it begins as AWS lets only its own buckets begin."""
        if value.startswith(KEPT_BY_AWS):
            raise ValueError(f"AWS keeps names that begin with {', '.join(KEPT_BY_AWS)} for itself; choose another")
        return value

    @field_validator("model_package_group")
    @classmethod
    def group_is_short_enough(cls, value: str) -> str:
        """Return the group unchanged. Raises ValueError if its name, the last part of an ARN, is too long."""
        if len(value.rpartition("/")[2]) > LONGEST_GROUP:
            raise ValueError(f"SageMaker takes at most {LONGEST_GROUP} characters; shorten the name")
        return value

    @field_validator("description", "team")
    @classmethod
    def printed_text_is_one_line(cls, value: str) -> str:
        """Return the text unchanged. Raises ValueError for a line break, a control character, half of a character, or
        one that Unicode does not define; a joiner between Persian letters or emoji passes.
        """
        kinds = {unicodedata.category(letter) for letter in value if letter not in JOINERS}
        if any(kind[0] == "C" or kind in ("Zl", "Zp") for kind in kinds):
            raise ValueError("holds a line break or a control character; write it in one line")
        return value

    @field_validator("team")
    @classmethod
    def team_is_the_value_of_a_tag(cls, value: str) -> str:
        """Return the team unchanged. Raises ValueError if AWS does not allow it as the value of a tag.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Tag.html
        """
        odd = sorted({c for c in value if unicodedata.category(c)[0] not in "LZN" and c not in "_.:/=+-@"})
        if odd or not value.strip() or len(value) > LONGEST_TAG_VALUE:
            raise ValueError(
                f"becomes a tag in AWS, which takes 1 to {LONGEST_TAG_VALUE} letters, digits, spaces and "
                f"_ . : / = + - @{' but not ' + ' '.join(odd) if odd else ''}; write for example R and D"
            )
        return value


class LabelSettings(ConfigSection):
    """The names of the classes that labels may have.

    - rare_class: the class that the model looks for.
    - negative_classes: all other classes.
    """

    rare_class: Name = "risky"
    negative_classes: list[Name] = Field(default=["dormant", "normal", "heavy"], min_length=1)

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names: the negative classes in their order, then the rare class. A class's number is its place
        here.
        """
        return (*self.negative_classes, self.rare_class)

    @model_validator(mode="after")
    def names_are_distinct(self) -> "LabelSettings":
        """Return the section unchanged. Raises ValueError for a class name that occurs twice, is in RESERVED_CLASSES
        or is a keyword of Python.
        """
        repeated = sorted({name for name in self.classes if self.classes.count(name) > 1})
        reserved = sorted(set(self.classes) & {*RESERVED_CLASSES, *keyword.kwlist})
        if repeated:
            raise ValueError(f"the class name '{repeated[0]}' occurs twice; every class needs its own name")
        if reserved:
            raise ValueError(f"the class name '{reserved[0]}' has a meaning of its own; choose another")
        return self


class DataSettings(ConfigSection):
    """Where the input data and the labels are, what their columns are called, and which days are read.

    - kind: "telemetry": records of users by day; "features": a ready table, in which the features are computed already.
    - path: file or folder of the data.
    - labels: file or folder of the labels; "inside": they are the column `label_column` of the data; "folders": one
      folder per class below `path`.
    - user_column, time_column, label_column: names of these columns.
    - time_format: how times are written that are no dates or timestamps of Parquet: "" for ISO 8601, "epoch" or
      "epoch_ms" for seconds or milliseconds since 1970, or a pattern of strptime such as %d.%m.%Y.
    - time_zone: the zone in which a time with a UTC offset or zone becomes a day.
    - counters: columns of numbers in telemetry, from which features are computed.
    - signed_counters: those of them that may be negative.
    - aggregate: counter -> how the records of a user's day become one value, for every counter; {}: a user has one
      record a day. "count" is the number of records and needs no column.
    - missing_days: what a day without a record means: "unknown", or "zero" in every counter.
    - columns: the feature columns of a ready table that hold numbers; empty: every other column of numbers.
    - categories: further feature columns of a ready table, which hold names, or numbers that stand for a name.
    - start: first of the `days` days of telemetry that are read, such as "2026-01-05"; "": the last `days` days found.
      For a ready table without a time column: the day of its rows; "": they have none.
    - days: how many days of telemetry are read.
    - bad_rows: "refuse" ends with an error at rows that cannot be used, "drop" leaves them out.
    """

    kind: Literal["telemetry", "features"] = "telemetry"
    path: Place = "data/telemetry"
    labels: Place = "data/labels.csv"
    user_column: str = "user_id"
    time_column: str = "date"
    label_column: str = "label"
    time_format: str = ""
    time_zone: str = "UTC"
    counters: list[Column] = ["sessions", "minutes", "deposits", "wagers", "night_minutes"]
    signed_counters: list[Column] = []
    aggregate: dict[Column, Literal["sum", "count", "mean", "max"]] = {}
    missing_days: Literal["unknown", "zero"] = "unknown"
    columns: list[Column] = []
    categories: list[Column] = []
    start: str = ""
    days: Days = 60
    bad_rows: Literal["refuse", "drop"] = "refuse"

    @field_validator("path", "labels")
    @classmethod
    def address_names_a_bucket(cls, value: str) -> str:
        """Return the path or address unchanged. Raises ValueError if it begins like an S3 address but is none."""
        if re.match("s3:/", value, re.IGNORECASE) and not re.match(
            r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/|$)", value
        ):
            raise ValueError("names no bucket; write for example s3://bucket/folder/")
        return value

    @field_validator("start")
    @classmethod
    def start_is_a_day(cls, value: str) -> str:
        """Return the start unchanged. Raises ValueError if it is neither "" nor a day such as 2026-01-05."""
        return check_day(value) if value else value

    @field_validator("time_format")
    @classmethod
    def time_format_tells_the_day(cls, value: str) -> str:
        """Return the format unchanged. Raises ValueError if a day that is written in it cannot be read back."""
        day = datetime.datetime(2026, 11, 30, 13, 45, tzinfo=datetime.UTC)
        if value in ("", "epoch", "epoch_ms"):
            return value
        with suppress(ValueError, re.error):
            known = not re.search("%[cxX]", value)  # these differ between Python and DuckDB
            if known and datetime.datetime.strptime(day.strftime(value), value).date() == day.date():
                return value
        raise ValueError("expected a pattern with year, month and day, such as %d.%m.%Y, or epoch, or epoch_ms")

    @field_validator("time_zone")
    @classmethod
    def time_zone_exists(cls, value: str) -> str:
        """Return the zone unchanged. Raises ValueError if there is no zone of that name."""
        names = zoneinfo.available_timezones() | {"UTC"}
        if value not in names:
            near = difflib.get_close_matches(value, names, n=1)
            raise ValueError(f"no time zone; write UTC or, for example, {near[0] if near else 'Europe/Berlin'}")
        return value

    @model_validator(mode="after")
    def signed_and_aggregated_are_counters(self) -> "DataSettings":
        """Return the section unchanged.

        Raises ValueError for an entry of signed_counters or aggregate that is no counter, and for an aggregate that
        leaves a counter out.
        """
        unknown = [name for name in (*self.signed_counters, *self.aggregate) if name not in self.counters]
        if unknown:
            raise ValueError(f"'{unknown[0]}' is no counter; name it under data.counters too")
        without = [name for name in self.counters if name not in self.aggregate]
        if self.aggregate and without:
            raise ValueError(
                f"data.aggregate says nothing of '{without[0]}'; give each counter sum, count, mean or max"
            )
        return self

    @model_validator(mode="after")
    def telemetry_has_user_time_and_counters(self) -> "DataSettings":
        """Return the section unchanged. Raises ValueError for the kind "telemetry" without one of these columns."""
        if self.kind == "telemetry":
            for name, column in {"user": self.user_column, "time": self.time_column}.items():
                if not column:
                    raise ValueError(f"telemetry needs the name of a {name} column under data.{name}_column")
            if not self.counters:
                raise ValueError("telemetry needs at least one counter under data.counters")
        return self

    @model_validator(mode="after")
    def a_column_has_one_part(self) -> "DataSettings":
        """Return the section unchanged.

        Raises ValueError for a column that two settings name, or one setting twice, and for any category in telemetry.
        Labels in a file of their own have their columns there: a counter, but no category, may be called like one.
        """
        special = [(f"data.{name}_column", getattr(self, f"{name}_column")) for name in ("user", "time", "label")]
        categories = [("data.categories", column) for column in self.categories]
        numbers = "counters" if self.kind == "telemetry" else "columns"
        listed = [(f"data.{numbers}", column) for column in getattr(self, numbers)]
        own = special if self.labels == "inside" else special[:2]
        for columns in ([*special, *categories], [*own, *listed, *categories]):
            seen: dict[str, str] = {}
            for key, column in columns:
                if column and column in seen:
                    raise ValueError(f"the column '{column}' is named twice: {seen[column]} and {key}")
                seen[column] = key
        if self.categories and self.kind == "telemetry":
            raise ValueError("categories are columns of a ready table (kind: features); telemetry has counters only")
        return self


class FeatureSettings(ConfigSection):
    """How features are computed from telemetry.

    - window_days: how many days of history become one row of features.
    - windows: lengths in days of shorter windows that end on the same day; each has features of its own.
    - batch_users: how many users are held in memory at once; it does not change the features.
    """

    window_days: Days = 46
    windows: list[Days] = Field(default=[7, 14, 28], min_length=1)
    batch_users: Count = 5000

    @model_validator(mode="after")
    def windows_differ_and_fit(self) -> "FeatureSettings":
        """Return the section unchanged. Raises ValueError for a window that is named twice or exceeds window_days."""
        for days in self.windows:
            if self.windows.count(days) > 1:
                raise ValueError(f"features.windows: {days} is named twice")
        if max(self.windows) > self.window_days:
            raise ValueError(
                f"features.windows: {max(self.windows)} days do not fit into window_days {self.window_days}"
            )
        return self


class SplitSettings(ConfigSection):
    """How users are divided into training, validation and test users.

    - test_share, validation_share: shares of the users of each class; unlabelled users count as a class. The others are
      for training.
    - test_weeks: by how many weeks the days of test rows are later than those of the other rows; telemetry only.
    - folds: into how many parts the labelled training users are divided; each model is trained without one of them.
    - seed: another one divides the users in another way.
    """

    test_share: Share = 0.3
    validation_share: Share = 0.2
    test_weeks: Annotated[int, Field(ge=0, le=5000)] = 2
    folds: Annotated[int, Field(ge=2, le=20)] = 3
    seed: Seed = 7

    @model_validator(mode="after")
    def training_has_a_share(self) -> "SplitSettings":
        """Return the section unchanged. Raises ValueError if both shares together are 0.9 or more."""
        if self.test_share + self.validation_share >= 0.9:
            raise ValueError("test_share and validation_share leave less than a tenth of the users for training")
        return self


class ScarceganSettings(ConfigSection):
    """Research values of the networks, losses and boosted trees. A table in docs/model.md explains each field."""

    trunk: list[Units] = Field(default=[64, 32], min_length=1)
    bins: Annotated[int, Field(ge=0, le=64)] = 8
    generator: list[Units] = Field(default=[30], min_length=1)
    latent: Units = 10
    decay: Annotated[float, Field(gt=0, le=1)] = 0.05
    weight_decay: Weight = 0.0
    alpha: Annotated[float, Field(gt=0, le=1)] = 0.7
    unlabelled_weight: Weight = 1.0
    unsupervised_weight: Weight = 1.0
    expert: bool = True
    even: Annotated[float, Field(ge=0, le=1)] = 1.0
    caution: Annotated[float, Field(ge=0, lt=1)] = 0.01
    boosting_weight: Weight = 1.0
    neighbours: Annotated[int, Field(ge=0, le=10_000)] = 2000
    anchor: bool = True
    bad_generator: bool = True
    pull_away: Literal["rows", "matrix"] = "rows"
    pull_away_weight: Weight = 1.0
    matching: Literal["unlabelled", "labelled"] = "unlabelled"
    generator_trains_trunk: bool = False


class TrainSettings(ConfigSection):
    """Hyperparameters of training; those of research are below `scarcegan`. A table in docs/model.md explains each."""

    iterations: Count = 1000
    seeds: Count = 2
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 64
    learning_rate: Annotated[float, Field(gt=0, lt=1)] = 0.001
    patience: Annotated[int, Field(ge=0, le=20)] = 0
    boosting: Annotated[int, Field(ge=0, le=1000)] = 100
    class_weights: list[Weight] = []
    scaling: Literal["standard", "robust"] = "standard"
    unknown_by: Literal["distance", "source"] = "distance"
    known_share: Share = 0.05
    seed: Seed = 7
    scarcegan: ScarceganSettings = ScarceganSettings()


class BusinessDefinition(ConfigSection):
    """The rule that chooses one registered model on validation users: a version saved during training, and its
    thresholds.

    - keep: the figure by which a version and its thresholds are preferred: "highest_recall", "highest_precision",
      "highest_pr_auc", or "fewest_unknown", the smallest share of users called unknown. For the last two the threshold
      of rarity is the one of highest F1.
    - precision_floor: "highest_recall" needs it: the least precision; when none reaches it, the highest precision wins.
    - recall_floor: "highest_precision" needs it: the least recall, which the lowest threshold always reaches.
    - recall_tolerance: "fewest_unknown" needs it: by how much recall may be below that of the version with the highest.
    """

    keep: Literal["highest_recall", "highest_precision", "highest_pr_auc", "fewest_unknown"]
    precision_floor: Share | None = None
    recall_floor: Share | None = None
    recall_tolerance: Share | None = None

    @model_validator(mode="after")
    def has_the_floor_it_needs(self) -> "BusinessDefinition":
        """Return the definition unchanged.

        Raises ValueError if the floor or tolerance that `keep` needs is not given, or if another one is.
        "highest_pr_auc" needs none.
        """
        needed = {
            "highest_recall": "precision_floor",
            "highest_precision": "recall_floor",
            "fewest_unknown": "recall_tolerance",
        }.get(self.keep)
        given = [
            name for name in ("precision_floor", "recall_floor", "recall_tolerance") if getattr(self, name) is not None
        ]
        if given != ([needed] if needed else []):
            raise ValueError(f"keep: {self.keep} takes {needed or 'no floor'} (found: {', '.join(given) or 'none'})")
        return self


BUSINESS_DEFINITIONS = {
    "high_recall": BusinessDefinition(keep="highest_recall", precision_floor=0.5),
    "high_precision": BusinessDefinition(keep="highest_precision", recall_floor=0.5),
    "best_ranking": BusinessDefinition(keep="highest_pr_auc"),
    "few_unknown": BusinessDefinition(keep="fewest_unknown", recall_tolerance=0.05),
}


class EvaluationSettings(ConfigSection):
    """How models are measured on the test users.

    - beta: recall counts beta times as much as precision in F-beta.
    - bootstrap: how many resamples of the test users are behind each interval.
    - seed: of these resamples.
    """

    beta: Annotated[float, Field(gt=0, le=10)] = 2.0
    bootstrap: Annotated[int, Field(ge=100, le=100_000)] = 1000
    seed: Seed = 7


class GateSettings(ConfigSection):
    """What a model must show on test users before the models of a run are registered.

    - definition: the business definition whose model is tested.
    - metric: the figure of the rare class that is compared.
    - minimum: the least value of the metric.
    - champion: against the model in production: "not_worse": it must not be shown to be worse; "better": it must be
      shown to be better; "report": only reported.
    - simple_models: against the best simple model, by PR-AUC: "required": it must be shown to be better; "report": only
      reported.
    - alpha: 1 minus the confidence level of the intervals by which something is shown; 0.05 means 95 %.
    """

    definition: str = "best_ranking"
    metric: Literal["pr_auc", "recall", "precision", "f_beta"] = "pr_auc"
    minimum: Annotated[float, Field(ge=0, le=1)] = 0.3
    champion: Literal["not_worse", "better", "report"] = "not_worse"
    simple_models: Literal["report", "required"] = "report"
    alpha: Share = 0.05


class MonitoringSettings(ConfigSection):
    """Which change in the data is a violation, and when retraining is suggested.

    - drift_threshold: the largest distance of a column's distribution from the baseline, 0 to 1, that is no violation:
      the robust distance (monitoring/drift.py), which leaves out what chance explains.
    - window_days: length in days of the windows that rows are grouped into.
    - minimum_rows: a window with fewer rows is not compared.
    - retrain_windows, of_windows: retraining is suggested when `retrain_windows` of the last `of_windows` windows have
      violations.
    """

    drift_threshold: Share = 0.1
    window_days: Days = 7
    retrain_windows: Count = 2
    of_windows: Count = 3
    minimum_rows: Count = 100

    @model_validator(mode="after")
    def m_is_at_most_n(self) -> "MonitoringSettings":
        """Return the section unchanged. Raises ValueError if retrain_windows is larger than of_windows."""
        if self.retrain_windows > self.of_windows:
            raise ValueError("retrain_windows is larger than of_windows, so retraining would never be suggested")
        return self


class ServingSettings(ConfigSection):
    """How `scarcegan serve` answers requests on this machine.

    - port: the TCP port; 0 chooses a free one.
    - capture_percentage: how many of a hundred requests are stored for monitoring.
    """

    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    capture_percentage: Annotated[int, Field(ge=0, le=100)] = 100


class LocalSettings(ConfigSection):
    """How pipelines run on this machine.

    - folder: the folder that holds runs and their cache, the MLflow database and captured requests.
    - workers: how many steps run at the same time; None: as many as cores and memory allow.
    """

    folder: str = Field(default="runs", min_length=1)
    workers: Annotated[int, Field(ge=1, le=64)] | None = None


class InstanceTypes(ConfigSection):
    """The instance type of each step that runs as a job in SageMaker. https://aws.amazon.com/sagemaker/ai/pricing/"""

    features: Instance = "ml.m5.2xlarge"
    split: Instance = "ml.m5.xlarge"
    train: Instance = "ml.m5.2xlarge"
    baseline: Instance = "ml.m5.xlarge"
    evaluate: Instance = "ml.m5.xlarge"
    score: Instance = "ml.m5.2xlarge"
    monitor: Instance = "ml.m5.xlarge"


class EndpointSettings(ConfigSection):
    """The endpoint in SageMaker. Staging has one instance; the numbers of instances are those of production.

    - instance: instance type of both stages.
    - min_instances, max_instances: how few and how many instances production may have, 1 to 100.
    - invocations_per_instance: requests per minute and instance above which another instance is started.
    - traffic: how a new model takes over: "canary": one instance first, then all others; "linear": a quarter of them at
      a time; "all_at_once".
    - wait_minutes: minutes between two steps of the takeover.
    - latency_ms: an alarm is raised when the slowest one in a hundred requests takes longer, in milliseconds.
    - capture_percentage: how many of a hundred requests are stored for monitoring.
    - serverless_staging: staging has no instance and costs nothing while there are no requests, but stores none of
      them.
    - serverless_memory_mb: the memory of staging when it is serverless.
    """

    instance: Instance = "ml.m5.large"
    min_instances: Instances = 2
    max_instances: Instances = 4
    invocations_per_instance: Count = 3000
    traffic: Literal["canary", "linear", "all_at_once"] = "canary"
    wait_minutes: Annotated[int, Field(ge=1, le=30)] = 10
    latency_ms: Count = 500
    capture_percentage: Annotated[int, Field(ge=0, le=100)] = 100
    serverless_staging: bool = False
    serverless_memory_mb: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 3072

    @field_validator("instance")
    @classmethod
    def disk_takes_a_key(cls, value: str) -> str:
        """Return the instance type unchanged. Raises ValueError for one whose local disk the project's key cannot
        encrypt.
        """
        if LOCAL_DISK.match(value):
            raise ValueError(
                "has a local disk, which takes no key, and endpoints' disks get one; choose for example ml.m5.large"
            )
        return value

    @model_validator(mode="after")
    def there_are_enough_instances(self) -> "EndpointSettings":
        """Return the section unchanged.

        Raises ValueError if the maximum is below the minimum, or if traffic moves in steps ("canary", "linear") and the
        minimum is below two.
        """
        if self.max_instances < self.min_instances:
            raise ValueError(f"max_instances {self.max_instances} is less than min_instances {self.min_instances}")
        if self.traffic != "all_at_once" and self.min_instances < 2:
            raise ValueError(f"traffic: {self.traffic} moves in steps, so min_instances must be 2 (or all_at_once)")
        return self


class CloudSettings(ConfigSection):
    """How pipelines run in SageMaker. Nothing here has an effect on this machine.

    - volume_gb: the size of each job's disk.
    - volume_key: the KMS key that encrypts the jobs' disks: its ARN, "project" for the project's key, or "none" for
      AWS's.
    - max_hours: a job that takes longer is stopped.
    - spot: whether training runs on spot instances.
    - spot_wait_hours: how long a training job may wait for a spot instance, on top of max_hours.
    - cache_days: for how long the result of an unchanged step is used again; 0: never.
    - network_isolation: whether jobs reach no network at all.
    - subnets, security_groups: of the VPC in which jobs and endpoints run; both empty: SageMaker's own network.
    - mlflow_app: ARN of an MLflow App that shows trainings; "": none.
    - scoring_schedule: when all users are scored: rate(…), or cron(…) in UTC; "": no schedule.
    - copy_sample: the share of the users without a label that a copy of the training pipeline computes features for.
    - tags: key -> value of further tags of every job, pipeline and endpoint.
    """

    instances: InstanceTypes = InstanceTypes()
    volume_gb: Annotated[int, Field(ge=1, le=16384)] = 30
    volume_key: Annotated[str, Field(pattern=VOLUME_KEY)] = "project"
    max_hours: Annotated[int, Field(ge=1, le=120)] = 12
    spot: bool = False
    spot_wait_hours: Annotated[int, Field(ge=0, le=120)] = 12
    cache_days: Annotated[int, Field(ge=0, le=365)] = 30
    network_isolation: bool = True
    subnets: list[Annotated[str, Field(pattern=r"^subnet-[0-9a-z]+$")]] = Field(default=[], max_length=16)
    security_groups: list[Annotated[str, Field(pattern=r"^sg-[0-9a-z]+$")]] = Field(default=[], max_length=5)
    mlflow_app: Annotated[str, Field(pattern=MLFLOW_APP)] = ""
    scoring_schedule: str = ""
    copy_sample: Annotated[float, Field(gt=0, le=1)] = 0.1
    tags: dict[TagKey, TagValue] = Field(default={}, max_length=40)
    endpoint: EndpointSettings = EndpointSettings()

    @field_validator("scoring_schedule")
    @classmethod
    def schedule_is_one(cls, value: str) -> str:
        """Return the schedule unchanged. Raises ValueError for one that EventBridge Scheduler would refuse."""
        problem = schedule_problem(value) if value else ""
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("tags")
    @classmethod
    def tags_are_not_reserved(cls, value: dict[str, str]) -> dict[str, str]:
        """Return the tags unchanged. Raises ValueError for a key "team", or one that begins with "aws:" or
        "sagemaker:", in upper or lower case.
        """
        taken = [key for key in value if key.lower().startswith(("aws:", "sagemaker:"))]
        if taken:
            raise ValueError(f"AWS keeps tags such as '{taken[0]}' for itself; choose another name")
        if any(key.lower() == "team" for key in value):  # IAM's tags do not differ in case
            raise ValueError("the tag 'team' is made of project.team; set the team there")
        return value

    @model_validator(mode="after")
    def key_fits_the_disks(self) -> "CloudSettings":
        """Return the section unchanged. Raises ValueError for a volume_key and a machine whose disk takes none."""
        for step, instance in self.instances.model_dump().items():
            if self.volume_key != "none" and LOCAL_DISK.match(instance):
                raise ValueError(
                    f"the machine {instance} of {step} has a local disk, which it encrypts itself and which takes no "
                    "key; set cloud.volume_key to none, or choose a machine such as ml.m5.xlarge"
                )
        return self

    @model_validator(mode="after")
    def network_is_complete(self) -> "CloudSettings":
        """Return the section unchanged.

        Raises ValueError for subnets without security groups or the reverse, and for an mlflow_app together with
        network_isolation, because isolated jobs cannot reach it.
        """
        if bool(self.subnets) != bool(self.security_groups):
            raise ValueError("a VPC needs subnets and security_groups; give both or neither")
        if self.mlflow_app and self.network_isolation:
            raise ValueError("with network_isolation no job reaches mlflow_app; set one of them to false or to empty")
        return self


class Config(ConfigSection):
    """All of config.yaml: its sections, each explained at its class, and two keys beside them.

    Paths are as they were typed; a relative one starts from the folder that holds config.yaml.

    - business_definitions: name -> rule by which one registered model is chosen.
    - retries: how often a step is tried again, here and in SageMaker, after a failure that is no mistake of the user,
      such as a killed process.
    """

    project: ProjectSettings = ProjectSettings()
    labels: LabelSettings = LabelSettings()
    data: DataSettings = DataSettings()
    features: FeatureSettings = FeatureSettings()
    split: SplitSettings = SplitSettings()
    train: TrainSettings = TrainSettings()
    business_definitions: dict[Name, BusinessDefinition] = Field(default=BUSINESS_DEFINITIONS, min_length=1)
    evaluate: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()
    monitor: MonitoringSettings = MonitoringSettings()
    serve: ServingSettings = ServingSettings()
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    local: LocalSettings = LocalSettings()
    cloud: CloudSettings = CloudSettings()

    @model_validator(mode="after")
    def sections_agree(self) -> "Config":
        """Return the settings unchanged.

        Raises ValueError in these cases:
        - train.class_weights: it has numbers, but not one per class, or only zeros.
        - train.batch_size: it is less than the number of classes.
        - gate.definition: it is no business definition.
        - features.window_days: it is more than data.days less split.test_weeks, for telemetry.
        """
        if self.train.class_weights and len(self.train.class_weights) != len(self.labels.classes):
            raise ValueError(
                f"train.class_weights has {len(self.train.class_weights)} numbers, there are "
                f"{len(self.labels.classes)} classes ({', '.join(self.labels.classes)}). Give one per class, or none."
            )
        if self.train.class_weights and not any(self.train.class_weights):
            raise ValueError("train.class_weights are all 0, so that nothing would be learnt. Give one class a weight.")
        if self.train.batch_size < len(self.labels.classes):
            raise ValueError(
                f"train.batch_size is {self.train.batch_size}, there are {len(self.labels.classes)} classes. "
                "A batch holds at least one row of each."
            )
        if self.gate.definition not in self.business_definitions:
            known = ", ".join(self.business_definitions)
            raise ValueError(f"gate.definition '{self.gate.definition}' is no business definition (there are: {known})")
        history = self.data.days - 7 * self.split.test_weeks
        if self.data.kind == "telemetry" and self.features.window_days > history:
            raise ValueError(
                f"features.window_days is {self.features.window_days}, but data.days {self.data.days} less "
                f"{self.split.test_weeks} test weeks leave {history} days. Shorten the window or bring more days."
            )
        return self


# Dotted key of an earlier version -> today's.
RENAMED = {
    "local.retries": "retries",
    "gate.baseline": "gate.simple_models",
    **{f"train.{name}": f"train.scarcegan.{name}" for name in ScarceganSettings.model_fields},
}


# Dotted key of an earlier version that has no successor -> what to do.
REMOVED = {"cloud.approval": "Delete the line: a person approves every model, with scarcegan approve 5 --cloud"}


def load_config(path: Path, changes: Iterable[str] = ()) -> Config:
    """Read and check config.yaml and return all settings; what is not written in it has its default.

    - path: of config.yaml.
    - changes: `KEY=VALUE` each, as `--set` takes them: a dotted key such as train.iterations, and a value in YAML,
      which replaces the file's.

    Raises UserError for a file that is missing, is not UTF-8 or is no YAML, for a change that `apply` refuses, and for
    values that are refused, a line each: file and line (or the change), key, what was found, and what to do.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. Run the command in the project's folder, or name it with --config."
        ) from None
    except (IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path}: not a file. Name the project's config.yaml with --config.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}). Save it as UTF-8.") from None
    except ValueError:
        raise UserError(f"{str(path)!r}: not a file name. Name the project's config.yaml with --config.") from None
    try:
        values, lines = read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(describe_yaml_error(error, path, text)) from None
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no sections such as 'data:' and 'train:'. Begin again from the template's.")
    changes = list(changes)
    try:
        return Config.model_validate(with_changes(values, changes))
    except ValidationError as error:
        problems = problems_of(error)
    without = [refused(values, changes[:place] + changes[place + 1 :]) for place in range(len(changes))]
    found = []
    for key, problem in list(problems.items())[:MOST_PROBLEMS]:
        blamed = [f"--set {shortened(changes[place])}" for place, rest in enumerate(without) if key not in rest]
        found.append(describe_problem(problem, ", ".join(blamed) or line_of(problem, path, lines)))
    if len(problems) > len(found):
        found.append(f"… and {len(problems) - len(found)} more problems.")
    raise UserError("\n".join(found))


def describe_yaml_error(error: Exception, path: Path, text: str) -> str:
    """Return the error message for a config.yaml that cannot be read: line, what is wrong there, and what to do.

    - error: a YAMLError, or ValueError for a number with too many digits.
    - path, text: of config.yaml.
    """
    conflict = next((n for n, line in enumerate(text.splitlines(), 1) if line.startswith("<<<<<<< ")), None)
    if conflict:
        return (
            f"{path}, line {conflict}: a merge conflict (<<<<<<<). Keep what you want of both sides and delete the "
            "lines with <<<<<<<, ======= and >>>>>>>."
        )
    mark = getattr(error, "problem_mark", None)
    where = f"{path}, line {mark.line + 1}" if mark else str(path)
    what = shortened(" ".join(str(getattr(error, "problem", None) or error).split()), LONGEST_MESSAGE)
    fault = what if isinstance(error, Refused) else f"not valid YAML: {what}"
    return f"{where}: {fault}. Correct that line."


def with_changes(values: Mapping[str, Any], changes: Iterable[str]) -> dict[str, Any]:
    """Return a copy of the nested settings `values` with each change made, a KEY=VALUE as `apply` takes it.

    Raises UserError for a change that `apply` refuses.
    """
    changed = copy.deepcopy(dict(values))
    for change in changes:
        apply(changed, change)
    return changed


def refused(values: Mapping[str, Any], changes: Iterable[str]) -> dict[tuple, Mapping[str, Any]]:
    """Return what is refused of settings with changes, as `problems_of` does; {} if nothing is, or `apply` refuses."""
    try:
        Config.model_validate(with_changes(values, changes))
    except ValidationError as error:
        return problems_of(error)
    except UserError:
        pass
    return {}


def problems_of(error: ValidationError) -> dict[tuple, Mapping[str, Any]]:
    """Return (parts of the key, message) -> problem, for each problem that pydantic found, in the order of `Config`."""
    return {(*problem["loc"], problem["msg"]): problem for problem in error.errors(include_url=False)}


def line_of(problem: Mapping[str, Any], path: Path, lines: Mapping[tuple, int]) -> str:
    """Return where in the file a refused value is, as text: path and line.

    - problem: one of ValidationError.errors().
    - path: of config.yaml.
    - lines: parts of a key -> line. For a key that is not in it, the nearest section above counts, then none.
    """
    place = tuple(problem["loc"])
    line = next((lines[place[:end]] for end in range(len(place), 0, -1) if place[:end] in lines), None)
    return f"{path}, line {line}" if line else str(path)


def apply(values: dict[str, Any], change: str) -> None:
    """Set one key in `values` in place.

    - values: the nested settings of config.yaml.
    - change: KEY=VALUE, as in `--set train.iterations=2000`, with a dotted key and a value in YAML. Missing sections
      are made; whether the key exists is not checked.

    Raises UserError for a change without `=` or key, a key below a value that is no section, and a value that is no
    YAML or that `read_yaml` refuses.
    """
    key, equals, text = change.partition("=")
    said = f"--set {shortened(change)}"
    if not equals or not key.strip():
        raise UserError(f"{said}: expected key=value, for example --set train.iterations=2000.")
    *sections, last = key.strip().split(".")
    place = values
    for section in sections:
        place = place.setdefault(section, {})
        if not isinstance(place, dict):
            raise UserError(f"{said}: '{shortened(section)}' is a value, not a section.")
    try:
        # A time format begins with a character that YAML wants in quotes, which a shell takes away.
        place[last] = text if text.startswith("%") else read_yaml(text)[0]
    except Refused as error:
        raise UserError(f"{said}: not a value that a setting can have: {error.problem}. Give a plain one.") from None
    except (yaml.YAMLError, ValueError):
        raise UserError(f"{said}: '{shortened(text)}' is not a YAML value. Quote it.") from None


def describe_problem(problem: Mapping[str, Any], where: str) -> str:
    """Return the error message for one value that pydantic refuses: where it was set, key, what was found, and what to
    do. Long keys and values are cut.

    - problem: one of ValidationError.errors().
    - where: the file and line, or the --set, that set it, or the changes without which it would not be refused.
    """
    place = tuple(problem["loc"])
    key = ".".join(shortened(part) for part in place)
    if problem["type"] == "extra_forbidden" and key in RENAMED:
        move = "Type that instead" if where.startswith("--set") else "Move it there"
        return f"{where}: '{key}' is now '{RENAMED[key]}'. {move}."
    if problem["type"] == "extra_forbidden" and key in REMOVED:
        return f"{where}: '{key}' is no setting any more. {REMOVED[key]}."
    if problem["type"] == "extra_forbidden":
        known = known_keys(place[:-1])
        near = difflib.get_close_matches(shortened(place[-1]), known, n=1)
        meant = [".".join([*map(str, place[:-1]), name]) for name in near]
        move = f"Did you mean '{meant[0]}'?" if meant else f"Known here: {', '.join(known)}."
        return f"{where}: '{key}' is no setting. {move}"
    message = shortened(re.sub(r"^Value error, ", "", problem["msg"]).rstrip("."), LONGEST_MESSAGE)
    if problem["type"] in ("model_type", "dict_type"):
        message = "a section: indented 'key: value' lines below it, or leave the section out"
    like = ""
    if problem["type"] == "string_pattern_mismatch":
        pattern = problem["ctx"]["pattern"]
        like = next((like for start, like in EXAMPLES.items() if pattern.startswith(start)), "")
        message += f", as does {like}" if like else ""
    given = problem.get("input")
    kind = next((kind for start, kind in KINDS.items() if problem["type"].startswith(start)), "")
    if given in (None, "") and kind:
        wanted = f"one such as {like}" if like else kind.format(**problem.get("ctx", {}))
        return f"{where}: {key}: it has no value; give {wanted}."
    found = f" (found: {shortened(repr(given))})" if isinstance(given, str | int | float | list | None) else ""
    return f"{where}: {key + ': ' if key else ''}{message}{found}."


def known_keys(section: tuple) -> list[str]:
    """Return the names of the keys that may be directly below a section of config.yaml, sorted.

    - section: parts of the key of an existing section, such as ("cloud", "endpoint"); (): the top level. Below
      "business_definitions" any name counts as a section.
    """
    kind: Any = Config
    for part in section:
        kind = get_args(kind)[1] if get_origin(kind) is dict else kind.model_fields[part].annotation
    return sorted(kind.model_fields)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value in `other`) for each setting of `other` that has another value, or none, in `one`.

    A section is compared key by key, a list as a whole. Settings that only `one` has are left out.

    - one, other: nested settings, section -> key -> value.
    - prefix: text that is put before each key, such as "train.".
    """
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(one.get(key), Mapping):
            yield from differences(one[key], value, f"{prefix}{key}.")
        elif one.get(key) != value:
            yield f"{prefix}{key}", value


def with_present_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that an earlier version of the project recorded, with renamed keys under their present names.

    - values: nested settings, section -> key -> value. Where both names occur, the value of the present one counts.
    """
    found = copy.deepcopy(dict(values))
    for old, new in RENAMED.items():
        section = found
        *sections, last = old.split(".")
        for name in sections:
            section = section.get(name) or {}
        if last not in section:
            continue
        value, section = section.pop(last), found
        *sections, last = new.split(".")
        for name in sections:
            section = section.setdefault(name, {})
        section.setdefault(last, value)
    return found


def definitions_argument(config: Config) -> str:
    """Return the text of the train step's argument --definitions: a JSON object, name of a business definition -> its
    fields, without those that are None.
    """
    return json.dumps({name: d.model_dump(exclude_none=True) for name, d in config.business_definitions.items()})


def run_tags(config: Config) -> str:
    """Return the value of the environment variable MLFLOW_RUN_CONTEXT, the tags of every MLflow run: {"team": …} as
    JSON.
    """
    return json.dumps({"team": config.project.team}, ensure_ascii=False)
