"""One training step of each method on a device, compared with float64 on the CPU."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.architectures import Precision
from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from tests.gpu.rounding import GRADIENT, concatenate, relative_error, tolerance
from tests.ship.conftest import selection_task
from tests.ship.finetuners.cases import FAST, SEEDS, built
from tests.ship.generators.cases import build

BLOCKS = 2
# Precisions of methods that use the text encoder, and of other methods.
PROMPT_PRECISIONS, OTHER_PRECISIONS = ("fp32", "tf32", "bf16"), ("fp32", "tf32")

Clips = Callable[..., FrozenCLIP]


def take_step(method: Any, clip: FrozenCLIP) -> tuple[Tensor, Tensor]:
    """Take one step, and return the losses of each seed and the gradient of all parameters.

    Raises:
        AssertionError: No parameter has changed, or one is not finite.
    """
    method.steps = 1
    trained: dict[str, Tensor] = method.stack.trained
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    with clip.use_precision():
        metrics = method.train_epoch()
    assert all(parameter.isfinite().all() for parameter in trained.values())
    # some may be unchanged: a bias that cancels out of the loss has gradient 0
    assert any(not torch.equal(parameter, before[name]) for name, parameter in trained.items())
    gradients = [parameter.grad for parameter in trained.values() if parameter.grad is not None]
    losses = [value for name, value in metrics.items() if name.endswith("loss")]
    return concatenate(losses), concatenate(gradients)


def make_generator(name: str, clip: FrozenCLIP, features: FeatureSet) -> Any:
    """Build a generator in the precision of the backbone's weights."""
    return build(name, selection_task(clip, features, SEEDS), clip, SEEDS)


def make_finetuner(name: str, clip: FrozenCLIP, features: FeatureSet) -> Any:
    """Build a fine-tuner with synthetic features."""
    task = selection_task(clip, features, SEEDS)
    return built(name, {**FAST[name], "epochs": 1}, task, clip, synthetic=0.5)


CASES = [
    (make, name, precision)
    for make, names, precisions in (
        (make_generator, ("vae", "wgan"), PROMPT_PRECISIONS),
        (make_generator, ("mlp_vae",), OTHER_PRECISIONS),
        (make_finetuner, ("coop", "kgcoop"), PROMPT_PRECISIONS),
        (make_finetuner, ("clip_adapter", "tip_adapter_f"), OTHER_PRECISIONS),
    )
    for name in names
    for precision in precisions
]


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize(("make", "name", "precision"), CASES)
def test_losses_and_gradient_equal_float64(
    clips: Clips,
    features: FeatureSet,
    device: str,
    make: Callable[[str, FrozenCLIP, FeatureSet], Any],
    name: str,
    precision: Precision,
) -> None:
    """They differ by rounding errors only, and the step changes parameters."""
    exact = clips(dtype=torch.float64, layers=BLOCKS)
    clip = clips(device=device, precision=precision, layers=BLOCKS)
    expected_losses, expected_gradient = take_step(make(name, exact, features), exact)
    losses, gradient = take_step(make(name, clip, features), clip)
    assert relative_error(losses, expected_losses) < tolerance(precision, BLOCKS + 1)
    assert relative_error(gradient, expected_gradient) < tolerance(precision, BLOCKS + 1, GRADIENT)
