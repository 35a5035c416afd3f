"""ship-sweep --new: answers are checked one by one, and become a study's YAML."""

import os
import signal
from pathlib import Path
from threading import Timer
from unittest.mock import Mock

import pytest
import typer
from ruamel.yaml import YAML

from harness import study_files
from harness.cli import new_study
from harness.config import load_study
from ship.configs import FINETUNERS
from tests.harness.cli.conftest import invoke
from tests.harness.cli.test_main import PLUGIN
from tests.harness.fakes import draw_pictures


@pytest.fixture(autouse=True)
def _somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_study, "somebody_is_there", lambda: True)


@pytest.mark.usefixtures("own_tables")
def test_new_asks_again_and_writes_a_study() -> None:
    """What is wrong is told in words; what is there stays; Enter takes what is suggested.

    A folder may be called what a study may not.
    """
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


@pytest.mark.parametrize("folder", ["pics #2", "a: b", 'Tom\'s "x"', "[x", "x\\y"])
def test_a_folder_may_be_called_what_yaml_reads_otherwise(folder: str) -> None:
    """Its name is taken as it was typed; so is the mark of a comment, or of a key."""
    draw_pictures(Path("own"))
    Path("own/few").rename(Path("own") / folder)
    answers = [f"image_folder:{folder}", "pocket", "", "", "2"]
    result = invoke("--new", "--data-root", "own", input="\n".join([*answers, ""]))
    assert result.exit_code == 0, result.output
    (path,) = Path().glob("*.yaml")
    assert load_study(path, data_root=Path("own")).trial.dataset == f"image_folder:{folder}"


def test_so_may_the_file_of_the_weights() -> None:
    """A checkpoint's path is part of the backbone's name."""
    backbone = "ViT-B-16:w/my weights #2.pt"
    answers = {name: usual for name, (usual, _) in new_study.QUESTIONS.items()}
    written = new_study.text_of({**answers, "backbone": backbone})
    assert YAML(typ="safe").load(written)["backbone"] == backbone


@pytest.mark.parametrize("finetuner", FINETUNERS.names())
def test_a_new_study_has_the_packaged_backbones_settings(finetuner: str) -> None:
    """What is written on pocket has its defaults spelled out; on CLIP methods are named alone."""
    answers = {name: usual for name, (usual, _) in new_study.QUESTIONS.items()}
    answers["finetuner"] = finetuner
    study = load_study({"name": "new", **YAML(typ="safe").load(new_study.text_of(answers))})
    assert study.trial.finetuner.name == finetuner
    assert study.backbone_defaults == {}
    bare = load_study({"name": "bare", "space": {"shots": [4]}, "finetuner": finetuner})
    assert (study.trial.generator, study.trial.finetuner) == (
        bare.trial.generator, bare.trial.finetuner
    )  # fmt: skip
    clip = YAML(typ="safe").load(new_study.text_of({**answers, "backbone": "ViT-B-16:openai"}))
    assert clip["finetuner"] == finetuner


def test_new_that_cannot_write_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line."""
    monkeypatch.setattr(
        study_files, "write_whole", Mock(side_effect=PermissionError(13, "not here"))
    )
    result = invoke("--new", input="\n" * 5)
    assert result.exit_code == 2
    assert result.stderr == "generator_n_ctx_photos.yaml: cannot be written: not here\n"


def test_ctrl_c_within_a_question_ends_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, and nothing is written, though polars has been loaded for the first answer."""
    reader, writer = os.pipe()
    late = Timer(9, os.write, (writer, b"\n"))

    def prompt(question: str, default: str) -> str:
        if "CLIP" in question:
            late.start()
            Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            os.read(reader, 1)
        return default

    monkeypatch.setattr(typer, "prompt", prompt)
    result = invoke("--new")
    assert (result.exit_code, result.stderr) == (130, "\ninterrupted: nothing was written\n")
    assert late.is_alive(), "the question waited for an answer"
    late.cancel()
    assert not list(Path().iterdir())
