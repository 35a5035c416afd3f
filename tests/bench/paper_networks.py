"""Arithmetic of the paper's trials beside the text tower, by formulas: SHIP's VAE, CoOp's logits.

All of the grid is of these two methods. A multiplication and an addition are two operations.
"""

from collections.abc import Sequence

from ship.architectures import context_length, feature_dim, load_tokenizer, text_settings
from ship.quality.distances import BOOTSTRAP_DRAWS
from ship.quality.sets import MAX_FEATURES
from ship.trial_config import TrialConfig
from tests.bench.paper_grid import SEEDS, Stage


class Names:
    """Tokens of class names under a backbone's tokenizer."""

    def __init__(self, backbone: str) -> None:
        self._encode = load_tokenizer(backbone).encode
        self._room = context_length(backbone) - 2

    def lengths(self, names: Sequence[str]) -> list[int]:
        """Of "NAME. EOT" behind SOT and one context vector."""
        return [min(len(self._encode(f"{name}.")), self._room - 1) + 1 for name in names]


def network_flops(config: TrialConfig, stage: Stage, backbone: str) -> float:
    """Operations of a stage, all SEEDS together: the VAE's two networks, logits, quality.

    Args:
        config: of the trial.
        stage: of it.
        backbone: by name.
    """
    f, width = feature_dim(backbone), text_settings(backbone).width
    generator, coop, task = config.generator, config.finetuner, stage.task
    hidden, z, n_cls = generator.generator_hidden, generator.latent_dim, len(task.names)

    def decode(rows: float, backward: int) -> float:
        return product(rows, z, hidden, backward) + product(rows, hidden, width, backward)

    fitted, tuned = (SEEDS * min(x.batch_size, task.n_nominal) for x in (generator, coop))
    encoded = product(fitted, f, generator.encoder_hidden, 1)
    encoded += 2 * product(fitted, generator.encoder_hidden, z, 2)
    # as many synthetic features as real ones
    step = product(2 * tuned, f, n_cls, 1) + decode(tuned, 0)
    looked = product(SEEDS * stage.exam.pictures, f, n_cls)
    return (
        stage.generator_steps * (encoded + decode(fitted, 2))
        + stage.coop_steps * step
        + stage.evaluations * looked
        + decode(SEEDS * stage.judged, 0)
        + SEEDS * _judging(stage, f)
    )


def _judging(stage: Stage, f: int) -> float:
    """Quality of one seed's synthetic features: classifiers, distances, bootstrap."""
    x, y = (min(n, MAX_FEATURES) for n in (stage.exam.judged, stage.judged))
    recognised = 2 * product(stage.judged, f, len(stage.task.names))
    distances = product(x + y, f, x + y) + product(x, f, y)
    resampled = product(BOOTSTRAP_DRAWS, x, x + y) + product(BOOTSTRAP_DRAWS, y, y)
    return recognised + distances + resampled


def product(rows: float, n_in: float, n_out: float, backward: int = 0) -> float:
    """Operations of (rows, n_in) @ (n_in, n_out), with gradients of so many of its factors."""
    return 2.0 * rows * n_in * n_out * (1 + backward)
