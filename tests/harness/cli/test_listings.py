"""Output without a study: --help, --version, and the lists."""

import re
from pathlib import Path
from unittest.mock import Mock

import pytest

import search_spaces
from harness.config import load_study
from harness.config.study_config import STUDY_KEYS, TRIAL_KEYS
from tests.case_files import load_cases
from tests.harness.cli.conftest import invoke

LISTED = load_cases(__file__, "listings.yaml")
LISTED["options"] += [*STUDY_KEYS, *TRIAL_KEYS]


@pytest.mark.parametrize("option", LISTED)
def test_listings_have_all_names_with_their_meaning(option: str) -> None:
    """They include all names that a user may write."""
    result = invoke(option)
    assert result.exit_code == 0
    text = " ".join(["", *result.stdout.split()])
    assert not [entry for entry in LISTED[option] if f" {entry}" not in text]


def test_a_packaged_study_is_copied_with_its_comments() -> None:
    """An existing file is never overwritten."""
    path = Path("prompt_len.yaml")
    assert invoke("copy", "prompt_len").exit_code == 0
    assert path.read_bytes() == (Path(search_spaces.__path__[0]) / path).read_bytes()
    path.write_text("mine")
    again = invoke("copy", "prompt_len.yaml")
    assert (again.exit_code, path.read_text()) == (2, "mine")
    assert (
        again.stderr
        == "prompt_len.yaml: the file exists and was not changed. Move it, or use another folder\n"
    )


def test_a_copy_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the file and the reason."""
    error = PermissionError(13, "not here")
    monkeypatch.setattr("harness.study_files.write_whole", Mock(side_effect=error))
    result = invoke("copy", "template")
    assert result.exit_code == 2
    assert result.stderr == "template.yaml: cannot be written: not here\n"


def test_the_template_explains_every_key_and_runs_as_it_is() -> None:
    """The value of a commented key is its default."""
    assert invoke("copy", "template").exit_code == 0
    text = Path("template.yaml").read_text("utf-8")
    keys = re.findall(r"^#?(\w+):", text, re.MULTILINE)
    assert sorted(keys) == sorted([*STUDY_KEYS, *TRIAL_KEYS])
    whole = re.sub(r"^#(\w+:)", r"\1", text, flags=re.MULTILINE)
    Path("whole.yaml").write_text(whole, "utf-8")
    template = load_study("template.yaml")
    assert load_study("whole.yaml").model_copy(update={"source": template.source}) == template
    assert invoke("--space", "template.yaml", "--dry-run").exit_code == 0


def test_backbones_are_listed_with_size_cost_and_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged backbone is first, and no tag is cut off.

    Unsupported backbones are counted, and listed with the reason on demand, as are architectures
    without weights.
    """
    from tests.ship.conftest import backbones

    monkeypatch.setenv("COLUMNS", "80")
    usual, every = invoke("backbones").stdout, invoke("backbones", "--all").stdout
    lines = [line.split() for line in usual.splitlines() if line]
    assert lines[1] == ["pocket", "256", "32", "0.1", "packaged"]
    assert ["RN50", "1024", "77", "1.0", "openai,", "yfcc15m,", "cc12m"] in lines
    assert {part for name in backbones() for part in name.split(":")} <= set(
        usual.replace(",", " ").split()
    )
    assert ["ViT-B-16-SigLIP", "768", "64", "35", "webli"] in lines
    assert "more architectures with --all" in usual
    (refused,) = [line for line in every.splitlines() if line.startswith("coca_ViT-B-32 ")]
    assert "refused: its text tower" in refused
    unpublished = ["ViT-S-16-alt", "256", "77", "0.2", "only", "a", "checkpoint's", "path"]
    assert unpublished in [line.split() for line in every.splitlines()]
