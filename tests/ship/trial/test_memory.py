"""What a trial keeps in memory: one stage's objects at a time."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from ship.clip import FrozenCLIP
from ship.finetuners.adapters import TipAdapterF
from ship.finetuners.prompts import CoOp
from ship.generators.fit import FusedGenerator
from ship.generators.wgan import FusedWGAN
from ship.trial_config import EpochMetrics
from tests.ship.trial.cases import TOLD
from tests.ship.trial.test_resume import config, start

WATCHED: list[dict[str, Any]] = [
    {},
    {"generator": TOLD["wgan"]},
    {"generator": TOLD["patient"], "finetuner": {"name": "tip_adapter_f"}},
    {"protocol": "cross_dataset", "targets": ["here", "there"]},
]


def alive() -> tuple[int, int]:
    """How many generators and fine-tuners there are in the process."""
    held = [type(made) for made in gc.get_objects()]
    return sum(map(held.count, (FusedGenerator, FusedWGAN))), sum(
        map(held.count, (CoOp, TipAdapterF))
    )


def check_freed(run: Iterator[EpochMetrics]) -> None:
    """No generator or fine-tuner of selection is alive once the trial has begun to retrain."""
    gc.collect()
    before, most = alive(), {"selection": (1, 1), "final_generator": (1, 0), "final": (1, 1)}
    seen = set()
    for item in run:
        if item.stage in most:
            now = tuple(n - was for n, was in zip(alive(), before, strict=True))
            assert now <= most[item.stage] and now[0] == 1, item.stage
            seen.add(item.stage)
    assert "selection" in seen and len(seen) > 1


@pytest.mark.parametrize("changes", WATCHED, ids=str)
def test_selection_is_freed_before_retraining(changes: dict[str, Any], clip: FrozenCLIP) -> None:
    """Whatever is trained in either."""
    check_freed(start(config(changes), clip))


def test_a_resumed_trial_frees_it_too(clip: FrozenCLIP) -> None:
    """What a checkpoint of selection was put back into is freed like what was built at first."""
    run = start(config({}), clip)
    while next(run).stage != "selection":
        pass
    checkpoint = run.checkpoint()  # type: ignore[attr-defined]
    del run
    check_freed(start(config({}), clip, checkpoint))
