"""Where a study's MLflow runs go, and the client that writes them there."""

from __future__ import annotations

import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from mlflow.tracking import MlflowClient

from workers.storage import Storage

EXPERIMENT = "paretoray"


@dataclass(frozen=True)
class Target:
    """Where runs go: a tracking server or database, and the folder for artifacts.

    The server of an http(s) address knows its own artifact folder: it is None then.
    """

    uri: str
    artifacts: str | None


def locate(directory: str, uri: str | None = None) -> Target:
    """Return the tracking target of a study's directory.

    Raises:
        ValueError: the directory is in an object store and no server is named.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    folder = Storage(directory).local_path()
    if uri is None:
        if folder is None:
            raise ValueError(f"{directory} is in an object store; set MLFLOW_TRACKING_URI")
        uri = f"sqlite:///{folder.parent}/mlflow.db"
    if "://" in uri and not uri.startswith("sqlite:///"):
        return Target(uri, None)
    database = Path(uri.removeprefix("sqlite:///")).absolute()
    return Target(uri, (database.parent / "mlartifacts").as_uri())


def reach(uri: str) -> None:
    """Make sure that a server answers.

    Raises:
        ConnectionError: it does not.
    """
    # MLflow's own client retries an absent server for minutes.
    if uri.startswith(("http://", "https://")):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answered; whether it lets us in is for MLflow to find out
        except (OSError, ValueError) as error:
            raise ConnectionError(f"{uri} does not answer: {error}") from error


def client_of(target: Target) -> MlflowClient:
    """Return a client that does not chatter."""
    # It tells of every table that it creates.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=target.uri)


def experiment_of(client: MlflowClient, target: Target) -> str:
    """Return the id of the experiment that holds all studies; it is made where it is absent."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    return client.create_experiment(EXPERIMENT, artifact_location=target.artifacts)
