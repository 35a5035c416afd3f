"""How near a trial comes to the rate of the card's products. A number to read, not a condition."""

from contextlib import nullcontext

import pytest
import torch

from ship.clip import FrozenCLIP
from tests.bench.bench_trial import BACKBONE, SIDE_ON_GPU, measure_share
from tests.bench.steps import Sizes

SIDES = {"cpu": 64, "cuda": SIDE_ON_GPU}


def test_a_trial_reports_its_share_of_the_rate_of_products(
    device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The share is positive and is printed; the real size is measured on a GPU only.

    The checks of shapes that run in tests slow the host: quote bench_trial's number, not this one.
    """
    sizes = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
    backbone = "pocket"
    if device == "cuda":
        sizes, backbone = Sizes(shots=4, batch=64, seeds=5), BACKBONE
    clip = FrozenCLIP.load(backbone, device=device)
    measured = measure_share(clip, sizes, epochs=1, side=SIDES[device])
    label = torch.cuda.get_device_name() if device == "cuda" else device
    with capsys.disabled() if device == "cuda" else nullcontext():
        print(f"\na whole trial on {label}: {measured:.1%} of the rate of products")
    assert measured > 0
