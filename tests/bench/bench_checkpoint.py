"""What a checkpoint costs a trial: `python -m tests.bench.bench_checkpoint [--large]`.

A trial of the reference code's sizes stops behind its first epoch: how large its checkpoint is, and
how long it takes to make one, write it, read it and go on, beside the epoch itself.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console

from harness.checkpoint_storage import Storage
from ship.clip.frozen_clip import FrozenCLIP
from ship.training.checkpoint import Checkpoint
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.bench.bench_steps import Sizes, random_features
from tests.bench.timing import seconds, timed


@dataclass(frozen=True)
class CheckpointCost:
    """Seconds of each part, and the file's size."""

    name: str
    epoch_s: float
    make_s: float
    write_s: float
    read_s: float
    resume_s: float
    mebibytes: float

    def line(self) -> str:
        """For a person, and for Markdown."""
        parts = (self.epoch_s, self.make_s, self.write_s, self.read_s, self.resume_s)
        return f"| {self.name} | {self.mebibytes:.0f} | {' | '.join(f'{s:.2f}' for s in parts)} |"


def checkpoint_cost(clip: FrozenCLIP, sizes: Sizes) -> CheckpointCost:
    """One checkpoint in the second epoch of the generator, which has the largest state."""
    config = TrialConfig(
        quality=False,
        shots=sizes.shots,
        generator={"name": "vae", "epochs": 3, **sizes.generator()},
        finetuner={"name": "coop", "epochs": 1, "batch_size": sizes.coop_batch},
    )
    features, seeds = random_features(clip, sizes), range(sizes.seeds)
    run = run_trial(config, seeds, features, clip)
    next(run)
    epoch_s = seconds(lambda: next(run))

    def make() -> bytes:
        found = run.checkpoint()
        if found is None:
            raise RuntimeError("the trial has no state yet")
        return found.to_bytes()

    make_s, data = timed(make)
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder, "bench")
        write_s = seconds(lambda: storage.write("a", data))
        read_s, held = timed(lambda: Checkpoint.from_bytes(storage.read("a") or b""))
    resumed = run_trial(config, seeds, features, clip, resume=held)
    resume_s = seconds(lambda: next(resumed))  # builds the trial, and computes an epoch
    name = f"{clip.name}, {sizes.seeds} seeds"
    cost = (epoch_s, make_s, write_s, read_s, resume_s - epoch_s)
    return CheckpointCost(name, *cost, len(data) / 2**20)


def costs(*, large: bool) -> Iterator[CheckpointCost]:
    """On the packaged backbone, and on ViT-B/16 with random weights."""
    clips = [FrozenCLIP.load("pocket")]
    clips += [FrozenCLIP.load("ViT-B-16-quickgelu:random")] if large else []
    for clip in clips:
        for seeds in (1, 5, 10):
            yield checkpoint_cost(clip, Sizes(batch=64, shots=4, seeds=seeds))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also ViT-B/16")
    console = Console()
    console.print("| trial | MiB | epoch s | make s | write s | read s | build s |", markup=False)
    for row in costs(large=parser.parse_args().large):
        console.print(row.line(), markup=False)


if __name__ == "__main__":
    main()
