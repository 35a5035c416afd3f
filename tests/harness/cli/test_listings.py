"""What is printed without a study: --help, --version, and the lists."""

import os
import subprocess
import sys

import pytest

from harness.config.study_config import STUDY_KEYS, TRIAL_KEYS
from tests.harness.cli.conftest import invoke


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--version", ["0.2.0"]),
        ("--help", ["0 the study is complete", "2 refused or broken off", "3 incomplete"]),
        ("--list", ["prompt_len", "kl_weight", "joint", "prompt length of SHIP's generator"]),
        (
            "--list-options",
            [
                *("vae", "tip_adapter_f", "caltech101", "tpe", "asha", "pseudo_new", "wgan", "gda"),
                *STUDY_KEYS, *TRIAL_KEYS, "cpus", "gpus", ".grace_period", "image_folder:NAME",
                "(must be given)", "(default 2)",
                "harmonic_mean (default), base, new",
                "Selection is base_val by default: by validation pictures of all classes.",
                "(of all under few_shot: its default",
            ],
        ),
    ],
)  # fmt: skip
def test_what_is_listed(option: str, words: list[str]) -> None:
    """All names that a user may write, and what they mean."""
    result = invoke(option)
    assert result.exit_code == 0
    text = " ".join(["", *result.stdout.split()])
    assert not [one for one in words if f" {one}" not in text]


def test_list_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, feature size, text width, context length and tags, the packaged backbone first.

    No tag is cut short, so that each can be copied; what is refused is counted, and listed with
    its reason on demand, and so are the sizes of architectures that have no weights.
    """
    from ship.clip.frozen_clip import list_backbones

    monkeypatch.setenv("COLUMNS", "80")
    usual, every = invoke("--list-backbones").stdout, invoke("--list-backbones", "--all").stdout
    lines = [line.split() for line in usual.splitlines() if line]
    assert lines[1] == ["pocket", "256", "192", "32", "packaged"]
    assert ["RN50", "1024", "512", "77", "openai,", "yfcc15m,", "cc12m"] in lines
    assert {part for name in list_backbones() for part in name.split(":")} <= set(
        usual.replace(",", " ").split()
    )
    assert "SigLIP" not in usual and "59 architectures" in usual
    (refused,) = [line for line in every.splitlines() if line.startswith("coca_ViT-B-32 ")]
    assert "refused: its text tower" in refused
    assert "ViT-S-16-alt" in usual.partition("For checkpoints of your own alone: ")[2]
    alone = ["ViT-S-16-alt", "256", "256", "77", "a", "checkpoint's", "path", "alone"]
    assert alone in [line.split() for line in every.splitlines()]


TRAINING = ["torch", "open_clip", "ray", "mlflow", "optuna"]


@pytest.mark.parametrize(
    ("module", "arguments", "code", "heavy"),
    [
        ("harness.cli.main", ["--help"], 0, [*TRAINING, "numpy", "pydantic", "polars", "ship"]),
        ("harness.cli.main", ["--space", "prompt_len", "--set", "sed=3"], 2,
         [*TRAINING, "scipy", "pandas", "sqlalchemy"]),
        # on a login node, at once
        ("harness.cli.main", ["--deploy", "slurm"], 0, [*TRAINING, "ship"]),
        ("harness.data.cli", ["--help"], 0,
         ["torch", "torchvision", "numpy", "PIL", "polars", "pydantic", "scipy", "ship"]),
    ],
)  # fmt: skip
def test_the_commands_import_light(
    module: str, arguments: list[str], code: int, heavy: list[str]
) -> None:
    """Neither --help nor a mistake in the YAML loads what training or the store needs."""
    script = (
        "import importlib, sys\n"
        "module, arguments, code, heavy = map(eval, sys.argv[1:])\n"
        "sys.argv = ['a command', *arguments]\n"
        "try:\n"
        "    importlib.import_module(module).main()\n"
        "except SystemExit as end:\n"
        "    assert end.code == code, end.code\n"
        "sys.exit(', '.join({*heavy} & {*sys.modules}) or 0)\n"
    )
    command = [sys.executable, "-c", script, *map(repr, (module, arguments, code, heavy))]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
