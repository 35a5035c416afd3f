"""The cost of a trial, counted on a short form of it that runs without a backbone's weights."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ship.cost.blank_clip import BlankCLIP
from ship.cost.counter import Counter
from ship.cost.epochs import Rates, shortened
from ship.settings import shared_shape
from ship.subsets import FeatureSet, studied_classes
from ship.trial import run_trial
from ship.trial_config import TrialConfig

# An epoch that begins a stage has other work in it, and one that ends it may be evaluated.
EPOCHS = 2
REFERENCE_EPOCHS = 3
# Steps of an epoch that are counted one by one, about.
MOST_STEPS = 16
# Stages behind selection.
_LATER = ("final_generator", "final", "test")


@dataclass(frozen=True)
class Counted:
    """What was counted of trials that differ in their epochs alone.

    rates: floating-point operations of one replica; a multiplication and an addition are two.
        Elementwise work and decompositions are left out.
    shared: operations beside them that all replicas share: sentences that are encoded once.
    """

    rates: Rates
    shared: float

    def flops(
        self, config: TrialConfig, replicas: int, ran: Mapping[str, int] | None = None
    ) -> float:
        """Operations of a whole trial, all its replicas together.

        Args:
            config: of the trial.
            replicas: seeds, times settings that are trained beside each other.
            ran: items that were reported, by stage; None: all that are planned. A generator's early
                stopping and a scheduler end some trials sooner, and the tested model is trained
                only up to the epoch that selection chose: then it is an upper bound.
        """
        return self.shared + replicas * self.rates.total(config, ran)


def count_trial(
    config: TrialConfig,
    features: FeatureSet,
    targets: Mapping[str, FeatureSet],
    clip: BlankCLIP,
    replicas: int = 1,
) -> Counted:
    """Run a short form of a trial, with its arithmetic counted.

    Args:
        config: of the trial.
        features: of config.dataset; names and labels are looked at, and of features the size alone
            matters (random_features).
        targets: of config.targets, by name.
        clip: the backbone without its weights.
        replicas: seeds that it is run with.

    Raises:
        ValueError: the dataset cannot carry the setting.
    """
    most = REFERENCE_EPOCHS if config.selection == "reference" else EPOCHS
    smaller, part = _fewer_steps(shortened(config, most), features)
    counter = Counter()
    clip.begin(counter)
    spent: dict[str, list[float]] = defaultdict(list)
    with counter:
        for trial in _stages(smaller):
            before = counter.flops
            for item in run_trial(trial, range(replicas), features, clip, targets):
                if item.stage in _LATER and retrains(trial):
                    break  # which of the later epochs run is a matter of what was chosen
                spent[item.stage].append((counter.flops - before) / replicas)
                before = counter.flops
    rates = Rates.of(smaller, spent)
    epoch = {stage: each / part for stage, each in rates.epoch.items()}
    return Counted(replace(rates, epoch=epoch), clip.text_flops)


def count_memory(
    config: TrialConfig,
    features: FeatureSet,
    targets: Mapping[str, FeatureSet],
    clip: BlankCLIP,
) -> int:
    """Bytes that one replica's tensors hold at once, beside the backbone.

    Replicas have theirs beside each other, so that more of them take as many times more, at most:
    what is held whatever runs (a bounded number of prompts at once) is counted for each of them.
    Attention's scores are among them, which a fused kernel does not keep; the allocator's slack is
    not.

    Args:
        config, features, targets, clip: as of count_trial.
    """
    last = config.model_copy(update={"selection": "none", "objective": None})
    counter = Counter()
    clip.begin(counter)
    with counter:
        for _ in run_trial(shortened(last, 1), (0,), features, clip, targets):
            pass
    return counter.peak


def alike(config: TrialConfig) -> Hashable:
    """The same for trials of which one count stands for all: they differ in epochs, or by replica.

    What replicas of a fused trial may differ in (ship.settings.PER_REPLICA) changes numbers alone.
    """
    return shared_shape(shortened(config, EPOCHS))


def _fewer_steps(config: TrialConfig, features: FeatureSet) -> tuple[TrialConfig, float]:
    """The trial with fewer shots where its epochs have very many steps, and its part of pictures.

    Where a step takes few pictures, an epoch takes as many times more as there are more of them.
    """
    labels = studied_classes(config, features).train_labels
    counts = np.bincount(labels)
    shots = config.shots or int(counts.max(initial=1))
    batches = (
        getattr(own, "batch_size", len(labels)) for own in (config.generator, config.finetuner)
    )
    steps = np.minimum(counts, shots).sum() / max(1, min(batches))
    if steps <= MOST_STEPS:
        return config, 1.0
    fewer = max(1, int(shots * MOST_STEPS / steps))
    part = np.minimum(counts, fewer).sum() / np.minimum(counts, shots).sum()
    return config.model_copy(update={"shots": fewer}), float(part)


def _stages(short: TrialConfig) -> Iterator[TrialConfig]:
    """The trial; where it is retrained, all epochs of that apart, as if the last was chosen."""
    yield short
    if retrains(short):
        yield short.model_copy(update={"selection": "none", "objective": None})


def retrains(config: TrialConfig) -> bool:
    """Whether what is tested is trained anew, up to the epoch that selection chose."""
    if config.selection == "none":
        return False
    return config.selection == "pseudo_new" or config.protocol == "cross_dataset"


def random_features(bare: FeatureSet, config: TrialConfig, size: int) -> FeatureSet:
    """Unit-norm noise for each picture that the trial may look at: its cost needs no meaning.

    Args:
        bare: labels and class names of a dataset.
        config: of the trial; it says which classes, how many shots and how many views.
        size: of a feature.
    """
    bare = _shown(studied_classes(config, bare), config.shots)
    noise = _Noise(size)
    train = noise(bare.train_labels, 1 + config.views)
    return replace(bare, train=train, val=noise(bare.val_labels), test=noise(bare.test_labels))


def random_target(bare: FeatureSet, size: int) -> FeatureSet:
    """The same for a dataset that a trial tests on, whose test pictures are all that it sees.

    Args:
        bare: labels and class names of a dataset.
        size: of a feature.
    """
    none = np.zeros((0, size), np.float32)
    labels = bare.test_labels[:0]
    return replace(
        bare,
        train=none[:, None],
        train_labels=labels,
        val=none,
        val_labels=labels,
        test=_Noise(size)(bare.test_labels),
    )


class _Noise:
    """Unit-norm rows, always the same ones."""

    def __init__(self, size: int) -> None:
        self._size, self._rng = size, np.random.default_rng(0)

    def __call__(self, labels: np.ndarray, *views: int) -> np.ndarray:
        x = self._rng.standard_normal((len(labels), *views, self._size), dtype=np.float32)
        x /= np.linalg.norm(x, axis=-1, keepdims=True)
        return x


def _shown(bare: FeatureSet, shots: int | None) -> FeatureSet:
    """Without the training pictures that no draw can show: a large dataset has very many."""
    labels = bare.train_labels
    if shots is None or not len(labels):
        return bare
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], labels[order])
    kept = np.sort(order[np.arange(len(labels)) - starts < shots])
    return replace(bare, train=bare.train[kept], train_labels=labels[kept])
