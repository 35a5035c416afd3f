"""ship-sweep --new: answers are checked one by one, and become a study's YAML."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import typer

from harness.cli import main, new_study
from harness.config import load_study
from tests.harness.cli.conftest import invoke
from tests.harness.cli.test_main import PLUGIN
from tests.harness.fakes import draw_pictures


@pytest.mark.usefixtures("own_tables")
def test_new_asks_again_and_writes_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong is told in words; what is there stays; Enter takes what is suggested.

    A folder may be called what a study may not.
    """
    monkeypatch.setattr(main, "_somebody_is_there", lambda: True)
    draw_pictures(Path("my own"))
    Path("my own/few").rename("my own/Möwen-1")
    Path("generator_latent_dim_m_wen-1.yaml").write_text("mine")
    answers = ["moji", "image_folder:Möwen-1", "pocket", "nearest_mean", "depth", "latent size"]
    given = ("--plugin", str(PLUGIN), "--data-root", "my own")
    result = invoke("--new", *given, input="\n".join([*answers, "0", "2", ""]))
    assert result.exit_code == 0, result.output
    for told in (
        "dataset must be a dataset, got 'moji'",
        "must be one of the choices, got 'depth'",
        "seeds must be ",
    ):
        assert told in result.stdout
    path = "generator_latent_dim_m_wen-1-1.yaml"
    printed = f"ship-sweep --space {path} --plugin {PLUGIN} --data-root 'my own' --dry-run"
    assert printed in result.stdout
    assert Path("generator_latent_dim_m_wen-1.yaml").read_text() == "mine"
    study = load_study(path, data_root=Path("my own"))
    assert (study.trial.dataset, study.trial.finetuner.name, len(study.seeds)) == (
        "image_folder:Möwen-1", "nearest_mean", 2
    )  # fmt: skip
    assert study.space["generator.latent_dim"].baseline == 128


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (PermissionError(13, "not here"), 2, "generator_n_ctx_photos.yaml: cannot be written: not"),
        (typer.Abort(), 130, "\ninterrupted: nothing was written\n"),
        (KeyboardInterrupt(), 130, "\ninterrupted: nothing was written\n"),
    ],
)
def test_new_that_writes_nothing(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be written to, and Ctrl-C within a question or a check."""
    monkeypatch.setattr(main, "_somebody_is_there", lambda: True)
    monkeypatch.setattr(new_study, "write_whole", Mock(side_effect=error))
    result = invoke("--new", input="\n" * 5)
    assert result.exit_code == code and result.stderr.startswith(told)
    assert not list(Path().iterdir())


def test_new_needs_a_terminal() -> None:
    """A batch job would wait for answers without end."""
    result = invoke("--new")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "--new asks questions, which needs a terminal\n"
