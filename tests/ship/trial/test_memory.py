"""What a trial keeps in memory: one stage's objects at a time."""

import weakref
from typing import Any

import pytest

import ship.trial.stages
from ship.clip.frozen_clip import FrozenCLIP
from ship.training.checkpoint import Checkpoint
from ship.trial.run import TrialRun, run_trial
from tests.ship.trial.test_resume import PATIENT, WGAN, config, feature_set, one_thread

__all__ = ["one_thread"]  # a fixture: threads wait for each other in tensors this small

SEEDS = (7, 2)
WATCHED: list[dict[str, Any]] = [
    {},
    {"generator": WGAN},
    {"generator": PATIENT, "finetuner": {"name": "tip_adapter_f"}},
    {"protocol": "cross_dataset", "targets": ["here", "there"]},
]


class Made:
    """Weak references to what the trial builds, by the kind of it, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.generators = self._watch(monkeypatch, "GENERATORS")
        self.finetuners = self._watch(monkeypatch, "FINETUNERS")

    def _watch(self, monkeypatch: pytest.MonkeyPatch, table: str) -> list[weakref.ref[Any]]:
        """Have the table's builders tell what they build."""
        told: list[weakref.ref[Any]] = []

        def telling(build: Any) -> Any:
            def built(*arguments: Any) -> Any:
                told.append(weakref.ref(made := build(*arguments)))
                return made

            return None if build is None else built

        entries = getattr(ship.trial.stages, table).items()
        told_of = {name: (settings, telling(build)) for name, (settings, build) in entries}
        monkeypatch.setattr(ship.trial.stages, table, told_of)
        return told

    def alive(self) -> tuple[list[bool], list[bool]]:
        """Which generators and which fine-tuners still are."""
        of = [[ref() is not None for ref in refs] for refs in (self.generators, self.finetuners)]
        return of[0], of[1]


def start(changes: dict[str, Any], clip: FrozenCLIP, resume: Checkpoint | None = None) -> TrialRun:
    """A short trial."""
    features, setting = feature_set(clip), config(changes)
    targets = dict.fromkeys(setting.targets, features)
    return run_trial(setting, SEEDS, features, clip, targets, resume=resume)


@pytest.mark.parametrize("changes", WATCHED, ids=str)
def test_selection_is_freed_before_retraining(
    changes: dict[str, Any], clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No generator or fine-tuner of selection is alive once the trial has begun to retrain."""
    made = Made(monkeypatch)
    seen = False
    for item in start(changes, clip):
        generators, finetuners = made.alive()
        if item.stage in ("final_generator", "final"):
            seen = True
            assert generators == [False, True]
            assert finetuners[0] is False
            assert sum(finetuners) <= 1
        elif item.stage == "selection":
            assert generators == [True]
            assert finetuners == [True]
    assert seen


def test_a_resumed_trial_frees_it_too(clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a checkpoint of selection was put back into is freed like what was built at first."""
    run = start({}, clip)
    while next(run).stage != "selection":
        pass
    checkpoint = run.checkpoint()
    made = Made(monkeypatch)
    for item in start({}, clip, checkpoint):
        if item.stage == "final_generator":
            assert made.alive() == ([False, True], [False])
