"""Check how the keys of a study fit together, after each key has been checked by itself.

The checks find levels that no valid trial can use, options without effect, and requirements of
samplers and protocols that are not met. Every check reports all faults it finds, not only the
first. Datasets and backbones are checked in harness.config.requirements.
"""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any

from harness.config.factor import Factor, is_allowed, is_among, iter_assignments
from harness.config.mapping import validate_part
from harness.config.requirements import find_unknown_dataset, list_dataset_choices
from harness.config.space import METHODS, get_value, list_dataset_overrides, set_values
from harness.config.study_config import StudyConfig
from harness.errors import NOTHING, Fault
from harness.wording import find_closest, show
from ship.datasets import PREFIX
from ship.protocol_rules import find_unmet_requirements
from ship.trial_config import TrialConfig

MAX_GRID = 10_000  # maximum number of configurations of a grid, and of checked trials
# A factor is reported as useless only after this many sampled trials did not read it: a smaller
# sample may have missed the trials that read it.
_MIN_SAMPLED_TRIALS = 100


class TrialSample:
    """Trials of a study: all of them, or MAX_GRID random ones if there are more.

    Only the two ends of a range are tried, unless the `when` of another factor refers to it.

    Attributes:
        is_complete: Whether all trials are included. False for a random sample.
        valid_trials: Each assignment whose trial is valid, and this trial.
        faults: Faults of the assignments whose trial is invalid, e.g. because a factor is not an
            option of the assignment's method, and faults of `variants.dataset`.
    """

    def __init__(self, study: StudyConfig, faulty_groups: Collection[str]) -> None:
        """Create and validate the trials.

        Args:
            study: The study.
            faulty_groups: Top-level keys that already have faults. Unknown and missing keys below
                them are not reported, because they may only be consequences.
        """
        self._study = study
        self.valid_trials: list[tuple[Mapping[str, Any], TrialConfig]] = []
        faults = list(_find_dataset_faults(study))
        constants = study.base.model_dump()
        assignments, self.is_complete = _list_assignments(study.space)
        for assignment in assignments:
            tree = set_values(constants, assignment, study.variants)
            trial, trial_faults = validate_part(TrialConfig, tree)
            if not trial_faults:
                self.valid_trials.append((assignment, trial))
            for fault in trial_faults:
                if fault.got is not NOTHING or fault.path.partition(".")[0] not in faulty_groups:
                    faults.append(self._locate_fault(assignment, fault))
        self.faults = sorted(faults, key=attrgetter("path"))

    def find_faults(self, check: Callable[[TrialConfig], Iterable[Fault]]) -> Iterator[Fault]:
        """Yield the faults that a check finds in the valid trials, with their paths in the YAML.

        Args:
            check: Function that returns a trial's faults. The path of each is an option's dotted
                name.
        """
        for assignment, trial in self.valid_trials:
            for fault in check(trial):
                yield replace(fault, path=self._find_path(assignment, fault.path))

    def _locate_fault(self, assignment: Mapping[str, Any], fault: Fault) -> Fault:
        """Return a trial's fault with path and value replaced by those in the YAML."""
        group, _, leaf = fault.path.partition(".")
        key = fault.path
        if not leaf and group not in assignment:
            # the fault concerns the whole group of a constant method: blame a factor of that
            # group, if there is one
            key = next((name for name in assignment if name.partition(".")[0] == group), group)
        path, value = self._find_path(assignment, key), fault.got
        if value is not NOTHING:  # without a value, the key itself is the fault
            value = assignment.get(key, value)
        return replace(fault, path=path, got=value)

    def _find_path(self, assignment: Mapping[str, Any], key: str) -> str:
        """Return the path in the YAML that sets a dotted name, such as "shots" or "targets[1]"."""
        study, name = self._study, key.partition("[")[0]
        group, _, leaf = name.partition(".")
        if name in assignment:
            return f"space.{name}"
        options = list_dataset_overrides(study.base.model_dump(), assignment, study.variants)
        # `name` may be an option that the dataset sets, or a whole group ("generator") of which
        # the dataset sets an option
        if any(f"{option}.".startswith(f"{name}.") for option in options):
            return f"variants.dataset.{assignment.get('dataset', study.base.dataset)}.{key}"
        constant = get_value(study.base, group)
        if leaf and assignment.get(group, constant) != constant:
            return f"variants.{group}.{assignment[group]}.{leaf}"
        return key


def _find_dataset_faults(study: StudyConfig) -> Iterator[Fault]:
    """Yield faults of `variants.dataset`: unknown datasets, and invalid options."""
    for dataset, options in study.variants.get("dataset", {}).items():
        path = f"variants.dataset.{dataset}"
        if unknown := find_unknown_dataset(dataset):
            yield replace(unknown, path=path)
        method_names = {
            key: options[key]["name"] for key in METHODS if "name" in options.get(key, {})
        }
        values = {"dataset": dataset, **method_names}
        tree = set_values(study.base.model_dump(), values, study.variants)
        # options that variants.generator.NAME or variants.finetuner.NAME sets, not this dataset
        method_options = {
            f"{key}.{leaf}"
            for key, name in method_names.items()
            if isinstance(name, str)
            for leaf in study.variants.get(key, {}).get(name, {})
            if leaf not in options[key]
        }
        for fault in validate_part(TrialConfig, tree)[1]:
            if fault.path.partition("[")[0] not in method_options:
                yield replace(fault, path=f"{path}.{fault.path}")


def _list_assignments(space: Mapping[str, Factor]) -> tuple[list[dict[str, Any]], bool]:
    """Return all assignments of a space and True, or MAX_GRID random ones and False.

    A range has only its ends, unless it is in the `when` of another factor.
    """
    condition_keys = {name for factor in space.values() for name in factor.when}

    def list_tried_levels(key: str, factor: Factor) -> Sequence[Any]:
        levels = factor.choices or (factor.enumerate() if key in condition_keys else None)
        return levels or factor.bounds

    assignments = list(islice(iter_assignments(space, list_tried_levels), MAX_GRID + 1))
    if len(assignments) <= MAX_GRID:
        return assignments, True
    rng = random.Random(0)

    def draw_level(key: str, factor: Factor) -> list[Any]:
        return [rng.choice(list_tried_levels(key, factor))]

    return [next(iter_assignments(space, draw_level)) for _ in range(MAX_GRID)], False


def find_study_faults(study: StudyConfig, trials: TrialSample) -> Iterator[Fault]:
    """Yield all faults of a study that can be found without reading a dataset or a backbone.

    Args:
        study: The study.
        trials: Trials of the study. `trials.faults` must be empty.
    """
    dataset_factor = study.space.get("dataset")
    is_constant = dataset_factor is None or bool(dataset_factor.when)
    # add_defaults() has already set `dataset` if the study uses the packaged backbone
    if is_constant and "dataset" not in study.base.model_fields_set:
        yield Fault("dataset", "is required", choices=list_dataset_choices())
    yield from _find_unused_variants(study)
    yield from _find_folder_faults(study)
    space_faults = list(_find_space_faults(study.space))
    problem = "is never met: its conditions exclude each other"
    yield from space_faults or (
        Fault(f"space.{key}.when", problem)
        for key in study.space
        if not _can_be_active(study.space, key)
    )
    yield from _find_useless_factors(study.space, trials)
    yield from trials.find_faults(partial(_find_trial_faults, study))
    yield from _find_sampler_faults(study)


def _find_unused_variants(study: StudyConfig) -> Iterator[Fault]:
    """Yield a fault for each entry of `variants` that has no effect.

    Options of the constant method belong in its top-level group. An option that is a factor cannot
    be set per dataset, because the factor would override it.
    """
    for group in METHODS:
        constant = get_value(study.base, group)
        levels = study.space[group].choices or () if group in study.space else ()
        for name, options in study.variants.get(group, {}).items():
            path = f"variants.{group}.{name}"
            removal = f"Remove it (--set {path}=null)"
            if name == constant and options:
                block = show({"name": name, **options})
                problem = f"sets options of {name}, which `{group}:` already selects"
                yield Fault(path, problem, advice=f"Move them there: `{group}: {block}`")
            elif name == constant:
                yield Fault(path, f"is never used, because it has no options. {removal}")
            elif name not in levels:
                problem = f"is never used, because no configuration uses {group} {name}"
                yield Fault(path, f"{problem}. {removal}, or add {name} to space.{group}")
    problem = "cannot be set per dataset: it is a factor of the space"
    for dataset, options in study.variants.get("dataset", {}).items():
        for key, value in options.items():
            names = [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
            for name in names:
                # a factor with `when` may be inactive, and the option is then used
                if name in study.space and not study.space[name].when:
                    yield Fault(f"variants.dataset.{dataset}.{name}", problem)


def _find_folder_faults(study: StudyConfig) -> Iterator[Fault]:
    """Yield a fault for each of class_names, split and split_seed that cannot be used.

    They require that a custom image folder is the study's only dataset. class_names and split_seed
    cannot be combined with split.
    """
    for key, value in study.folder_options.get(study.base.dataset, {}).items():
        if "dataset" in study.space or not study.base.dataset.startswith(PREFIX):
            yield Fault(key, "can only be used with a single dataset image_folder:NAME", value)
        elif study.split and key != "split":
            reason = "the split file defines it"
            yield Fault(key, "cannot be combined with split", value, reason=reason)


def _find_trial_faults(study: StudyConfig, trial: TrialConfig) -> Iterator[Fault]:
    """Yield unmet requirements of a trial's protocol, and a KL warm-up that never completes."""
    for key, rule, choices in find_unmet_requirements(trial):
        value = get_value(trial, key)
        yield Fault(key, rule, NOTHING if value in (None, ()) else value, choices)
    key, epochs = "generator.kl_warmup", get_value(trial, "generator.epochs")
    warmup = None if trial.generator.explain_unused(key) else get_value(trial, key)
    # a plugin's options of these names may have other types
    are_integers = isinstance(warmup, int) and isinstance(epochs, int)
    if are_integers and warmup >= epochs and "generator.epochs" not in study.space:
        reason = "otherwise kl_weight is never reached"
        yield Fault(key, f"must be < generator.epochs ({epochs})", warmup, reason=reason)


def _find_useless_factors(space: Mapping[str, Factor], trials: TrialSample) -> Iterator[Fault]:
    """Yield a fault for each factor that has no effect.

    A factor is useless if no trial reads it. In addition, a method's option is useless at a level
    of another factor of that method if no trial with this level reads it.
    """
    n_required = 1 if trials.is_complete else _MIN_SAMPLED_TRIALS
    for key in space:
        active = [
            (assignment, trial) for assignment, trial in trials.valid_trials if key in assignment
        ]
        reasons = [trial.explain_unused(key) for _, trial in active]
        if len(active) >= n_required and all(reasons):
            yield Fault(f"space.{key}", f"has no effect: {_join_reasons(reasons)}")
            continue
        group = key.partition(".")[0]
        if group not in METHODS:
            continue
        for other in (name for name in space if name.startswith(f"{group}.") and name != key):
            # level of `other` -> for each trial, why it ignores the factor, or None if it reads it
            by_level: dict[Any, list[str | None]] = {}
            for assignment, trial in active:
                if other in assignment:
                    reason = getattr(trial, group).explain_unused(key)
                    by_level.setdefault(assignment[other], []).append(reason)
            useless = {
                level: texts
                for level, texts in by_level.items()
                if len(texts) >= n_required and all(texts)
            }
            if useless:
                condition = f"{other} is {' or '.join(_format_levels(list(useless)))}"
                explanation = _join_reasons(
                    reason for texts in useless.values() for reason in texts
                )
                yield Fault(f"space.{key}", f"has no effect if {condition}: {explanation}")


def _join_reasons(reasons: Iterable[str | None]) -> str:
    """Join the distinct reasons."""
    return "; ".join(dict.fromkeys(map(str, reasons)))


def _find_sampler_faults(study: StudyConfig) -> Iterator[Fault]:
    """Yield faults of the sampler, the scheduler and the number of configurations."""
    sampler, scheduler, space = study.sampler, study.scheduler.name, study.space
    paths = [f"space.{key}" for key in ("selection", "objective") if key in space]
    for key, value, off_value in (("sampler", sampler, "grid"), ("scheduler", scheduler, "none")):
        if value == off_value:
            continue
        problem = f"cannot be a factor unless {key} is {off_value}: it determines the search's goal"
        yield from (Fault(path, problem) for path in paths)
        if study.base.selection == "none":
            problem = f"must be {off_value} if selection is none"
            reason = "configurations would have no score to be compared by"
            yield Fault(key, problem, value, reason=reason)
    if sampler == "gp":
        conditional = ", ".join(key for key, factor in space.items() if factor.when)
        if conditional:
            problem = f"must be tpe or random where factors have `when` ({conditional})"
            reason = "gp cannot model a factor that some configurations lack"
            yield Fault("sampler", problem, "gp", reason=reason)
        if scheduler != "none":
            problem = f"must be tpe or random with scheduler {scheduler}"
            reason = "gp learns nothing from stopped configurations"
            yield Fault("sampler", problem, "gp", reason=reason)
    keys_without_levels = [key for key, factor in space.items() if factor.enumerate() is None]
    if sampler != "grid":
        if study.n_trials is None:
            advice = "Set it to the number of configurations to run"
            yield Fault("n_trials", f"is required if sampler is {sampler}", advice=advice)
    elif keys_without_levels:
        problem = "must have levels, step or choices if sampler is grid"
        yield from (Fault(f"space.{key}", problem) for key in keys_without_levels)
    elif study.n_trials is None and _has_more_than(space, MAX_GRID):
        problem = f"must have at most {MAX_GRID} configurations"
        yield Fault("space", problem, advice="Set n_trials, or use fewer levels")


def _has_more_than(space: Mapping[str, Factor], n_configurations: int) -> bool:
    """Return True if a grid has more than this many configurations."""
    return next(islice(iter_assignments(space), n_configurations, None), None) is not None


def _list_dependencies(space: Mapping[str, Factor], key: str) -> set[str]:
    """Return the factors that a factor's `when` refers to, directly or through other factors."""
    dependencies: set[str] = set()
    pending = [key]
    while pending:
        names = {name for name in space[pending.pop()].when if name in space} - dependencies
        dependencies |= names
        pending += names
    return dependencies


def _find_cycles(space: Mapping[str, Factor]) -> list[tuple[str, ...]]:
    """Return the groups of factors whose conditions depend on each other, in the space's order."""
    dependencies = {key: _list_dependencies(space, key) for key in space}
    groups = [
        tuple(other for other in space if other in dependencies[key] and key in dependencies[other])
        for key in space
        if key in dependencies[key]
    ]
    return list(dict.fromkeys(groups))


def _can_be_active(space: Mapping[str, Factor], key: str) -> bool:
    """Return True if levels exist that meet the conditions of a factor and of its dependencies.

    Args:
        space: Factors by dotted name, without cycles of conditions.
        key: Name of the factor.
    """
    allowed: dict[str, Sequence[Any]] = {}
    for name in (key, *_list_dependencies(space, key)):
        for condition_key, values in space[name].when.items():
            previous = allowed.get(condition_key, values)
            allowed[condition_key] = [value for value in previous if is_among(value, values)]
    return all(allowed.values())


def _find_space_faults(space: Mapping[str, Factor]) -> Iterator[Fault]:
    """Yield faults of the factors' conditions (`when`), baselines and levels."""
    for cycle in _find_cycles(space):
        problem = "must not be circular"
        if len(cycle) > 1:
            problem += f": the conditions of {', '.join(cycle)} depend on each other"
        yield Fault(f"space.{cycle[0]}.when", problem)
    for key, factor in space.items():
        for name, values in factor.when.items():
            path, choices = f"space.{key}.when.{name}", [other for other in space if other != key]
            levels = space[name].enumerate() if name in choices else None
            if name not in choices:
                problem = "must be another factor of the space"
                yield Fault(
                    path, problem, choices=tuple(choices), suggestion=find_closest(name, choices)
                )
            elif levels is None:
                yield Fault(path, "must be a factor with choices, step or levels")
            else:
                unknown_levels = [value for value in values if not is_among(value, levels)]
                problem, level_names = f"must be a level of {name}", _format_levels(levels)
                yield from (Fault(path, problem, value, level_names) for value in unknown_levels)
        if key == "objective" and None in (factor.choices or ()):
            problem = "cannot have the level null (the default metric): name the metric"
            yield Fault("space.objective", problem)
        value, levels = factor.baseline, factor.enumerate()
        if "baseline" in factor.model_fields_set and not is_allowed(factor, levels, value):
            expected = "one of the levels" if levels else "between {} and {}".format(*factor.bounds)
            expected += ", or omitted" if value is None else ""
            level_names = _format_levels(levels or ())
            yield Fault(f"space.{key}.baseline", f"must be {expected}", value, level_names)


def _format_levels(levels: Sequence[Any]) -> tuple[str, ...]:
    """Return levels as they are written in a YAML."""
    return tuple(level if isinstance(level, str) else show(level) for level in levels)
