"""Mistakes of a command line: each is one line on stderr, all at once, and the exit code is 2."""

from pathlib import Path

import pytest
import torch

from harness.cli.address import address_fault
from harness.resources import why_no_gpu
from tests.harness.cli.conftest import invoke

SPACE = ("--space", "prompt_len")
PLUGINS = ("--plugin", "broken.py", "--plugin", "absent.py", "--plugin", "empty.py")
UNUSABLE = [
    "--plugin: file broken.py cannot be imported: ZeroDivisionError: division by zero",
    "--plugin: file absent.py: cannot be read: No such file or directory",
    "--plugin: file empty.py: has no plugin at its top level",
]


@pytest.mark.usefixtures("own_tables")
@pytest.mark.parametrize(
    ("args", "lines"),
    [
        ((), ["--space must be given: a YAML file or a packaged space (choices: cross_dataset, "]),
        (("--address", "there"),
         ["--space must be given", "--address must be local, auto or HOST:PORT, got 'there'"]),
        (("--space", "x", "--address", "a b", "--storage", "foo://me:geheim@host/x"),
         ["--address must be local", "--storage must be a folder or begin with one of"]),
        (("--space", "promt_len"),
         ["the study must be a YAML file or a packaged space, got 'promt_len' (did you mean pro"]),
        ((*SPACE, "--set", "sed=1", "--set", "shots=0"),
         ["--set: sed must be a known key", "--set: shots must be >= 1, got 0"]),
        ((*SPACE, "--set", "dataset=caltech101", "--data-root", "absent"),
         ["--set: dataset must be readable: "]),
        ((*SPACE, "--max-seeds", "9"), ["--max-seeds must come with --detect"]),
        ((*SPACE, "--path", "--detect", "1"), ["--path must come without --detect"]),
        ((*SPACE, "--detect", "1", "--dry-run", "--set", "seeds=1"),
         ["--detect needs seeds to be at least"]),
        ((*SPACE, "--prefetch", "all", "--dry-run", "--address", "auto"),
         ["--prefetch must be one of the choices, got 'all' (choices: downloads, features)",
          "--prefetch must come without --address", "--prefetch must come without --dry-run"]),
        ((*SPACE, *PLUGINS), UNUSABLE),
        (("--list-options", *PLUGINS), UNUSABLE),
        (("--deploy", "slrum"), ["--deploy must be one of the choices, got 'slrum' (choices: slu"]),
        pytest.param(
            (*SPACE, "--set", "resources.gpus=0.5"),
            [f"resources.gpus is 0.5, but torch cannot use a GPU here: {why_no_gpu()}"],
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)  # fmt: skip
def test_mistakes_exit_2_with_one_line_each(args: tuple[str, ...], lines: list[str]) -> None:
    """Every mistake of the command line and the YAML is its own line on stderr."""
    Path("broken.py").write_text("1 / 0")
    Path("empty.py").touch()
    result = invoke(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    found = result.stderr.splitlines()
    assert len(found) == len(lines), found
    for line, start in zip(found, lines, strict=True):
        assert line.startswith(start)
    assert "geheim" not in result.stderr


@pytest.mark.parametrize("address", ["local", "auto", "head:6379", "10.0.0.1:20003"])
def test_addresses_that_can_be_meant(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine, a cluster that Ray finds, and a cluster by name."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_fault(address) is None


@pytest.mark.parametrize("address", ["ray://head:10001", "ray://", "auto"])
def test_ray_client_is_refused_and_the_line_says_what_to_do(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given as --address or by RAY_ADDRESS, it exits with 2 before anything is started."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    result = invoke(*SPACE, "--address", address)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("--address must not be Ray Client's")
    assert "--address auto on a node" in line and "`ray job submit`" in line and "ray://" in line
