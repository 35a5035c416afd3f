"""MATLAB files of version 5 to 7: numbers, texts and cells of the two.

scipy.io.loadmat reads them, but it crashes the interpreter on some damaged files (SciPy 1.17: a
type code outside of its table), and these files come from the web. So it runs in a process of its
own (mat_worker.py), with limits of memory and time; what comes back is arrays and JSON.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from ship.datasets.base import some

Value = np.ndarray | list["Value"] | str | None
"""A matrix of numbers, a cell array in MATLAB's order, a text, or None for anything else.

A text of several rows is a list of its rows.
"""

MEMORY: Final = 1 << 30
"""Bytes that reading may take, those of Python and SciPy (about 150 million) included."""
LARGEST: Final = 1 << 28
"""Bytes of the answer; a data set's lists are a few million."""
SECONDS: Final = 120.0
"""That reading may take; it takes one."""

_WORKER: Final = Path(__file__).with_name("mat_worker.py")
_REFUSED: Final = 3  # mat_worker.REFUSED
_HEADER: Final = 128


class MatError(ValueError):
    """A file that cannot be read; the message says why, without the file's name."""


def read_mat(path: Path, wanted: Collection[str]) -> dict[str, Value]:
    """Read the named variables; others are passed over unread, and absent ones are absent.

    Raises:
        MatError: the file is not sound as far as it was looked at, or reading it takes too much.
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file, tempfile.TemporaryFile() as answer:
        _check_header(file.read(_HEADER))
        file.seek(0)
        _ask(file, answer, wanted)
        answer.seek(0)
        try:
            with np.load(answer, allow_pickle=False) as arrays:
                said = json.loads(arrays["values"].tobytes())
                return {name: _value(said[name], arrays) for name in wanted if name in said}
        except Exception as why:  # of a process that was led astray, whatever it may have written
            raise MatError("its reader gave no answer") from why


def _check_header(header: bytes) -> None:
    orders = {b"IM": "little", b"MI": "big"}
    if len(header) < _HEADER or header[126:] not in orders:
        raise MatError("it has no such header")
    version = int.from_bytes(header[124:126], "little" if header[126:] == b"IM" else "big")
    if version != 0x0100:
        raise MatError("it is of version 7.3 (HDF5)" if version == 0x0200 else "unknown version")


def _ask(file: BinaryIO, answer: BinaryIO, wanted: Collection[str]) -> None:
    """Have the worker write its answer."""
    # -P: the worker's folder has modules whose names others may import
    command = [sys.executable, "-P", str(_WORKER), str(MEMORY), str(LARGEST), *wanted]
    try:
        status, said = _run(command, file, answer)
    except subprocess.TimeoutExpired as why:
        raise MatError(f"reading it takes more than {SECONDS:g} s") from why
    if status == _REFUSED:
        raise MatError(some(said.decode("utf-8", "replace").splitlines()[-1:]))
    if status:
        raise MatError(f"its reader ended with {_status(status)}")


def _run(command: Sequence[str], file: BinaryIO, answer: BinaryIO) -> tuple[int, bytes]:
    """Exit status, or the negative number of a signal, and stderr."""
    # each thread of a matrix library would take addresses of its own
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        stdin=file,
        stdout=answer,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stderr


def _status(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"status {code}"
    except ValueError:
        return f"signal {-code}"


def _value(said: Any, arrays: Mapping[str, Any]) -> Value:
    if isinstance(said, dict):
        found = arrays[str(said["array"])]
        return found if isinstance(found, np.ndarray) and found.dtype.kind in "iuf" else None
    if isinstance(said, list):
        return [_value(cell, arrays) for cell in said]
    return said if isinstance(said, str) else None
