"""The only code that runs on a worker: steps through ship's run_trial, one Ray trial at a time."""

import json
import math
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray import tune

from harness.measure import PeakMemory, device_label
from harness.method import RunTrial
from harness.schema import Failure
from harness.utilisation import Utilisation
from ship.architectures import Precision
from ship.metrics import EpochMetrics, NonFiniteLoss
from ship.trial_config import TrialConfig

# A result costs the driver some 2 ms, and a method's epoch may take less: they travel together.
COALESCE_SECONDS = 0.5
BACKBONES_KEPT = 2

# Keys of a result. The first two (how many evaluations there were, and the last one's value) are
# what a scheduler looks at; they are there at evaluated selection epochs alone, and never for a
# trial that must not be stopped.
EVALUATIONS = "selection_evaluations"
OBJECTIVE = "selection_objective"
EPOCHS, FINAL, FAILED = "epochs", "final", "failed"


def feature_key(config: TrialConfig) -> str:
    """What features a trial reads, as the key of the shared feature sets."""
    return json.dumps([config.backbone, config.dataset, config.views])


def target_key(config: TrialConfig, target: str) -> str:
    """The key of a target's feature set, which holds test pictures alone."""
    return json.dumps([config.backbone, target, "test"])


def trial_spec(
    config: TrialConfig, seeds: Sequence[int], objective: str, judged: bool
) -> dict[str, Any]:
    """A trial as Ray carries it: plain JSON text under one key, so that Tune resolves nothing."""
    spec = {
        "trial": config.model_dump(mode="json"),
        "seeds": list(seeds),
        "objective": objective,
        "judged": judged,
    }
    return {"spec": json.dumps(spec)}


class ShipTrainable(tune.Trainable):
    """Runs the seeds of one setting fused; ends with a FINAL or a FAILED result, no exception.

    An exception of the method is data (state FAIL and its reason), so that the worker, with the
    backbone it has loaded, serves the next trial. Only a worker that dies is Ray's to handle.
    """

    def setup(
        self,
        config: dict[str, Any],
        features: Mapping[str, Any] | None = None,
        run_trial: RunTrial | None = None,
        load_backbone: Any = None,
        threads: int = 1,
        device: str = "cpu",
    ) -> None:
        """Prepare a worker process, then its first trial.

        Args:
            config: what trial_spec returned.
            features: feature_key -> FeatureSet, read-only arrays in the object store.
            run_trial, load_backbone: the method (harness.method).
            threads: torch threads of a trial.
            device: torch device.
        """
        _limit_threads(threads)
        self._features = features or {}
        self._run_trial = run_trial
        self._load_backbone = load_backbone
        self._device = device
        self._utilisation = Utilisation(device)
        self._backbones: OrderedDict[tuple[str, Precision], Any] = OrderedDict()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another trial in the same process."""
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """Let go of a half-run trial."""
        self._items: Iterator[EpochMetrics] | None = None

    def _begin(self, config: Mapping[str, Any]) -> None:
        spec = json.loads(config["spec"])
        self._trial = TrialConfig.model_validate_json(json.dumps(spec["trial"]))
        self._seeds: tuple[int, ...] = tuple(spec["seeds"])
        self._objective: str = spec["objective"]
        self._judged: bool = spec["judged"]
        self._items = None
        self._selection: dict[int, Mapping[str, tuple[float, ...]]] = {}
        self._test: Mapping[str, tuple[float, ...]] | None = None
        self._last = "before its first epoch"
        self._seconds = 0.0

    def step(self) -> dict[str, Any]:
        """Run epochs for about COALESCE_SECONDS, or up to the next evaluated selection epoch."""
        started = time.monotonic()
        result: dict[str, Any] = {EPOCHS: []}
        try:
            if self._items is None:
                # before the clock: a worker loads it once, for all the trials that it serves
                self._utilisation.begin(self._backbone(), self._trial.precision)
                started = time.monotonic()
            self._advance(result, started + COALESCE_SECONDS)
        except Exception as error:
            return {**result, **self._failed(error, started)}
        self._seconds += time.monotonic() - started
        if FINAL in result:
            result[FINAL]["cost/seconds"] = self._seconds
            result[FINAL] |= self._utilisation.metrics(
                self._trial, self._seeds, self._clip, *self._read, self._seconds
            )
        return result

    def _advance(self, result: dict[str, Any], deadline: float) -> None:
        if self._items is None:
            self._items = self._start()
        for item in self._items:
            self._last = f"at stage {item.stage}, epoch {item.epoch}"
            _check_finite(item, self._seeds)
            self._utilisation.saw(item.stage)
            result[EPOCHS].append(_means(item))
            if item.stage == "test":
                self._test = item.per_seed
            if item.stage == "selection" and self._objective in item.per_seed:
                self._selection[item.epoch] = item.per_seed
                if self._judged:
                    result[EVALUATIONS] = len(self._selection)
                    result[OBJECTIVE] = _mean(item.per_seed[self._objective])
                return
            if time.monotonic() >= deadline:
                return
        result[FINAL] = self._final()
        result["done"] = True

    def _start(self) -> Iterator[EpochMetrics]:
        if self._run_trial is None:
            raise RuntimeError("the worker was given no method to run")
        clip = self._backbone()
        self._tokens_before = int(getattr(clip, "text_tokens", 0))
        self._memory = PeakMemory(self._device)
        trial = self._trial
        features = self._features[feature_key(trial)]
        targets = {name: self._features[target_key(trial, name)] for name in trial.targets}
        self._clip = clip
        self._read = (features, list(targets.values()))
        return iter(self._run_trial(trial, self._seeds, features, clip, targets))

    def _backbone(self) -> Any:
        wanted = (self._trial.backbone, self._trial.precision)
        if wanted not in self._backbones:
            while len(self._backbones) >= BACKBONES_KEPT:
                self._backbones.popitem(last=False)
            self._backbones[wanted] = self._load_backbone(wanted[0], self._device, wanted[1])
        self._backbones.move_to_end(wanted)
        return self._backbones[wanted]

    def _final(self) -> dict[str, Any]:
        if self._test is None:
            raise RuntimeError("the trial ended without test metrics")
        selection = self._chosen(self._test)
        if self._objective not in selection:
            raise RuntimeError(f"the trial ended without a selection value of {self._objective}")
        extra = ("selection_epoch", *(f"selection_{name}" for name in selection))
        return {
            "test": {k: list(v) for k, v in self._test.items() if k not in extra},
            "selection": selection,
            "selection_epoch": list(self._test.get("selection_epoch", ())),
            "objective": _mean(selection[self._objective]),
            "device": device_label(self._device),
            "cost/peak_memory_mb": self._memory.megabytes(),
            "cost/text_tokens": int(getattr(self._clip, "text_tokens", 0)) - self._tokens_before,
        }

    def _chosen(self, test: Mapping[str, tuple[float, ...]]) -> dict[str, list[float]]:
        """Each selection metric at the epoch that selection chose for each seed."""
        chosen = [int(epoch) for epoch in test.get("selection_epoch", ())]
        values: dict[str, list[float]] = {}
        if chosen and all(epoch in self._selection for epoch in chosen):
            for name in self._selection[chosen[0]]:
                values[name] = [self._selection[e][name][i] for i, e in enumerate(chosen)]
        for name, reported in test.items():
            if name.startswith("selection_") and name != "selection_epoch":
                values[name.removeprefix("selection_")] = list(reported)
        return values

    def _failed(self, error: Exception, started: float) -> dict[str, Any]:
        self._items = None
        kind = type(error).__name__
        finite = not isinstance(error, NonFiniteLoss | NonFinite)
        first = (str(error).strip().splitlines() or [""])[0][:300]
        reason = first if isinstance(error, NonFinite) else f"{kind}: {first}"
        if finite:
            reason += f" ({self._last})"
        return {
            FAILED: {"failure": Failure.ERROR if finite else Failure.NON_FINITE, "reason": reason},
            "done": True,
        }


class NonFinite(ValueError):
    """A metric was NaN or infinite: the trial has no number to give."""


def _check_finite(item: EpochMetrics, seeds: Sequence[int]) -> None:
    for name, values in item.per_seed.items():
        bad = [s for s, value in zip(seeds, values, strict=True) if not math.isfinite(value)]
        if bad:
            which = ", ".join(map(str, bad))
            raise NonFinite(
                f"{name} was not finite at stage {item.stage}, epoch {item.epoch} (seeds {which})"
            )


def _means(item: EpochMetrics) -> dict[str, Any]:
    return {
        "stage": item.stage,
        "epoch": item.epoch,
        "progress": item.progress,
        "means": {name: _mean(values) for name, values in item.per_seed.items()},
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _limit_threads(threads: int) -> None:
    # for libraries that read it when they load; torch may be loaded already
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)
