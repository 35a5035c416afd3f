"""Cost of a trial on a GPU, computed from its configuration without running it.

Operations and memory are counted for the prompts that pass through the text tower: those of a
generator in training, of a fine-tuner that learns prompts, and of the synthetic features drawn in
each step. Other operations are negligible. Kernel launches were counted on an emulated GPU
(tests/bench/bench_launches.py); operations are checked against torch's counter.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ship.architectures import get_text_settings
from ship.prompt_cost import estimate_prompt_operations, estimate_prompt_tokens
from ship.protocol_rules import N_GENERATOR_AGES
from ship.trial_config import TrialConfig

# Kernel launches when prompts pass through the tower, as (constant number, number per block). Those
# of _FORWARD_AND_BACKWARD include the optimizer's launches.
_FORWARD, _FORWARD_AND_BACKWARD = (50, 13), (60, 34)
# Kernel launches of a training step on cached features, without prompts.
_STEP_LAUNCHES = 60
# Activations that a block saves per token for the backward pass, in multiples of the width.
_SAVED_ACTIVATIONS = 22
_BYTES = 4  # size of a float32


@dataclass(frozen=True)
class TrialCost:
    """Cost of a trial.

    Attributes:
        operations: Floating-point operations, for all seeds.
        launches: Kernel launches. Seeds that are trained together share them.
        memory: Bytes of the activations that a training step saves for its backward pass, for all
            seeds.
    """

    operations: float
    launches: float
    memory: float

    def seconds(self, operations_per_second: float, seconds_per_launch: float) -> float:
        """Return a lower bound of the time on a GPU.

        It is the larger of the time for operations and the time for launches, which overlap.

        Args:
            operations_per_second: Floating-point operations per second.
            seconds_per_launch: Seconds per kernel launch.
        """
        return max(self.operations / operations_per_second, self.launches * seconds_per_launch)


def compute_trial_cost(
    config: TrialConfig, n_seen: int, n_classes: int, n_seeds: int, per_class: float = 0
) -> TrialCost:
    """Compute the cost of a trial.

    Args:
        config: Configuration of the trial.
        n_seen: Number of classes with training images.
        n_classes: Number of all classes of the task.
        n_seeds: Number of seeds that are trained together.
        per_class: Mean number of training images per class. Used only if `shots` is None.

    Returns:
        The cost. For methods without prompts, operations and memory are 0.

    Example:
        >>> config = TrialConfig(backbone="ViT-B-16", shots=16)
        >>> cost = compute_trial_cost(config, n_seen=50, n_classes=100, n_seeds=5)
        >>> cost.operations > 1e15 and cost.launches > 1e6
        True
    """
    passes = [*_list_passes(config, n_seen, n_classes, config.shots or per_class)]
    text = get_text_settings(config.backbone)
    blocks = int(text.layers)
    bytes_per_token = _SAVED_ACTIVATIONS * _BYTES * int(text.width) * blocks
    max_tokens = max((kind.saved_tokens for kind in passes), default=0)
    return TrialCost(
        operations=n_seeds * sum(kind.operations for kind in passes),
        launches=sum(kind.count_launches(blocks) for kind in passes),
        memory=n_seeds * bytes_per_token * max_tokens,
    )


@dataclass(frozen=True)
class _Pass:
    """One kind of pass through the text tower, repeated `steps` times.

    Attributes:
        steps: Number of passes.
        backbone: Name of the backbone.
        prompts: Number of prompts per pass and seed. 0 for a training step on cached features only.
        n_unshared: See estimate_prompt_tokens.
        trains: Whether a backward pass follows.
    """

    steps: int
    backbone: str
    prompts: int
    n_unshared: int = 0
    trains: bool = True

    @property
    def operations(self) -> float:
        """Operations of all steps. The weights are frozen, so backward costs as much as forward."""
        factor = 2 if self.trains else 1
        per_prompt = estimate_prompt_operations(self.backbone, self.n_unshared)
        return factor * self.steps * self.prompts * per_prompt

    @property
    def saved_tokens(self) -> int:
        """Number of tokens whose activations a step keeps for its backward pass."""
        return self.trains * self.prompts * estimate_prompt_tokens(self.backbone, self.n_unshared)

    def count_launches(self, blocks: int) -> int:
        """Return the number of kernel launches of all steps in a tower with this many blocks."""
        constant, per_block = _FORWARD_AND_BACKWARD if self.trains else _FORWARD
        return self.steps * (constant + per_block * blocks if self.prompts else _STEP_LAUNCHES)


def _list_passes(config: TrialConfig, n_seen: int, n_classes: int, shots: float) -> Iterator[_Pass]:
    """Iterate over the passes of all stages of a trial."""
    # number of seen classes, and of all classes, in each stage
    stages = [(n_seen, n_classes)]
    if config.selection == "pseudo_new":
        stages.insert(0, (math.ceil(n_seen * (1 - config.pseudo_new_fraction)), n_seen))
    for n_trained, n_all in stages:
        rows = math.ceil(n_trained * shots)
        yield from _list_generator_passes(config, rows)
        for _ in range(N_GENERATOR_AGES if config.selection == "authors" else 1):
            yield from _list_finetuner_passes(config, rows, n_trained, n_all)


def _list_generator_passes(config: TrialConfig, rows: int) -> Iterator[_Pass]:
    """Iterate over the passes of training a generator on this many features."""
    generator, backbone = config.generator, config.backbone
    epochs, n_ctx = getattr(generator, "epochs", 0), getattr(generator, "n_ctx", None)
    if not epochs:
        return
    batch = min(getattr(generator, "batch_size", rows), rows)
    steps = epochs * math.ceil(rows / batch)
    prompts, n_unshared = (0, 0) if n_ctx is None else (batch, 1 + n_ctx)
    yield _Pass(steps, backbone, prompts, n_unshared)
    if n_critic := getattr(generator, "n_critic", 0):
        yield _Pass(steps * n_critic, backbone, prompts, n_unshared, trains=False)


def _list_finetuner_passes(
    config: TrialConfig, rows: int, n_seen: int, n_all: int
) -> Iterator[_Pass]:
    """Iterate over the passes of training a fine-tuner on real and synthetic features."""
    finetuner, generator, backbone = config.finetuner, config.generator, config.backbone
    if not (epochs := getattr(finetuner, "epochs", 0)):
        return
    batch = min(getattr(finetuner, "batch_size", rows), rows)
    steps = epochs * math.ceil(rows / batch)
    n_ctx = getattr(finetuner, "n_ctx", None)
    n_prompted = n_all if generator.name != "none" else n_seen
    if n_ctx is None:
        yield _Pass(steps, backbone, 0)
    elif finetuner.name == "cocoop":  # one set of prompts per image
        yield _Pass(steps, backbone, batch * n_prompted, 1 + n_ctx)
    else:
        is_shared = not getattr(finetuner, "class_specific", False)
        n_unshared = 0 if is_shared else 1 + n_ctx
        yield _Pass(steps, backbone, n_prompted, n_unshared)
        yield _Pass(epochs // config.eval_every, backbone, n_all, n_unshared, trains=False)
    prompt_ctx = getattr(generator, "n_ctx", None)
    if prompt_ctx is not None and config.synthetic.resample:
        synthetic = max(1, round(config.synthetic.ratio * batch))
        yield _Pass(steps, backbone, synthetic, 1 + prompt_ctx, trains=False)
