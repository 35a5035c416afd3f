"""python -m tests.bench.bench_trial: how near a whole trial comes to the rate of plain products.

A trial of SHIP's VAE and CoOp with synthesis, selection, retraining and test, on random features of
a ViT-B/16 with random weights. Its operations are counted by torch's FlopCounterMode in a run of
its own (products; attention on a GPU alone; all else counts as none). Then it is timed, in turns
with single precision products of a size that the machine does best. Quote the share, not the
seconds, and how many threads there were (OMP_NUM_THREADS).
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
from tests.bench.steps import Sizes, random_features

BACKBONE: Final = "ViT-B-16-quickgelu:random"
TURNS: Final = 3
SIDE: Final = 2048
"""Rows and columns of the products that a trial is held against."""
SIDE_ON_GPU: Final = 8192


def configuration(sizes: Sizes, epochs: int) -> TrialConfig:
    """So many epochs of each of the two, with the sizes of the reference code."""
    return TrialConfig.model_validate(
        {
            "backbone": BACKBONE,
            "shots": sizes.shots,
            "eval_every": epochs,
            "generator": {"name": "vae", "epochs": epochs, **sizes.generator()},
            "finetuner": {
                "name": "coop",
                "n_ctx": sizes.n_ctx,
                "epochs": epochs,
                "batch_size": sizes.coop_batch,
            },
            "synthetic": {"resample": False},
        }
    )


def trial(config: TrialConfig, seeds: int, features: FeatureSet, clip: FrozenCLIP) -> None:
    """The whole of it."""
    for _ in run_trial(config, range(seeds), features, clip):
        pass


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes, until a GPU has finished it, too."""
    begun = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def share(clip: FrozenCLIP, sizes: Sizes, epochs: int, side: int = SIDE) -> float:
    """Of the rate of plain products, the best of some turns of each."""
    features, config = random_features(clip, sizes), configuration(sizes, epochs)

    def whole() -> None:
        trial(config, sizes.seeds, features, clip)

    with FlopCounterMode(display=False) as counter:
        whole()
    left, right = torch.randn(2, side, side, device=clip.device)
    left @ right  # the first product on a GPU loads its kernel
    rates, times = [], []
    for _ in range(TURNS):
        rates.append(2 * side**3 / seconds(lambda: left @ right))
        times.append(seconds(whole))
    return counter.get_total_flops() / min(times) / max(rates)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="so small that it says nothing")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1, help="of generator and fine-tuner")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args(arguments)
    if options.smoke:
        clip = FrozenCLIP.load("pocket")
        tiny = Sizes(n_classes=8, shots=2, batch=4, coop_batch=4, latent=8, hidden=(16, 16))
        result = share(clip, tiny, epochs=1, side=256)
    else:
        clip = FrozenCLIP.load(BACKBONE, device=options.device)
        sizes = Sizes(shots=4, batch=64, seeds=options.seeds)
        result = share(
            clip, sizes, options.epochs, SIDE if options.device == "cpu" else SIDE_ON_GPU
        )
    threads = f"{torch.get_num_threads()} threads"
    where = threads if options.device == "cpu" else get_device_label("cuda")
    Console().print(f"a whole trial: {result:.0%} of the rate of products, {where}")


if __name__ == "__main__":
    main()
