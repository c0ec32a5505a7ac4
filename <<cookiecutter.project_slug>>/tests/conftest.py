"""Fixtures that several rooms use. What is no fixture lies in helpers/."""

import os
import sys
from pathlib import Path

import pytest

import recording
from scarcegan.cli import main as cli

RECORDED = pytest.StashKey[dict[str, recording.Calls]]()  # test file -> what the code asked of AWS in it
INCOMPLETE = pytest.StashKey[set[str]]()  # test files of which a test was left out, skipped, or failed


def pytest_configure(config):
    config.stash[RECORDED], config.stash[INCOMPLETE] = {}, set()


def file_of(item):
    return item.path.relative_to(Path(__file__).parents[1]).as_posix()


def is_whole(config, file):
    """Whether every test of a file has passed until now, or is still to come."""
    return file not in config.stash[INCOMPLETE] and not any("::" in word for word in config.args)


def pytest_deselected(items):
    for item in items:
        item.config.stash[INCOMPLETE].add(file_of(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if not report.passed:
        item.config.stash[INCOMPLETE].add(file_of(item))
    return report


@pytest.fixture(scope="module", autouse=True)
def recorded_calls(request):
    """What the code asks of AWS in this file, as roles need it, stands in tests/infra/recorded_calls.json."""
    config, file = request.config, file_of(request.node)
    with recording.recording() as calls:
        yield
    seen = config.stash[RECORDED].setdefault(file, set())  # a file may come more than once, where tests are shuffled
    seen |= calls
    if os.environ.get("UPDATE_RECORDED"):
        recording.update(file, seen, is_whole(config, file) and not hasattr(config, "workerinput"))
    assert not recording.unlisted(file, calls)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """One of xdist's processes has ended: what it has seen."""
    told = getattr(node, "workeroutput", {})
    for file, calls in told.get("recorded", {}).items():
        node.config.stash[RECORDED].setdefault(file, set()).update(map(tuple, calls))
    node.config.stash[INCOMPLETE].update(told.get("incomplete", ()))


def pytest_sessionfinish(session, exitstatus):
    """Where every file of the list ran whole, it has nothing that no test asks for."""
    config = session.config
    calls, incomplete = config.stash[RECORDED], config.stash[INCOMPLETE]
    if hasattr(config, "workeroutput"):  # a process of xdist
        told = {file: sorted(map(list, found)) for file, found in calls.items() if found}
        config.workeroutput.update(recorded=told, incomplete=sorted(incomplete))
        return
    whole = {file: found for file, found in calls.items() if is_whole(config, file)}
    stale = exitstatus == pytest.ExitCode.OK and recording.unmade(whole)
    if stale:
        print(f"\n{stale}", file=sys.stderr)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def scarcegan(project, monkeypatch, capsys):
    """Type a command; get its exit code, stdout and stderr. A test file brings the `project` it is typed in."""

    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["scarcegan", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return type_in


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to create a database, so tests get copies of one."""
    from scarcegan.registry.database import open_database, tracking_uri

    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    open_database(tracking_uri(database))
    return database
