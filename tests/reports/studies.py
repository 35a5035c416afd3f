"""Fake studies of every protocol, over datasets, and with measured quality."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.reports.builder import StoreBuilder, scores

KL = "generator.kl_weight"
SEEDS = range(5)


def harmonic(first: float, second: float) -> float:
    """The harmonic mean of two percentages."""
    return 2 * first * second / (first + second)


def one_factor(key: str, levels: Sequence[Any], baseline: Any) -> list[dict[str, Any]]:
    """The factors of a study of one."""
    return [{"key": key, "levels": list(levels), "log": False, "baseline": baseline}]


def leveled(
    new: Mapping[Any, float], key: str = "generator.n_ctx", seeds: int = 2, by_seed: float = 1.0,
    log: bool = False, **fields: Any,
) -> StoreBuilder:  # fmt: skip
    """A study of one factor: each level's new accuracy, to which seed s adds s times by_seed.

    The first level is the baseline, unless `fields` have factors of their own.
    """
    factor = one_factor(key, list(new), next(iter(new)))[0] | {"log": log}
    options = {"name": "prompt_len", "factors": [factor], **fields}
    return crossed({key: list(new)}, lambda level, s: new[level] + by_seed * s, seeds, **options)


def crossed(
    levels: Mapping[str, Sequence[Any]],
    value: Callable[..., float | Mapping[str, float]],
    seeds: int = 5,
    **fields: Any,
) -> StoreBuilder:
    """Every combination of the factors' levels, of which the first are the baseline.

    Args:
        levels: by factor.
        value: of a combination's levels and a seed, its new accuracy or all its metrics.
        seeds: how many.
        fields: of the builder.
    """
    factors = [factor for key, of in levels.items() for factor in one_factor(key, of, of[0])]
    builder = StoreBuilder(**{"name": "made", "factors": factors, "seeds": range(seeds), **fields})
    for cell in itertools.product(*levels.values()):
        metrics = {s: value(*cell, s) for s in range(seeds)}
        results = {s: v if isinstance(v, Mapping) else scores(v) for s, v in metrics.items()}
        builder.trial(dict(zip(levels, cell, strict=True)), results)
    return builder


def quality(seed: int, collapse: float = 0.0) -> dict[str, float]:
    """Measured quality of one seed; `collapse` 1: every feature of a class is one point."""
    noise = float(np.random.default_rng(seed).normal(0, 0.01))
    values = {
        "cosine_to_mean": 0.81 + noise, "text_cosine_to_mean": 0.74,
        "frechet": 0.412 + noise, "frechet_error": 0.012, "mmd": 0.051 + noise / 10,
        "mmd_error": 0.002, "precision": 0.71 + noise, "recall": 0.43 * (1 - collapse) + noise,
        "density": 0.9 + noise, "coverage": 0.55 + noise, "real_to_synthetic": 91.2 + 10 * noise,
        "synthetic_to_real": 63.4 + 10 * noise, "diversity": 0.31 * (1 - collapse),
        "real_diversity": 0.52, "effective_rank": 41.3 * (1 - collapse) + 1,
        "real_effective_rank": 88.1, "recognized_by_images": 71.5 + 10 * noise,
        "recognized_by_text": 93.0,
    }  # fmt: skip
    return {f"quality/{name}": value for name, value in values.items()}


def one_softmax(seen: float, unseen: float) -> dict[str, float]:
    """The metrics of generalized_zero_shot that belong to S and U."""
    return {
        "seen": seen, "unseen": unseen, "harmonic_mean": harmonic(seen, unseen),
        "calibrated_seen": seen - 5, "calibrated_unseen": unseen + 6,
        "calibrated_harmonic_mean": harmonic(seen - 5, unseen + 6), "ausuc": seen * unseen / 130,
    }  # fmt: skip


def collapsing(protocol: str = "generalized_zero_shot", **fields: Any) -> StoreBuilder:
    """KL weights of which the largest collapses on 3 of 5 seeds; quality and flags throughout."""
    levels = (0.01, 0.1, 1)
    builder = StoreBuilder(
        name="kl", factors=one_factor(KL, levels, 0.1), protocol=protocol, **fields
    )
    for weight in levels:
        fallen = [0, 2, 4] if weight == 1 else []
        results = {
            s: one_softmax(60 + s / 3, 50 + weight + (s % 3)) | quality(s, 0.9 * (s in fallen))
            for s in SEEDS
        }
        flags = {"posterior_collapse": fallen, "diversity_collapse": [], "mean_gap": []}
        builder.trial({KL: weight}, results, flags=flags)
    builder.trial({}, {s: one_softmax(61.0, 44.0) for s in SEEDS}, control="zero_shot")
    same = {s: one_softmax(60 + s / 4, 49.0) | quality(s, 0.95) for s in SEEDS}
    return builder.trial(
        {}, same, control="text_feature", flags={"diversity_collapse": list(SEEDS)}
    )


def few_shot(selection: str = "base_val") -> StoreBuilder:
    """Two fine-tuners on all classes."""
    return crossed(
        {"finetuner": ["coop", "tip_adapter"]},
        lambda name, s: {"accuracy": 61.0 + s + (name == "tip_adapter") * (2 + s / 5)},
        name="few", protocol="few_shot", objective="accuracy", selection=selection,
    )  # fmt: skip


def cross_dataset(
    targets: Sequence[str] = ("caltech101", "dtd"), shots: Sequence[int] = (16,)
) -> StoreBuilder:
    """From emoji to targets, with and without synthesis; selection has base-to-new's metrics."""
    factors = one_factor("generator", ["none", "vae"], "none")
    factors += one_factor("shots", shots, shots[0]) if len(shots) > 1 else []
    listed = json.dumps(list(targets))
    builder = StoreBuilder(
        name="cross", factors=factors, protocol="cross_dataset", constants={"targets": listed}
    )
    for (gain, name), count in itertools.product(enumerate(("none", "vae")), shots):
        results = {}
        for s in SEEDS:
            each = {t: 40.0 + 9 * i + gain + s * (1 + gain / 9) for i, t in enumerate(targets)}
            results[s] = {
                "accuracy": sum(each.values()) / len(each), "source": 72.0 + s,
                **{f"accuracy/{target}": value for target, value in each.items()},
            }  # fmt: skip
        assignment = {"generator": name} | ({"shots": count} if len(shots) > 1 else {})
        builder.trial(assignment, results, selected=scores(50.0 + count))
    return builder


def over_datasets(
    names: Sequence[str] = ("emoji", "caltech101", "dtd"),
    generators: Sequence[str] = ("none", "vae", "wgan"),
    *,
    skip: Mapping[tuple[str, str], str] | None = None,
    seeds: Sequence[int] = tuple(SEEDS),
) -> StoreBuilder:
    """Generators times datasets; what `skip` names ended in that state ("MISSING": never ran)."""
    factors = [
        *one_factor("dataset", names, names[0]), *one_factor("generator", generators, generators[0])
    ]  # fmt: skip
    builder = StoreBuilder(name="main", factors=factors, seeds=seeds)
    rng = np.random.default_rng(3)
    for place, dataset in enumerate(names):
        for gain, generator in enumerate(generators):
            assignment = {"dataset": dataset, "generator": generator}
            state = (skip or {}).get((generator, dataset), "COMPLETE")
            results = {
                s: scores(
                    45.0 + 12 * (place % 4) + gain + float(rng.normal(0, 1)),
                    82.0 - 9 * (place % 5) + s,
                )
                | ({} if generator == "none" else quality(s))
                for s in seeds
            }
            if state == "MISSING":
                builder.want(assignment)
            else:
                builder.trial(assignment, results, state=state, reason="worker died")
    builder.trial({}, {s: scores(44.0, 80.0) for s in seeds}, control="zero_shot")
    same = {s: scores(45.0, 80.0 + s) | quality(s, 0.9) for s in seeds}
    return builder.trial({}, same, control="text_feature")
