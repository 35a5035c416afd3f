"""What --list-options prints."""

import pytest

from harness.cli.list_options import print_options
from harness.config.study_config import STUDY_KEYS, TRIAL_KEYS


def listed(capsys: pytest.CaptureFixture[str]) -> str:
    """The whole list."""
    print_options()
    return capsys.readouterr().out


def test_list_options_shows_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    """--list-options has every generator, fine-tuner, dataset, sampler, scheduler, selection."""
    text = listed(capsys)
    for name in ("vae", "tip_adapter_f", "caltech101", "tpe", "asha", "pseudo_new", "wgan", "gda"):
        assert name in text


def test_list_options_shows_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    """The trial's and the study's own keys stand there with their lines and defaults."""
    text = listed(capsys)
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    keys = {*STUDY_KEYS, *TRIAL_KEYS, "cpus", "gpus", ".grace_period", "image_folder:NAME"}
    assert keys <= lines.keys()
    assert "(default 2)" in " ".join(text.split("views", 1)[1].split()[:12])
    text = " ".join(text.split())
    for words in (
        "(must be given)",
        "harmonic_mean (default), base, new",
        "Selection is base_val by default: by validation pictures of all classes.",
        "of all under few_shot: its default",
    ):
        assert words in text
