"""ship-data from outside: what it lists and checks, and how it refuses."""

import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.data import cli as data_cli
from harness.data.download import SOURCES
from ship.datasets import DATASETS, PACKAGED
from tests.patterns import matching
from tests.ship.datasets.test_fault_cases import spoil
from tests.ship.datasets.trees import LAYOUTS
from tests.told import told


def invoke(*args: str) -> Any:
    """Run the command in this process."""
    return CliRunner().invoke(data_cli.app, list(args))


def test_list_names_every_dataset_and_how_to_get_it() -> None:
    """Without a data root: names, published counts, folders and sources."""
    result = invoke("list")
    assert result.exit_code == 0
    for name in DATASETS:
        assert name in result.stdout
    assert "4128/1649/2465" in result.stdout
    for name, source in SOURCES.items():
        assert (f"{name}: {source.how}" in result.stdout) == (name not in PACKAGED)


def test_list_tells_present_missing_and_faulty_apart(tmp_path: Path) -> None:
    """A sound folder, one that is not there, and one with two faults."""
    LAYOUTS["awa2"](tmp_path)
    LAYOUTS["caltech101"](tmp_path)
    for path in ("train0.jpg", "train1.jpg"):
        (tmp_path / "caltech-101/101_ObjectCategories/café" / path).write_bytes(b"")
    (tmp_path / "caltech-101/101_ObjectCategories/café/test0.jpg").unlink()
    lines = invoke("list", "--data-root", str(tmp_path)).stdout.splitlines()
    cells = [line.split() for line in lines[: lines.index("faulty")]]
    state = {row[0]: row[3] for row in cells if row and row[0] in DATASETS}
    for name in ("emoji", "photos", "awa2"):
        assert state.pop(name) == "present"
    assert state.pop("caltech101") == "faulty"
    assert set(state.values()) == {"missing"}
    (fault,) = [line for line in lines if line.startswith("caltech101: ")]
    assert "1 missing picture: café/test0.jpg" in fault
    assert fault.endswith("(2 in all)")
    assert not any(line.startswith("awa2: ") for line in lines)


@pytest.mark.parametrize("case", told(__file__, "checks.yaml"), ids=lambda case: case["case"])
def test_check_says_all_at_once(tmp_path: Path, case: dict[str, Any]) -> None:
    """Each fault and each warning is a line on stderr; only faults change the exit code."""
    LAYOUTS[case["tree"]](tmp_path)
    spoil(tmp_path, case.get("spoil", {}))
    options = ["--data-root", str(tmp_path), *case.get("options", [])]
    result = invoke("check", case["tree"], *options)
    assert result.exit_code == (2 if "faults" in case["stdout"][-1] else 0)
    for stream in ("stderr", "stdout"):
        lines = getattr(result, stream).replace(str(tmp_path), "ROOT").splitlines()
        assert matching(lines, case.get(stream, []))


@pytest.mark.parametrize("name", LAYOUTS)
def test_check_decodes_every_layout(tmp_path: Path, name: str) -> None:
    """A truncated picture is found in each of them, and nothing else but the counts."""
    LAYOUTS[name](tmp_path)
    suffixes = {".jpg", ".JPEG"}
    path = min(path for path in tmp_path.rglob("*") if path.suffix in suffixes)
    path.write_bytes(path.read_bytes()[:400])
    result = invoke("check", name, "--data-root", str(tmp_path))
    assert result.exit_code == 2
    assert "1 undecodable picture: " in result.stderr
    others = [line for line in result.stderr.splitlines() if "undecodable" not in line]
    assert all(line.startswith("warning: ") and "published" in line for line in others)


@pytest.mark.data
def test_caltech101_as_published() -> None:
    """The real folder is sound in every respect: 8242 pictures decode."""
    if "SHIP_DATA_ROOT" not in os.environ:
        pytest.skip("SHIP_DATA_ROOT is not set")
    result = invoke("check", "caltech101", "--data-root", os.environ["SHIP_DATA_ROOT"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "4128/1649/2465" in result.stdout
    assert result.stdout.endswith("8242 pictures decoded: sound\n")
