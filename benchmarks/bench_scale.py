"""Scale: features and scoring of more and more users, each step in a process of its own: time and peak memory.

    python benchmarks/bench_scale.py                              # 10,000 and 100,000 users x 60 days
    python benchmarks/bench_scale.py --users 10000 1000000 --package runs/…/package

Memory is flat when ten times the users take about the same memory. Without a package a small network stands in for the
model, so that nothing has to be trained first.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import measure
from scarcegan.data import synthetic
from scarcegan.features.user_features import feature_names

CLASSES = ",".join(synthetic.CLASSES)
NAMES = feature_names(synthetic.COUNTERS, (7, 14, 28))


def stand_in(package: Path) -> Path:
    """A model package of random weights with the signature of a trained one; about one user in a hundred is flagged."""
    import tensorflow as tf

    known = len(synthetic.CLASSES)
    keras = tf.keras.Sequential([tf.keras.layers.Dense(64, activation="relu"), tf.keras.layers.Dense(known)])

    class Model(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = keras

        @tf.function(input_signature=[tf.TensorSpec([None, len(NAMES)], tf.float32, "features")])
        def serve(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
            finite = tf.math.asinh(tf.where(tf.math.is_finite(features), features, 0.0))
            probabilities = tf.nn.softmax(self.network(finite))
            rarity = probabilities[:, -1]
            label = tf.where(rarity > 0.99, known - 1, tf.argmax(probabilities[:, :-1], 1, tf.int32))
            return {"probabilities": probabilities, "rarity": rarity, "unknown": 1 - rarity, "label": label}

    model = Model()
    tf.saved_model.save(model, str(package / "model/1"), {"serving_default": model.serve})
    facts = {"definition": "stand_in", "classes": synthetic.CLASSES, "features": NAMES}
    facts["thresholds"] = {"rare": 0.99, "unknown": 1.0}
    (package / "model/model.json").write_text(json.dumps(facts))
    (package / "package.json").write_text(json.dumps({"version": "1", "definition": "stand_in"}))
    return package


def commands(data: Path, package: Path) -> dict[str, list[str]]:
    """The two steps as the runner calls them to score a user base."""
    module = "scarcegan.steps."
    features = [
        "-m",
        module + "features",
        "--telemetry",
        str(data / "telemetry"),
        "--features-out",
        str(data / "features"),
    ]
    features += ["--classes", CLASSES, "--counters", ",".join(synthetic.COUNTERS)]
    score = [
        "-m",
        module + "score",
        "--features",
        str(data / "features"),
        "--model",
        str(package),
        "--classes",
        CLASSES,
    ]
    return {"features": features, "score": [*score, "--scored-out", str(data / "scored")]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--package", type=Path, help="a model package's folder; default: random weights")
    args = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = {"features": [], "score": []}
    with tempfile.TemporaryDirectory(prefix="bench-scale-") as folder:
        package = args.package or stand_in(Path(folder) / "package")
        for users in args.users:
            data = Path(folder) / f"players-{users}"
            synthetic.generate(data, users=users, days=60)
            for step, command in commands(data, package).items():
                found[step].append(measure.measured(command))
                print(f"{users:,} users, {step}: {found[step][-1][0]:.1f} s", file=sys.stderr)
    sizes = [f"{users:,} users" for users in args.users]
    rows = []
    for step, measures in found.items():
        for unit, values in zip(("seconds", "peak MiB"), zip(*measures, strict=True), strict=True):
            rows.append((step, unit, *(f"{value:,.1f}" for value in values), f"{values[-1] / values[0]:.2f}"))
    print(f"\n{args.users[-1] / args.users[0]:.0f} times the users, 60 days x {len(synthetic.COUNTERS)} counters\n")
    measure.show(("step", "", *sizes, "ratio"), rows)


if __name__ == "__main__":
    main()
