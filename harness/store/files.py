"""Files among a run's artifacts."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from harness.scratch import scratch

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient


def keep_file(client: "MlflowClient", run_id: str, name: str, content: bytes) -> None:
    """Keep a file among a run's artifacts; one of that name is replaced.

    Args:
        client: of the store.
        run_id: of the run, as the client knows it.
        name: of the file; it may lie in a folder, as in "trained/seed_0.safetensors".
        content: of the file.
    """
    place = PurePosixPath(name)
    inside = () if len(place.parts) == 1 else (str(place.parent),)
    with scratch() as folder:
        path = folder / place.name
        path.write_bytes(content)
        client.log_artifact(run_id, str(path), *inside)


def keep_files(
    client: "MlflowClient", run_id: str, folder: str, files: Mapping[str, bytes]
) -> None:
    """Keep files in a folder among a run's artifacts; those of their names are replaced.

    Args:
        client: of the store.
        run_id: of the run, as the client knows it.
        folder: among the artifacts.
        files: name -> content.
    """
    with scratch() as place:
        for name, content in files.items():
            (place / name).write_bytes(content)
        client.log_artifacts(run_id, str(place), folder)
