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
    "cosine_to_mean",
    "text_cosine_to_mean",
    "frechet",
    "frechet_error",
    "mmd",
    "mmd_error",
    "precision",
    "recall",
    "density",
    "coverage",
    "real_to_synthetic",
    "synthetic_to_real",
    "diversity",
    "real_diversity",
    "effective_rank",
    "real_effective_rank",
}
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


def test_every_metric_is_there_and_finite() -> None:
    """All names, one finite value a replica, in double precision."""
    made = measured([made_by(0), made_by(1)], [real_of(0), real_of(1)], [0, 1])
    assert set(made) == METRICS
    for value in made.values():
        assert value.shape == (2,) and value.dtype == torch.float64 and value.isfinite().all()


def test_replicas_are_independent() -> None:
    """A replica has the values that it has alone, drawn ones included."""
    seeds = [3, 5, 8]
    fused = measured([made_by(s) for s in seeds], [real_of(s) for s in seeds], seeds)
    for row, seed in enumerate(seeds):
        alone = measured([made_by(seed)], [real_of(seed)], [seed])
        assert {name: value[row].item() for name, value in fused.items()} == {
            name: value.item() for name, value in alone.items()
        }


def test_order_of_features_does_not_matter() -> None:
    """Shuffled rows have the same values; the bootstrap's error alone is another draw."""
    (made, labels), (real, real_labels) = made_by(0), clustered(CENTRES, 10, seed=7)
    one, other = torch.randperm(60), torch.randperm(60)
    plain = measured([(made, labels)], [(real, real_labels)], [0])
    mixed = measured([(made[one], labels[one])], [(real[other], real_labels[other])], [0])
    for name in METRICS - {"mmd_error"}:
        torch.testing.assert_close(mixed[name], plain[name], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(mixed["mmd_error"], plain["mmd_error"], rtol=0.3, atol=0)


def test_identical_sets() -> None:
    """Real features taken for synthetic ones have the best values, and no flag."""
    rows = real_of(2)
    made = measured([rows], [rows], [0])
    ones = {name: made[name].item() for name in ("precision", "recall", "density", "coverage")}
    assert ones == dict.fromkeys(ones, 1)
    assert made["cosine_to_mean"].item() == pytest.approx(1)
    assert made["frechet"].item() == pytest.approx(0, abs=1e-9) and made["mmd"].item() < 0
    for name in ("diversity", "effective_rank"):
        torch.testing.assert_close(made[name], made[f"real_{name}"])
    assert {name: flag.item() for name, flag in flags(made).items()} == {
        "diversity_collapse": 0,
        "mean_gap": 0,
    }


def test_planted_collapse_raises_its_flag() -> None:
    """Nearly one feature a class, at the right place, in one replica of two."""
    made = measured([made_by(0), made_by(1, spread=0.05)], [real_of(0), real_of(1)], [0, 1])
    raised = flags(made)
    assert raised["diversity_collapse"].tolist() == [0, 1]
    assert raised["mean_gap"].tolist() == [0, 0]


def test_planted_shift_raises_its_flag() -> None:
    """Features all moved the same way keep their diversity and lose their means."""
    features, labels = made_by(1)
    shifted = torch.nn.functional.normalize(features + 1.5 * unit(1, 12, seed=5), dim=1)
    made = measured([made_by(0), (shifted, labels)], [real_of(0), real_of(1)], [0, 1])
    raised = flags(made)
    assert raised["mean_gap"].tolist() == [0, 1]
    assert raised["diversity_collapse"].tolist() == [0, 0]


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
    """One and the same vector for everything is measured and flagged, not divided by zero."""
    features, labels = made_by(0)
    one = features[:1].expand(60, -1)
    made = measured([(one, labels)], [real_of(0)], [0])
    assert set(made) == METRICS and all(value.isfinite().all() for value in made.values())
    assert flags(made)["diversity_collapse"].item() == 1


def test_gradients_stay_out() -> None:
    """Features that ask for gradients are measured without."""
    features, labels = made_by(0)
    made = measured([(features.requires_grad_(), labels)], [real_of(0)], [0])
    assert not any(value.requires_grad for value in made.values())
