"""Reasons why a study gets no verdicts: saturated selection, no headroom, results at chance.

Headroom is judged by the paired t-interval of reports.stats, chance by a one-sided binomial test
against guessing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from harness.store import CONTROLS, FLAG, QUALITY, TARGET, make_level_id
from reports.cells import Value
from reports.formatting import format_cell_text, format_points, join_names
from reports.stats import compare_paired, compute_max_correct_by_guessing
from reports.study import Study, get_metric_heading
from reports.tables import (
    Group,
    count_correct_predictions,
    find_baseline_configuration_group,
    get_dataset_of_controls,
    get_decimals,
    get_smallest_effect,
    list_datasets,
    make_configuration_groups,
    make_control_groups,
)

SATURATED, NO_HEADROOM, AT_CHANCE = "saturated", "no headroom", "at chance"
# names of controls
REAL, FLOOR, ZERO_SHOT = "real_images", "no_synthetic", "zero_shot"
CALIBRATION_ERROR = "ece_"  # prefix of metrics whose smaller values are better
# Sections of a configuration that have no effect if real images replace synthetic features.
_SYNTHESIS = ("generator", "synthetic")


@dataclass(frozen=True)
class Limit:
    """Reason why levels get no verdict.

    Attributes:
        name: SATURATED, NO_HEADROOM or AT_CHANCE.
        text: Evidence and advice, in complete sentences.
        groups: Sections of a configuration whose factors get no verdict. () for all factors.
        is_of_controls: Whether the evidence is from the controls. In a study over datasets it is
            then about one dataset only.
    """

    name: str
    text: str
    groups: tuple[str, ...] = ()
    is_of_controls: bool = True

    def applies_to(self, factor: str) -> bool:
        """Return True if the factor with this dotted name gets no verdict."""
        return not self.groups or factor.partition(".")[0] in self.groups


def find_limits(study: Study, metric: str) -> list[Limit]:
    """Return the reasons why a study gets no verdicts, the most serious first; [] without any.

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
    """Return the limit if real images gain less than the smallest effect of interest.

    The gain is measured from the floor: the fine-tuner alone, or the baseline if that control has
    not finished. The gain is too small if the upper end of its paired 95% interval is below the
    effect, or if real images change no result. There is no limit if a generator of the study gains
    more than the effect.
    """
    if not _can_gain(study, metric):
        return None
    effect, controls = get_smallest_effect(study, metric), _get_finished_controls(study)
    floor = controls.get(FLOOR) or find_baseline_configuration_group(
        study, make_configuration_groups(study)
    )
    if effect is None or floor is None or REAL not in controls:
        return None
    column = f"test/{metric}"
    comparison = compare_paired(controls[REAL].values_by_seed(column), floor.values_by_seed(column))
    if comparison is None or comparison.difference.n < 2:
        return None
    gain = comparison.difference
    is_unchanged = gain.mean == 0 and gain.low is None
    if not is_unchanged and (gain.high is None or gain.high >= effect):
        return None
    if any(_exceeds_floor(group, floor, column, effect) for group in _find_generators(study)):
        return None
    name = f"the {CONTROLS[FLOOR][0] if FLOOR in controls else 'baseline'}"
    heading = get_metric_heading(study.protocol, metric)
    if is_unchanged:
        evidence = (
            f"real images do not change {heading}: {name} has the same {heading} under each seed."
        )
    else:
        gain_text = format_cell_text(Value(gain, signed=True, decimals=get_decimals(study, metric)))
        evidence = f"real images change {heading} by {gain_text} compared with {name}, "
        is_loss = gain.high is not None and gain.high < 0
        small_gain = f"a gain below the smallest effect of interest ({format_points(effect)})."
        evidence += "which is no gain." if is_loss else small_gain
    advice = f"Use {_suggest_data(study)}, or other fine-tuner settings."
    return Limit(NO_HEADROOM, f"{_describe_dataset(study)}{evidence} {advice}", _SYNTHESIS)


def _suggest_data(study: Study) -> str:
    """Return the data to recommend. More classes are suggested only if the study omits some."""
    if study.constants.get("max_classes") == "null":
        return "another dataset"
    return "more classes (max_classes) or another dataset"


def _exceeds_floor(group: Group, floor: Group, column: str, effect: float) -> bool:
    """Return True if the 95% interval of the group's gain over the floor is above the effect."""
    comparison = compare_paired(group.values_by_seed(column), floor.values_by_seed(column))
    return comparison is not None and (comparison.difference.low or 0) > effect


def _find_generators(study: Study) -> list[Group]:
    """Return the configurations that equal the baseline in everything except the synthesis."""
    baselines = {factor.key: make_level_id(factor.baseline) for factor in study.factors}

    def is_allowed(key: str, level: object) -> bool:
        return key.partition(".")[0] in _SYNTHESIS or make_level_id(level) == baselines.get(key)

    return [
        group
        for group in make_configuration_groups(study)
        if all(is_allowed(key, level) for key, level in group.value.assignment.items())
    ]


def _can_gain(study: Study, metric: str) -> bool:
    """Return True if real images of the new classes should raise a metric when there is headroom.

    This is False for accuracies of seen classes, for calibration errors, which should fall, and for
    quality measures.
    """
    seen_metrics = {seen for seen, _ in study.protocol.halves.values()} | {"source"}
    return metric not in seen_metrics and not metric.startswith((QUALITY, CALIBRATION_ERROR))


def _check_chance(study: Study, metric: str) -> Limit | None:
    """Return the limit if zero-shot and trained models are no better than guessing.

    For a harmonic mean, it is sufficient that one of its halves, such as New, is at chance. An
    average over targets must be at chance on every target. There is no limit if the numbers of
    correct predictions are unknown.
    """
    groups = _select_groups(study)
    accuracies = _list_accuracies(study, metric)
    guesses_by_accuracy = {}
    for accuracy in accuracies:
        counts_by_group = [_count_correct(study, group, accuracy) for group in groups]
        counts = [group_counts for group_counts in counts_by_group if group_counts]
        is_complete = bool(groups) and len(counts) == len(groups)
        if is_complete and all(group_counts.is_guessing for group_counts in counts):
            guesses_by_accuracy[accuracy] = counts
    are_targets = any(accuracy.startswith(TARGET) for accuracy in accuracies)
    if not guesses_by_accuracy or (are_targets and len(guesses_by_accuracy) < len(accuracies)):
        return None
    evidence = join_names(
        [
            _describe_guessing(study, accuracy, guesses)
            for accuracy, guesses in guesses_by_accuracy.items()
        ],
        "; ",
    )
    text = (
        f"{_describe_dataset(study)}{evidence}. Use a backbone that knows these classes, another"
        " dataset, or other fine-tuner settings."
    )
    return Limit(AT_CHANCE, text)


def _select_groups(study: Study) -> list[Group]:
    """Return the groups that must all be at chance for the limit.

    They are the controls zero_shot and real_images, as far as they finished. Without real_images,
    as under the protocol few_shot, zero_shot does not show what training achieves: the fine-tuner
    alone and the baseline are added. The result is [] if neither of the two controls finished.
    """
    controls = _get_finished_controls(study)
    groups = [controls[control] for control in (ZERO_SHOT, REAL) if control in controls]
    if not groups or REAL in controls:
        return groups
    trained_groups = (
        controls.get(FLOOR),
        find_baseline_configuration_group(study, make_configuration_groups(study)),
    )
    return [*groups, *(group for group in trained_groups if group and group.finished_rows)]


@dataclass(frozen=True)
class _MeanCounts:
    """Correct predictions of a group for one accuracy.

    Attributes:
        name: Name of the group.
        n_correct: Number of correct predictions, as a mean over seeds.
        n_images: Number of test images.
        n_classes: Number of classes to choose among.
    """

    name: str
    n_correct: float
    n_images: int
    n_classes: int

    @property
    def is_guessing(self) -> bool:
        """Whether uniform guessing may give this many correct predictions, at the 5% level."""
        return self.n_correct <= compute_max_correct_by_guessing(self.n_images, self.n_classes)

    @property
    def percent(self) -> float:
        """Percentage of correct predictions."""
        return 100 * self.n_correct / self.n_images


def _count_correct(study: Study, group: Group, accuracy: str) -> _MeanCounts | None:
    """Return a group's correct predictions.

    None if there is a single class, or if the correct predictions of a seed are unknown.
    """
    runs = {row["seed"]: row["run_id"] for row in group.finished_rows}
    counts_by_seed = [
        count_correct_predictions(study, run, seed, accuracy) for seed, run in runs.items()
    ]
    available_counts = [counts for counts in counts_by_seed if counts]
    if (
        not available_counts
        or len(available_counts) < len(counts_by_seed)
        or available_counts[0].n_classes < 2
    ):
        return None
    correct = fmean(counts.n_correct for counts in available_counts)
    names = {"": "the baseline", REAL: "real images"}
    name = names.get(group.control) or CONTROLS[group.control][0]
    return _MeanCounts(name, correct, available_counts[0].n_images, available_counts[0].n_classes)


def _describe_guessing(study: Study, accuracy: str, guesses: Sequence[_MeanCounts]) -> str:
    """Return the evidence as text: "New is no better than guessing (zero-shot 4.5%; ...)"."""
    # all groups were tested on the same images and classes
    n_images, n_classes = guesses[0].n_images, guesses[0].n_classes
    max_correct = compute_max_correct_by_guessing(n_images, n_classes)
    percentages = [f"{row.name} {row.percent:.1f}%" for row in guesses]
    mean_percent, max_percent = 100 / n_classes, 100 * max_correct / n_images
    return (
        f"{get_metric_heading(study.protocol, accuracy)} is no better than guessing"
        f" ({join_names(percentages)}; guessing among {n_classes} classes gives"
        f" {mean_percent:.1f}% on average, and at most {max_percent:.1f}% in 95% of cases on"
        f" {n_images:,} test images)"
    )


def _list_accuracies(study: Study, metric: str) -> list[str]:
    """Return the accuracies that a metric averages: targets, halves, or only the metric itself."""
    targets = [name for name in study.protocol.headings if name.startswith(TARGET)]
    if metric == "accuracy" and targets:
        return targets
    return list(study.protocol.halves.get(metric, (metric,)))


def _get_finished_controls(study: Study) -> Mapping[str, Group]:
    """Return the controls that have finished seeds, by name."""
    return {group.control: group for group in make_control_groups(study) if group.finished_rows}


def _describe_dataset(study: Study) -> str:
    """Return "on DATASET, " with the dataset of the controls in a study over datasets, else ""."""
    return f"on {get_dataset_of_controls(study)}, " if list_datasets(study) else ""
