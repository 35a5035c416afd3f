"""python -m tests.bench.bench_trial: speed of a whole trial relative to matrix products.

The trial has SHIP's VAE and CoOp with synthesis, selection, retraining and test, on random features
of a ViT-B/16 with random weights. torch's FlopCounterMode counts its operations in a separate run
(matrix products, and attention only on a GPU; other operations count as 0). Then the trial is
timed, alternating with float32 matrix products of a size at which the machine is fastest. Quote the
share, not the seconds, together with the number of threads (OMP_NUM_THREADS).
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Final

import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from harness.device import get_device_label
from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from ship.trial import run_trial
from ship.trial_config import TrialConfig
from tests.bench.steps import Sizes, make_random_features

BACKBONE: Final = "ViT-B-16-quickgelu:random"
TURNS: Final = 3
SIDE: Final = 2048
"""Rows and columns of the matrices whose product is timed for comparison."""
SIDE_ON_GPU: Final = 8192


def make_config(sizes: Sizes, epochs: int) -> TrialConfig:
    """Return a trial with the same number of epochs for generator and fine-tuner."""
    return TrialConfig.model_validate(
        {
            "backbone": BACKBONE,
            "shots": sizes.shots,
            "eval_every": epochs,
            "generator": {"name": "vae", "epochs": epochs, **sizes.generator_settings()},
            "finetuner": {
                "name": "coop",
                "n_ctx": sizes.n_ctx,
                "epochs": epochs,
                "batch_size": sizes.coop_batch,
            },
            "synthetic": {"resample": False},
        }
    )


def run_to_end(config: TrialConfig, seeds: int, features: FeatureSet, clip: FrozenCLIP) -> None:
    """Run a whole trial."""
    for _ in run_trial(config, range(seeds), features, clip):
        pass


def measure_seconds(function: Callable[[], object]) -> float:
    """Return the duration of a call, including its work on a GPU."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure_share(clip: FrozenCLIP, sizes: Sizes, epochs: int, side: int = SIDE) -> float:
    """Return operations per second of a trial over those of matrix products, the best of TURNS.

    Args:
        clip: Backbone.
        sizes: Sizes of the task and the methods.
        epochs: Number of epochs of generator and fine-tuner.
        side: Rows and columns of the matrices.
    """
    features, config = make_random_features(clip, sizes), make_config(sizes, epochs)

    def run() -> None:
        run_to_end(config, sizes.seeds, features, clip)

    with FlopCounterMode(display=False) as counter:
        run()
    left, right = torch.randn(2, side, side, device=clip.device)
    left @ right  # the first product on a GPU loads its kernel
    rates, times = [], []
    for _ in range(TURNS):
        rates.append(2 * side**3 / measure_seconds(lambda: left @ right))
        times.append(measure_seconds(run))
    return counter.get_total_flops() / min(times) / max(rates)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, as a smoke test")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="epochs of each method")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    if options.smoke:
        clip = FrozenCLIP.load("pocket")
        tiny = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
        share = measure_share(clip, tiny, epochs=1, side=256)
    else:
        clip = FrozenCLIP.load(BACKBONE, device=options.device)
        sizes = Sizes(shots=4, batch=64, seeds=options.seeds)
        side = SIDE if options.device == "cpu" else SIDE_ON_GPU
        share = measure_share(clip, sizes, options.epochs, side)
    threads = f"{torch.get_num_threads()} threads"
    device = threads if options.device == "cpu" else get_device_label("cuda")
    Console().print(f"a whole trial: {share:.0%} of the rate of matrix products, {device}")


if __name__ == "__main__":
    main()
