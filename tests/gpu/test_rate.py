"""Speed of a trial relative to matrix products on the same device, which is printed."""

from contextlib import nullcontext

import pytest
import torch

from ship.clip import FrozenCLIP
from tests.bench.bench_trial import BACKBONE, SIDE_ON_GPU, measure_share
from tests.bench.steps import Sizes

SIDES = {"cpu": 64, "cuda": SIDE_ON_GPU}


def test_share_of_the_rate_of_matrix_products_is_printed(
    device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real sizes are used on a GPU only.

    The checks of shapes in tests slow down the host. Quote the result of bench_trial instead.
    """
    sizes = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
    backbone = "pocket"
    if device == "cuda":
        sizes, backbone = Sizes(shots=4, batch=64, seeds=5), BACKBONE
    clip = FrozenCLIP.load(backbone, device=device)
    share = measure_share(clip, sizes, epochs=1, side=SIDES[device])
    label = torch.cuda.get_device_name() if device == "cuda" else device
    with capsys.disabled() if device == "cuda" else nullcontext():
        print(f"\na whole trial on {label}: {share:.1%} of the rate of matrix products")
    assert share > 0
