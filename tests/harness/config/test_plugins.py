"""Studies that use methods of plugins: their options, and messages on faults."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

import harness
import harness.study
from harness.config import load_plugins, resolve
from harness.config.load import load_study
from harness.errors import ConfigError

pytestmark = pytest.mark.usefixtures("restore_registries")

FILE = Path(__file__).parents[2] / "third_party" / "nearest_mean.py"
BASE = {"name": "x", "generator": "none", "controls": False}


def list_faults(mapping: dict[str, Any]) -> list[str]:
    """Return the faults of an invalid study."""
    with pytest.raises(ConfigError) as caught:
        load_study({**BASE, **mapping}, label="x")
    return caught.value.faults


def test_options_of_a_plugin_can_be_set_like_any_other() -> None:
    """They can be constants, factors, variants and overrides."""
    load_plugins([FILE])
    study = load_study(
        {
            "name": "x",
            "generator": "noisy_text",
            "finetuner": {"name": "coop", "epochs": 3},
            "space": {
                "finetuner": ["coop", "nearest_mean"],
                "finetuner.step": {"choices": [0.25, 1], "when": {"finetuner": ["nearest_mean"]}},
            },
            "variants": {"finetuner": {"nearest_mean": {"epochs": 2}}},
        },
        ["generator.scale=0.5"],
    )
    config = resolve(study, {"finetuner": "nearest_mean", "finetuner.step": 1.0})
    assert config.finetuner.model_dump() == {
        "name": "nearest_mean",
        "step": 1.0,
        "epochs": 2,
        "batch_size": 64,
    }
    assert config.generator.model_dump() == {"name": "noisy_text", "scale": 0.5}


QUIET = """
from typing import Literal

from ship.plugins import FinetunerSettings


class QuietConfig(FinetunerSettings):
    method = "quiet:Quiet"
    name: Literal["quiet"] = "quiet"
    loud: bool = False

    def explain_unused(self, key: str) -> str | None:
        return None if self.loud or key != "shots" else "finetuner quiet looks at one image"
"""


def test_a_factor_that_a_plugin_does_not_use_is_refused(tmp_path: Path) -> None:
    """The reason is that of the config's explain_unused. Another level may use the factor."""
    (tmp_path / "quiet.py").write_text(QUIET)
    load_plugins([tmp_path / "quiet.py"])
    (line,) = list_faults({"finetuner": "quiet", "space": {"shots": [1, 2]}})
    assert line == "x: space.shots has no effect: finetuner quiet looks at one image"
    levels = {"shots": [1, 2], "finetuner.loud": [False, True]}
    load_study({**BASE, "finetuner": "quiet", "space": levels})
    levels = {"shots": [1, 2], "finetuner": ["quiet", "coop"]}
    load_study({**BASE, "finetuner": "quiet", "space": levels})


def test_a_missing_required_option_of_a_plugin_is_named(tmp_path: Path) -> None:
    """The message has its dotted name and the method."""
    text = QUIET.replace('"quiet', '"needy').replace("loud: bool = False", "loud: bool")
    (tmp_path / "needy.py").write_text(text)
    load_plugins([tmp_path / "needy.py"])
    lines = list_faults({"finetuner": "needy", "space": {"shots": [1, 2]}})
    assert lines == ["x: finetuner.loud is required for finetuner needy"]


def test_run_study_accepts_plugin_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable file is refused before the study is loaded."""
    make_fingerprints = Mock(side_effect=ConfigError(["stop"]))
    monkeypatch.setattr("harness.study.run.make_fingerprints", make_fingerprints)
    with pytest.raises(ConfigError, match="cannot be read"):
        harness.run_study("prompt_len", plugins=[tmp_path / "absent.py"])
    with pytest.raises(ConfigError, match="stop"):
        harness.run_study("prompt_len", ["finetuner=nearest_mean"], plugins=[FILE])
    study = make_fingerprints.call_args.args[0]
    assert study.base.finetuner.name == "nearest_mean"
