"""What tests of the command line share; each file brings its own `project`."""

import sys

import pytest

from scarcegan.cli import main as cli


@pytest.fixture
def scarcegan(project, monkeypatch, capsys):
    """Type a command; get its exit code, stdout and stderr."""

    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["scarcegan", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return type_in
