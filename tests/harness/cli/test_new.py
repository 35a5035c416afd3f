"""ship-sweep --new: answers are checked one by one, and become a study's YAML."""

from pathlib import Path

import pytest

from harness.cli import main
from harness.config import load_study
from tests.harness.cli.conftest import invoke


def test_new_asks_again_and_writes_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is told in words; what is there stays; Enter takes what is suggested."""
    monkeypatch.setattr(main, "_somebody_is_there", lambda: True)
    Path("generator_latent_dim_emoji.yaml").write_text("mine")
    answers = ["moji", "emoji", "", "coop", "depth", "latent size", "0", "3"]
    result = invoke("--new", input="\n".join([*answers, ""]))
    assert result.exit_code == 0, result.output
    for told in (
        "dataset must be a dataset, got 'moji'",
        "got 'depth'",
        "seeds must be ",
    ):
        assert told in result.stdout
    assert "ship-sweep --space generator_latent_dim_emoji-1.yaml --dry-run" in result.stdout
    assert Path("generator_latent_dim_emoji.yaml").read_text() == "mine"
    study = load_study("generator_latent_dim_emoji-1.yaml")
    assert (study.trial.dataset, study.trial.finetuner.name, len(study.seeds)) == (
        "emoji", "coop", 3
    )  # fmt: skip
    assert study.space["generator.latent_dim"].baseline == 128


def test_new_needs_a_terminal() -> None:
    """A batch job would wait for answers without end."""
    result = invoke("--new")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "--new asks questions, which needs a terminal\n"
