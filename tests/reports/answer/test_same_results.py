"""Answers where results are the same, or too few: what changed nothing, ties, what is not said."""

from collections.abc import Callable

import pytest

from reports.answer import Answer
from reports.report import make_report
from reports.stats import Verdict
from reports.tables import headline
from tests.reports.analysis.planted import METRIC, drawn, grid, levelled, nothing
from tests.reports.builder import StoreBuilder, prompt_len, scores

KL, N_CTX = "generator.kl_weight", "generator.n_ctx"
Value = Callable[[int, int, int], float]


def answer_of(builder: StoreBuilder) -> Answer:
    """The answer of a made-up study."""
    return make_report(builder.study()).answer


def grid_of(
    new: Value,
    collapsed: Callable[[int], bool] = lambda kl: False,
    *,
    keys: tuple[str, str] = (KL, N_CTX),
) -> StoreBuilder:
    """Two factors of three and two levels, four seeds, whose new accuracy is given."""
    factors = [
        {"key": key, "levels": list(range(n)), "log": False, "baseline": 0}
        for key, n in zip(keys, (3, 2), strict=True)
    ]
    builder = StoreBuilder(name="same", factors=factors, seeds=range(4))
    for kl in range(3):
        for n_ctx in range(2):
            results = {s: scores(new(kl, n_ctx, s)) for s in range(4)}
            flags = {"posterior_collapse": list(range(4)) if collapsed(kl) else []}
            builder.trial({keys[0]: kl, keys[1]: n_ctx}, results, flags=flags)
    return builder


def told(answer: Answer, subject: str) -> str:
    """The finding of a subject."""
    return next(f.sentence for f in answer.findings if f.subject.startswith(subject))


def of_n_ctx(kl: int, n_ctx: int, seed: int) -> float:
    """New accuracy that kl_weight has no part in."""
    return 50 + seed + n_ctx * (1 + seed % 3)


def test_a_factor_that_changed_nothing_is_named_with_the_collapse_that_may_be_why() -> None:
    """It is not open, no more seeds are asked for, and no effect depends on it."""
    answer = answer_of(grid_of(of_n_ctx, lambda kl: True))
    assert told(answer, "kl_weight") == (
        "kl_weight, averaged over the other factors: No level changed any H: under each of 4 seeds"
        " it is exactly that of 0. Posterior collapse in 24 of 24 trials may be why."
    )
    assert not any("depends" in line or "kl_weight with" in line for line in answer.lines)


def test_a_collapse_of_some_trials_explains_nothing() -> None:
    """Nor does a generator's collapse what the fine-tuner's factors do."""
    some = answer_of(grid_of(of_n_ctx, lambda kl: kl > 0))
    other = answer_of(grid_of(of_n_ctx, lambda kl: True, keys=("finetuner.alpha", N_CTX)))
    for answer, subject in ((some, "kl_weight"), (other, "alpha")):
        assert "No level changed any H" in told(answer, subject)
        assert "collapse" not in told(answer, subject)


def test_a_level_that_changed_nothing_is_named_beside_those_that_did() -> None:
    """The verdict is that of the others."""
    answer = answer_of(
        grid_of(lambda kl, n_ctx, s: of_n_ctx(0, n_ctx, s) + (kl == 2) * (6 + s / 9))
    )
    text = told(answer, "kl_weight")
    assert "decided. 1 changed no H: under each of 4 seeds it is exactly that of 0." in text
    assert "Against 0, in points of H: 2 (" in text and "Open" not in text


def test_effects_that_cancel_are_not_called_nothing() -> None:
    """Up with one n_ctx and down by as much with the other: the mean is 0, the results are not."""
    signs = {(1, 0): 2.0, (1, 1): -2.0}
    builder = grid_of(lambda kl, n_ctx, s: 50.0 + s)
    for run in builder.runs:
        gap = signs.get((int(run.params[KL]), int(run.params[N_CTX])), 0.0)
        for seed in range(4):
            run.metrics[f"seed_{seed}/test/{METRIC}"] = 60.0 + seed + gap
    text = told(answer_of(builder), "kl_weight")
    assert "2 changed no H" in text and "Open: 1 (0.0 ± –)" in text


def test_tied_settings_are_all_named() -> None:
    """In the answer, the note and the headline; the path does not leave a tied baseline."""
    report = make_report(grid_of(lambda kl, n_ctx, s: 50.0 + s).study())
    assert told(report.answer, "best setting").startswith(
        "best setting by selection: none alone. 6 tied settings: kl_weight 0, n_ctx 0; kl_weight 0,"
        " n_ctx 1; kl_weight 1, n_ctx 0; kl_weight 1, n_ctx 1; kl_weight 2, n_ctx 0; kl_weight 2,"
        " n_ctx 1. The baseline is among them. On test: H 59.3 ± "
    )
    assert any("cannot choose among 6 tied settings" in note for note in report.tables[0].notes)
    found = headline(report.study, METRIC)
    assert found is not None and found.setting.startswith("6 tied settings: kl_weight 0, n_ctx 0; ")
    assert not hasattr(report.analysis.path, "why") and not report.analysis.path.steps  # type: ignore[union-attr]


def test_the_headline_of_a_tie_is_the_mean_of_the_tied() -> None:
    """Selection sees the same score, test does not: no setting is taken for its place in a list."""
    builder = StoreBuilder(factors=levelled((2,)), seeds=range(3))
    for level, value in enumerate((60.0, 64.0)):
        results = {s: {**scores(50.0), METRIC: value + s} for s in range(3)}
        builder.trial({"f0": level}, results, selected=scores(50.0))
    found = headline(builder.study(), METRIC)
    assert found is not None and found.setting == "2 tied settings: f0 0; f0 1"
    assert found.estimate.mean == pytest.approx(63.0)
    assert found.beside["baseline"].mean == pytest.approx(2.0)


def finished(builder: StoreBuilder, count: int) -> StoreBuilder:
    """A sampled study of which the first settings alone have finished."""
    for run in builder.runs[count:]:
        run.tags["ship.state"] = "PRUNED"
    return builder


@pytest.mark.parametrize(("count", "said"), [(1, False), (4, False), (5, True)])
def test_few_finished_settings_say_nothing_of_a_factor(count: int, *, said: bool) -> None:
    """Of 4 settings the least p is 2 of 24 orders, of 5 it is 2 of 120, twice that by Holm."""
    text = told(answer_of(finished(drawn(2, 8, lambda s: 9.0 * s["x0"]), count)), "factors, varied")
    nothing = f"Nothing can be said of x0 and x1: {count} of 8 settings finished, in no order of"
    assert (nothing in text) != said
    assert (f"{count} of 8 settings finished. H goes with" in text) == said


def test_drawn_settings_that_are_all_the_same() -> None:
    """They are not too few: they have one H."""
    builder = drawn(2, 8, lambda s: 0.0)
    for run in builder.runs:
        run.metrics.update(builder.runs[0].metrics)
    assert "All 8 settings that finished have the same mean H." in told(
        answer_of(builder), "factors"
    )


def test_arms_are_no_settings() -> None:
    """What is lacking of them is counted by itself, and a setting counts once."""
    builder = prompt_len()
    builder.runs[0].tags["ship.state"] = "PRUNED"
    for run in builder.runs[5:7]:
        run.tags["ship.state"] = "FAIL"
    cautions = answer_of(builder).cautions
    assert "Not answered in full: of 5 settings, 1 stopped early." in cautions
    assert "Not answered in full: of 4 reference arms, 2 failed." in cautions


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        (lambda s: 3 + s / 9, "the room there is."),
        (lambda s: (-1) ** s, "whether there is any room cannot be told."),
        (lambda s: -3 - s / 9, "they are worse, so there is no room above it."),
    ],
)
def test_the_room_is_told_only_where_there_is_some(gap: Callable[[int], float], said: str) -> None:
    """An interval that holds 0, or lies below it, is no room."""
    builder = prompt_len()
    base = next(run for run in builder.runs if run.tags["ship.assignment"].endswith("4}"))
    real = next(run for run in builder.runs if run.tags["ship.arm"] == "real_pictures")
    for s in builder.seeds:
        key = f"seed_{s}/test/{METRIC}"
        real.metrics[key] = base.metrics[key] + gap(s)
    assert told(answer_of(builder), "SHIP").endswith(f" from it: {said}")


def test_two_seeds_say_nothing_of_shares() -> None:
    """Two by two settings under two seeds have 16 orders, which no p below 0.05 can come from."""
    few, more = (told(answer_of(grid((2, 2), nothing, seeds)), "importance") for seeds in (2, 6))
    assert "with 2 common seeds no factor's Holm p can be below 0.05" in few
    assert "Nothing can be said" not in more


def test_verdicts_are_of_what_moved() -> None:
    """Where nothing did there is no verdict, and no rule that explains verdicts."""
    answer = answer_of(grid_of(lambda kl, n_ctx, s: 50.0 + s))
    assert not any(isinstance(finding.verdict, Verdict) for finding in answer.findings)
    assert answer.rule == "" and not any("importance" in line for line in answer.lines)
