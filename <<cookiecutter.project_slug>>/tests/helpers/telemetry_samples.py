"""Small telemetry for tests: two users, three days, two counters, and the features step called as the runner does."""

from pathlib import Path
from typing import Any

from scarcegan.data.schema import FeatureTable, read_features
from scarcegan.steps import features
from step_arguments import arguments

HEADER = "user_id,date,sessions,wagers"
GOOD = (
    HEADER,
    "ann,2026-01-05,1,10",
    "ann,2026-01-06,0,0",
    "ann,2026-01-07,2,30.5",
    "bob,2026-01-05,3,1",
    "bob,2026-01-07,1,2",
)
LABELS = ("user_id,label", "ann,calm", "bob,risky")


def write(path: Path, *lines: str) -> Path:
    """A text file of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def run_features(
    telemetry: Path, out: Path, labels: Path | None = None, inputs: Path | None = None, **changes: Any
) -> FeatureTable:
    """Run the step on three days from 2026-01-05 on, unless `changes` say otherwise, and return its table."""
    given: dict[str, Any] = {"classes": "calm,risky", "counters": "sessions,wagers", "start": "2026-01-05", "days": 3}
    given |= {"window_days": 3, "windows": 2, "as_of_weeks": 0, **changes}
    folders = [f"--telemetry={telemetry}", f"--features-out={out}", *([f"--labels={labels}"] if labels else [])]
    folders += [f"--inputs-out={inputs}"] if inputs else []
    features.main([*folders, *arguments("features", **given)])
    return read_features(out)
