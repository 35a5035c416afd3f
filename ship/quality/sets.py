"""The two feature sets of one replica that are compared, over the classes that both have."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Most features of a set that are used. The k-NN and kernel metrics are quadratic in it, and a set
# of this size takes about half a second a replica on one core.
MAX_FEATURES = 1000


@dataclass(frozen=True)
class LabelledSet:
    """Features and the classes they are of, numbered from 0; every class has at least one."""

    features: Float[Tensor, "n feature"]
    labels: Int[Tensor, " n"]

    @property
    def counts(self) -> Int[Tensor, " n_cls"]:
        """Features of each class."""
        return self.labels.bincount()

    def rows(self, keep: Tensor) -> "LabelledSet":
        """A subset, by mask or by index, which may be on the CPU, where subsets are drawn."""
        keep = keep.to(self.labels.device)
        return LabelledSet(self.features[keep], self.labels[keep])


@dataclass(frozen=True)
class ComparedSets:
    """What is compared: synthetic and real features of the same classes, and the classes' texts."""

    synthetic: LabelledSet
    real: LabelledSet
    text: Float[Tensor, "n_cls feature"]


def compared_sets(
    synthetic: Float[Tensor, "m feature"],
    synthetic_labels: Int[Tensor, " m"],
    real: Float[Tensor, "n feature"],
    real_labels: Int[Tensor, " n"],
    text_features: Float[Tensor, "n_universe feature"],
    generator: torch.Generator,
) -> ComparedSets | None:
    """Keep the classes that both sets have, and at most MAX_FEATURES of each set.

    A longer set is cut by a draw that is even over its classes.

    Args:
        synthetic: features that were made.
        synthetic_labels: of each of those.
        real: features of pictures.
        real_labels: of each of those.
        text_features: of every class that a label may name.
        generator: draws what is left out, on the CPU.

    Returns:
        Both sets, labels renumbered from 0 in ascending order; None where no class is shared.

    Raises:
        ValueError: a feature is not finite.
    """
    for name, features in (("synthetic", synthetic), ("real", real), ("text", text_features)):
        if not bool(features.isfinite().all()):
            raise ValueError(f"{name} features must be finite to be measured")
    size = len(text_features)
    shared = synthetic_labels.bincount(minlength=size).bool()
    shared &= real_labels.bincount(minlength=size).bool()
    if not bool(shared.any()):
        return None
    number = shared.cumsum(0) - 1

    def restricted(features: Tensor, labels: Tensor) -> LabelledSet:
        keep = shared[labels]
        rows = LabelledSet(features[keep], number[labels[keep]])
        return rows.rows(even_draw(rows.labels, MAX_FEATURES, generator))

    return ComparedSets(
        restricted(synthetic, synthetic_labels),
        restricted(real, real_labels),
        text_features[shared],
    )


def even_draw(
    labels: Int[Tensor, " n"], size: int, generator: torch.Generator
) -> Int[Tensor, " k"]:
    """Rows of a random subset of at most `size`, as even over the classes as their counts allow.

    Every class keeps at least one row where there are no more than `size` classes.

    Args:
        labels: of each row.
        size: most rows that are kept.
        generator: draws on the CPU.
    """
    if len(labels) <= size:
        return torch.arange(len(labels))
    rank = rank_within_class(labels, generator)
    # the fraction shuffles rows of one rank, so that no class comes first
    order = (rank + torch.rand(len(labels), generator=generator, dtype=torch.float64)).argsort()
    kept: Tensor = order[:size].sort().values
    return kept


def rank_within_class(labels: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Each row's place, from 0, in a random order of the rows of its class; on the CPU."""
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=generator)
    order = order[labels[order].argsort(stable=True)]
    counts = labels.bincount()
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(labels)
    rank[order] = torch.arange(len(labels)) - first[labels[order]]
    return rank


def matched_sets(
    sets: ComparedSets, generator: torch.Generator
) -> tuple[LabelledSet, LabelledSet] | None:
    """Synthetic and real features, as many of each class in both; classes with two or more.

    For measures that grow with the number of pictures. The set that has more of a class is cut by
    a random draw. None where no class has two of both.
    """
    limit = torch.minimum(sets.synthetic.counts, sets.real.counts)
    limit = torch.where(limit < 2, 0, limit)
    if not bool(limit.any()):
        return None

    def cut(rows: LabelledSet) -> LabelledSet:
        rank = rank_within_class(rows.labels, generator)
        return rows.rows(rank < limit[rows.labels].cpu())

    return cut(sets.synthetic), cut(sets.real)
