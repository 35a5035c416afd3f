"""Answers without a verdict, and their sentences on untrained models."""

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
from tests.reports.builder import StoreBuilder, prompt_len, scores
from tests.reports.listed import listed
from tests.reports.studies import SEEDS, few_shot, leveled

CLASSES, IMAGES = 22, 10
IDS = np.repeat(np.arange(CLASSES, dtype=np.int32), IMAGES)
IS_SEEN = IDS < CLASSES // 2


def answer(builder: StoreBuilder) -> Answer:
    """Return the answer of a study."""
    return make_report(builder.study()).answer


def controlled(builder: StoreBuilder, gain: Sequence[float], floor: bool = True) -> StoreBuilder:
    """Add real images as a control with such gains per seed, over the fine-tuner alone if asked."""
    if floor:
        builder.trial({}, {s: scores(50.0 + s) for s in SEEDS}, control="no_synthetic")
    real = {s: scores(50.0 + s + by) for s, by in zip(SEEDS, gain, strict=True)}
    return builder.trial({}, real, control="real_images")


@pytest.mark.parametrize(
    ("gain", "limited"),
    [
        ((0.2, 0.3, 0.1, 0.2, 0.3), True),
        ((0.0,) * 5, True),
        ((-4.0, -5.0, -4.5, -4.0, -5.0), True),
        ((0.2, 4.0, -2.0, 3.0, -1.0), False),
        ((9.0, 9.5, 9.2, 9.1, 9.0), False),
    ],
)
@pytest.mark.parametrize("floor", [True, False])
def test_there_is_no_headroom_if_real_images_gain_too_little(
    gain: Sequence[float], limited: bool, floor: bool
) -> None:
    """The 95% interval of the gain is below the smallest effect, or all results are equal."""
    result = answer(controlled(leveled({1: 50.0, 4: 50.5}, seeds=5), gain, floor))
    assert [limit.subject for limit in result.limits] == ["no headroom"] * limited
    levels = result.findings[0]
    assert (levels.verdict is None) == levels.text.startswith("No verdict: ") == limited
    assert (not result.rule) == limited


@pytest.mark.parametrize(
    ("key", "gain", "limited"),
    [
        ("generator.n_ctx", 4.0, False),
        ("generator.n_ctx", 0.5, True),
        ("finetuner.lr", 4.0, True),
    ],
)
def test_a_generator_that_gains_refutes_a_lack_of_headroom(
    key: str, gain: float, limited: bool
) -> None:
    """A level of the generator that gains removes the limit; a learning rate does not."""
    builder = controlled(leveled({1: 50.0, 4: 50.0 + gain}, key, seeds=5), (0.0,) * 5)
    for run in builder.runs[1:2]:  # gains that vary, as those of one value have no interval
        run.metrics.update(
            {f"test/{n}/seed_{s}": v for s in SEEDS for n, v in scores(50 + gain + s * 1.1).items()}
        )
    assert [limit.subject for limit in answer(builder).limits] == ["no headroom"] * limited


def test_without_headroom_a_factor_of_the_fine_tuner_keeps_its_verdict() -> None:
    """Real images replace synthetic ones, and are no evidence on learning rates."""
    result = answer(controlled(leveled({1: 50.0, 4: 59.0}, "finetuner.lr", seeds=5), (0.0,) * 5))
    assert result.limits and result.findings[0].verdict == "higher"


def test_without_a_verdict_no_further_seeds_are_suggested() -> None:
    """More seeds lead to a verdict only if there is no limit."""
    builder = leveled({4: 50.0, 8: 50.0}, seeds=5)
    for run, noise in zip(builder.runs, (5.0, 9.0), strict=True):
        run.metrics.update(
            {
                f"test/{name}/seed_{seed}": value
                for seed in SEEDS
                for name, value in scores(50.0 + seed + noise * (seed % 2)).items()
            }
        )
    assert "more seed" in answer(builder).findings[0].text
    controls = answer(controlled(builder, (0.0,) * 5)).findings[-1]
    assert controls.text.startswith("No verdict: ") and "more seed" not in controls.text


def test_limits_come_before_findings() -> None:
    """They are first in the lines of an answer and in the list of several studies."""
    report = make_report(listed("saturated").study())
    assert report.answer.lines[0].startswith("saturated: in 11 of 15 trials")
    entry = {"study": report.study, "answer": report.answer, "ran": "", "filter_values": {}}
    assert [*make_overview_lines([entry])][1].strip() == report.answer.lines[0]


@pytest.mark.parametrize(("raised", "limited"), [(4, False), (5, True)])
def test_selection_is_saturated_if_half_of_the_trials_are(raised: int, limited: bool) -> None:
    """With fewer, there are verdicts, and the sentence on the levels gives the number of seeds."""
    builder = leveled({1: 50.0, 4: 59.0}, seeds=5)
    for place, run in enumerate(builder.runs):
        for seed in SEEDS:
            run.metrics[f"test/flag/saturated/seed_{seed}"] = float(place * 5 + seed < raised)
    result = answer(builder)
    assert [limit.subject for limit in result.limits] == ["saturated"] * limited
    named = "Selection was saturated for 1 (4 of 5 seeds)." in result.findings[0].text
    assert named == (result.findings[0].verdict is not None) == (not limited)


def test_untrained_rows_are_named() -> None:
    """The sentences on the levels and on the controls name them."""
    levels, controls = answer(listed("tested-untrained")).findings
    text = "tested for 1 (1 of 5 seeds), 4 (3 of 5 seeds) and 16 (5 of 5 seeds)."
    assert text in levels.text
    assert "tested for the baseline (3 of 5 seeds) and fine-tuner" in controls.text


def test_controls_equal_to_the_baseline_are_named() -> None:
    """If each control equals the baseline under every seed, the answer says so."""
    result = answer(listed("nothing-changes"))
    assert (
        "real images do not change H: it equals that of the fine-tuner alone"
        in result.limits[0].text
    )
    text = result.findings[-1].text
    assert "Compared with the fine-tuner alone, H is unchanged." in text
    assert "Synthetic features do not change H." in text
    assert text.endswith("Even real images of the new classes would not change H.")


def chance(
    folder: Path, accuracies: Mapping[str, float], is_seen: np.ndarray = IS_SEEN
) -> CorrectFiles:
    """Write the files of right answers of some controls, with such accuracies on new classes."""
    folders = {}
    for control, accuracy in accuracies.items():
        n_new = int((~is_seen).sum())
        right = np.where(is_seen, True, np.cumsum(~is_seen) <= round(accuracy * n_new))
        columns = {name_seed_metric(seed, kind): right for seed in SEEDS for kind in ("own", "all")}
        texts = {"eval_set": [""] * len(IDS), "class_id": IDS, "class": [f"c{i}" for i in IDS]}
        (folder / control).mkdir()
        pl.DataFrame({**texts, "seen": is_seen, **columns}).write_parquet(
            folder / control / CORRECT_FILE
        )
        folders[control] = (folder / control).as_uri()
    return CorrectFiles(RunFiles(folders=folders))


# Guessing among 11 new classes is right in 9.1% of 110 images, and in 14.5% by chance.
@pytest.mark.parametrize(
    ("accuracies", "limited"),
    [
        ({"zero_shot": 0.09, "real_images": 0.1}, True),
        ({"zero_shot": 0.09, "real_images": 0.5}, False),
        ({"zero_shot": 0.5, "real_images": 0.09}, False),
        ({"zero_shot": 0.09}, False),
    ],
)
def test_a_study_is_at_chance_if_no_control_beats_guessing(
    tmp_path: Path, accuracies: Mapping[str, float], limited: bool
) -> None:
    """Both controls are required, and both need their correct answers."""
    builder = prompt_len()
    files = chance(tmp_path, accuracies)
    named = {run.run_id: run.tags["ship.control"] for run in builder.runs}
    folders = {
        run: files.files.folders[control] for run, control in named.items() if control in accuracies
    }
    study = dataclasses.replace(
        builder.study(), correct_predictions=CorrectFiles(RunFiles(folders=folders))
    )
    result = make_report(study).answer
    assert [limit.subject for limit in result.limits] == ["at chance"] * limited
    if limited:
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
    """In few_shot, zero-shot at chance is no limit if training learns the classes."""
    builder = few_shot()
    for control in ("zero_shot", "no_synthetic"):
        builder.trial({}, {s: {"accuracy": 4.0} for s in SEEDS}, control=control)
    files = chance(tmp_path, {"chance": 0.05, "learned": 0.5}, np.zeros_like(IS_SEEN))
    named = {run.run_id: run.tags["ship.control"] or "baseline" for run in builder.runs}
    folders = {
        run: files.files.folders["learned" if name == learned else "chance"]
        for run, name in named.items()
    }
    study = dataclasses.replace(
        builder.study(), correct_predictions=CorrectFiles(RunFiles(folders=folders))
    )
    result = make_report(study).answer
    assert [limit.subject for limit in result.limits] == ["at chance"] * (not learned)
    if not learned:
        text = result.limits[0].text
        assert "(zero-shot 5.0%, fine-tuner alone 5.0% and the baseline 5.0%; guessing" in text


def test_guessing_is_judged_by_the_binomial_distribution() -> None:
    """More than 5% of guesses reach this number of correct answers, at most 5% one more."""
    stats = pytest.importorskip("scipy.stats")
    for images, classes in ((110, 11), (10, 2), (5000, 100), (3, 50)):
        most = compute_max_correct_by_guessing(images, classes)
        reached = stats.binom.sf([most - 1, most], images, 1 / classes)
        assert reached[0] > 0.05 >= reached[1]
