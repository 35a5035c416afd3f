"""Calibration in workers of a real local Ray, on the packaged backbone."""

from typing import Any

import pytest

from harness.method import Method
from harness.planning.side_by_side import side_by_side
from harness.resources import CountedCosts
from ship.trial_config import TrialConfig
from tests.harness.fakes import make_study

CONFIG = TrialConfig(
    max_classes=6,
    shots=1,
    generator={"name": "vae", "epochs": 2, "latent_dim": 8, "encoder_hidden": 16},  # type: ignore[arg-type]
    finetuner={"name": "linear_probe", "epochs": 2},  # type: ignore[arg-type]
)


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_all_workers_measure_and_what_they_took_to_start_is_known() -> None:
    """Two of them, each with a backbone of its own; what cannot be measured is one clear line."""
    costs = CountedCosts(None)
    assert costs(CONFIG, 1) > 0  # what it remembers of a setting travels with it, or stays
    with side_by_side(make_study(), 2, CONFIG, costs, Method()) as workers:
        assert workers.started > 0
        found = workers(CONFIG, 1)
        assert found.seconds_per_flop > 0
        assert found.took > 0
        with pytest.raises(ValueError, match=r"^unknown dataset"):
            workers(CONFIG.model_copy(update={"dataset": "nothing"}), 1)


@pytest.mark.usefixtures("local_ray", "by_value")
def test_a_backbone_that_cannot_be_loaded_is_one_clear_line() -> None:
    """Before anything is measured."""

    def missing(*_: Any) -> None:
        raise ValueError("no such weights\nand more")

    broken = side_by_side(
        make_study(), 1, CONFIG, CountedCosts(None), Method(load_backbone=missing)
    )
    with pytest.raises(ValueError, match=r"^no such weights$"), broken:
        raise AssertionError("there are workers")
