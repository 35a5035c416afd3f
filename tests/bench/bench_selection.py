"""python -m tests.bench.bench_selection [--smoke]: compare rules that select an epoch.

Selection `pseudo_new` selects an epoch while training on half of the base classes. The tested model
is then trained on all base classes, with about twice as many steps per epoch. The benchmark
compares rules that select an epoch of a noisy curve (RULES), and ways to train the tested model for
as long (TRANSFERS). It uses only the first half of the classes of `photos`, which are base classes
in every packaged study, and treats half of them as new classes. The new classes of published tables
are therefore not used for this choice.

It prints mean and standard deviation over seeds of the tested models' H, per rule and transfer, and
the means over all methods. It takes about an hour on two cores, or a minute with `--methods
clip_adapter`.
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
# Shots and settings. Batches are half as large as in the packaged studies, because there are half
# as many classes.
METHODS: Final[Mapping[str, tuple[int, dict[str, Any]]]] = {
    "clip_adapter": (4, {"lr": 0.003, "epochs": 60, "batch_size": 16}),
    "tip_adapter_f": (4, {"lr": 0.001, "epochs": 20, "batch_size": 32}),
    "kgcoop": (4, {"lr": 0.3, "epochs": 20, "batch_size": 32}),
    "coop": (16, {"lr": 0.3, "epochs": 60, "batch_size": 128}),
}
MAX_LENGTHS: Final = 12
"""Maximum number of schedule lengths that are trained. A selected epoch uses the nearest length."""
PATIENCE: Final = 5
SMALL: Final = Sizes(n_classes=16, shots=4)


def select_maximum(curve: Scores) -> Epochs:
    """Return the best epoch of each seed. The curve is (epoch, seed)."""
    return curve.argmax(0)


def make_tolerant_rule(points: float) -> Callable[[Scores], Epochs]:
    """Return a rule that selects each seed's last epoch within some points of its maximum."""

    def select(curve: Scores) -> Epochs:
        is_close = curve >= curve.max(0) - points
        return len(curve) - 1 - is_close[::-1].argmax(0)

    return select


def select_with_patience(curve: Scores) -> Epochs:
    """Return the best epoch of each seed before PATIENCE epochs without a better one."""
    selected = np.zeros(curve.shape[1], dtype=np.int64)
    for seed, values in enumerate(curve.T):
        for epoch, value in enumerate(values):
            if value > values[selected[seed]]:
                selected[seed] = epoch
            elif epoch - selected[seed] >= PATIENCE:
                break
    return selected


def select_best_mean(curve: Scores) -> Epochs:
    """Return the epoch with the best mean over seeds, for all seeds."""
    return np.full(curve.shape[1], curve.mean(1).argmax())


def select_last(curve: Scores) -> Epochs:
    """Return the last epoch, for all seeds."""
    return np.full(curve.shape[1], len(curve) - 1)


RULES: Final[Mapping[str, Callable[[Scores], Epochs]]] = {
    "maximum per seed": select_maximum,
    "last within 1 point": make_tolerant_rule(1),
    "last within 2 points": make_tolerant_rule(2),
    "last within 4 points": make_tolerant_rule(4),
    "patience": select_with_patience,
    "mean over seeds": select_best_mean,
    "last epoch": select_last,
}


@dataclass(frozen=True)
class MethodScores:
    """Scores of one method.

    Attributes:
        selection: H on the selection images with the best inference choice, (epoch, seed).
        choices: Index of that choice, (epoch, seed).
        full: Test H with the whole schedule, (epoch, choice, seed).
        shortened: Test H at the end of shorter schedules, (choice, seed) by number of epochs.
        ratio: Steps per epoch in selection divided by those of the tested model.
    """

    selection: Scores
    choices: Epochs
    full: Scores
    shortened: Mapping[int, Scores]
    ratio: float

    def look_up_test_scores(self, epochs: Epochs, transfer: str) -> Scores:
        """Return the test H of each seed, (seed,).

        Args:
            epochs: Selected epoch of each seed, (seed,).
            transfer: One of TRANSFERS.
        """
        scores = [
            self._look_up_test_score(int(epoch), seed, transfer)
            for seed, epoch in enumerate(epochs)
        ]
        return np.array(scores)

    def _look_up_test_score(self, epoch: int, seed: int, transfer: str) -> float:
        choice = self.choices[epoch, seed]
        epoch_of_same_steps = max(1, round(epoch * self.ratio))
        if epoch == 0 or transfer == "epochs":
            scores = self.full[epoch]
        elif transfer == "steps":
            scores = self.full[epoch_of_same_steps]
        else:
            target = epoch if transfer == "epochs, schedule cut" else epoch_of_same_steps
            lengths = [*self.shortened, len(self.full) - 1]
            nearest = min(lengths, key=lambda length: abs(length - target))
            scores = self.shortened.get(nearest, self.full[-1])
        return float(scores[choice, seed])


# The tested model has as many epochs, or steps, as in selection. Its learning rate has the schedule
# of the whole training, or one that ends there.
TRANSFERS: Final = ("epochs", "steps", "epochs, schedule cut", "steps, schedule cut")


@dataclass(frozen=True)
class Trainer:
    """Trains one method for all seeds, and scores it after each epoch."""

    config: TrialConfig
    protocol: Protocol
    clip: FrozenCLIP
    seeds: Sequence[int]

    def fit_generator(self, task: Task) -> FeatureSource | None:
        """Return the generator, fitted on a task, or None without synthesis."""
        generator = build_generator(self.config.generator, task, self.clip, self.seeds)
        for _ in range(generator.epochs if generator else 0):
            generator.train_epoch()
        return generator

    def score_epochs(
        self, eval_set: EvalSet, generator: FeatureSource | None, epochs: int
    ) -> tuple[Scores, int]:
        """Train the fine-tuner. Return H after each epoch, (epoch, choice, seed), and its steps."""
        synthesizer = None
        if generator is not None:
            synthetic = self.config.synthetic
            synthesizer = Synthesizer(synthetic, generator.sample, eval_set.task, self.seeds)
        settings = self.config.finetuner.model_copy(update={"epochs": epochs})
        finetuner = build_finetuner(settings, eval_set.task, synthesizer, self.clip, self.seeds)
        features = eval_set.images.features
        scores = []
        for epoch in range(epochs + 1):
            if epoch:
                finetuner.train_epoch()
            logits = [finetuner.logits(features, choice) for choice in finetuner.inference_grid]
            metrics_by_choice = [
                self.protocol.score(eval_set.predictions(row), eval_set, None) for row in logits
            ]
            means = [metrics["harmonic_mean"] for metrics in metrics_by_choice]
            scores.append(torch.stack(means))
        return torch.stack(scores).double().numpy(), finetuner.steps


def score_method(trainer: Trainer) -> MethodScores:
    """Train one method: for selection, for the test, and for the test with shorter schedules."""
    selection_set, test_set = trainer.protocol.selection, trainer.protocol.tested_models[0][0]
    if selection_set is None:
        raise ValueError("the bench needs selection pseudo_new")
    epochs = int(getattr(trainer.config.finetuner, "epochs", 0))
    generator = trainer.fit_generator(selection_set.task)
    selection, selection_steps = trainer.score_epochs(selection_set, generator, epochs)
    generator = trainer.fit_generator(test_set.task)
    full, steps = trainer.score_epochs(test_set, generator, epochs)
    ratio = selection_steps / steps
    lengths = set(range(0, epochs, max(2, epochs // MAX_LENGTHS))) - {0}
    lengths |= {max(1, round(length * ratio)) for length in (*lengths, epochs)}
    shortened = {
        length: trainer.score_epochs(test_set, generator, length)[0][-1]
        for length in sorted(lengths)
    }
    return MethodScores(selection.max(1), selection.argmax(1), full, shortened, ratio)


def extract_photos(clip: FrozenCLIP) -> FeatureSet:
    """Return the features of the packaged photographs."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        dataset = load_dataset("photos", None, folder / "digests")
        splits = ("train", "val", "test")
        return extract_features(clip, dataset, 2, folder, lambda *_: None, splits, None)


def print_scores(methods: Mapping[str, MethodScores]) -> None:
    """Print a table with a row per rule and transfer, and a column per method."""
    table = Table("rule", "transfer", *methods, "mean H", "mean SD")
    for rule, select in RULES.items():
        for transfer in TRANSFERS:
            results = [
                scores.look_up_test_scores(select(scores.selection), transfer)
                for scores in methods.values()
            ]
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
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, as a smoke test")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--methods", nargs="+", choices=[*METHODS], default=[*METHODS])
    options = parser.parse_args(arguments)
    clip = FrozenCLIP.load("pocket")
    features = make_random_features(clip, SMALL) if options.smoke else extract_photos(clip)
    seeds = range(options.first_seed, options.first_seed + (2 if options.smoke else options.seeds))
    scores_by_method = {}
    for name in options.methods[: 1 if options.smoke else None]:
        shots, settings = METHODS[name]
        for generator in ({"name": "none"}, VAE)[: 1 if options.smoke else None]:
            small = {"epochs": 2} if options.smoke else {}
            config = TrialConfig.model_validate(
                {
                    "dataset": "photos",
                    "max_classes": features.n_base,
                    "shots": shots,
                    "generator": generator,
                    "finetuner": {"name": name, **settings, **small},
                    "synthetic": {"resample": False},
                }
            )
            studied = select_studied_classes(config, features)
            protocol = build_protocol(config, seeds, studied, {}, clip)
            label = f"{name}, {generator['name']}"
            scores_by_method[label] = score_method(Trainer(config, protocol, clip, seeds))
    print_scores(scores_by_method)


if __name__ == "__main__":
    main()
