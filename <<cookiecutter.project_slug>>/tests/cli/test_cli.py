"""The command line: help that teaches and costs nothing, results for people and machines, mistakes in one sentence."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer

from pages import PAGES, commands, text_of
from scarcegan.cli import main as cli
from scarcegan.errors import UserError
from scarcegan.registry.contract import ModelPackage
from scarcegan.workspace import Outcome, Workspace

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "tensorflow",
    "mlflow",
    "duckdb",
    "numpy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "sklearn",
    "scipy",
    "boto3",
    "sagemaker",
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with nothing but its settings; the tests' current folder."""
    (tmp_path / "config.yaml").write_text("labels:\n  rare_class: risky\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def verbs(group=None, prefix=()):
    """Every verb with its click command: (("data", "make"), command)."""
    group = group or typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield (*prefix, name), command
            yield from verbs(command, (*prefix, name))
        else:
            yield (*prefix, name), command


VERBS = dict(verbs())


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_says_what_it_does_and_gives_an_example_that_parses(verb):
    command = VERBS[verb]
    assert command.help
    words = re.sub(r" [>|].*", "", command.epilog.removeprefix("Example: "))
    typed = shlex.split(words)
    assert typed[: len(verb) + 1] == ["scarcegan", *verb]
    command.make_context(verb[-1], typed[len(verb) + 1 :], resilient_parsing=False)


def test_the_first_sentence_of_every_verb_fits_its_line_in_the_help(scarcegan):
    code, out, _ = scarcegan("--help")
    assert code == 0
    assert "..." not in out.partition("Commands:")[2]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_a_verb_with_options_that_it_takes(page):
    """An ellipsis at the end, or in place of a value, stands for more options or for the value."""
    for typed in commands(page):
        words = [word for word in shlex.split(typed)[1:] if word != "…"]
        verb = next((tuple(words[:i]) for i in (2, 1) if tuple(words[:i]) in VERBS), None)
        groups = {verb[0] for verb in VERBS}
        assert verb or words[0] in ("--help", "--install-completion") or words in [[group] for group in groups], typed
        if verb:
            whole = not typed.endswith("…") and len(verb) < len(words)
            VERBS[verb].make_context(verb[-1], words[len(verb) :], resilient_parsing=not whole)


def test_every_verb_stands_in_the_help_and_on_a_page(scarcegan):
    """A group counts as one word of the help; the pages show each of its verbs."""
    listed = scarcegan("--help")[1].partition("Commands:")[2]
    text = "\n".join(map(text_of, PAGES))
    assert [verb for verb in VERBS if not re.search(rf"^  {verb[0]} ", listed, re.M)] == []
    assert [verb for verb in VERBS if not re.search(rf"(^ {{4}}|`)scarcegan {' '.join(verb)}\b", text, re.M)] == []


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['scarcegan', '--help']\n"
        "from scarcegan.cli import main as cli\n"
        "try: cli.main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "monitor" in found.stdout
    assert found.stderr.strip() == "[]"


def test_completion_knows_the_verbs():
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "_SCARCEGAN_COMPLETE": "complete_bash",
        "COMP_WORDS": "scarcegan mo",
        "COMP_CWORD": "1",
    }
    found = subprocess.run(
        [sys.executable, "-m", "scarcegan"], env=environment, capture_output=True, text=True, check=False
    )
    assert sorted(found.stdout.split()) == ["models", "monitor"]


@pytest.mark.parametrize("verb", ["run", "score", "monitor", "explain u1", "serve", "ui", "approve 1", "reject 1"])
def test_a_verb_typed_too_early_names_the_one_that_comes_before_and_leaves_nothing(scarcegan, project, verb):
    code, out, err = scarcegan(*verb.split())
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1
    assert "scarcegan " in err
    assert not (project / "runs").exists()


@pytest.mark.parametrize("verb", ["runs", "models"])
def test_a_list_of_nothing_is_an_empty_list_for_machines(scarcegan, verb):
    code, out, err = scarcegan(verb, "--json")
    assert (code, json.loads(out), err) == (0, [], "")


def test_a_folder_without_a_project_is_told_so(scarcegan, project):
    (project / "config.yaml").unlink()
    code, _, err = scarcegan("run")
    assert code == 2
    assert err == (
        "error: config.yaml: no such file. Run the command in the project's folder, or name it with --config.\n"
    )


@pytest.mark.parametrize("verb", [["run"], ["score"], ["monitor"], ["data", "check"]], ids=" ".join)
def test_an_unknown_setting_is_refused_with_the_nearest_known_one_before_anything_else(scarcegan, verb):
    code, out, err = scarcegan(*verb, "--set", "train.iteration=5")
    assert (code, out) == (2, "")
    assert err == "error: --set train.iteration=5: 'train.iteration' is no setting. Did you mean 'train.iterations'?\n"


def test_a_word_that_is_no_verb_and_a_version_that_is_no_number_are_mistakes_not_bugs(scarcegan):
    for words in (["trian"], ["approve", "one"], ["serve", "--port", "70000"]):
        code, _, err = scarcegan(*words)
        assert code == 2 and "Traceback" not in err, words


@pytest.mark.parametrize("start", ["soon", "", "2026-13-01", "9999-12-31", "0001-01-01", "99999-01-01"])
def test_the_sample_begins_on_a_day_of_a_calendar(scarcegan, project, start):
    code, out, err = scarcegan("data", "make", "--start", start)
    assert (code, out) == (2, "")
    assert (
        err == f"error: --start: expected a day such as 2026-01-05, from 1900-01-01 to 2199-12-31, found '{start}'.\n"
    )
    assert not (project / "data").exists()


def test_more_users_than_there_are_people_are_refused(scarcegan):
    assert scarcegan("data", "make", "--users", "9" * 20)[0] == 2


def test_what_stands_in_the_way_of_the_sample_is_not_overwritten(scarcegan, project):
    (project / "data").mkdir()
    (project / "data" / "labels.csv").write_text("mine", encoding="utf-8")
    code, _, err = scarcegan("data", "make", "--users", "100")
    assert code == 2 and "labels.csv: exists already, nothing was written" in err
    assert [path.name for path in (project / "data").iterdir()] == ["labels.csv"]


def test_the_sample_is_made_and_found_good(scarcegan, project):
    code, out, _ = scarcegan("data", "make", "--users", "1500")
    assert code == 0 and "1500 players x 60 days" in out
    code, out, _ = scarcegan("data", "check", "--json")
    assert json.loads(out)["problems"] == []
    assert code == 0


PACKAGES = [{"version": 4, "definition": "best_ranking"}, {"version": 5, "definition": "high_recall"}]
FINISHED = Outcome("r1", "finished", 0, packages=PACKAGES, suggested=4)
CLOSED = Outcome("r1", "gate closed", 3, "pr_auc 0.2 is below 0.3.")


def test_a_run_names_its_models_and_the_next_move(scarcegan, monkeypatch):
    monkeypatch.setattr(Workspace, "train", lambda *_, **__: FINISHED)
    code, out, _ = scarcegan("run")
    assert code == 0
    assert out.splitlines() == [
        "run r1: finished",
        "version 4: best_ranking",
        "version 5: high_recall",
        "Next: scarcegan approve 4",
    ]


def test_a_run_whose_model_is_the_champion_already_does_not_ask_for_its_approval(scarcegan, monkeypatch):
    monkeypatch.setattr(Workspace, "train", lambda *_, **__: replace(FINISHED, suggested=None))
    assert scarcegan("run")[1].splitlines()[-1] == "The champion is among them. Next: scarcegan serve"


def test_a_closed_gate_is_exit_code_3_with_its_figures(scarcegan, monkeypatch):
    monkeypatch.setattr(Workspace, "train", lambda *_, **__: CLOSED)
    code, out, _ = scarcegan("run")
    assert (code, out) == (3, "run r1: gate closed\npr_auc 0.2 is below 0.3.\n")
    code, out, _ = scarcegan("run", "--json")
    assert (code, json.loads(out)["status"]) == (3, "gate closed")


@pytest.mark.parametrize("verb", ["run", "score", "monitor"])
def test_a_verb_whose_run_failed_says_why_and_where_the_log_is(scarcegan, monkeypatch, verb):
    failed = Outcome("r1", "failed", 2, "column 'minutes': '190,5' is not a number.\nIts log: runs/r1/features/log.txt")
    for name in ("train", "score", "monitor"):
        monkeypatch.setattr(Workspace, name, lambda *_, **__: failed)
    code, out, _ = scarcegan(verb)
    assert (code, out) == (2, f"run r1: failed\n{failed.reason}\n")


def test_the_words_of_a_run_reach_the_workspace(scarcegan, monkeypatch):
    heard = []

    def train(self, from_step, cache):
        heard.append((self.config.train.iterations, from_step, cache))
        return FINISHED

    monkeypatch.setattr(Workspace, "train", train)
    scarcegan("run", "--set", "train.iterations=12", "--from", "train", "--no-cache")
    assert heard == [(12, "train", False)]


def test_models_are_a_table_with_a_star_for_the_champion(scarcegan, monkeypatch):
    rows = [{"version": 1, "champion": True, "definition": "best_ranking", "status": "Approved", "pr_auc": 0.5}]
    monkeypatch.setattr(Workspace, "models", lambda _: rows)
    code, out, _ = scarcegan("models")
    head, line = out.splitlines()
    assert code == 0 and head.split()[:2] == ["version", "champion"]
    assert line.split() == ["1", "*", "best_ranking", "Approved", "0.500"]
    assert json.loads(scarcegan("models", "--json")[1]) == rows


def test_json_for_programs_has_null_for_what_is_no_number(scarcegan, monkeypatch):
    monkeypatch.setattr(Workspace, "models", lambda _: [{"version": 1, "recall": float("nan"), "seen": (1, 2)}])
    _, out, _ = scarcegan("models", "--json")
    assert json.loads(out, parse_constant=pytest.fail) == [{"version": 1, "recall": None, "seen": [1, 2]}]


@pytest.mark.parametrize(("words", "shown"), [((), 12), (("--top", "3"), 3)])
def test_top_counts_for_programs_too(scarcegan, monkeypatch, words, shown):
    features = [{"feature": f"f{i}", "value": 1.0, "median_user": 0.0, "moves_rarity_by": 0.1} for i in range(12)]
    found = {"user": "u", "version": 1, "rarity": 0.5, "predicted": "risky", "features": features}
    monkeypatch.setattr(Workspace, "explain", lambda *_: dict(found))
    assert len(json.loads(scarcegan("explain", "u", "--json", *words)[1])["features"]) == shown
    assert len(scarcegan("explain", "u", *words)[1].splitlines()) == 2 + min(shown, 10)


class Decisions:
    """A registry that approves and rejects whatever it is asked."""

    def approve(self, version, note):
        return ModelPackage(version, "g", "s", "best_ranking", "Approved", True, "2026-01-01", note=note)

    def reject(self, version, note):
        return ModelPackage(version, "g", "s", "best_ranking", "Rejected", False, "2026-01-01", note=note)


@pytest.mark.parametrize(("verb", "status"), [("approve", "Approved"), ("reject", "Rejected")])
def test_a_decision_is_said_in_words_and_in_json(scarcegan, monkeypatch, verb, status):
    monkeypatch.setattr(Workspace, "registry", lambda _: Decisions())
    code, out, _ = scarcegan(verb, "3", "--note", "seen", "--json")
    found = json.loads(out)
    assert (code, found["version"], found["status"], found["note"]) == (0, 3, status, "seen")
    assert "version 3 (best_ranking) is" in scarcegan(verb, "3")[1]


def test_a_users_mistake_is_a_sentence_a_full_disk_too_and_a_bug_shows_itself(scarcegan, monkeypatch):
    def raises(error):
        def runs(_):
            raise error

        monkeypatch.setattr(Workspace, "runs", runs)

    raises(UserError("x: wrong. Mend it."))
    assert scarcegan("runs") == (2, "", "error: x: wrong. Mend it.\n")
    raises(OSError(28, "No space left on device", "runs/x"))
    assert "runs/x: the disk is full. Free some space" in scarcegan("runs")[2]
    raises(ZeroDivisionError("a bug"))
    monkeypatch.setattr(sys, "argv", ["scarcegan", "runs"])
    with pytest.raises(ZeroDivisionError):
        cli.main()


def test_ctrl_c_ends_with_130_and_a_word(scarcegan, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Workspace, "runs", interrupted)
    code, out, err = scarcegan("runs")
    assert (code, out) == (130, "") and "Traceback" not in err


@pytest.mark.parametrize("redirect", ["| head -1", "| true", ">&-"])
def test_a_reader_that_has_seen_enough_gets_no_traceback(project, redirect):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    line = f"'{sys.executable}' -m scarcegan graph --format svg {redirect}"
    found = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True, check=False)
    assert found.stderr == ""


def test_graph_names_what_each_engine_cannot_run(scarcegan):
    code, out, err = scarcegan("graph", "monitoring", "--format", "mermaid")
    assert code == 0 and "cannot run" not in out
    assert err.startswith("sagemaker cannot run the whole monitoring pipeline: nothing in AWS gives it what it reads")
    assert scarcegan("graph")[2] == "local runs all of it\nsagemaker runs all of it\n"


def test_an_error_shows_the_escapes_of_what_it_quotes(scarcegan, project):
    (project / "config.yaml").write_text('project: {region: "\\e[2Kx"}\n', encoding="utf-8")
    _, _, err = scarcegan("models")
    assert "\x1b" not in err and r"\x1b[2Kx" in err
