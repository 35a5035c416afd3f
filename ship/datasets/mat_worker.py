"""Reads a MATLAB file with SciPy: a program of its own, which a damaged file may crash.

    python mat_worker.py MEMORY BYTES NAME... < FILE > ANSWER

It is run by ship.datasets.mat_file, by its path, so that it imports nothing of ship. The answer is
an .npz: the numbers as arrays, and "values", JSON that says what each variable is.
"""

import json
import resource
import sys
from typing import Any, BinaryIO, Final

import numpy as np

REFUSED: Final = 3
"""Exit status where stderr's one line says why the file is not read."""


def main(memory: str, size: str, *names: str) -> None:
    """Answer on stdout.

    Args:
        memory: bytes that the process may take, its program included.
        size: bytes that the answer may have.
        names: of the variables that are wanted; absent ones are left out.
    """
    for limit, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, size)):
        resource.setrlimit(limit, (int(most), int(most)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        arrays = read(sys.stdin.buffer, names)
        if sum(array.nbytes for array in arrays.values()) > int(size) // 2:
            raise ValueError("its variables are too large")
        np.savez(sys.stdout.buffer, allow_pickle=False, **arrays)
    except MemoryError:
        _refuse("its variables take too much memory")
    except Exception as why:  # SciPy raises many kinds for what it cannot read
        _refuse(str(why) or type(why).__name__)


def read(file: BinaryIO, names: tuple[str, ...]) -> dict[str, Any]:
    """The answer's arrays: "values" and those that it refers to by their numbers."""
    from scipy.io import loadmat

    file.seek(126)
    # SciPy would take MATLAB's characters of 16 bits for UTF-8
    codec = {b"IM": "utf-16-le", b"MI": "utf-16-be"}[file.read(2)]
    file.seek(0)
    found = loadmat(file, variable_names=names, uint16_codec=codec)
    arrays: list[Any] = []
    said = json.dumps({name: _plain(found[name], arrays) for name in names if name in found})
    values = np.frombuffer(said.encode(), dtype=np.uint8)
    return {"values": values, **{str(place): array for place, array in enumerate(arrays)}}


def _plain(value: Any, arrays: list[Any]) -> Any:
    """A text, a list of the same, {"array": its number}, or None for anything else."""
    if type(value) is not np.ndarray:
        return None
    if value.dtype.kind == "O":  # a cell array, in MATLAB's order
        return [_plain(cell, arrays) for cell in value.ravel(order="F")]
    if value.dtype.kind == "U" and value.ndim <= 1:  # the rows of a text
        rows = [str(row) for row in value.ravel()]
        return rows if len(rows) > 1 else "".join(rows)
    if value.dtype.kind in "iuf":
        arrays.append(value)
        return {"array": len(arrays) - 1}
    return None


def _refuse(why: str) -> None:
    sys.stderr.write(" ".join(why.split()))
    sys.exit(REFUSED)


if __name__ == "__main__":
    main(*sys.argv[1:])
