"""The datasets that a run has read, as MLflow lists them."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MAX_DIGEST = 36  # characters that MLflow takes


class Dataset(NamedTuple):
    """A dataset that a run reads.

    fingerprint: of its content; MLflow gets as much of it as it takes.
    use: what for, "training" or "test".
    """

    name: str
    fingerprint: str
    use: str


def log_datasets(client: "MlflowClient", run_id: str, datasets: Sequence[Dataset]) -> None:
    """Name datasets among a run's inputs; one that is there is not added again.

    Args:
        client: of the store.
        run_id: of the run, as the client knows it.
        datasets: that the run reads.
    """
    from mlflow.entities import Dataset as Entity
    from mlflow.entities import DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Entity(name, fingerprint[:MAX_DIGEST], "local", json.dumps({"uri": name})),
            [InputTag("mlflow.data.context", use)],
        )
        for name, fingerprint, use in datasets
    ]
    client.log_inputs(run_id, inputs)
