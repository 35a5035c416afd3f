"""The MATLAB reader equals SciPy's on sound files, and reports others in one line."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from ship.datasets import xlsa
from ship.datasets.xlsa import read_mat
from tests.ship.datasets.trees import cells


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Path of the MATLAB file."""
    return tmp_path / "x.mat"


def element(kind: int, content: bytes) -> bytes:
    """Return a tagged element, padded to 8 bytes."""
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(name: str, code: int, shape: tuple[int, ...], data: bytes) -> bytes:
    """Return a variable."""
    flags = element(6, struct.pack("<II", code, 0))
    sizes = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + sizes + element(1, name.encode()) + data)


def packed(variable: bytes) -> bytes:
    """Return a compressed variable."""
    content = zlib.compress(variable)
    return struct.pack("<II", 15, len(content)) + content


def write(path: Path, *variables: bytes) -> None:
    """Write a file of variables."""
    path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\0\1IM" + b"".join(variables))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_matlab_numbers_equal_scipys(path: Path, dtype: str, compressed: bool) -> None:
    """Every type of number, in a matrix that is not square."""
    savemat(
        path,
        {"other": np.ones(9), "x": np.arange(6).reshape(2, 3).astype(dtype)},
        do_compression=compressed,
    )
    result = read_mat(path, ["x"])
    assert list(result) == ["x"]
    assert np.array_equal(result["x"], loadmat(path)["x"])


@pytest.mark.parametrize("compressed", [False, True])
def test_matlab_texts_and_cells_are_read(path: Path, compressed: bool) -> None:
    """Accents, nested and empty cells, and a text of two rows."""
    values = {
        "names": cells(["a", "café", "日本", "long enough not to be small"]),
        "nested": cells([cells(["a"]), np.array([[1.0]])]),
        "none": np.empty((0, 0), dtype=object),
        "rows": np.array(["ab ", "cde"]),
        "text": "é",
        "empty": "",
    }
    savemat(path, values, do_compression=compressed)
    assert read_mat(path, values) == {
        "names": ["a", "café", "日本", "long enough not to be small"],
        "nested": ["a", ""],
        "none": [],
        "rows": ["ab ", "cde"],
        "text": ["é"],
        "empty": [],
    }


@pytest.mark.parametrize("value", [{"a": 1}, [1j]])
def test_matlab_structures_and_complex_matrices_are_rejected(path: Path, value: object) -> None:
    """They are ignored if they are not requested."""
    savemat(path, {"x": value, "y": 5})
    assert list(read_mat(path, ["y"])) == ["y"]
    with pytest.raises(ValueError, match="not a valid matrix: it contains neither numbers nor"):
        read_mat(path, ["x"])


def test_unrequested_matlab_variables_are_not_read(path: Path) -> None:
    """Damaged or huge other variables and unnamed objects do not matter."""
    opaque = element(14, element(6, struct.pack("<II", 17, 0)) + element(1, b"odd"))
    broken = matrix("features", 6, (10**6, 10**6), element(8, b"x" * 5000))
    write(path, opaque, broken, packed(broken), matrix("n", 6, (1, 1), element(2, b"\7")))
    assert read_mat(path, ["n"])["n"].tolist() == [[7]]
    assert read_mat(path, ["absent"]) == {}
    with pytest.raises(ValueError):
        read_mat(path, ["features"])


@pytest.mark.parametrize(
    "variables",
    [
        [matrix("x", 6, (2, 2), element(9, b"\0" * 24))],
        [matrix("x", 6, (2**31 - 1,) * 4, element(9, b""))],
        [matrix("x", 6, (1,) * 99, element(2, b"x"))],
        [matrix("x", 6, (-1, 1), element(9, b"\0" * 8))],
        [matrix("x", 6, (1, 1), element(99, b"\0" * 8))],
        [matrix("x", 1, (2**31 - 1, 1), b"")],
        [matrix("x", 4, (2, 2), element(16, b"abc"))],
        [struct.pack("<II", 15, 8) + b"x" * 8],
        [struct.pack("<II", 14, 2**32 - 1)],
    ],
)
def test_damaged_matlab_files_are_one_line(path: Path, variables: list[bytes]) -> None:
    """Impossible sizes and types cause one line, neither a crash nor a huge array."""
    write(path, *variables)
    with pytest.raises(ValueError) as caught:
        read_mat(path, ["x"])
    assert str(caught.value) and "\n" not in str(caught.value)


def test_deeply_nested_matlab_cells_are_rejected(path: Path) -> None:
    """They are rejected before the interpreter's stack overflows."""
    for height in (xlsa.MAX_CELL_DEPTH - 1, 20_000):
        inner = matrix("", 4, (1, 1), element(2, b"a"))
        head = matrix("", 1, (1, 1), b"")[8:]
        size = len(inner)
        parts = [inner]
        for _ in range(height):
            size += len(head)
            parts.append(struct.pack("<II", 14, size) + head)
            size += 8
        write(path, matrix("x", 1, (1, 1), b"".join(reversed(parts))))
        if height > xlsa.MAX_CELL_DEPTH:
            with pytest.raises(ValueError, match="nested too deeply"):
                read_mat(path, ["x"])
            continue
        assert read_mat(path, ["x"]) == {"x": ["a"]}


def test_decompression_bomb_is_rejected_at_the_limit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that unpacks to more than the limit is rejected."""
    write(path, packed(matrix("x", 6, (1, 10**6), element(2, b"\0" * 10**6))))
    assert read_mat(path, ["x"])["x"].shape == (1, 10**6)
    monkeypatch.setattr(xlsa, "MAX_FILE_BYTES", 10**6)
    with pytest.raises(ValueError, match="its variables have more than"):
        read_mat(path, ["x"])
