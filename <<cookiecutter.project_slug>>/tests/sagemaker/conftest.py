"""Fixtures that several files of this room use."""

import pytest

from pipelines_in_moto import sign_in
from scarcegan.pipeline.config import load_config


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A project's settings with the defaults; credentials that only moto takes."""
    sign_in(monkeypatch)
    (tmp_path / "config.yaml").write_text("train: {iterations: 1000}\n", encoding="utf-8")
    (tmp_path / "requirements-jobs.txt").touch()
    return load_config(tmp_path / "config.yaml")
