"""Fixtures that several rooms use. What is no fixture lies in helpers/."""

import sys
from pathlib import Path

import pytest

import recording
from scarcegan.cli import main as cli


@pytest.fixture(scope="module", autouse=True)
def recorded_calls(request):
    """What the code asks of AWS in this file, as roles need it, is what tests/infra/recorded_calls.json says."""
    file = request.path.relative_to(Path(__file__).parents[1]).as_posix()
    with recording.recording() as calls:
        failed = request.session.testsfailed
        yield
    asked = vars(request.config.option)
    some = any(map(asked.get, ("keyword", "markexpr", "lf"))) or any("::" in word for word in request.config.args)
    whole = not some and sys.platform == "linux"  # elsewhere the rehearsals are skipped
    if request.session.testsfailed == failed:  # a test that failed did not make all of its calls
        assert recording.compare(file, calls, whole) == ""


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
