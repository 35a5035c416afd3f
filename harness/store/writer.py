"""What a study writes through: MLflow's client, or an outbox that keeps writes while it is away."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from harness.store.datasets import Dataset

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

T = TypeVar("T")


class Writer(Protocol):
    """The calls of MlflowClient that change a run."""

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Any] = (),
        params: Sequence[Any] = (),
        tags: Sequence[Any] = (),
    ) -> Any:
        """Write metrics, params and tags of a run in one request.

        Args:
            run_id: of the run.
            metrics, params, tags: MLflow's entities Metric, Param and RunTag; a request holds no
                more of them than MLflow accepts (see harness.store.batches).
        """

    def set_terminated(self, run_id: str, status: str) -> None:
        """End a run now, with MLflow's own status."""

    def update_run(self, run_id: str, status: str) -> None:
        """Set MLflow's own status of a run."""

    def delete_tag(self, run_id: str, key: str) -> None:
        """Remove a tag from a run."""


class WaitingWriter(Writer, Protocol):
    """A writer whose calls return before the store has them, while the store is away."""

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
        """Make a run that begins now.

        Args:
            experiment_id: of the study.
            name: of the run, as MLflow shows it.
            tags: name -> text.

        Returns:
            The store's id of the run or, while the store is away, one that stands for it: see
            stored_id.
        """

    def log_file(self, run_id: str, name: str, content: bytes) -> None:
        """Keep a file among a run's artifacts; a store that refuses files does without it.

        Args:
            run_id: of the run.
            name: of the file.
            content: of the file.
        """

    def log_files(self, run_id: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Keep files in a folder among a run's artifacts, as log_file does.

        Args:
            run_id: of the run.
            folder: among the artifacts.
            files: name -> content.
        """

    def log_datasets(self, run_id: str, datasets: Sequence[Dataset]) -> None:
        """Name the datasets that a run reads.

        Args:
            run_id: of the run.
            datasets: that it reads.
        """

    def stored_id(self, run_id: str) -> str:
        """The store's id of a run, which is waited for."""

    def read(self, ask: Callable[["MlflowClient"], T]) -> T:
        """Ask the store something, once it has everything that was written."""

    def hurry(self) -> None:
        """Wait no longer than seconds from now on."""
