"""The front door: replicas, what is left out, and planted faults."""

import math

import pytest
import torch

from ship.quality import flags, measure_quality
from ship.training.replicas import ReplicaRng
from tests.ship.quality.planted import clustered, unit

CENTRES = unit(6, 12)
TEXT = torch.nn.functional.normalize(CENTRES + 0.8 * unit(6, 12, seed=9), dim=1)
METRICS = {
    "cosine_to_mean", "text_cosine_to_mean", "frechet", "frechet_error", "mmd", "mmd_error",
    "precision", "recall", "density", "coverage", "real_to_synthetic", "synthetic_to_real",
    "diversity", "real_diversity", "effective_rank", "real_effective_rank",
}  # fmt: skip
Rows = tuple[torch.Tensor, torch.Tensor]


def measured(made: list[Rows], real: list[Rows], seeds: list[int]) -> dict[str, torch.Tensor]:
    """measure_quality of a list of replicas."""
    return measure_quality(
        torch.stack([features for features, _ in made]),
        torch.stack([labels for _, labels in made]),
        [features for features, _ in real],
        [labels for _, labels in real],
        TEXT,
        ReplicaRng(seeds, "quality"),
    )


def made_by(seed: int, spread: float = 0.5) -> Rows:
    """Synthetic features of a seed."""
    return clustered(CENTRES, 10, spread, seed=100 + seed)


def real_of(seed: int) -> Rows:
    """Real features of a seed; their number differs."""
    return clustered(CENTRES, 8 + seed, seed=200 + seed)


def test_replicas_are_independent() -> None:
    """A replica has the values that it has alone, drawn ones included."""
    seeds = [3, 5, 8]
    fused = measured([made_by(s) for s in seeds], [real_of(s) for s in seeds], seeds)
    for row, seed in enumerate(seeds):
        alone = measured([made_by(seed)], [real_of(seed)], [seed])
        assert {name: value[row].item() for name, value in fused.items()} == {
            name: value.item() for name, value in alone.items()
        }


@pytest.mark.parametrize(
    ("flag", "spread", "shift"), [("diversity_collapse", 0.05, 0.0), ("mean_gap", 0.5, 1.5)]
)
def test_a_planted_fault_raises_its_flag_alone(flag: str, spread: float, shift: float) -> None:
    """Nearly one feature a class, at the right place, or all moved alike; in one replica of two."""
    features, labels = made_by(1, spread)
    moved = torch.nn.functional.normalize(features + shift * unit(1, 12, seed=5), dim=1)
    made = measured([made_by(0), (moved, labels)], [real_of(0), real_of(1)], [0, 1])
    expected = {"diversity_collapse": [0, 0], "mean_gap": [0, 0], flag: [0, 1]}
    assert {name: value.tolist() for name, value in flags(made).items()} == expected


def test_undefined_metrics_are_left_out_for_all() -> None:
    """One picture a class in one replica: no real spread to compare with, in any replica."""
    single = real_of(1)[0][::9], real_of(1)[1][::9]
    made = measured([made_by(0), made_by(1)], [real_of(0), single], [0, 1])
    spread = {"real_diversity", "effective_rank", "real_effective_rank"}
    assert set(made) == METRICS - spread
    assert set(flags(made)) == {"mean_gap"}


def test_very_few_pictures() -> None:
    """One class and two pictures of it have what can be had of them, and nothing that cannot."""
    made = measured(
        [(made_by(0)[0][:3], made_by(0)[1][:3])], [(real_of(0)[0][:2], real_of(0)[1][:2])], [0]
    )
    lacking = {"frechet_error", "mmd_error", "real_to_synthetic", "synthetic_to_real"}
    assert set(made) == METRICS - lacking
    assert all(math.isfinite(value.item()) for value in made.values())


def test_no_shared_class_leaves_nothing() -> None:
    """Without pictures of the synthesized classes there is nothing to measure, nor to flag."""
    features, labels = made_by(0)
    made = measured([(features[:10], labels[:10])], [(real_of(0)[0][8:], real_of(0)[1][8:])], [0])
    assert made == {} and flags(made) == {}


def test_total_collapse_is_finite() -> None:
    """One vector for everything is measured and flagged, not divided by zero; no gradient stays."""
    features, labels = made_by(0)
    one = features[:1].expand(60, -1).requires_grad_()
    made = measured([(one, labels)], [real_of(0)], [0])
    assert set(made) == METRICS and all(value.isfinite().all() for value in made.values())
    assert flags(made)["diversity_collapse"].item() == 1
    assert not any(value.requires_grad for value in made.values())
