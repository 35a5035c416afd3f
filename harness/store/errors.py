"""What goes wrong with an MLflow store, as one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError
from harness.wording import one_line
from reports.contract import SQLITE, redacted


class StoreError(UserError):
    """The MLflow store cannot be used; one line that names it, without secrets, and says why."""

    def __init__(self, line: str) -> None:
        super().__init__(redacted(line))


class StoreAway(StoreError):
    """The store does not answer; writes may wait on disk for the next run of the study."""


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow and its database raise into one StoreError line."""
    try:
        yield
    except (UserError, KeyboardInterrupt):
        raise
    except Exception as error:
        # MLflow raises its own, sqlalchemy's, requests' and alembic's
        why = one_line(error)
        path = Path(uri.removeprefix(SQLITE))
        if uri.startswith(SQLITE) and not path.exists():
            # sqlite says that it may not write, as nobody would find what it wrote
            why = f"{path} was deleted or moved away while it was in use"
        raise StoreError(f"{uri}: the MLflow store failed: {why}") from error
