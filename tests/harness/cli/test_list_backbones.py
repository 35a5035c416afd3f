"""What --list-backbones prints."""

import pytest

from harness.cli.list_backbones import print_backbones


def printed(capsys: pytest.CaptureFixture[str], every: bool = False) -> str:
    """The list as it stands in a narrow terminal."""
    print_backbones(every)
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_rows_have_sizes_and_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """Name, feature size, text width, context length and tags, the packaged backbone first."""
    lines = [line.split() for line in printed(capsys).splitlines() if line]
    assert lines[1] == ["pocket", "256", "192", "32", "packaged"]
    assert ["RN50", "1024", "512", "77", "openai,", "yfcc15m,", "cc12m"] in lines
    assert ["PE-Core-B-16", "1024", "1024", "32", "meta"] in lines


def test_no_tag_is_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    """Every name and tag can be copied from a terminal of 80 columns."""
    from ship.clip.frozen_clip import list_backbones

    words = printed(capsys).replace(",", " ").split()
    for name in list_backbones():
        for part in name.split(":"):
            assert part in words


def test_refused_backbones_stand_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """They are counted, and listed with their reason on demand."""
    usual, every = printed(capsys), printed(capsys, every=True)
    assert "SigLIP" not in usual and "59 architectures" in usual
    (line,) = [line for line in every.splitlines() if line.startswith("coca_ViT-B-32 ")]
    assert "refused: its text tower" in line


def test_architectures_without_weights(capsys: pytest.CaptureFixture[str]) -> None:
    """Those for checkpoints alone are named, and in the whole list have their sizes."""
    assert "For checkpoints of your own alone: " in (out := printed(capsys))
    assert "ViT-S-16-alt" in out
    lines = [line.split() for line in printed(capsys, every=True).splitlines()]
    assert ["ViT-S-16-alt", "256", "256", "77", "a", "checkpoint's", "path", "alone"] in lines
