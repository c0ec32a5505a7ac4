"""MLflow's SQLite database on this machine: created in one step, one writer at a time, errors in one sentence.

All code that logs to MLflow calls `open_database`. MLflow takes seconds to import, so it is imported there.
"""

import fcntl
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from scarcegan.errors import UserError

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SCHEME = "sqlite:///"
PATIENCE_SECONDS = 2.0  # of waiting for the lock without a message


def tracking_uri(database: Path) -> str:
    """Return the MLflow tracking URI, sqlite:///<absolute path>, of a database file, which need not exist.

    `%` and `?` in the path are percent-quoted, because SQLAlchemy unquotes them.
    """
    return SCHEME + quote(str(database.absolute()), safe="".join(chr(c) for c in range(32, 127) if chr(c) not in "%?"))


def database_of(uri: str) -> Path:
    """Return the absolute path of the database file that an MLflow tracking URI names; the file need not exist.

    Percent-quoted characters are unquoted, and a query (`?…`) is cut off.

    Raises UserError for a URI that does not name a SQLite file.
    """
    path = unquote(uri.removeprefix(SCHEME).split("?")[0])
    if not uri.startswith(SCHEME) or not path or path == ":memory:":
        raise UserError(
            f"MLFLOW_TRACKING_URI is '{uri}', the registry on this machine needs a SQLite file. "
            "Set it to sqlite:////<folder>/mlflow.db."
        )
    return Path(path).absolute()


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """Context manager: hold the lock of a database for the length of the block, so that only one process writes to it.

    The lock is on the file <database>.lock, which is made when missing, with its folder. The call waits, without a
    limit, until no other process holds the lock, and says so on stderr after PATIENCE_SECONDS. The operating system
    releases the lock when the process dies.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{database}.lock", "a") as file:
        begun, reported = time.monotonic(), False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not reported and time.monotonic() - begun > PATIENCE_SECONDS:
                    print(f"waiting for another process that uses {database.name} …", file=sys.stderr)
                    reported = True
                time.sleep(0.02)
        yield


def open_database(uri: str) -> "MlflowClient":
    """Return an MLflow client for a tracking URI, of a SQLite file or of a server.

    A missing SQLite file is created completely or not at all; MLflow itself leaves a half-made database when killed.
    Nothing is created or checked for the URI of a server. MLflow's telemetry is turned off, and its log messages are
    silenced, for the whole process.

    Raises UserError for a SQLite file that cannot be used, and for a SQLite URI that names no file.
    """
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow.tracking import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not uri.startswith(SCHEME):
        return MlflowClient(tracking_uri=uri)
    database = database_of(uri)
    if database.exists() and not database.is_file():
        raise UserError(f"{database}: this is no file. Move it away, then run the same command again.")
    with errors_as_sentences(database):
        if not database.exists():
            with locked(database):
                create_database(database)
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_experiments(max_results=1)
    return client


def create_database(database: Path) -> None:
    """Create MLflow's tables in a temporary file and rename it to `database`, so that a kill leaves no half-made file.

    Does nothing when the file exists. The caller must hold the lock of `locked`.
    """
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


def tag_version(client: "MlflowClient", name: str, version: int, tags: Mapping[str, str], alias: str = "") -> None:
    """Set tags of a model version, and let an alias of its registered model point to it: all in one transaction.

    A kill leaves everything or nothing written. MLflow's own calls write each tag in a transaction of its own.

    - client: of a SQLite file.
    - name: of the registered model.
    - alias: "" for none.
    """
    from mlflow.store.model_registry.dbmodels.models import SqlModelVersionTag, SqlRegisteredModelAlias

    store = client._get_registry_client().store
    with store.ManagedSessionMaker(read_only=False) as session:
        workspace = store._get_sql_model_version(session, name, version).workspace
        of_version = {"workspace": workspace, "name": name, "version": version}
        for key, value in tags.items():
            session.merge(SqlModelVersionTag(**of_version, key=key, value=value))
        if alias:
            session.merge(SqlRegisteredModelAlias(**of_version, alias=alias))


def open_experiment(client: "MlflowClient", name: str, artifacts: str | None = None) -> str:
    """Return the id of the MLflow experiment called `name`. One that is missing is created; a deleted one is restored.

    Another process may create the same experiment at the same time; both get its id.

    - artifacts: URI of the folder for the files of a new experiment; None: MLflow's default. An experiment that exists
      keeps its folder.
    """
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
    """Return the folder in which MLflow stores files: mlartifacts, beside the database. It need not exist."""
    return database.parent / "mlartifacts"


@contextmanager
def errors_as_sentences(database: Path) -> Iterator[None]:
    """Context manager: turn errors of MLflow or SQLite inside the block into a UserError about the file `database`.

    Raises UserError for a full disk and a file that is locked, damaged, outdated, not accessible or no database
    (SYMPTOMS); other errors pass unchanged.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (MlflowException, DBAPIError, sqlite3.Error) as error:
        for symptom, sentence in SYMPTOMS.items():
            if symptom in str(error):
                raise UserError(f"{database}: {sentence}") from error
        raise


# Part of an error message of MLflow or SQLite -> what is wrong and what to do.
SYMPTOMS = {
    "database or disk is full": "the disk is full. Free some space, then run the same command again.",
    "disk I/O error": "the disk cannot be read or written (full, or a network folder?). Repair it, then try again.",
    "readonly database": "the file is read-only. Give your user account write access, then run the same command again.",
    "unable to open database file": "cannot be opened. Give your user account access to its folder, then try again.",
    "database is locked": "another program is using it. Close that program, then run the same command again.",
    "file is not a database": "this is not a SQLite database. Move the file away, then run the same command again.",
    "malformed": "the database is damaged. Move it away (runs and models in it are lost) or restore a copy.",
    "CREATE TABLE": "its program was killed, so it is incomplete. Move the file away, then run the same command again.",
    "out-of-date database schema": "made by an older MLflow. Copy it, then run: mlflow db upgrade 'sqlite:///<path>'.",
}
