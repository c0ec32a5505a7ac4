"""Features: the closed-form trend against Prophet on the same series, then time and memory for more and more users.

python benchmarks/bench_features.py                      # 60 users by Prophet; 10,000 to 1,000,000 users by the step
python benchmarks/bench_features.py --prophet-users 20 --users 10000 100000
"""

import argparse
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import measure
import numpy as np
from scarcegan.data import synthetic
from scarcegan.data.telemetry import is_weekend
from scarcegan.features import trend
from scarcegan.features.user_features import feature_names, user_features
from scarcegan.pipeline.config import Config
from scarcegan.pipeline.definition import scoring, value_text

DAYS, BATCH, WINDOWS = 60, 5_000, (7, 14, 28)
START = np.datetime64("2026-01-05")


def players(users: int) -> tuple[np.ndarray, np.ndarray]:
    """Counters [u, c, t] and recorded days [u, t] of the first synthetic users."""
    series, present = [], []
    for block in range(-(-users // synthetic.BLOCK_USERS)):
        counters, here = synthetic.simulate_block(synthetic.behaviours(7, block), DAYS, START, 7, block, 0.0)
        series.append(np.stack([counters[name] for name in synthetic.COUNTERS], axis=1).astype(float))
        present.append(here)
    return np.concatenate(series)[:users], np.concatenate(present)[:users]


def by_prophet(series: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Prophet's offset and slope [u * c], in the units of trend.Trend, and its seconds.

    Each series is given the same three periods, so that both fit the same model.
    """
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")
    import pandas as pd
    from prophet import Prophet

    users, counters, days = series.shape
    periods = strongest_periods(series, present)
    dates = pd.date_range(str(START), periods=days)
    fits, begun = [], time.perf_counter()
    for user in range(users):
        here = np.flatnonzero(present[user])
        for counter in range(counters):
            model = Prophet(
                yearly_seasonality=False, weekly_seasonality=False, daily_seasonality=False, uncertainty_samples=0
            )
            for number, period in enumerate(periods[user * counters + counter]):
                model.add_seasonality(f"wave {number}", period=period, fourier_order=1)
            model.fit(pd.DataFrame({"ds": dates[here], "y": series[user, counter, here]}))
            # Prophet's time runs from 0 to 1 over the recorded days, ours over all days.
            slope = model.params["k"][0, 0] / (here[-1] - here[0])
            fits.append((model.params["m"][0, 0] - slope * here[0], slope * (days - 1)))
    offset, slope = np.array(fits).T
    return offset, slope, time.perf_counter() - begun


def strongest_periods(series: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Days of the periods trend.fit chooses: [u * c, 3]."""
    known = np.where(present[:, None], series, 0.0).reshape(-1, series.shape[2])
    scaled = known / np.maximum(known.max(axis=1, keepdims=True), 1e-9)
    chosen = trend.select_terms(trend.subtract_line(scaled, np.repeat(present, series.shape[1], axis=0).astype(float)))
    cosines = chosen[:, trend.CHANGES.stop :][:, : trend.PERIODS]
    return series.shape[2] / ((cosines - trend.CHANGES.stop) // 2 + trend.FEWEST_CYCLES)


def seconds_of(work, repeats: int = 3) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def against_prophet(users: int) -> None:
    """Users per second, and how alike offset and slope are, on series that are not all zero."""
    series, present = players(BATCH)
    trend_rate = BATCH / seconds_of(
        lambda: [trend.fit_trends(series[i : i + 500], present[i : i + 500]) for i in range(0, BATCH, 500)]
    )
    counts, weekend = np.moveaxis(series, 1, 2), is_weekend(START, DAYS)
    row_rate = BATCH / seconds_of(
        lambda: [
            user_features(counts[i : i + 500], present[i : i + 500], weekend, WINDOWS) for i in range(0, BATCH, 500)
        ]
    )
    offset, slope, seconds = by_prophet(series[:users], present[:users])
    found, played = trend.fit_trends(series[:users], present[:users]), series[:users].any(axis=2).ravel()
    prophet_rate = users / seconds
    width = len(feature_names(synthetic.COUNTERS, WINDOWS))
    print(f"\nOne core, {DAYS} days x {len(synthetic.COUNTERS)} counters; Prophet on {users} users, five fits each\n")
    measure.show(
        ("", "users/s", "times Prophet"),
        [
            ("Prophet, trend and waves", f"{prophet_rate:.2f}", "1"),
            ("closed form, the same fits", f"{trend_rate:,.0f}", f"{trend_rate / prophet_rate:,.0f}"),
            (f"whole row of {width} features", f"{row_rate:,.0f}", f"{row_rate / prophet_rate:,.0f}"),
        ],
    )
    alike = [np.corrcoef(a[played], b[played])[0, 1] for a, b in ((offset, found.offset), (slope, found.slope))]
    print(f"Correlation with Prophet over {played.sum()} series: offset {alike[0]:.4f}, slope {alike[1]:.4f}\n")


def scaling(sizes: list[int], folder: Path) -> None:
    """The step in a process of its own, for telemetry of each size: a row per user."""
    rows = []
    for users in sizes:
        data, out = folder / f"players-{users}", folder / f"features-{users}"
        synthetic.generate(data, users=users, days=DAYS)
        seconds, peak = measure.measured(features_command(data, out))
        rows.append((f"{users:,}", f"{seconds:.1f}", f"{users / seconds:,.0f}", f"{peak:.0f}"))
        print(f"{users:,} users: {seconds:.1f} s, {peak:.0f} MiB", file=sys.stderr)
    print(f"python -m scarcegan.steps.features, {DAYS} days x {len(synthetic.COUNTERS)} counters, one BLAS thread\n")
    measure.show(("users", "seconds", "users/s", "peak MiB"), rows)


def features_command(data: Path, out: Path) -> list[str]:
    """The features step as the runner calls it for scoring."""
    command = ["-m", "scarcegan.steps.features", "--telemetry", str(data / "telemetry"), "--features-out", str(out)]
    given = scoring(Config()).step("features").arguments
    given = {**given, "classes": ",".join(synthetic.CLASSES), "counters": ",".join(synthetic.COUNTERS)}
    return [*command, *(f"--{name}={value_text(value)}" for name, value in given.items())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prophet-users", type=int, default=60)
    parser.add_argument("--users", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    args = parser.parse_args()
    against_prophet(args.prophet_users)
    with tempfile.TemporaryDirectory(prefix="bench-features-") as folder:
        scaling(args.users, Path(folder))


if __name__ == "__main__":
    main()
