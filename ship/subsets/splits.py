"""Which pictures and which classes a trial may see: few-shot draws, pseudo-new classes."""

import hashlib
from collections.abc import Sequence
from math import floor

import numpy as np
from jaxtyping import Int64, UInt64

Ids = Int64[np.ndarray, " _"]


def few_shot_indices(
    labels: Int64[np.ndarray, " pictures"], shots: int, seed: int, classes: Sequence[int] | Ids
) -> Ids:
    """Draw `shots` pictures of each class, at random but fixed by (seed, class).

    A class's draw depends on nothing else: not on the other classes, nor on call order; the draw
    of fewer shots is part of the draw of more. A class with fewer pictures gives all it has.

    Args:
        labels: the label of each picture.
        classes: labels to draw from, in any order.
    Returns:
        Sorted indices into `labels`.
    Raises:
        ValueError: shots < 1, or a class without pictures.
    """
    if shots < 1:
        raise ValueError(f"shots must be >= 1, got {shots}")
    drawn = []
    for label in sorted({int(label) for label in classes}):
        own = np.flatnonzero(labels == label)
        if not len(own):
            raise ValueError(f"class {label} has no picture to draw from")
        drawn.append(own[_shuffled(len(own), f"few_shot {seed} {label}")[:shots]])
    found = np.concatenate(drawn) if drawn else np.empty(0)
    return np.sort(found).astype(np.int64)


def pseudo_new_classes(
    base_ids: Sequence[int] | Ids, fraction: float, seed: int
) -> tuple[Ids, Ids]:
    """Hold out a seeded part of the base classes as pseudo-new, for selection.

    Sizes follow from the number of classes and the fraction alone, so that H of two seeds is over
    equally many classes. Each group keeps at least 2 classes, or 1 where there are fewer than 4.

    Args:
        base_ids: distinct labels.
        fraction: share that becomes pseudo-new, between 0 and 1.
    Returns:
        (seen, pseudo-new) labels, each sorted.
    Raises:
        ValueError: fewer than 2 classes, or a fraction outside (0, 1).
    """
    ids = np.sort(np.asarray(base_ids, dtype=np.int64))
    if len(ids) < 2:
        raise ValueError(f"a pseudo-new split needs at least 2 base classes, got {len(ids)}")
    if not 0 < fraction < 1:
        raise ValueError(f"pseudo_new_fraction must lie between 0 and 1, got {fraction}")
    least = 2 if len(ids) >= 4 else 1
    n_pseudo = min(max(floor(fraction * len(ids) + 0.5), least), len(ids) - least)
    order = ids[_shuffled(len(ids), f"pseudo_new {seed}")]
    return np.sort(order[n_pseudo:]), np.sort(order[:n_pseudo])


def _shuffled(n: int, key: str) -> Int64[np.ndarray, " n"]:
    """A permutation fixed by `key` on every machine.

    It sorts raw PCG64 output, which numpy promises never to change; the streams of Generator's
    methods may change between releases, and results would stop being comparable.
    """
    words = np.frombuffer(hashlib.sha256(key.encode()).digest(), dtype="<u4")
    raw: UInt64[np.ndarray, " n"] = np.random.PCG64(words.tolist()).random_raw(n)
    return np.argsort(raw, kind="stable")
