"""Small settings of every fine-tuner, and synthetic features for them."""

from typing import Any

from ship.clip import FrozenCLIP
from ship.configs.generators import GaussianTextConfig
from ship.finetuners import FINETUNERS, BatchedFinetuner, build_finetuner
from ship.generators import Synthesizer
from ship.generators.batched import BatchedGenerator
from ship.generators.gaussians import GaussianText
from ship.tasks import Task
from ship.trial_config import SyntheticConfig
from tests.case_files import load_cases

SEEDS = [7, 2]
FAST: dict[str, dict[str, Any]] = load_cases(__file__, "fast.yaml")
# settings of every entry of FINETUNERS
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, FAST.get(name, {})) for name in FINETUNERS},
    "coop/class_specific": (
        "coop",
        {**FAST["coop"], "class_specific": True, "name_position": "middle"},
    ),
    "linear_probe/zero": ("linear_probe", {**FAST["linear_probe"], "init": "zero"}),
}


def synthesizer(task: Task, clip: FrozenCLIP, weight: float = 0.5) -> Synthesizer:
    """Return noisy text features of the unseen classes, by default of weight 0.5."""
    generator = BatchedGenerator(GaussianText, GaussianTextConfig(scale=0.1), task, clip, SEEDS)
    return Synthesizer(SyntheticConfig(loss_weight=weight), generator.sample, task, SEEDS)


def built(
    name: str,
    settings: dict[str, Any],
    task: Task,
    clip: FrozenCLIP,
    synthetic: float | None = None,
) -> Any:
    """Build a fine-tuner. `synthetic` is the weight of synthetic features, or None."""
    actual = None if synthetic is None else synthesizer(task, clip, synthetic)
    return build_finetuner(FINETUNERS[name](**settings), task, actual, clip, SEEDS)


def trained(finetuner: BatchedFinetuner) -> Any:
    """Train a fine-tuner for all of its epochs."""
    for _ in range(finetuner.epochs):
        finetuner.train_epoch()
    return finetuner
