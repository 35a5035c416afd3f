"""How much of the machine's arithmetic a trial used: its FLOPs per second against a matmul's."""

import logging
import time
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.resources.cost import MOST_REPLICAS
from harness.resources.device import is_gpu, synchronize
from reports.contract import Cost
from ship.architectures import Precision
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    import torch

    from ship.cost import Counted

logger = logging.getLogger(__name__)

# Edge of the square matrices, long enough for a device to reach its best.
CPU_EDGE, GPU_EDGE = 1024, 4096
REPEATS = 4
# Between two measurements lies at least this many times what the last one took.
REST = 100


def matmul_ceiling(device: str, precision: Precision = "fp32") -> float:
    """FLOP/s of a square matrix product, on this device with the threads that torch has now.

    In float32 on the CPU, where half precision has no fast product in general; elsewhere in the
    text tower's own precision. The best of some repeats, a tenth of a second in all.
    """
    import torch

    from ship.clip import products

    gpu = is_gpu(device)
    edge = GPU_EDGE if gpu else CPU_EDGE
    dtype = _dtype(precision) if gpu else torch.float32
    a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    with products(a.device, precision):
        for _ in range(1 + REPEATS):  # the first one warms up
            started = time.perf_counter()
            a @ b
            synchronize(device)
            best = min(best, time.perf_counter() - started)
    return float(2 * edge**3 / best)


def _dtype(precision: Precision) -> "torch.dtype":
    import torch

    half = {"bf16": torch.bfloat16, "fp16": torch.float16}
    return half.get(precision, torch.float32)


class Utilisation:
    """Tells what a worker's trials compute; of a backbone that is not ship's it knows nothing."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._ceilings: dict[Precision, float] = {}
        self._next: dict[Precision, float] = {}  # when the next measurement of it is due
        self._epochs: Counter[str] = Counter()
        self._ceiling: float | None = None
        self._counted: tuple[Hashable, Counted] | None = None  # of the last trial that was counted

    def begin(self, clip: Any, precision: Precision) -> None:
        """A trial starts; the best of the worker's measurements of the ceiling counts.

        One that was taken while others had the cores would make any trial look good. So they are
        repeated, where trials are short not before each of them: a tenth of a second would be much.

        Args:
            clip: the backbone, of which the text tower is looked for.
        """
        self._epochs.clear()
        self._ceiling = None
        if getattr(clip, "text", None) is None:
            return
        if time.monotonic() < self._next.get(precision, 0.0):
            self._ceiling = self._ceilings.get(precision)
        else:
            self._ceiling = self._best(precision)

    def _best(self, precision: Precision) -> float | None:
        held = self._ceilings.get(precision)
        started = time.monotonic()
        try:
            ceiling = matmul_ceiling(self._device, precision)
        except Exception:  # say, on a GPU that others have filled: no trial may be lost for it
            logger.exception("the matmul ceiling could not be measured")
            return held
        now = time.monotonic()
        self._next[precision] = now + REST * (now - started)
        self._ceilings[precision] = max(ceiling, held or 0.0)
        return self._ceilings[precision]

    def saw(self, stage: str) -> None:
        """An epoch of a stage was run."""
        self._epochs[stage] += 1

    def metrics(
        self,
        config: TrialConfig,
        seeds: Sequence[int],
        clip: Any,
        features: Any,
        targets: Sequence[Any],
        seconds: float,
    ) -> Mapping[str, float]:
        """FLOPs of the epochs that ran, the ceiling, and the first's share of it; {} if unknown.

        Args:
            features, targets: FeatureSets of the dataset and of the targets.
            seconds: that the trial took.
        """
        if self._ceiling is None:
            return {}
        try:
            flops = self._flops(config, len(seeds), clip, features, targets)
        except Exception:  # the trial has its numbers, which an unknown cost must not take away
            logger.exception("the cost of the trial could not be counted")
            return {Cost.MATMUL: self._ceiling}
        reached = flops / max(seconds, 1e-9)
        ceiling = self._ceiling
        if reached > ceiling:  # it was measured in a bad moment
            ceiling = self._best(config.precision) or ceiling
        return {
            Cost.FLOPS: flops,
            Cost.MFU: 100 * reached / ceiling,
            Cost.MATMUL: ceiling,
        }

    def _flops(
        self, config: TrialConfig, n_seeds: int, clip: Any, features: Any, targets: Sequence[Any]
    ) -> float:
        """Operations of the epochs that ran; trials that are alike are counted once."""
        from ship.cost import BlankCLIP, alike, count_trial

        key, replicas = alike(config), min(n_seeds, MOST_REPLICAS)
        if self._counted is None or self._counted[0] != (key, replicas):
            blank = BlankCLIP(config.backbone, config.precision, clip.tokenizer)
            named = dict(zip(config.targets, targets, strict=True))
            counted = count_trial(config, features, named, blank, replicas)
            self._counted = (key, replicas), counted
        return self._counted[1].flops(config, n_seeds, self._epochs)
