"""Changes of a study that wait for a store that is away: a file of JSON, a line each.

The file belongs to one driver, and is there as long as something waits. A last line without its end
is of a driver that was killed while it wrote it. What was sent from a file goes with the whole of
it: sent once more, it changes nothing (changes.py).
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from harness.store.changes import Changes
from harness.store.errors import StoreError
from reports.contract import store_key

FOLDER = "outbox"
# Bytes of a line at most: JSON makes a file's MOST_BYTES a third longer, and a batch of the longest
# tags and params that MLflow takes has 17 MB.
LONGEST = 64 * 2**20


def waiting_file(cache_dir: Path, uri: str, study: str, experiment_id: str, driver: str) -> Path:
    """Where the changes of a driver wait: of one that was replaced, nobody asks for them again.

    Args:
        cache_dir: holds the folder of such files.
        uri: of the store that the changes are for.
        study: name of the experiment.
        experiment_id: its id: a store that was made anew has another one.
        driver: token of the driver.
    """
    said = f"{store_key(uri)}\n{experiment_id}\n{driver}"
    digest = hashlib.blake2b(said.encode(), digest_size=12).hexdigest()
    return cache_dir / FOLDER / f"{study}-{digest}.jsonl"


class Pending:
    """What waits of one study, oldest first.

    path: of the file that it is in. waiting: the changes in it.
    """

    def __init__(self, own: Path, left: Path) -> None:
        """Load what the study's last driver left.

        Args:
            own: file of this driver, which is made if need be.
            left: file of the driver that has last changed a run of the study.

        Raises:
            StoreError: the file cannot be read, or a line is damaged; nothing was changed.
        """
        self._own = own
        self.path = left if left.exists() else own
        self.waiting: deque[Changes] = deque()
        self._end = 0  # of the last whole line
        with _usable(self.path):
            if self.path.exists():
                self._load()
        if not self.waiting:  # nor a whole line in it: what is added is this driver's
            self.path, self._end = own, 0

    def _load(self) -> None:
        with self.path.open("rb") as file:
            while (line := file.readline(LONGEST)).endswith(b"\n"):
                self.waiting.append(Changes.model_validate_json(line))
                self._end = file.tell()

    def append(self, changes: Changes) -> None:
        """Add changes; they are on disk when this returns.

        Raises:
            StoreError: they cannot be written, and what waited before them still does.
        """
        line = changes.model_dump_json().encode() + b"\n"
        with _usable(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.seek(self._end)
                file.truncate()
                file.write(line)
                file.flush()
                os.fsync(handle)
        self._end += len(line)
        self.waiting.append(changes)

    def done(self) -> None:
        """The oldest changes have reached the store.

        Raises:
            StoreError: the file cannot be removed, as it is where nothing waits any more.
        """
        if len(self.waiting) == 1:
            with _usable(self.path):
                self.path.unlink()
            self.path, self._end = self._own, 0
        self.waiting.popleft()


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    """Turn what goes wrong with the file into one line that names it.

    Raises:
        StoreError: it cannot be used, or is damaged.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot be used: {error.strerror}") from error
    except ValidationError as error:
        raise StoreError(
            f"{path}: is damaged ({error.errors()[0]['msg']}); it was left as it is: repair it, or "
            f"move it away to go on without what waits in it"
        ) from error
