"""Options and commands that need no study: --help, --version, lists, and copies of studies."""

import re
from pathlib import Path
from unittest.mock import Mock

import pytest

import search_spaces
from harness.config import load_study
from harness.config.study_config import STUDY_KEYS, TRIAL_KEYS
from tests.case_files import load_cases
from tests.harness.cli.conftest import invoke

LISTINGS = load_cases(__file__, "listings.yaml")
LISTINGS["options"] += [*STUDY_KEYS, *TRIAL_KEYS]


@pytest.mark.parametrize("argument", LISTINGS)
def test_listings_have_all_names_with_their_meaning(argument: str) -> None:
    """The names are those that a user may write in the YAML or on the command line."""
    result = invoke(argument)
    assert result.exit_code == 0
    text = " ".join(["", *result.stdout.split()])
    assert not [entry for entry in LISTINGS[argument] if f" {entry}" not in text]


def test_a_packaged_study_is_copied_with_its_comments() -> None:
    """An existing file is never overwritten."""
    path = Path("prompt_len.yaml")
    assert invoke("copy", "prompt_len").exit_code == 0
    assert path.read_bytes() == (Path(search_spaces.__path__[0]) / path).read_bytes()
    path.write_text("mine")
    refused = invoke("copy", "prompt_len.yaml")
    assert (refused.exit_code, path.read_text()) == (2, "mine")
    message = "the file exists and was not changed. Move it, or use another folder"
    assert refused.stderr == f"prompt_len.yaml: {message}\n"


def test_an_unwritable_copy_is_one_line_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line has the file and the reason."""
    error = PermissionError(13, "not here")
    monkeypatch.setattr("harness.study_files.write_whole", Mock(side_effect=error))
    result = invoke("copy", "template")
    assert result.exit_code == 2
    assert result.stderr == "template.yaml: cannot be written: not here\n"


def test_the_template_explains_every_key_and_runs_unchanged() -> None:
    """The value of each commented key is its default."""
    assert invoke("copy", "template").exit_code == 0
    text = Path("template.yaml").read_text("utf-8")
    keys = re.findall(r"^#?(\w+):", text, re.MULTILINE)
    assert sorted(keys) == sorted([*STUDY_KEYS, *TRIAL_KEYS])
    uncommented = re.sub(r"^#(\w+:)", r"\1", text, flags=re.MULTILINE)
    Path("uncommented.yaml").write_text(uncommented, "utf-8")
    template = load_study("template.yaml")
    study = load_study("uncommented.yaml")
    assert study.model_copy(update={"source": template.source}) == template
    assert invoke("--space", "template.yaml", "--dry-run").exit_code == 0


def test_backbones_are_listed_with_size_cost_and_tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged backbone is first, and no tag is truncated.

    Only --all lists unsupported backbones, with the reason, and architectures without weights.
    """
    from tests.ship.conftest import backbones

    monkeypatch.setenv("COLUMNS", "80")
    supported, complete = invoke("backbones").stdout, invoke("backbones", "--all").stdout
    lines = [line.split() for line in supported.splitlines() if line]
    assert lines[1] == ["pocket", "256", "32", "0.1", "packaged"]
    assert ["RN50", "1024", "77", "1.0", "openai,", "yfcc15m,", "cc12m"] in lines
    words = set(supported.replace(",", " ").split())
    assert {part for name in backbones() for part in name.split(":")} <= words
    assert ["ViT-B-16-SigLIP", "768", "64", "35", "webli"] in lines
    assert "more architectures with --all" in supported
    (unsupported,) = [line for line in complete.splitlines() if line.startswith("coca_ViT-B-32 ")]
    assert "refused: its text tower" in unsupported
    unpublished = ["ViT-S-16-alt", "256", "77", "0.2", "only", "a", "checkpoint's", "path"]
    assert unpublished in [line.split() for line in complete.splitlines()]
