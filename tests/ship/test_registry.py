"""Registries of settings classes, datasets and metrics."""

from pathlib import Path

import pytest

from ship.configs import FINETUNERS, GENERATORS, METRICS
from ship.plugins import load_plugin
from ship.registry import MetricPlugin
from ship.settings import FinetunerSettings, GeneratorSettings


@pytest.mark.usefixtures("restore_registries")
def test_instances_of_settings_are_no_plugins(tmp_path: Path) -> None:
    """Only classes are: a plugin file may keep settings objects at its top level."""
    assert not GENERATORS.accepts(GeneratorSettings(name="x"))
    assert not FINETUNERS.accepts(FinetunerSettings(name="x"))
    assert METRICS.accepts(MetricPlugin("x", float)) and not METRICS.accepts(float)
    path = tmp_path / "mine.py"
    path.write_text(
        "from ship.plugins import GeneratorSettings, MetricPlugin\n"
        "base = GeneratorSettings(name='base')\n"
        "zero = MetricPlugin('zero_of_registry', lambda *_: 0.0)\n"
    )
    load_plugin(path)
    assert "zero_of_registry" in METRICS
