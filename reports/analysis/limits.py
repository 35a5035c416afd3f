"""Limits that keep a study from verdicts: saturated selection, no headroom, results at chance.

Sources: the paired t-interval of reports.stats; a one-sided binomial test against guessing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.store import CONTROLS, FLAG, QUALITY, TARGET, level_id
from reports.cells import Value
from reports.formatting import cell_text, join_names, points_text
from reports.stats import compare_paired, max_correct_by_guessing
from reports.study import Study, metric_heading
from reports.tables import (
    Group,
    baseline_configuration,
    configuration_groups,
    control_groups,
    count_correct_answers,
    dataset_of_controls,
    decimals_of,
    effect_of,
    list_datasets,
)

SATURATED, NO_HEADROOM, AT_CHANCE = "saturated", "no headroom", "at chance"
REAL, FLOOR, ZERO_SHOT = "real_images", "no_synthetic", "zero_shot"
CALIBRATION_ERROR = "ece_"  # prefix of metrics that should be small
# Sections of a configuration that have no effect with real images.
_SYNTHESIS = ("generator", "synthetic")
_PERCENT = 100.0


@dataclass(frozen=True)
class Limit:
    """Reason why levels get no verdict.

    Attributes:
        name: SATURATED, NO_HEADROOM or AT_CHANCE.
        text: Evidence and advice, in complete sentences.
        groups: Sections of a configuration whose factors are affected. () for all factors.
        is_of_controls: Whether the evidence is from the controls, which ran on one dataset.
    """

    name: str
    text: str
    groups: tuple[str, ...] = ()
    is_of_controls: bool = True

    def applies_to(self, factor: str) -> bool:
        """Return True if a factor, given by its dotted name, gets no verdict."""
        return not self.groups or factor.partition(".")[0] in self.groups


def find_limits(study: Study, metric: str) -> list[Limit]:
    """Return the limits that keep a study from verdicts, the most serious first.

    Args:
        study: The study, with a heading for the metric.
        metric: Metric of the verdicts.
    """
    candidates = (
        _check_chance(study, metric),
        _check_headroom(study, metric),
        _check_saturation(study),
    )
    return [limit for limit in candidates if limit]


def _check_saturation(study: Study) -> Limit | None:
    """Return the limit if selection is saturated in at least half of the trials."""
    rows = [
        row
        for configuration in study.non_controls
        for row in study.by_configuration.get(configuration.key, ())
    ]
    flags = Group((), rows).finished_values(f"{FLAG}saturated")
    n_raised = sum(flag >= 0.5 for flag in flags)
    if not n_raised or 2 * n_raised < len(flags):
        return None
    text = (
        f"in {n_raised} of {len(flags)} trials at least half of the evaluated epochs share the best"
        f" selection score, so that selection cannot tell epochs apart. Use {_suggest_data(study)},"
        " other fine-tuner settings, or another selection."
    )
    return Limit(SATURATED, text, is_of_controls=False)


def _check_headroom(study: Study, metric: str) -> Limit | None:
    """Return the limit if real images improve on the floor by less than the smallest effect.

    The floor is the fine-tuner alone, or else the baseline. The improvement is smaller if the upper
    end of the paired 95% interval is below the effect, or if all results are the same. There is no
    limit if a generator of the study is above the floor by significantly more than the effect.
    """
    if not _can_gain(study, metric):
        return None
    effect, controls = effect_of(study, metric), _finished_controls(study)
    floor = controls.get(FLOOR) or baseline_configuration(study, configuration_groups(study))
    if effect is None or floor is None or REAL not in controls:
        return None
    column = f"test/{metric}"
    comparison = compare_paired(controls[REAL].values_by_seed(column), floor.values_by_seed(column))
    if comparison is None or comparison.difference.n < 2:
        return None
    gain = comparison.difference
    is_same = gain.mean == 0 and gain.low is None
    if not is_same and (gain.high is None or gain.high >= effect):
        return None
    if any(_exceeds_floor(group, floor, column, effect) for group in _find_generators(study)):
        return None
    name = f"the {CONTROLS[FLOOR][0] if FLOOR in controls else 'baseline'}"
    heading = metric_heading(study.protocol, metric)
    if is_same:
        evidence = f"real images do not change {heading}: it equals that of {name} under each seed."
    else:
        gain_text = cell_text(Value(gain, signed=True, decimals=decimals_of(study, metric)))
        evidence = f"real images change {heading} by {gain_text} compared with {name}, "
        is_loss = gain.high is not None and gain.high < 0
        small_gain = f"a gain below the smallest effect of interest ({points_text(effect)})."
        evidence += "which is no gain." if is_loss else small_gain
    advice = f"Use {_suggest_data(study)}, or other fine-tuner settings."
    return Limit(NO_HEADROOM, f"{_place_text(study)}{evidence} {advice}", _SYNTHESIS)


def _suggest_data(study: Study) -> str:
    """Return the data to recommend: more classes are an option only if the study omits some."""
    if study.constants.get("max_classes") == "null":
        return "another dataset"
    return "more classes (max_classes) or another dataset"


def _exceeds_floor(group: Group, floor: Group, column: str, effect: float) -> bool:
    """Return True if the 95% interval of a row's difference to the floor is above the effect."""
    comparison = compare_paired(group.values_by_seed(column), floor.values_by_seed(column))
    return comparison is not None and (comparison.difference.low or 0) > effect


def _find_generators(study: Study) -> list[Group]:
    """Return the configurations that differ from the baseline only in the synthesis."""
    baselines = {factor.key: level_id(factor.baseline) for factor in study.factors}

    def is_baseline(key: str, level: object) -> bool:
        return key.partition(".")[0] in _SYNTHESIS or level_id(level) == baselines.get(key)

    return [
        group
        for group in configuration_groups(study)
        if all(is_baseline(key, level) for key, level in group.value.assignment.items())
    ]


def _can_gain(study: Study, metric: str) -> bool:
    """Return True if real images of the new classes should raise a metric when there is headroom.

    They need not raise an accuracy of seen classes, and they lower a calibration error. For quality
    measures the result is False.
    """
    seen_metrics = {seen for seen, _ in study.protocol.halves.values()} | {"source"}
    return metric not in seen_metrics and not metric.startswith((QUALITY, CALIBRATION_ERROR))


def _check_chance(study: Study, metric: str) -> Limit | None:
    """Return the limit if zero-shot and models trained on real images are no better than guessing.

    One half of a harmonic mean at chance is sufficient, for example New. An average over targets
    has to be at chance on each target. Without the correct answers of the test images there is no
    limit.
    """
    groups = _select_groups(study)
    parts = _metric_parts(study, metric)
    by_part = {part: [_collect_answers(study, group, part) for group in groups] for part in parts}
    guesses_by_part = {
        part: guesses
        for part, answers in by_part.items()
        if (guesses := [row for row in answers if row]) and len(guesses) == len(groups)
        if all(row.is_guessing for row in guesses)
    }
    are_targets = any(part.startswith(TARGET) for part in parts)
    if not guesses_by_part or (are_targets and len(guesses_by_part) < len(parts)):
        return None
    evidence = join_names(
        [_guessing_text(study, part, guesses) for part, guesses in guesses_by_part.items()], "; "
    )
    text = (
        f"{_place_text(study)}{evidence}. Use a backbone that knows these classes, another"
        " dataset, or other fine-tuner settings."
    )
    return Limit(AT_CHANCE, text)


def _select_groups(study: Study) -> list[Group]:
    """Return the rows that all have to be at chance: zero-shot and real images, if they exist.

    Zero-shot alone does not show what training achieves. Without the control for real images, as in
    few_shot, the fine-tuner alone and the baseline have to be at chance, too.
    """
    controls = _finished_controls(study)
    groups = [controls[control] for control in (ZERO_SHOT, REAL) if control in controls]
    if not groups or REAL in controls:
        return groups
    trained_groups = controls.get(FLOOR), baseline_configuration(study, configuration_groups(study))
    return [*groups, *(group for group in trained_groups if group and group.finished_rows)]


@dataclass(frozen=True)
class _Answers:
    """Correct answers of a row, as a mean over seeds, for one accuracy.

    Attributes:
        name: Name of the row.
        correct: Number of correct answers.
        images: Number of test images.
        classes: Number of classes to choose among.
    """

    name: str
    correct: float
    images: int
    classes: int

    @property
    def is_guessing(self) -> bool:
        """Whether guessing gives at least this many correct answers in more than 5% of cases."""
        return self.correct <= max_correct_by_guessing(self.images, self.classes)


def _collect_answers(study: Study, group: Group, part: str) -> _Answers | None:
    """Return a row's answers; None if a seed has no answers, or if there is only one class."""
    runs = {row["seed"]: row["run_id"] for row in group.finished_rows}
    answers_by_seed = [count_correct_answers(study, run, seed, part) for seed, run in runs.items()]
    available_answers = [answers for answers in answers_by_seed if answers]
    if (
        not available_answers
        or len(available_answers) < len(answers_by_seed)
        or available_answers[0].n_classes < 2
    ):
        return None
    correct = fmean(answers.n_correct for answers in available_answers)
    names = {"": "the baseline", REAL: "real images"}
    name = names.get(group.control) or CONTROLS[group.control][0]
    return _Answers(name, correct, available_answers[0].n_images, available_answers[0].n_classes)


def _guessing_text(study: Study, part: str, guesses: Sequence[_Answers]) -> str:
    """Return the evidence as text: "New is no better than guessing (zero-shot 4.5%; ...)"."""
    first = guesses[0]
    max_correct = max_correct_by_guessing(first.images, first.classes)
    accuracies = [f"{row.name} {_PERCENT * row.correct / row.images:.1f}%" for row in guesses]
    mean_percent, max_percent = _PERCENT / first.classes, _PERCENT * max_correct / first.images
    return (
        f"{metric_heading(study.protocol, part)} is no better than guessing"
        f" ({join_names(accuracies)}; guessing among {first.classes} classes gives"
        f" {mean_percent:.1f}% on average, and at most {max_percent:.1f}% in 95% of cases on"
        f" {first.images:,} test images)"
    )


def _metric_parts(study: Study, metric: str) -> list[str]:
    """Return the accuracies that a metric is computed from: targets, halves, or the metric."""
    targets = [name for name in study.protocol.headings if name.startswith(TARGET)]
    if metric == "accuracy" and targets:
        return targets
    return list(study.protocol.halves.get(metric, (metric,)))


def _finished_controls(study: Study) -> Mapping[str, Group]:
    """Return the controls with finished seeds by name."""
    return {group.control: group for group in control_groups(study) if group.finished_rows}


def _place_text(study: Study) -> str:
    """Return "on DATASET, " for a study of several datasets, whose controls ran on one of them."""
    return f"on {dataset_of_controls(study)}, " if list_datasets(study) else ""
