"""MLflow's database on this machine: created whole, one writer at a time, its complaints in one sentence.

Everybody who logs to MLflow comes through `open_database`. MLflow takes seconds to import, so it is imported there.
"""

import fcntl
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from scarcegan.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SCHEME = "sqlite:///"
PATIENCE_SECONDS = 2.0


def tracking_uri(database: Path) -> str:
    """The tracking URI of a database file. SQLAlchemy unquotes it, so `%` and `?` in a path must be quoted."""
    return SCHEME + quote(str(database.absolute()), safe="".join(chr(c) for c in range(32, 127) if chr(c) not in "%?"))


def database_of(uri: str) -> Path:
    """The database file behind a tracking URI; UserError for one that is no SQLite file."""
    path = unquote(uri.removeprefix(SCHEME).split("?")[0])
    if not uri.startswith(SCHEME) or not path or path == ":memory:":
        raise UserError(
            f"MLFLOW_TRACKING_URI is '{uri}', the local registry needs a SQLite file. Set it to sqlite:////<folder>/mlflow.db."
        )
    return Path(path).absolute()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Hold the lock beside the database; the operating system lets go of it when the process dies."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{database}.lock", "a") as file:
        begun, told = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told and time.monotonic() - begun > PATIENCE_SECONDS:
                    print(f"waiting for another process that uses {database.name} …", file=sys.stderr)
                    told = True
                time.sleep(0.02)
        yield


def open_database(uri: str) -> "MlflowClient":
    """MLflow at a tracking URI. Whoever logs goes through here: MLflow itself leaves half a database when killed.

    A SQLite file is created whole or not at all; a server, which keeps its own database, is taken as it is.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not uri.startswith(SCHEME):
        return MlflowClient(tracking_uri=uri)
    database = database_of(uri)
    with spoken(database):
        if not database.exists():
            with locked(database):
                create_database(database)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def create_database(database: Path) -> None:
    """Build the tables in a file of another name and move it into place: a kill leaves no half-made database."""
    if database.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    unfinished = database.with_name(f".{database.name}.unfinished")
    journal = Path(f"{unfinished}-journal")  # a killed process may have left both
    for path in (unfinished, journal):
        path.unlink(missing_ok=True)
    try:
        SqlAlchemyStore(tracking_uri(unfinished), artifacts_folder(database).as_uri())._dispose_engine()
        os.replace(unfinished, database)
    finally:
        for path in (unfinished, journal):
            path.unlink(missing_ok=True)


def open_experiment(client: "MlflowClient", name: str, artifacts: str | None = None) -> str:
    """The id of an experiment, created or restored if need be, also while another process does the same."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifacts)
        except MlflowException as error:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise error
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def artifacts_folder(database: Path) -> Path:
    return database.parent / "mlartifacts"


@contextmanager
def spoken(database: Path) -> Iterator[None]:
    """Turn what MLflow and SQLite say about a full disk, a locked, foreign or outdated file into one sentence."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (MlflowException, DBAPIError, sqlite3.Error) as error:
        for symptom, words in SYMPTOMS.items():
            if symptom in str(error):
                raise UserError(f"{database}: {words}") from error
        raise


SYMPTOMS = {
    "database or disk is full": "the disk is full. Free some space, then run the same command again.",
    "disk I/O error": "the disk cannot be read or written (full, or a network folder?). Mend it, then try again.",
    "readonly database": "the file may not be written. Give yourself the right to it, then run the same command again.",
    "unable to open database file": "cannot be opened. Give yourself the right to its folder, then try again.",
    "database is locked": "another program holds it. Close that program, then run the same command again.",
    "file is not a database": "this is no SQLite database. Move the file away, then run the same command again.",
    "malformed": "the database is damaged. Move it away (runs and models in it are lost) or restore a copy.",
    "CREATE TABLE": "a killed program left it half-made. Move the file away, then run the same command again.",
    "out-of-date database schema": "made by an older MLflow. Copy it, then run: mlflow db upgrade 'sqlite:///<path>'.",
}
