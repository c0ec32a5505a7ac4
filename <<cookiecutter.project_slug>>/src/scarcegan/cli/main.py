"""The command line: verbs with examples. Results go to stdout, progress to stderr; work is done elsewhere.

Heavy libraries are imported inside the verb that needs them, so that --help answers at once.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from scarcegan.cli import cloud as cloud_verbs
from scarcegan.cli import release as release_verbs
from scarcegan.cli.console import AsJson, Changes, Cloud, emit, example, table, workspace
from scarcegan.errors import USER_ERROR, UserError, as_sentence

INTERRUPTED = 130


class InOrder(TyperGroup):
    """Verbs in the order a newcomer needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda verb: verb not in ("demo", "data"))


app = typer.Typer(
    cls=InOrder,
    help="Find a rare class among weakly labelled users: data -> run -> approve -> serve, score -> monitor.",
    epilog="New here? Type: scarcegan demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(
    help="Make the synthetic telemetry, or check your own.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")


@app.callback()
def settings(
    context: typer.Context,
    config: Annotated[Path, typer.Option(help="The project's settings; its folder is where data and runs lie.")] = Path(
        "config.yaml"
    ),
) -> None:
    context.obj = config


@data_app.command("make", epilog=example("scarcegan data make --users 20000"))
def data_make(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write telemetry/, labels.csv and truth.csv into.")] = Path(
        "data"
    ),
    users: Annotated[int, typer.Option(min=100, help="How many players.")] = 10_000,
    days: Annotated[int, typer.Option(min=28, max=3650, help="How many days of telemetry.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same players.")] = 7,
    start: Annotated[str, typer.Option(help="First day.")] = "2026-01-05",
    drift: Annotated[
        float, typer.Option(min=0, max=1, help="How far habits have moved since: 0 not at all, 1 far.")
    ] = 0.0,
) -> None:
    """Make sample telemetry: realistic players, a rare and weakly labelled class."""
    from scarcegan.data import synthetic

    place = workspace(context)
    folder = place.path(out)
    place.refuse_to_overwrite(folder, "telemetry", "labels.csv", "truth.csv")
    classes = place.config.labels.classes
    synthetic.generate(folder, users=users, days=days, seed=seed, start=start, drift=drift, classes=classes)
    print(f"{folder / 'telemetry'}: {users} players x {days} days; weak labels in {folder / 'labels.csv'}")


@data_app.command("check", epilog=example("scarcegan data check --json"))
def data_check(context: typer.Context, as_json: AsJson = False, changes: Changes = None) -> None:
    """Say everything that is wrong with the data. Reads what config.yaml names, writes nothing."""
    problems, summary = workspace(context, changes).check_data()
    lines = [f"{key.replace('_', ' ')}: {value}" for key, value in summary.items()]
    emit({"problems": problems, **summary}, as_json, [*lines, *problems, *([] if problems else ["No problem found."])])
    raise typer.Exit(USER_ERROR if problems else 0)


@app.command(epilog=example("scarcegan run --set train.iterations=4000 --from train"))
def run(
    context: typer.Context,
    changes: Changes = None,
    from_step: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Run this step and all after it again.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step, even if nothing has changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train, evaluate; register four models if the gate opens. A killed run goes on where it stopped."""
    place = workspace(context, changes)
    result = place.train(from_step=from_step, cache=not no_cache)
    lines = [f"run {result.run}: {result.status}"]
    if result.reason:
        lines.append(result.reason)
    lines += [f"report: {place.show(path)}" for path in result.reports]
    lines += [f"version {package['version']}: {package['definition']}" for package in result.packages]
    if result.packages:
        lines.append(f"Next: scarcegan approve {result.suggested}")
    emit(asdict(result), as_json, lines)
    raise typer.Exit(result.exit_code)


@app.command(epilog=example("scarcegan runs --json"))
def runs(
    context: typer.Context,
    as_json: AsJson = False,
    keep: Annotated[
        int | None, typer.Option("--clean-but", metavar="N", min=0, help="Delete all runs but the newest N.")
    ] = None,
) -> None:
    """List the runs, newest first. With --clean-but N, delete the older ones and their cache."""
    place = workspace(context)
    if keep is not None:
        print(f"deleted {len(place.clean(keep))} runs", file=sys.stderr)
    found = place.runs()
    emit(found, as_json, table(found, ("run", "pipeline", "status", "started", "seconds")))


@app.command(epilog=example("scarcegan graph --format svg > pipeline.svg"))
def graph(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="training, scoring or monitoring")] = "training",
    format: Annotated[str, typer.Option(help="text, mermaid or svg")] = "text",
) -> None:
    """Draw the steps of a pipeline."""
    print(workspace(context).draw(pipeline, format))


@app.command(epilog=example("scarcegan ui --port 5000"))
def ui(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 5000,
) -> None:
    """Show MLflow's pages of this project's runs and models."""
    workspace(context).ui(port)


@app.command(epilog=example("scarcegan models --json"))
def models(context: typer.Context, as_json: AsJson = False, cloud: Cloud = False) -> None:
    """List the registered models; a star marks the champion."""
    place = workspace(context)
    with cloud_verbs.plainly(place, cloud):
        found = place.models(cloud=True) if cloud else place.models()
    columns = ("version", "champion", "definition", "status", "pr_auc", "recall", "precision", "share_unknown", "run")
    emit(
        found,
        as_json,
        table(found, columns) if found else [f"No models yet. Type: scarcegan {'start' if cloud else 'run'}"],
    )


@app.command(epilog=example("scarcegan approve 3 --note 'reviewed with the care team'"))
def approve(
    context: typer.Context,
    version: Annotated[int, typer.Argument(help="Version, as `scarcegan models` lists it.")],
    note: Annotated[str, typer.Option(help="Why; kept with the model.")] = "",
    as_json: AsJson = False,
    cloud: Cloud = False,
) -> None:
    """Make a version the champion. Approving an earlier one again rolls back to it; with --cloud it is deployed."""
    place = workspace(context)
    with cloud_verbs.plainly(place, cloud):
        registry = place.registry(cloud=True) if cloud else place.registry()
        package = registry.approve(version, note)
    here = "is the champion. Next: scarcegan serve"
    there = "is approved, and the deploy pipeline takes it to staging. Next: scarcegan release status"
    emit(asdict(package), as_json, [f"version {version} ({package.definition}) {there if cloud else here}"])


@app.command(epilog=example("scarcegan reject 2 --note 'too many false alarms'"))
def reject(
    context: typer.Context,
    version: Annotated[int, typer.Argument(help="Version, as `scarcegan models` lists it.")],
    note: Annotated[str, typer.Option(help="Why; kept with the model.")] = "",
    as_json: AsJson = False,
    cloud: Cloud = False,
) -> None:
    """Reject a version. Nothing else changes."""
    place = workspace(context)
    with cloud_verbs.plainly(place, cloud):
        registry = place.registry(cloud=True) if cloud else place.registry()
        package = registry.reject(version, note)
    emit(asdict(package), as_json, [f"version {version} ({package.definition}) is rejected"])


@app.command(epilog=example("scarcegan serve --port 8080"))
def serve(
    context: typer.Context,
    version: Annotated[int | None, typer.Option(help="Another version than the champion.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="0 takes a free one.")] = None,
) -> None:
    """Answer HTTP requests with the champion. POST /invocations, GET /ping; requests are captured for monitoring."""
    workspace(context).serve(version, host, port)


@app.command(epilog=example("scarcegan score data/later/telemetry"))
def score(
    context: typer.Context,
    telemetry: Annotated[Path | None, typer.Argument(help="Whom to score; default: data.path of config.yaml.")] = None,
    version: Annotated[int | None, typer.Option(help="Another version than the champion.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step, even if nothing has changed.")] = False,
    as_json: AsJson = False,
    changes: Changes = None,
) -> None:
    """Score a user base in batches, and list the flagged users."""
    place = workspace(context, changes)
    result = place.score(telemetry, version, cache=not no_cache)
    lines = [f"run {result.run}: {result.status}", *result.lines]
    emit(asdict(result), as_json, lines)
    raise typer.Exit(result.exit_code)


@app.command(epilog=example("scarcegan explain u0000042"))
def explain(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="A user of the last scoring, flagged or not.")],
    top: Annotated[int, typer.Option(min=1, help="How many features to list.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Say why the champion ranks a user where it does. Which features, by how much."""
    found = workspace(context).explain(user)
    head = f"{user}: {found['predicted']}, rarity {found['rarity']:.3f} (version {found['version']})"
    lines = table(found["features"][:top], ("feature", "value", "median_user", "moves_rarity_by"))
    emit(found, as_json, [head, *lines])


@app.command(epilog=example("scarcegan monitor --truth data/truth.csv"))
def monitor(
    context: typer.Context,
    captured: Annotated[
        list[Path] | None, typer.Argument(help="Scored or captured folders; default: all of the champion's.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Ground truth, once it has come: user and label.")] = None,
    as_json: AsJson = False,
    changes: Changes = None,
) -> None:
    """Look for drift in what the champion saw. With ground truth for model quality too; says whether to retrain."""
    place = workspace(context, changes)
    result = place.monitor(captured or [], truth)
    lines = [
        f"run {result.run}: {result.status}",
        *result.lines,
        *[f"report: {place.show(path)}" for path in result.reports],
    ]
    emit(asdict(result), as_json, lines)
    raise typer.Exit(result.exit_code)


app.add_typer(cloud_verbs.app)
app.add_typer(release_verbs.app, name="release")


@app.command(epilog=example("scarcegan demo"))
def demo(context: typer.Context) -> None:
    """Everything once, in a few minutes. Telemetry, run, approve, a request answered, all scored, a drift report."""
    from scarcegan.cli.demo import play

    play(context.obj)


def main() -> None:
    """The `scarcegan` command. A user's mistake ends with one sentence and exit code 2; a bug with its traceback."""
    try:
        try:
            app(prog_name="scarcegan")
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a reader that has gone away can still be told from a mistake
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
            raise SystemExit(0) from None
        print(f"error: {as_sentence(error)}", file=sys.stderr)
        raise SystemExit(USER_ERROR) from None
    except KeyboardInterrupt:
        print("stopped. Type the same command again to go on.", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
