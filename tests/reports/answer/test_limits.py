"""Limits of a study for which answers have no verdict, and sentences on untrained models."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from harness.store import CORRECT_FILE, RunFiles, name_seed_metric
from reports.answer import Answer
from reports.render.page import make_overview_lines
from reports.report import make_report
from reports.stats import compute_max_correct_by_guessing
from reports.study.on_demand import CorrectFiles
from tests.reports.builder import StoreBuilder, make_prompt_len, make_scores
from tests.reports.studies import SEEDS, make_few_shot_study, make_one_factor_study
from tests.reports.yaml_studies import load_yaml_study

CLASSES, IMAGES = 22, 10
IDS = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES)
IS_SEEN = IDS < CLASSES // 2


def make_answer(builder: StoreBuilder) -> Answer:
    """Return the answer of a study."""
    return make_report(builder.make_study()).answer


def add_controls(
    builder: StoreBuilder, gains: Sequence[float], has_finetuner: bool = True
) -> StoreBuilder:
    """Add controls to a study.

    Args:
        builder: The study.
        gains: Gains of real images over the fine-tuner alone, one per seed.
        has_finetuner: Whether the fine-tuner alone is added, too.
    """
    if has_finetuner:
        builder.add_run({}, {s: make_scores(50.0 + s) for s in SEEDS}, control="no_synthetic")
    results = {s: make_scores(50.0 + s + gain) for s, gain in zip(SEEDS, gains, strict=True)}
    return builder.add_run({}, results, control="real_images")


@pytest.mark.parametrize(
    ("gains", "is_limited"),
    [
        ((0.2, 0.3, 0.1, 0.2, 0.3), True),
        ((0.0,) * 5, True),
        ((-4.0, -5.0, -4.5, -4.0, -5.0), True),
        ((0.2, 4.0, -2.0, 3.0, -1.0), False),
        ((9.0, 9.5, 9.2, 9.1, 9.0), False),
    ],
)
@pytest.mark.parametrize("has_finetuner", [True, False])
def test_there_is_no_headroom_if_real_images_gain_too_little(
    gains: Sequence[float], is_limited: bool, has_finetuner: bool
) -> None:
    """The 95% interval of the gain is below the smallest effect, or all results are equal."""
    result = make_answer(
        add_controls(make_one_factor_study({1: 50.0, 4: 50.5}, seeds=5), gains, has_finetuner)
    )
    assert [limit.subject for limit in result.limits] == ["no headroom"] * is_limited
    levels = result.findings[0]
    assert (levels.verdict is None) == levels.text.startswith("No verdict: ") == is_limited
    assert (not result.rule) == is_limited


@pytest.mark.parametrize(
    ("key", "gain", "is_limited"),
    [
        ("generator.n_ctx", 4.0, False),
        ("generator.n_ctx", 0.5, True),
        ("finetuner.lr", 4.0, True),
    ],
)
def test_a_generator_that_gains_refutes_a_lack_of_headroom(
    key: str, gain: float, is_limited: bool
) -> None:
    """A gain of the generator removes the limit, and a gain by the learning rate does not."""
    builder = add_controls(
        make_one_factor_study({1: 50.0, 4: 50.0 + gain}, key, seeds=5), (0.0,) * 5
    )
    gaining_run = builder.runs[1]
    for seed in SEEDS:  # the gains vary, because a constant gain has no interval
        metrics = make_scores(50 + gain + seed * 1.1)
        gaining_run.metrics.update({f"test/{name}/seed_{seed}": v for name, v in metrics.items()})
    assert [limit.subject for limit in make_answer(builder).limits] == ["no headroom"] * is_limited


def test_without_headroom_a_factor_of_the_fine_tuner_keeps_its_verdict() -> None:
    """Real images replace synthetic ones, and are no evidence on learning rates."""
    result = make_answer(
        add_controls(make_one_factor_study({1: 50.0, 4: 59.0}, "finetuner.lr", seeds=5), (0.0,) * 5)
    )
    assert result.limits and result.findings[0].verdict == "higher"


def test_without_a_verdict_no_further_seeds_are_suggested() -> None:
    """More seeds lead to a verdict only if there is no limit."""
    builder = make_one_factor_study({4: 50.0, 8: 50.0}, seeds=5)
    for run, noise in zip(builder.runs, (5.0, 9.0), strict=True):
        for seed in SEEDS:
            metrics = make_scores(50.0 + seed + noise * (seed % 2))
            run.metrics.update({f"test/{name}/seed_{seed}": v for name, v in metrics.items()})
    assert "more seed" in make_answer(builder).findings[0].text
    controls = make_answer(add_controls(builder, (0.0,) * 5)).findings[-1]
    assert controls.text.startswith("No verdict: ") and "more seed" not in controls.text


def test_limits_come_before_findings() -> None:
    """Limits are the first lines of an answer and of its summary on the overview."""
    report = make_report(load_yaml_study("saturated").make_study())
    assert report.answer.lines[0].startswith("saturated: in 11 of 15 trials")
    entry = {"study": report.study, "answer": report.answer, "ran": "", "filter_values": {}}
    assert [*make_overview_lines([entry])][1].strip() == report.answer.lines[0]


@pytest.mark.parametrize(("n_saturated", "is_limited"), [(4, False), (5, True)])
def test_selection_is_saturated_if_half_of_the_trials_are(
    n_saturated: int, is_limited: bool
) -> None:
    """If fewer are, there are verdicts, and the sentence on levels names the saturated ones."""
    builder = make_one_factor_study({1: 50.0, 4: 59.0}, seeds=5)
    for position, run in enumerate(builder.runs):
        for seed in SEEDS:
            is_saturated = position * 5 + seed < n_saturated
            run.metrics[f"test/flag/saturated/seed_{seed}"] = float(is_saturated)
    result = make_answer(builder)
    assert [limit.subject for limit in result.limits] == ["saturated"] * is_limited
    is_named = "Selection was saturated for 1 (4 of 5 seeds)." in result.findings[0].text
    assert is_named == (result.findings[0].verdict is not None) == (not is_limited)


def test_levels_and_controls_with_untrained_seeds_are_named() -> None:
    """The sentences give the number of untrained seeds."""
    levels, controls = make_answer(load_yaml_study("tested-untrained")).findings
    text = "tested for 1 (1 of 5 seeds), 4 (3 of 5 seeds) and 16 (5 of 5 seeds)."
    assert text in levels.text
    assert "tested for the baseline (3 of 5 seeds) and fine-tuner" in controls.text


def test_controls_equal_to_the_baseline_are_named() -> None:
    """If all controls equal the baseline under every seed, an answer has sentences on it."""
    result = make_answer(load_yaml_study("unchanged-controls"))
    assert (
        "real images do not change H: the fine-tuner alone has the same H under each seed."
        in result.limits[0].text
    )
    text = result.findings[-1].text
    assert "Compared with the fine-tuner alone, H is unchanged." in text
    assert "Synthetic features do not change H." in text
    assert text.endswith("Even real images of the new classes would not change H.")


def write_correct_files(
    folder: Path, accuracies: Mapping[str, float], is_seen: np.ndarray = IS_SEEN
) -> CorrectFiles:
    """Write files of correct predictions.

    Args:
        folder: Folder of the files.
        accuracies: Accuracy on new classes by run ID or control.
        is_seen: Whether each image is of a seen class. All of them are classified correctly.

    Returns:
        The files by the keys of `accuracies`.
    """
    folders = {}
    for name, accuracy in accuracies.items():
        n_new = int((~is_seen).sum())
        is_correct = np.where(is_seen, True, np.cumsum(~is_seen) <= round(accuracy * n_new))
        columns = {"eval_set": [""] * len(IDS), "class_id": IDS, "class": [f"c{i}" for i in IDS]}
        columns["seen"] = is_seen
        columns |= {
            name_seed_metric(seed, kind): is_correct for seed in SEEDS for kind in ("own", "all")
        }
        (folder / name).mkdir()
        pl.DataFrame(columns).write_parquet(folder / name / CORRECT_FILE)
        folders[name] = (folder / name).as_uri()
    return CorrectFiles(RunFiles(folders=folders))


# Guessing among 11 classes is correct for 9.1% of 110 images on average, and rarely for 14.5%.
@pytest.mark.parametrize(
    ("accuracies", "is_limited"),
    [
        ({"zero_shot": 0.09, "real_images": 0.1}, True),
        ({"zero_shot": 0.09, "real_images": 0.5}, False),
        ({"zero_shot": 0.5, "real_images": 0.09}, False),
        ({"zero_shot": 0.09}, False),
    ],
)
def test_a_study_is_at_chance_if_no_control_beats_guessing(
    tmp_path: Path, accuracies: Mapping[str, float], is_limited: bool
) -> None:
    """Both controls, and the files of both, are required."""
    builder = make_prompt_len()
    files = write_correct_files(tmp_path, accuracies)
    folders = {
        run.run_id: files.files.folders[run.tags["ship.control"]]
        for run in builder.runs
        if run.tags["ship.control"] in accuracies
    }
    study = dataclasses.replace(
        builder.make_study(), correct_predictions=CorrectFiles(RunFiles(folders=folders))
    )
    result = make_report(study).answer
    assert [limit.subject for limit in result.limits] == ["at chance"] * is_limited
    if is_limited:
        text = result.limits[0].text
        assert text.startswith(
            "New is no better than guessing (zero-shot 9.1% and real images 10.0%;"
        )
        assert (
            "classes gives 9.1% on average, and at most 13.6% in 95% of cases on 110 test images"
            in text
        )
        assert all(finding.verdict is None for finding in result.findings)


@pytest.mark.parametrize("learned", ["", "no_synthetic", "baseline"])
def test_without_real_images_trained_models_decide_whether_a_study_is_at_chance(
    tmp_path: Path, learned: str
) -> None:
    """In few_shot, zero-shot at chance is no limit if a trained model beats guessing."""
    builder = make_few_shot_study()
    for control in ("zero_shot", "no_synthetic"):
        builder.add_run({}, {s: {"accuracy": 4.0} for s in SEEDS}, control=control)
    files = write_correct_files(tmp_path, {"chance": 0.05, "learned": 0.5}, np.zeros_like(IS_SEEN))
    names = {run.run_id: run.tags["ship.control"] or "baseline" for run in builder.runs}
    folders = {
        run_id: files.files.folders["learned" if name == learned else "chance"]
        for run_id, name in names.items()
    }
    study = dataclasses.replace(
        builder.make_study(), correct_predictions=CorrectFiles(RunFiles(folders=folders))
    )
    result = make_report(study).answer
    assert [limit.subject for limit in result.limits] == ["at chance"] * (not learned)
    if not learned:
        text = result.limits[0].text
        assert "(zero-shot 5.0%, fine-tuner alone 5.0% and the baseline 5.0%; guessing" in text


def test_guessing_is_judged_by_the_binomial_distribution() -> None:
    """The result is the largest number that guessing reaches with a probability above 5%."""
    stats = pytest.importorskip("scipy.stats")
    for images, classes in ((110, 11), (10, 2), (5000, 100), (3, 50)):
        max_correct = compute_max_correct_by_guessing(images, classes)
        reached_p, exceeded_p = stats.binom.sf([max_correct - 1, max_correct], images, 1 / classes)
        assert reached_p > 0.05 >= exceeded_p
