"""What a trial keeps in memory: one stage's objects at a time."""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

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


Alive = Callable[[], tuple[int, int]]


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> Alive:
    """How many generators and fine-tuners that were made since are still there."""
    made: WeakSet[Any] = WeakSet()

    def note(kind: type) -> None:
        def noted(self: Any, *args: Any, begin: Any = kind.__init__, **rest: Any) -> None:
            made.add(self)
            begin(self, *args, **rest)

        monkeypatch.setattr(kind, "__init__", noted)

    for kind in (FusedGenerator, FusedWGAN, CoOp, TipAdapterF):
        note(kind)

    def counted() -> tuple[int, int]:
        n = Counter(type(held) for held in made)
        return n[FusedGenerator] + n[FusedWGAN], n[CoOp] + n[TipAdapterF]

    return counted


def check_freed(run: Iterator[EpochMetrics], alive: Alive) -> None:
    """No generator or fine-tuner of selection is alive once the trial has begun to retrain."""
    gc.collect()
    assert alive() == (0, 0)
    most = {"selection": (1, 1), "final_generator": (1, 0), "final": (1, 1)}
    seen = set()
    for item in run:
        if item.stage in most:
            assert alive() == most[item.stage], item.stage
            seen.add(item.stage)
    assert "selection" in seen and len(seen) > 1


@pytest.mark.parametrize("changes", WATCHED, ids=str)
def test_selection_is_freed_before_retraining(
    changes: dict[str, Any], clip: FrozenCLIP, alive: Alive
) -> None:
    """Whatever is trained in either."""
    check_freed(start(config(changes), clip), alive)


def test_a_resumed_trial_frees_it_too(clip: FrozenCLIP, alive: Alive) -> None:
    """What a checkpoint of selection was put back into is freed like what was built at first."""
    run = start(config({}), clip)
    while next(run).stage != "selection":
        pass
    checkpoint = run.checkpoint()  # type: ignore[attr-defined]
    del run
    check_freed(start(config({}), clip, checkpoint), alive)
