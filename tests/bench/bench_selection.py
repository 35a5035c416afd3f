"""python -m tests.bench.bench_selection [--smoke]: which epoch to choose, how to train up to it.

Selection `pseudo_new` chooses an epoch in a training on half of the base classes, and the tested
model is trained on all of them, with about twice as many steps per epoch. Two questions are open:
which epoch of a noisy curve to choose (RULES), and how to train up to it (TRANSFERS). They are
asked of classes that are base classes in every packaged study (the first half of `photos`), so that
no new class of any table is looked at: half of these play the new classes.

Prints H of the tested models, mean and standard deviation over seeds, per rule and transfer, and
the means over all methods. About an hour on two cores; `--methods clip_adapter` takes a minute.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table

from ship.clip import FrozenCLIP
from ship.datasets import load_dataset
from ship.features import extract_features
from ship.finetuners import build_finetuner
from ship.generators import FeatureSource, Synthesizer, build_generator
from ship.protocols import EvalSet, Protocol, build_protocol
from ship.subsets import FeatureSet, select_studied_classes
from ship.tasks import Task
from ship.trial_config import TrialConfig
from tests.bench.steps import Sizes, make_random_features

Scores = npt.NDArray[np.float64]
Epochs = npt.NDArray[np.int64]

VAE: Final = {
    "name": "vae", "latent_dim": 128, "encoder_hidden": 512, "generator_hidden": 1024,
    "kl_weight": 0.001, "epochs": 20, "batch_size": 64,
}  # fmt: skip
# Shots and settings. Batches are half of the packaged studies', as there are half as many classes.
METHODS: Final[Mapping[str, tuple[int, dict[str, Any]]]] = {
    "clip_adapter": (4, {"lr": 0.003, "epochs": 60, "batch_size": 16}),
    "tip_adapter_f": (4, {"lr": 0.001, "epochs": 20, "batch_size": 32}),
    "kgcoop": (4, {"lr": 0.3, "epochs": 20, "batch_size": 32}),
    "coop": (16, {"lr": 0.3, "epochs": 60, "batch_size": 128}),
}
MAX_LENGTHS: Final = 12
"""Number of schedule lengths that are trained at most; a chosen epoch takes the nearest one."""
PATIENCE: Final = 5
SMALL: Final = Sizes(n_classes=16, shots=4)


def first_best(curve: Scores) -> Epochs:
    """Choose each seed's own maximum; the curve is (epoch, seed)."""
    return curve.argmax(0)


def within(points: float) -> Callable[[Scores], Epochs]:
    """Choose each seed's last epoch within so many points of its maximum."""

    def choose(curve: Scores) -> Epochs:
        close = curve >= curve.max(0) - points
        return len(curve) - 1 - close[::-1].argmax(0)

    return choose


def patient(curve: Scores) -> Epochs:
    """Choose each seed's best epoch before PATIENCE epochs without a better one."""
    chosen = np.zeros(curve.shape[1], dtype=np.int64)
    for seed, values in enumerate(curve.T):
        for epoch, value in enumerate(values):
            if value > values[chosen[seed]]:
                chosen[seed] = epoch
            elif epoch - chosen[seed] >= PATIENCE:
                break
    return chosen


def best_of_mean(curve: Scores) -> Epochs:
    """Choose the epoch with the best mean over seeds, for all of them."""
    return np.full(curve.shape[1], curve.mean(1).argmax())


def last(curve: Scores) -> Epochs:
    """Choose the last epoch."""
    return np.full(curve.shape[1], len(curve) - 1)


RULES: Final[Mapping[str, Callable[[Scores], Epochs]]] = {
    "own maximum": first_best,
    "last within 1 point": within(1),
    "last within 2 points": within(2),
    "last within 4 points": within(4),
    "patience": patient,
    "mean over seeds": best_of_mean,
    "last epoch": last,
}


@dataclass(frozen=True)
class Runs:
    """One method's trainings.

    Attributes:
        selection: H on the selection images, (epoch, seed), under the best inference choice.
        choices: That choice's place, (epoch, seed).
        full: Test H of a training with the whole schedule, (epoch, choice, seed).
        shortened: Test H at the end of schedules of fewer epochs, (choice, seed) by length.
        ratio: Steps per epoch in selection over those of the tested model.
    """

    selection: Scores
    inference_grid: Epochs
    full: Scores
    shortened: Mapping[int, Scores]
    ratio: float

    def tested(self, epochs: Epochs, transfer: str) -> Scores:
        """Return the test H of each seed that was tested at the chosen epoch, (seed,)."""
        return np.array([self._tested(int(e), s, transfer) for s, e in enumerate(epochs)])

    def _tested(self, epoch: int, seed: int, transfer: str) -> float:
        choice = self.inference_grid[epoch, seed]
        steps = max(1, round(epoch * self.ratio))
        if epoch == 0 or transfer == "epochs":
            epoch_metrics = self.full[epoch]
        elif transfer == "steps":
            epoch_metrics = self.full[steps]
        else:
            wanted = epoch if transfer == "epochs, schedule cut" else steps
            lengths = [*self.shortened, len(self.full) - 1]
            nearest = min(lengths, key=lambda length: abs(length - wanted))
            epoch_metrics = self.shortened.get(nearest, self.full[-1])
        return float(epoch_metrics[choice, seed])


TRANSFERS: Final = ("epochs", "steps", "epochs, schedule cut", "steps, schedule cut")


@dataclass(frozen=True)
class Trainer:
    """Trains one method for all seeds, and scores it after its epochs."""

    config: TrialConfig
    protocol: Protocol
    clip: FrozenCLIP
    seeds: Sequence[int]

    def generator(self, task: Task) -> FeatureSource | None:
        """Fit the generator on a task."""
        generator = build_generator(self.config.generator, task, self.clip, self.seeds)
        for _ in range(generator.epochs if generator else 0):
            generator.train_epoch()
        return generator

    def scores(
        self, eval_set: EvalSet, generator: FeatureSource | None, epochs: int
    ) -> tuple[Scores, int]:
        """Return H after each epoch, (epoch, choice, seed), and the steps of an epoch."""
        synthesizer = None
        if generator is not None:
            synthetic = self.config.synthetic
            synthesizer = Synthesizer(synthetic, generator.sample, eval_set.task, self.seeds)
        configurations = self.config.finetuner.model_copy(update={"epochs": epochs})
        finetuner = build_finetuner(
            configurations, eval_set.task, synthesizer, self.clip, self.seeds
        )
        scores = []
        for epoch in range(epochs + 1):
            if epoch:
                finetuner.train_epoch()
            logits = [
                finetuner.logits(eval_set.images.features, c) for c in finetuner.inference_grid
            ]
            scored = [
                self.protocol.score(eval_set.predictions(row), eval_set, None) for row in logits
            ]
            scores.append(torch.stack([metrics["harmonic_mean"] for metrics in scored]))
        return torch.stack(scores).double().numpy(), finetuner.steps


def train(trainer: Trainer) -> Runs:
    """Train one method: for selection, for the test, and for the test with shorter schedules."""
    chosen_on, tested_on = trainer.protocol.selection, trainer.protocol.tested_models[0][0]
    if chosen_on is None:
        raise ValueError("the bench needs selection pseudo_new")
    epochs = int(getattr(trainer.config.finetuner, "epochs", 0))
    selection, fewer = trainer.scores(chosen_on, trainer.generator(chosen_on.task), epochs)
    generator = trainer.generator(tested_on.task)
    full, steps = trainer.scores(tested_on, generator, epochs)
    lengths = set(range(0, epochs, max(2, epochs // MAX_LENGTHS))) - {0}
    lengths |= {max(1, round(length * fewer / steps)) for length in (*lengths, epochs)}
    shortened = {n: trainer.scores(tested_on, generator, n)[0][-1] for n in sorted(lengths)}
    return Runs(selection.max(1), selection.argmax(1), full, shortened, fewer / steps)


def photos(clip: FrozenCLIP) -> FeatureSet:
    """Return the features of the packaged photographs."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        dataset = load_dataset("photos", None, folder / "digests")
        splits = ("train", "val", "test")
        return extract_features(clip, dataset, 2, folder, lambda *_: None, splits, None)


def show(runs: Mapping[str, Runs]) -> None:
    """Print a row per rule and transfer, a column per method."""
    table = Table("epoch", "carried as", *runs, "mean H", "mean SD")
    for rule, choose in RULES.items():
        for transfer in TRANSFERS:
            results = [run.tested(choose(run.selection), transfer) for run in runs.values()]
            means = [values.mean() for values in results]
            deviations = [values.std(ddof=1) for values in results]
            pairs = zip(means, deviations, strict=True)
            cells = [f"{mean:.1f} ({deviation:.1f})" for mean, deviation in pairs]
            averages = f"{np.mean(means):.2f}", f"{np.mean(deviations):.2f}"
            table.add_row(rule, transfer, *cells, *averages)
    Console(width=220).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train each method with and without SHIP's features, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="so small that it says nothing")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    options = parser.parse_args(arguments)
    clip = FrozenCLIP.load("pocket")
    features = make_random_features(clip, SMALL) if options.smoke else photos(clip)
    seeds = range(options.first_seed, options.first_seed + (2 if options.smoke else options.seeds))
    runs = {}
    for name in options.methods[: 1 if options.smoke else None]:
        shots, configurations = METHODS[name]
        for generator in ({"name": "none"}, VAE)[: 1 if options.smoke else None]:
            small = {"epochs": 2} if options.smoke else {}
            config = TrialConfig.model_validate(
                {
                    "dataset": "photos",
                    "max_classes": features.n_base,
                    "shots": shots,
                    "generator": generator,
                    "finetuner": {"name": name, **configurations, **small},
                    "synthetic": {"resample": False},
                }
            )
            studied = select_studied_classes(config, features)
            protocol = build_protocol(config, seeds, studied, {}, clip)
            label = f"{name}, {generator['name']}"
            runs[label] = train(Trainer(config, protocol, clip, seeds))
    show(runs)


if __name__ == "__main__":
    main()
