"""Check a study whose keys and values are each valid by themselves.

The checks find levels that result in no valid trial, options without effect, and unmet requirements
of samplers and protocols. Each check inspects the study or its trials, and returns all of its
faults. Datasets and backbones are checked in harness.config.requirements.
"""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any

from harness.config.factor import Factor, is_allowed, is_among, iter_assignments, sort_by_condition
from harness.config.mapping import validate_part
from harness.config.requirements import find_unknown_dataset, list_dataset_choices
from harness.config.space import METHODS, get_value, list_dataset_overrides, set_values
from harness.config.study_config import StudyConfig
from harness.errors import NOTHING, Fault
from harness.wording import find_closest, show
from ship.datasets import PREFIX
from ship.requirements import find_unmet_requirements
from ship.trial_config import TrialConfig

MAX_GRID = 10_000  # maximum number of configurations of a grid, and of checked trials


class StudyTrials:
    """The trials of a study, or a random sample of MAX_GRID if there are more.

    Only the ends of a range are used.

    Attributes:
        pairs: Each assignment that results in a valid trial, and the trial.
        faults: Faults of levels and variants that result in no valid trial, e.g. of a factor that
            is no option of a method it is combined with.
    """

    def __init__(self, study: StudyConfig, faulty_groups: Collection[str]) -> None:
        """Create the trials.

        Args:
            study: The study.
            faulty_groups: Groups of options in which faults were found before. Unknown and missing
                keys of these groups are not reported.
        """
        self._study = study
        self.pairs: list[tuple[Mapping[str, Any], TrialConfig]] = []
        faults = list(_find_dataset_faults(study))
        constants = study.base.model_dump()
        for assignment in _list_assignments(study.space):
            tree = set_values(constants, assignment, study.variants)
            trial, trial_faults = validate_part(TrialConfig, tree)
            if not trial_faults:
                self.pairs.append((assignment, trial))
            for fault in trial_faults:
                if fault.got is not NOTHING or fault.path.partition(".")[0] not in faulty_groups:
                    faults.append(self._locate_fault(assignment, fault))
        self.faults = sorted(faults, key=attrgetter("path"))

    def find_faults(self, rule: Callable[[TrialConfig], Iterable[Fault]]) -> Iterator[Fault]:
        """Yield the faults that a rule finds in the trials, with their paths in the YAML.

        Args:
            rule: Function that returns the faults of a trial, whose paths are the dotted names of
                options.
        """
        for assignment, trial in self.pairs:
            for fault in rule(trial):
                yield replace(fault, path=self._find_path(assignment, fault.path))

    def _locate_fault(self, assignment: Mapping[str, Any], fault: Fault) -> Fault:
        """Return a fault of a trial with the path and value that the YAML has."""
        group, _, leaf = fault.path.partition(".")
        key = fault.path
        if not leaf and group not in assignment:
            # a fault of a constant method as a whole: use a factor among its options, if any
            key = next((name for name in assignment if name.partition(".")[0] == group), group)
        path, got = self._find_path(assignment, key), fault.got
        if got is not NOTHING:  # otherwise the key is wrong, whatever its value
            got = assignment.get(key, got)
        return replace(fault, path=path, got=got)

    def _find_path(self, assignment: Mapping[str, Any], key: str) -> str:
        """Return the path in the YAML that sets a dotted name, such as "shots" or "targets[1]"."""
        study, name = self._study, key.partition("[")[0]
        group, _, leaf = name.partition(".")
        if name in assignment:
            return f"space.{name}"
        options = list_dataset_overrides(study.base.model_dump(), assignment, study.variants)
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
        for fault in validate_part(TrialConfig, tree)[1]:
            yield replace(fault, path=f"{path}.{fault.path}")


def _list_assignments(space: Mapping[str, Factor]) -> list[dict[str, Any]]:
    """Return all assignments of a space, or MAX_GRID random ones if there are more.

    A range has only its ends, unless it is in the `when` of another factor.
    """
    condition_keys = {name for factor in space.values() for name in factor.when}

    def list_levels(key: str, factor: Factor) -> Sequence[Any]:
        levels = factor.choices or (factor.enumerate() if key in condition_keys else None)
        return levels or factor.bounds

    assignments = list(islice(iter_assignments(space, list_levels), MAX_GRID + 1))
    if len(assignments) <= MAX_GRID:
        return assignments
    rng = random.Random(0)

    def draw_level(key: str, factor: Factor) -> list[Any]:
        return [rng.choice(list_levels(key, factor))]

    return [next(iter_assignments(space, draw_level)) for _ in range(MAX_GRID)]


def find_study_faults(study: StudyConfig, trials: StudyTrials) -> Iterator[Fault]:
    """Yield all faults of a study, except those of datasets and backbones.

    Args:
        study: The study.
        trials: Its trials. They have no faults of their own.
    """
    factor = study.space.get("dataset")
    if (factor is None or factor.when) and "dataset" not in study.base.model_fields_set:
        # only the packaged backbone has a default dataset
        yield Fault("dataset", "is required", choices=list_dataset_choices())
    yield from _find_unused_variants(study)
    yield from _find_folder_faults(study)
    space_faults = list(_find_space_faults(study.space))
    active_keys = {key for assignment, _ in trials.pairs for key in assignment}
    rule = "is never met: its conditions exclude each other"
    yield from space_faults or (
        Fault(f"space.{key}.when", rule) for key in study.space if key not in active_keys
    )
    yield from _find_useless_factors(study.space, trials)
    yield from trials.find_faults(partial(_find_trial_faults, study))
    yield from _find_sampler_faults(study)


def _find_unused_variants(study: StudyConfig) -> Iterator[Fault]:
    """Yield a fault for each entry of `variants` that has no effect.

    Options of a constant method belong in its group at the top level. A factor overrides the
    options of a dataset.
    """
    for group in METHODS:
        constant = get_value(study.base, group)
        levels = study.space[group].choices or () if group in study.space else ()
        for name, options in study.variants.get(group, {}).items():
            path = f"variants.{group}.{name}"
            if name == constant and options:
                block = show({"name": name, **options})
                rule = (
                    f"contains options of the constant {group}. Set them under `{group}:` instead"
                )
                yield Fault(path, f"{rule}, as in `{group}: {block}`")
            elif name == constant or name not in levels:
                advice = f"{name} is the constant {group}. Remove the key"
                if name != constant:
                    advice = f"{name} is not a level of space.{group}. Add it, or remove the key"
                yield Fault(path, f"is never used: {advice} with {path}=null")
    rule = "cannot be set per dataset: it is a factor of the space"
    for dataset, options in study.variants.get("dataset", {}).items():
        for key, value in options.items():
            names = [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
            for name in names:
                if name in study.space and not study.space[name].when:
                    yield Fault(f"variants.dataset.{dataset}.{name}", rule)


def _find_folder_faults(study: StudyConfig) -> Iterator[Fault]:
    """Yield a fault for each of FOLDER_KEYS that cannot be used.

    All require a custom image folder as the study's only dataset, and `split` excludes the others.
    """
    for key, value in study.folder_options.get(study.base.dataset, {}).items():
        if "dataset" in study.space or not study.base.dataset.startswith(PREFIX):
            yield Fault(key, "can only be used with a single dataset image_folder:NAME", value)
        elif study.split and key != "split":
            yield Fault(key, "cannot be combined with split, which defines it", value)


def _find_trial_faults(study: StudyConfig, trial: TrialConfig) -> Iterator[Fault]:
    """Yield unmet requirements of a trial's protocol, and a KL warm-up that never completes."""
    for key, rule, choices in find_unmet_requirements(trial):
        value = get_value(trial, key)
        yield Fault(key, rule, NOTHING if value in (None, ()) else value, choices)
    key, epochs = "generator.kl_warmup", get_value(trial, "generator.epochs")
    warmup = None if trial.generator.explain_unused(key) else get_value(trial, key)
    numbers = isinstance(warmup, int) and isinstance(
        epochs, int
    )  # a plugin's options may have other types
    if numbers and warmup >= epochs and "generator.epochs" not in study.space:
        rule = f"must be < generator.epochs ({epochs}), otherwise kl_weight is never reached"
        yield Fault(key, rule, warmup)


def _find_useless_factors(space: Mapping[str, Factor], trials: StudyTrials) -> Iterator[Fault]:
    """Yield a fault for each factor that has no effect.

    A factor has no effect if no trial reads it. An option of a method must also be read at each
    level of the method's other factors at which it is active.
    """
    for key in space:
        active = [(assignment, trial) for assignment, trial in trials.pairs if key in assignment]
        reasons = [trial.explain_unused(key) for _, trial in active]
        if active and all(reasons):
            yield Fault(f"space.{key}", f"has no effect: {_join_reasons(reasons)}")
            continue
        group = key.partition(".")[0]
        if group not in METHODS:
            continue
        for other in (name for name in space if name.startswith(f"{group}.") and name != key):
            by_level: dict[Any, list[str | None]] = {}  # None: the trial reads the factor
            for assignment, trial in active:
                reason = getattr(trial, group).explain_unused(key) if other in assignment else None
                by_level.setdefault(assignment.get(other), []).append(reason)
            # the levels at which no trial reads the factor
            useless = {level: texts for level, texts in by_level.items() if all(texts)}
            if useless:
                condition = f"{other} is {' or '.join(map(str, useless))}"
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
    for key, value, neutral in (("sampler", sampler, "grid"), ("scheduler", scheduler, "none")):
        if value == neutral:
            continue
        rule = f"cannot be a factor unless {key} is {neutral}: it determines the maximized metric"
        yield from (Fault(path, rule) for path in paths)
        if study.base.selection == "none":
            rule = f"must be {neutral} if selection is none: no metric can be maximized"
            yield Fault(key, rule, value)
    if sampler == "gp":
        conditional = ", ".join(key for key, factor in space.items() if factor.when)
        if conditional:
            rule = f"must be tpe or random where factors have `when` ({conditional})"
            yield Fault(
                "sampler", f"{rule}: gp cannot model a factor that some configurations lack", "gp"
            )
        if scheduler != "none":
            rule = f"must be tpe or random with scheduler {scheduler}"
            yield Fault("sampler", f"{rule}: gp learns nothing from stopped configurations", "gp")
    continuous_keys = [key for key, factor in space.items() if factor.enumerate() is None]
    if sampler != "grid":
        if study.n_trials is None:
            yield Fault(
                "n_trials", f"is required if sampler is {sampler}: the number of configurations"
            )
    elif continuous_keys:
        rule = "must have levels, step or choices if sampler is grid"
        yield from (Fault(f"space.{key}", rule) for key in continuous_keys)
    elif study.n_trials is None and any(islice(iter_assignments(space), MAX_GRID, None)):
        rule = f"must have at most {MAX_GRID} configurations. Set n_trials, or use fewer levels"
        yield Fault("space", rule)


def _find_space_faults(space: Mapping[str, Factor]) -> Iterator[Fault]:
    """Yield faults of the factors' conditions (`when`), baselines and levels."""
    sorted_keys = sort_by_condition(space)
    if cycle := [key for key in space if key not in sorted_keys]:
        rule = f"must not be circular: the conditions of {', '.join(cycle)} depend on each other"
        yield Fault(f"space.{cycle[0]}.when", rule)
    for key, factor in space.items():
        for name, values in factor.when.items():
            path, choices = f"space.{key}.when.{name}", [other for other in space if other != key]
            levels = space[name].enumerate() if name in choices else None
            if name not in choices:
                rule = "must be another factor of the space"
                yield Fault(
                    path, rule, choices=tuple(choices), suggestion=find_closest(name, choices)
                )
            elif levels is None:
                yield Fault(path, "must be a factor with choices, step or levels")
            else:
                unknown_levels = [value for value in values if not is_among(value, levels)]
                rule, level_names = f"must be a level of {name}", _format_levels(levels)
                yield from (Fault(path, rule, value, level_names) for value in unknown_levels)
        if key == "objective" and None in (factor.choices or ()):
            rule = "cannot have the level null (the default metric): name the metric"
            yield Fault("space.objective", rule)
        value, levels = factor.baseline, factor.enumerate()
        if "baseline" in factor.model_fields_set and not is_allowed(factor, levels, value):
            rule = "one of the levels" if levels else "between {} and {}".format(*factor.bounds)
            rule += ", or omitted" if value is None else ""
            level_names = _format_levels(levels or ())
            yield Fault(f"space.{key}.baseline", f"must be {rule}", value, level_names)


def _format_levels(levels: Sequence[Any]) -> tuple[str, ...]:
    """Return levels as they are written in a YAML."""
    return tuple(level if isinstance(level, str) else show(level) for level in levels)
