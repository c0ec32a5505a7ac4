"""The command line `scarcegan`: one function per verb. Results go to stdout, progress to stderr.

The work is done in other rooms. Large libraries are imported inside the verb that needs them, so that --help is quick.
"""

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from scarcegan.cli.cloud import cloud_app, errors_as_sentences
from scarcegan.cli.console import AsJson, DryRun, InCloud, SetValues, emit, example, table_lines, workspace
from scarcegan.cli.operations import operations_app
from scarcegan.cli.pipeline import pipeline_app
from scarcegan.cli.release import release_app
from scarcegan.cli.toolchain import toolchain_app
from scarcegan.errors import USER_ERROR, UserError, as_sentence, shortened
from scarcegan.terminal import visible_output

INTERRUPTED = 130  # exit code

Version = Annotated[int, typer.Argument(help="Version, as `scarcegan models` lists it.")]
Note = Annotated[str, typer.Option(help="Why; stored with the model.")]


class InOrder(TyperGroup):
    """The group of all verbs. Its help lists demo and data first, because a newcomer needs them first."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the verbs in the order of the help: demo and data, then the others as they were added."""
        return sorted(super().list_commands(ctx), key=lambda verb: verb not in ("demo", "data"))


if TYPE_CHECKING:
    from scarcegan.pipeline.engine import Engine
    from scarcegan.workspace import Outcome, Workspace

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
    help="Make sample telemetry, or check and describe your own data.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")


@app.callback()
def global_options(
    context: typer.Context,
    config: Annotated[
        Path, typer.Option(help="The settings of the project. Paths in it are relative to its folder.")
    ] = Path("config.yaml"),
) -> None:  # no docstring: it would replace the help of `app`
    context.obj = config


@data_app.command("make", epilog=example("scarcegan data make --users 20000"))
def data_make_command(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder to write telemetry/, labels.csv and truth.csv into.")] = Path(
        "data"
    ),
    users: Annotated[int, typer.Option(min=100, max=100_000_000, help="How many players.")] = 10_000,
    days: Annotated[int, typer.Option(min=28, max=3650, help="How many days of telemetry.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same players.")] = 7,
    start: Annotated[str, typer.Option(help="First day.")] = "2026-01-05",
    drift: Annotated[
        float, typer.Option(min=0, max=1, help="How much behaviour has changed since: 0 not at all, 1 much.")
    ] = 0.0,
) -> None:
    """Make sample telemetry of players. One class is rare, and its labels are weak. Overwrites no earlier files."""
    from scarcegan.data import synthetic
    from scarcegan.pipeline.config import check_day

    try:
        check_day(start)
    except ValueError as error:
        raise UserError(f"--start: {error}, found '{shortened(start)}'.") from None
    project = workspace(context)
    folder = project.path(out)
    project.refuse_to_overwrite(folder, "telemetry", "labels.csv", "truth.csv")
    classes = project.config.labels.classes
    synthetic.generate(folder, users=users, days=days, seed=seed, start=start, drift=drift, classes=classes)
    print(f"{folder / 'telemetry'}: {users} players x {days} days; weak labels in {folder / 'labels.csv'}")


@data_app.command("check", epilog=example("scarcegan data check --json"))
def data_check_command(context: typer.Context, as_json: AsJson = False, changes: SetValues = None) -> None:
    """List every problem of the data that config.yaml names. Writes nothing. Exit code: 0 no problem, 2 some."""
    problems, summary = workspace(context, changes).check_data()
    lines = []
    for key, value in summary.items():
        if isinstance(value, list):
            lines += [f"note: {line}" for line in value]
        elif isinstance(value, dict):
            lines.append(f"{key.replace('_', ' ')}: {', '.join(f'{name} {count:,}' for name, count in value.items())}")
        else:
            lines.append(f"{key.replace('_', ' ')}: {value}")
    emit({"problems": problems, **summary}, as_json, [*lines, *problems, *([] if problems else ["No problem found."])])
    raise typer.Exit(USER_ERROR if problems else 0)


@data_app.command("profile", epilog=example("scarcegan data profile --against data/later/telemetry"))
def data_profile_command(
    context: typer.Context,
    against: Annotated[
        Path | None, typer.Option(help="Other data, such as what you score: the page compares the two.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The page to write; default: data-profile.html in the folder of runs.")
    ] = None,
    as_json: AsJson = False,
    changes: SetValues = None,
) -> None:
    """Describe the data that config.yaml names on one page: days, users, counters, missing values, outliers, labels,
    month against month. Bad data is described too, with its problems.
    """
    project = workspace(context, changes)
    page, found = project.profile_data(against, out)
    lines = [f"{len(found['problems'])} problems", f"page: {project.show(page)}"]
    emit({"page": str(page), **found}, as_json, lines)


@app.command("run", epilog=example("scarcegan run --set train.iterations=4000 --from train"))
def run_command(
    context: typer.Context,
    changes: SetValues = None,
    from_step: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Run this step and all after it again.")
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step, even if nothing has changed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train, evaluate, and register models if the gate opens. One model per business definition; a killed run continues
    where it stopped.
    """
    project = workspace(context, changes)
    result = project.train(from_step=from_step, cache=not no_cache)
    lines = outcome_lines(project, result)
    lines += [f"version {package['version']}: {package['definition']}" for package in result.packages]
    if result.packages:
        approved = "The champion is among them. Next: scarcegan serve"
        lines.append(f"Next: scarcegan approve {result.suggested}" if result.suggested else approved)
    emit(asdict(result), as_json, lines)
    raise typer.Exit(result.exit_code)


def outcome_lines(project: "Workspace", result: "Outcome") -> list[str]:
    """Return the lines about a run that its verb prints: how it ended, why it did not finish, what of the data was left
    out, its result, its reports.

    - project: that ran it.
    """
    lines = [f"run {result.run}: {result.status}", *([result.reason] if result.reason else [])]
    lines += [*(f"note: {note}" for note in result.notes), *result.lines]
    return [*lines, *(f"report: {project.show(path)}" for path in result.reports)]


@app.command("runs", epilog=example("scarcegan runs --json"))
def runs_command(
    context: typer.Context,
    as_json: AsJson = False,
    keep: Annotated[
        int | None, typer.Option("--clean-but", metavar="N", min=0, help="Delete all runs but the newest N.")
    ] = None,
) -> None:
    """List the runs on this machine, newest first. With --clean-but N, delete older runs and their cache first."""
    project = workspace(context)
    if keep is not None:
        deleted = project.clean(keep)
        print(f"deleted {len(deleted)} runs", file=sys.stderr)
        versions = [str(model["version"]) for model in project.models() if model["run"] in deleted] if deleted else []
        if versions:
            print(f"their models stay: version {', '.join(versions)}. See: scarcegan models", file=sys.stderr)
    found = project.runs()
    emit(found, as_json, table_lines(found, ("run", "pipeline", "status", "started", "seconds")))


@app.command("graph", epilog=example("scarcegan graph --format svg > pipeline.svg"))
def graph_command(
    context: typer.Context,
    pipeline: Annotated[str, typer.Argument(help="training, scoring or monitoring")] = "training",
    format: Annotated[str, typer.Option(help="text, mermaid or svg")] = "text",
) -> None:
    """Draw the steps of a pipeline. Shows what each reads and writes, and in which order they run.

    Which parts of it an engine cannot run is listed on stderr.
    """
    from scarcegan.pipeline.definition import every_pipeline
    from scarcegan.sagemaker.engine import sagemaker_engine

    project = workspace(context)
    print(project.draw(pipeline, format))
    drawn = every_pipeline(project.config)[pipeline]
    engines: tuple[Engine, ...] = (project.local_engine(), sagemaker_engine(project))
    for engine in engines:
        missing = engine.cannot_run(drawn)
        for part in missing:
            print(f"{engine.name} cannot run {part}", file=sys.stderr)
        if format == "text" and not missing:
            print(f"{engine.name} runs all of it", file=sys.stderr)


@app.command("ui", epilog=example("scarcegan ui --port 5000"))
def ui_command(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 chooses a free one.")] = 5000,
) -> None:
    """Show runs and models in the browser, with MLflow. Prints the address and runs until Ctrl-C."""
    workspace(context).ui(port)


@app.command("models", epilog=example("scarcegan models --json"))
def models_command(context: typer.Context, as_json: AsJson = False, cloud: InCloud = False) -> None:
    """List the registered models, oldest first. A star marks the champion."""
    project = workspace(context)
    with errors_as_sentences(project, cloud):
        found = project.models(cloud=True) if cloud else project.models()
    columns = ("version", "champion", "definition", "status", "pr_auc", "recall", "precision", "share_unknown", "run")
    emit(
        found,
        as_json,
        table_lines([{**one, "run": run_text(one)} for one in found], columns)
        if found
        else [f"No models yet. Type: scarcegan {'start' if cloud else 'run'}"],
    )


def run_text(model: dict[str, Any]) -> str:
    """Return the id of a model's run, and whether the run was deleted. model: as Workspace.models returns it."""
    return f"{model['run']} (deleted)" if model.get("run_deleted") else str(model.get("run", ""))


@app.command("approve", epilog=example("scarcegan approve 3 --note 'reviewed with the care team'"))
def approve_command(
    context: typer.Context,
    version: Version,
    note: Note = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    cloud: InCloud = False,
) -> None:
    """Approve a version and make it the champion. Also rolls back to an earlier one. With --cloud it is deployed first,
    and becomes the champion once production serves it.
    """
    from scarcegan.registry.contract import APPROVED, one_line

    project = workspace(context)
    with errors_as_sentences(project, cloud):
        registry = project.registry(cloud=True) if cloud else project.registry()
        package = registry.package(version) if dry_run else registry.approve(version, note)
    if dry_run:
        done = package.champion and package.status == APPROVED
        there = (
            "would be approved, and the deploy pipeline would take it to staging" if cloud else "would be the champion"
        )
        what = "is the champion already; nothing would change" if done else there
        emit(asdict(package), as_json, [f"version {version} ({package.definition}) {what}"])
        return
    here = "is the champion. Next: scarcegan serve"
    if one_line(note) != one_line(package.note):
        print(f"it was the champion already, with the note '{package.note}'; nothing was changed", file=sys.stderr)
    there = "is approved, and the deploy pipeline takes it to staging. Next: scarcegan release status"
    emit(asdict(package), as_json, [f"version {version} ({package.definition}) {there if cloud else here}"])


@app.command("reject", epilog=example("scarcegan reject 2 --note 'too many false alarms'"))
def reject_command(
    context: typer.Context,
    version: Version,
    note: Note = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    cloud: InCloud = False,
) -> None:
    """Reject a version. Nothing else changes; the champion is refused."""
    from scarcegan.registry.contract import champion_not_rejected

    project = workspace(context)
    with errors_as_sentences(project, cloud):
        registry = project.registry(cloud=True) if cloud else project.registry()
        package = registry.package(version) if dry_run else registry.reject(version, note)
    if dry_run and package.champion:
        raise champion_not_rejected(package)
    verb = "would be" if dry_run else "is"
    emit(asdict(package), as_json, [f"version {version} ({package.definition}) {verb} rejected"])


@app.command("serve", epilog=example("scarcegan serve --port 8080"))
def serve_command(
    context: typer.Context,
    version: Annotated[int | None, typer.Option(help="Serve this version; default: the champion.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="0 chooses a free one; default: serve.port of config.yaml.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another name of this server, such as a container's; may be repeated.")
    ] = None,
) -> None:
    """Serve a model over HTTP: POST /invocations, GET /ping. Records requests for monitoring, and runs until Ctrl-C."""
    workspace(context).serve(version, host, port, allow_host or [])


@app.command("score", epilog=example("scarcegan score data/later/telemetry"))
def score_command(
    context: typer.Context,
    telemetry: Annotated[
        Path | None, typer.Argument(help="Telemetry of the users to score; default: data.path of config.yaml.")
    ] = None,
    version: Annotated[int | None, typer.Option(help="Score with this version; default: the champion.")] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Run every step, even if nothing has changed.")] = False,
    as_json: AsJson = False,
    changes: SetValues = None,
) -> None:
    """Score all users of some telemetry. Prints how many are flagged; writes all scores, and the flagged users, to
    files.
    """
    project = workspace(context, changes)
    result = project.score(telemetry, version, cache=not no_cache)
    emit(asdict(result), as_json, outcome_lines(project, result))
    raise typer.Exit(result.exit_code)


@app.command("explain", epilog=example("scarcegan explain u0000042"))
def explain_command(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="Id of a user in the last scoring, flagged or not.")],
    top: Annotated[
        int | None, typer.Option(min=1, help="How many features to list; default: 10, and with --json all.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain the champion's score of a user in its last scoring. Lists the features that move the score most, and by
    how much.
    """
    found = workspace(context).explain(user)
    found["features"] = found["features"][: top or (None if as_json else 10)]
    head = f"{user}: {found['predicted']}, rarity {found['rarity']:.3f} (version {found['version']})"
    lines = table_lines(found["features"], ("feature", "value", "median_user", "moves_rarity_by"))
    emit(found, as_json, [head, *lines])


@app.command("monitor", epilog=example("scarcegan monitor --truth data/truth.csv"))
def monitor_command(
    context: typer.Context,
    captured: Annotated[
        list[Path] | None,
        typer.Argument(help="Folders of scored users or recorded requests; default: all of the champion's."),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="True labels, once they are known: a file of user and label.")
    ] = None,
    as_json: AsJson = False,
    changes: SetValues = None,
) -> None:
    """Look for drift in what the champion has scored. Says whether to retrain, and writes a report; --truth adds
    quality.
    """
    project = workspace(context, changes)
    result = project.monitor(captured or [], truth)
    emit(asdict(result), as_json, outcome_lines(project, result))
    raise typer.Exit(result.exit_code)


app.add_typer(cloud_app)
app.add_typer(release_app, name="release")
app.add_typer(pipeline_app, name="pipeline")
app.add_typer(toolchain_app, name="toolchain")
app.add_typer(operations_app)


@app.command("demo", epilog=example("scarcegan demo"))
def demo_command(context: typer.Context) -> None:
    """Try every part once, in a few minutes. Makes data, trains, approves, answers a request, scores and monitors."""
    from scarcegan.cli.demo import run_demo

    run_demo(context.obj)


def main() -> None:
    """Run the `scarcegan` command line, and end the process.

    Exit codes are those of the verb; 2 after one sentence on stderr for a mistake of the user's or a system error that
    the user can correct, such as a full disk; 130 after Ctrl-C; 0 when the reader of stdout has gone (`| head`). A bug
    ends with a traceback. Control characters in what is printed are shown as text.
    """
    with visible_output():
        try:
            try:
                app(prog_name="scarcegan")
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()  # here, so that a closed pipe (`| head`) raises BrokenPipeError inside the try
        except (UserError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
                raise SystemExit(0) from None
            print(f"error: {as_sentence(error)}", file=sys.stderr)
            raise SystemExit(USER_ERROR) from None
        except KeyboardInterrupt:
            print("stopped. Type the same command again to continue.", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
