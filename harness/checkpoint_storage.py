"""Where checkpoints lie: a folder that all nodes see, or a bucket (pyarrow's filesystems)."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError
from harness.wording import one_line
from reports.contract import redacted

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs")
# Where an object appears whole or not at all; elsewhere a file is renamed into its place.
WHOLE = ("s3", "gcs", "abfs")
SUFFIX = ".safetensors"


class StorageError(UserError):
    """The storage cannot be used; one line that names it and says why."""

    def __init__(self, line: str) -> None:
        super().__init__(redacted(line))


def storage_fault(given: str | None) -> str | None:
    """What is wrong with --storage, or with $SHIP_SWEEP_STORAGE in its absence."""
    named = _named(given)
    scheme, colon, rest = named.partition(":")
    if not colon or rest.startswith("//") == (scheme in SCHEMES):
        return None  # a URI, or a path
    source = "--storage" if given else "SHIP_SWEEP_STORAGE"
    begins = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    return f"{source} must be a folder or begin with one of {begins}, got {named!r}"


def storage_uri(given: str | None, cache_dir: Path) -> str:
    """An absolute URI or path: as given, else $SHIP_SWEEP_STORAGE, else in the cache folder.

    Raises:
        StorageError: a scheme that pyarrow has no filesystem for.
    """
    fault = storage_fault(given)
    if fault:
        raise StorageError(fault)
    named = _named(given)
    if not named:
        return str((cache_dir / "checkpoints").absolute())
    if "://" not in named:
        return str(Path(named).absolute())
    return named


def _named(given: str | None) -> str:
    return given or os.environ.get("SHIP_SWEEP_STORAGE") or ""


@dataclass(frozen=True)
class Storage:
    """Named files of one study under a URI; travels to workers as it is.

    Every method may raise OSError, and pyarrow's ArrowException.

    uri: a path, or what pyarrow.fs.FileSystem.from_uri understands.
    folder: the study's own, beneath it.
    """

    uri: str
    folder: str

    def _place(self) -> tuple["FileSystem", str]:
        from pyarrow.fs import FileSystem

        system, root = FileSystem.from_uri(self.uri)
        return system, f"{root.rstrip('/')}/{self.folder}"

    def check(self) -> None:
        """Write a small file and remove it.

        Raises:
            StorageError: that does not work.
        """
        name = f"check-{os.getpid()}-{time.time_ns()}"
        try:
            self.write(name, b"ship-sweep")
            self.delete(name)
        except Exception as error:  # OSError, and what pyarrow says of a URI that it cannot use
            raise StorageError(
                f"storage {self.uri}: cannot write checkpoints there: {one_line(error)} (--storage "
                f"or SHIP_SWEEP_STORAGE names another place; checkpoint_every: null does without)"
            ) from error

    def read(self, name: str) -> bytes | None:
        """A file's content; None if there is none."""
        system, folder = self._place()
        try:
            with system.open_input_file(f"{folder}/{name}{SUFFIX}") as file:
                data: bytes = file.read()
        except FileNotFoundError:
            return None
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place, whole; who is killed meanwhile leaves the one from before."""
        system, folder = self._place()
        path = f"{folder}/{name}{SUFFIX}"
        if system.type_name in WHOLE:
            with system.open_output_stream(path) as stream:
                stream.write(data)
            return
        system.create_dir(folder, recursive=True)
        # one name a file, not one a writer: nothing piles up, and a trial has one worker
        with system.open_output_stream(f"{path}.part") as stream:
            stream.write(data)
        system.move(f"{path}.part", path)

    def delete(self, name: str) -> None:
        """Remove a file, if there is one, and what a killed writer left beside it."""
        system, folder = self._place()
        for path in (f"{folder}/{name}{SUFFIX}", f"{folder}/{name}{SUFFIX}.part"):
            try:
                system.delete_file(path)
            except FileNotFoundError:
                continue

    def clear(self) -> None:
        """Remove all of the study's files."""
        system, folder = self._place()
        system.delete_dir_contents(folder, missing_dir_ok=True)
