"""The answer, in sentences made from a study's tables."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from reports.answer import Answer
from reports.contract import ReportError
from reports.report import make_report
from reports.stats import Verdict
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.studies import collapsing, leveled, one_factor, over_datasets

WEIGHTS = "generator.kl_weight"


def answer_of(builder: StoreBuilder, metric: str | None = None) -> Answer:
    """The answer of a made-up study."""
    return make_report(builder.study(), metric).answer


def shifted(effects: Mapping[float, float], seeds: int = 8, **fields: Any) -> StoreBuilder:
    """Levels whose new accuracy is moved by so much against 1, the baseline, with little noise."""
    rng = np.random.default_rng(5)
    builder = leveled({1: 55.0, **effects}, WEIGHTS, seeds, name="kl", **fields)
    for run, effect in zip(builder.runs, (0.0, *effects.values()), strict=True):
        for s in range(seeds):
            made = scores(55 + s + effect + float(rng.normal(0, 0.3)))
            run.metrics.update({f"seed_{s}/test/{n}": value for n, value in made.items()})
    return builder


@pytest.mark.parametrize(
    ("effects", "verdict", "begins", "has"),
    [
        ({0.1: 0.0, 10: 0.1}, Verdict.EQUIVALENT,
         "No level differs from 1 by more than 1 point of H.",
         "With 8 seeds a difference of 0."),
        ({0.1: 0.0}, Verdict.EQUIVALENT,
         "0.1 does not differ from 1 by more than 1 point of H.", ""),
        ({0.1: 0.0, 10: -8.0}, Verdict.DECIDED,
         "Against 1, in points of H: 10 (−5.1 ± 0.2).", "Within 1 point of H: 0.1."),
        ({0.1: 0.0, 10: -1.6}, Verdict.UNDECIDED, "Nothing is decided against 1.",
         "Open: 10 (−1.0 ± 0.1, beyond chance, Holm p <0.001, over 500 seeds more)"),
    ],
)  # fmt: skip
def test_levels(effects: dict[float, float], verdict: Verdict, begins: str, has: str) -> None:
    """Equivalent ones, one alone, a decided one, and an open one with how many seeds more."""
    (finding,) = answer_of(shifted(effects)).findings
    assert (finding.subject, finding.verdict) == ("kl_weight", verdict)
    assert finding.text.startswith(begins) and has in finding.text


def test_the_smallest_effect_is_the_study_s() -> None:
    """With a smaller one the same differences are decided."""
    small = answer_of(shifted({10: -1.6}, config={"smallest_effect": 0.5}))
    assert small.findings[0].verdict is Verdict.DECIDED
    assert "Decided: beyond ±0.5 points of H" in small.rule


@pytest.mark.parametrize("effect", ["1", True, 0, -1, 1e9])
def test_an_effect_that_is_none_is_told(effect: Any) -> None:
    """A store is somebody else's: what is no number of points is one clear error."""
    with pytest.raises(ReportError, match="smallest_effect is no number of points"):
        shifted({10: 0.0}, config={"smallest_effect": effect}).study()


def test_the_arms() -> None:
    """The baseline against the fine-tuner alone and the text feature, and the room above."""
    levels, arms = answer_of(prompt_len()).findings
    assert levels.subject == "n_ctx"
    assert (arms.subject, arms.verdict) == ("SHIP (n_ctx 4)", Verdict.DECIDED)
    assert "against fine-tuner alone (Holm p " in arms.text
    assert "against text feature (Holm p " in arms.text
    assert "Real pictures are +" in arms.text


def test_the_fine_tuner_alone_as_baseline_is_not_compared_with_itself() -> None:
    """An arm that is the baseline on every seed says nothing and is left out."""
    builder = prompt_len()
    same = next(run for run in builder.runs if run.tags["ship.assignment"].endswith("4}"))
    alone = next(run for run in builder.runs if run.tags["ship.arm"] == "no_synthetic")
    alone.metrics.update(same.metrics)
    assert "fine-tuner alone" not in answer_of(builder).findings[1].text


def test_several_factors_have_a_finding_each_and_the_best_setting() -> None:
    """A grid of two: what selection would take, then each factor over the other's levels."""
    builder = two_by_two(lambda generator, shots: 8.0 * (shots == 4))
    best, generator_finding, shots_finding, shares = answer_of(builder).findings
    assert best.subject == "best setting by selection" and "shots 4" in best.text
    assert [f.subject.split(", ") for f in (generator_finding, shots_finding)] == [
        ["generator", "averaged over the other factors"],
        ["shots", "averaged over the other factors"],
    ]
    assert generator_finding.verdict is Verdict.EQUIVALENT
    assert shots_finding.verdict is Verdict.DECIDED
    assert shares.subject == "importance"
    assert shares.text.startswith("Of the variance of H between settings, shots explains 100% [")
    assert "generator" not in shares.text


def test_a_study_over_datasets_is_answered_by_its_averages() -> None:
    """Of the tables of single datasets there is no sentence."""
    findings = answer_of(over_datasets()).findings
    assert next(f.subject for f in findings if f.verdict) == "generator, averaged over datasets"
    assert [f.subject for f in findings if "emoji" in f.subject] == [findings[-1].subject]
    assert findings[-1].subject.endswith(" on emoji")  # where the reference arms ran


def test_a_sampled_study_is_answered_by_ranks() -> None:
    """Which factor goes with H, and which does not."""
    keys = ("generator.kl_weight", "generator.n_ctx")
    factors = [{"key": key, "levels": None, "log": False, "baseline": None} for key in keys]
    builder = StoreBuilder(name="joint", factors=factors, sampler="random", trials=20)
    rng = np.random.default_rng(3)
    for place in range(20):
        weight, length = float(rng.uniform()), int(rng.integers(1, 16))
        results = {s: scores(50 + 10 * weight + s) for s in builder.seeds}
        builder.trial({keys[0]: weight, keys[1]: length}, results, key=str(place))
    best, ranks, shares = answer_of(builder).findings
    assert best.text.startswith("kl_weight 0.9")
    assert ranks.text.startswith("H goes with generator.kl_weight (ρ 1.00 [")
    assert "kl_weight explains" in shares.text and "n_ctx" not in shares.text
    assert "It goes with generator.n_ctx no more than chance would have it (|ρ| ≤ " in ranks.text


def test_what_weakens_everything_is_said() -> None:
    """Selection on test, the demonstration backbone, failed settings and few seeds."""
    builder = prompt_len(selection="test", seeds=(0, 1, 2))
    builder.trial({"generator.n_ctx": 32}, {0: {}}, state="FAIL", reason="worker died")
    cautions = " ".join(answer_of(builder).cautions)
    assert "Selected on test data" in cautions
    assert "nothing about CLIP" in cautions
    assert "Not answered in full: of 6 settings, 1 failed." in cautions
    assert "Only 3 seeds" in cautions


def test_measures_in_units_of_their_own_have_no_verdict() -> None:
    """Points are of percentages: a cosine is compared, and not judged."""
    answer = answer_of(collapsing(), "quality/cosine_to_mean")
    assert answer.rule == "" and all(finding.verdict is None for finding in answer.findings)


def two_by_two(effect: Callable[[str, int], float]) -> StoreBuilder:
    """Generators times shots, with six seeds and little noise."""
    factors = [*one_factor("generator", ["none", "vae"], "none"), *one_factor("shots", [1, 4], 1)]
    builder = StoreBuilder(name="two", factors=factors, seeds=tuple(range(6)))
    rng = np.random.default_rng(2)
    for generator in ("none", "vae"):
        for shots in (1, 4):
            new = 50 + effect(generator, shots)
            results = {s: scores(new + s + float(rng.normal(0, 0.2))) for s in range(6)}
            builder.trial({"generator": generator, "shots": shots}, results)
    return builder


def test_an_effect_that_depends_on_another_factor_says_so() -> None:
    """A generator that helps with few pictures and harms with many is level on average."""
    findings = answer_of(two_by_two(lambda g, s: (g == "vae") * (2 if s == 1 else -2))).findings
    generator = next(f for f in findings if f.subject.startswith("generator"))
    assert "Its effect depends on shots (Holm p <0.001)." in generator.text
    plain = answer_of(two_by_two(lambda g, s: 2.0 * (g == "vae"))).findings
    assert not any("depends" in finding.text for finding in plain)


def test_scores_of_different_rules_choose_no_setting() -> None:
    """Where rules of selection are compared, no setting is called the best by selection."""
    factors = [*one_factor("selection", ["pseudo_new", "test"], "pseudo_new"),
               *one_factor("shots", [1, 4], 1)]  # fmt: skip
    builder = StoreBuilder(name="leak", factors=factors, seeds=tuple(range(6)))
    for rule in ("pseudo_new", "test"):
        builder.selection = rule
        for shots in (1, 4):
            results = {s: scores(50 + s + s * shots / 9) for s in range(6)}
            builder.trial({"selection": rule, "shots": shots}, results)
    answer = answer_of(builder)
    assert not any(f.subject == "best setting by selection" for f in answer.findings)
    assert "Some settings are selected on test data (test), which flatters them." in answer.cautions


def test_a_baseline_that_failed_is_said() -> None:
    """Without it nothing is compared, and the answer does not stay silent."""
    builder = StoreBuilder(name="kl", factors=one_factor(WEIGHTS, [1, 10], 1))
    builder.trial({WEIGHTS: 1}, {s: {} for s in builder.seeds}, state="FAIL", reason="worker died")
    builder.trial({WEIGHTS: 10}, {s: scores(55.0 + s) for s in builder.seeds})
    answer = answer_of(builder)
    assert "The baseline has not finished: nothing is compared with it." in answer.cautions


def test_one_seed_says_nothing_of_how_many_more() -> None:
    """Of one pair there is no deviation, and no guess."""
    answer = answer_of(prompt_len(seeds=(0,)))
    assert "seeds more" not in " ".join(answer.lines) and ", )" not in " ".join(answer.lines)
    assert "Only 1 seed finished: intervals are rough." in answer.cautions
