"""Learning rates over the epochs."""

from typing import Any, cast

import pytest
import torch

from ship.finetuners.prompts import dassl_rate
from ship.methods import Finetuner


def test_rates_fall_to_0_and_stay_there() -> None:
    """By default a step has the rate of its time along a cosine; beyond the last epoch none."""
    rates = [Finetuner.rate(cast(Any, None), 0.5, step / 2, epochs=2) for step in range(6)]
    assert rates == pytest.approx([0.5, 0.4268, 0.25, 0.0732, 0, 0], abs=1e-4)


def test_dassls_rates_are_torchs_behind_a_warm_up() -> None:
    """As CoCoOp's authors' scheduler has them: constant for an epoch, then CosineAnnealingLR."""
    epochs, base = 5, 0.2
    inner = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(inner, epochs)
    wanted = [1e-5]
    for _ in range(epochs - 1):
        wanted.append(inner.param_groups[0]["lr"])
        inner.step()
        cosine.step()
    assert [dassl_rate(base, epoch + 0.9, epochs) for epoch in range(epochs)] == pytest.approx(
        wanted
    )
