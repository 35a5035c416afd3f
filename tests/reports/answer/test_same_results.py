"""Answers where results are the same, or too few: what changed nothing, ties, what is not said."""

from collections.abc import Callable

import pytest

from reports.answer import Answer
from reports.report import make_report
from reports.stats import Verdict
from reports.tables import headline
from tests.reports.analysis.planted import METRIC, drawn, levelled
from tests.reports.builder import StoreBuilder, scores

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


def test_drawn_settings_that_are_all_the_same() -> None:
    """They are not too few: they have one H."""
    builder = drawn(2, 8, lambda s: 0.0)
    for run in builder.runs:
        run.metrics.update(builder.runs[0].metrics)
    assert "All 8 settings that finished have the same mean H." in told(
        answer_of(builder), "factors"
    )


def test_verdicts_are_of_what_moved() -> None:
    """Where nothing did there is no verdict, and no rule that explains verdicts."""
    answer = answer_of(grid_of(lambda kl, n_ctx, s: 50.0 + s))
    assert not any(isinstance(finding.verdict, Verdict) for finding in answer.findings)
    assert answer.rule == "" and not any("importance" in line for line in answer.lines)
