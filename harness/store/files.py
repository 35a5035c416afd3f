"""Files among a run's artifacts."""

import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

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
    with tempfile.TemporaryDirectory(prefix="ship-sweep-") as folder:
        path = Path(folder) / place.name
        path.write_bytes(content)
        client.log_artifact(run_id, str(path), *inside)
