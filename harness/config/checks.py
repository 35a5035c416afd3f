"""What can be wrong with a study whose keys and values are sound each by itself.

Answers for: levels that stand for no trial, settings that nothing reads, what a sampler and a
protocol need. Each check looks at the typed study, or at the trials that it spans, and gives its
faults; none raises at the first. What datasets and backbones have to have: harness.config.needs.
"""

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any

from harness.config.factor import Factor, assignments, in_order, is_among, may_be
from harness.config.mapping import sound_part
from harness.config.needs import dataset_choices, unknown_dataset
from harness.config.space import METHODS, of_dataset, place, value_of
from harness.config.study_config import StudyConfig
from harness.errors import NOTHING, Fault
from harness.wording import nearest, show
from ship.datasets import PREFIX
from ship.requirements import requirements
from ship.trial_config import TrialConfig

MAX_GRID = 10_000


class Spanned:
    """The trials that a study spans: all of them, or MAX_GRID of too many.

    settings: one value of each factor that is there, by dotted names, and the trial with these.
    faults: of levels and variants that make no trial, as a factor must be a setting of each variant
        that it is there beside.
    """

    def __init__(self, study: StudyConfig, unsure: Collection[str]) -> None:
        """Make the trials.

        Args:
            study: with its constants, factors and variants.
            unsure: groups of settings with a fault of their own, of whose keys nothing is said.
        """
        self._study = study
        self.settings: list[tuple[Mapping[str, Any], TrialConfig]] = []
        faults = list(_dataset_faults(study))
        constants = study.trial.model_dump()
        for assignment in _samples(study.space):
            tree = place(constants, assignment, study.variants)
            trial, found = sound_part(TrialConfig, tree)
            if not found:
                self.settings.append((assignment, trial))
            for fault in found:
                if fault.got is not NOTHING or fault.path.partition(".")[0] not in unsure:
                    faults.append(self._of_level(assignment, fault))
        self.faults = sorted(faults, key=attrgetter("path"))

    def located(self, rule: Callable[[TrialConfig], Iterable[Fault]]) -> Iterator[Fault]:
        """What a rule has against the trials, by where their values stand in the YAML.

        Args:
            rule: gives faults with the dotted name of a trial's setting for their path.
        """
        for assignment, trial in self.settings:
            for fault in rule(trial):
                yield replace(fault, path=self._place_of(assignment, fault.path))

    def _of_level(self, assignment: Mapping[str, Any], fault: Fault) -> Fault:
        """A fault of a trial by where it stands in the YAML."""
        group, _, leaf = fault.path.partition(".")
        key = fault.path
        if not leaf and group not in assignment:  # of a method as a whole: a factor that sets it
            key = next((one for one in assignment if one.partition(".")[0] == group), group)
        path, got = self._place_of(assignment, key), fault.got
        if got is not NOTHING:  # else the factor is wrong, whatever its level
            got = assignment.get(key, got)
        return replace(fault, path=path, got=got)

    def _place_of(self, assignment: Mapping[str, Any], key: str) -> str:
        """Where a setting has its value of a dotted name from ("targets[1]", too)."""
        study, name = self._study, key.partition("[")[0]
        group, _, leaf = name.partition(".")
        if name in assignment:
            return f"space.{name}"
        own = of_dataset(study.trial.model_dump(), assignment, study.variants)
        if any(f"{one}.".startswith(f"{name}.") for one in own):
            return f"variants.dataset.{assignment.get('dataset', study.trial.dataset)}.{key}"
        constant = value_of(study.trial, group)
        if leaf and assignment.get(group, constant) != constant:
            return f"variants.{group}.{assignment[group]}.{leaf}"
        return key


def _dataset_faults(study: StudyConfig) -> Iterator[Fault]:
    """Settings that datasets have of their own and that make no trial with the constants."""
    for dataset, own in study.variants.get("dataset", {}).items():
        path = f"variants.dataset.{dataset}"
        if unknown := unknown_dataset(dataset):
            yield replace(unknown, path=path)
        named = {key: own[key]["name"] for key in METHODS if "name" in own.get(key, {})}
        values = {"dataset": dataset, **named}
        tree = place(study.trial.model_dump(), values, study.variants)
        for fault in sound_part(TrialConfig, tree)[1]:
            yield replace(fault, path=f"{path}.{fault.path}")


def _samples(space: Mapping[str, Factor]) -> list[dict[str, Any]]:
    """Every setting of a space, with a range by its ends; of too many some that are drawn."""
    deciding = {name for factor in space.values() for name in factor.when}

    def looked_at(key: str, factor: Factor) -> Sequence[Any]:
        levels = factor.choices or (factor.enumerate() if key in deciding else None)
        return levels or factor.bounds

    found = list(islice(assignments(space, looked_at), MAX_GRID + 1))
    if len(found) <= MAX_GRID:
        return found
    rng = random.Random(0)
    return [
        next(assignments(space, lambda key, factor: [rng.choice(looked_at(key, factor))]))
        for _ in range(MAX_GRID)
    ]


def study_faults(study: StudyConfig, spanned: Spanned) -> Iterator[Fault]:
    """What a study of sound values lacks to be run, every such fault at once."""
    factor = study.space.get("dataset")
    if (factor is None or factor.when) and "dataset" not in study.trial.model_fields_set:
        # only the packaged backbone has a default dataset
        yield Fault("dataset", "must be given", choices=dataset_choices())
    yield from _unread_variants(study)
    yield from _folder_faults(study)
    found = list(_space_faults(study.space))
    met = {key for assignment, _ in spanned.settings for key in assignment}
    must = "must be met by some setting: its conditions exclude each other"
    yield from found or (Fault(f"space.{k}.when", must) for k in study.space if k not in met)
    yield from _effect_faults(study.space, spanned)
    yield from spanned.located(partial(_trial_faults, study))
    yield from _sampler_faults(study)


def _unread_variants(study: StudyConfig) -> Iterator[Fault]:
    """Sound variants that no setting would run with.

    A group's constant has its settings at the top level, and a factor goes over what a dataset has.
    """
    for group in METHODS:
        constant = value_of(study.trial, group)
        levels = study.space[group].choices or () if group in study.space else ()
        for name, settings in study.variants.get(group, {}).items():
            path = f"variants.{group}.{name}"
            if name == constant and settings:
                block = show({"name": name, **settings})
                must = f"has settings of the constant {group}. Write them under `{group}:` instead"
                yield Fault(path, f"{must}, as in `{group}: {block}`")
            elif name == constant or name not in levels:
                must = f"is for no level of space.{group} other than the constant {constant}."
                yield Fault(path, f"{must} Add the level, or set {path}=null")
    must = "must be left out: it is a factor of the space"
    for dataset, settings in study.variants.get("dataset", {}).items():
        for key, value in settings.items():
            names = [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
            for name in names:
                if name in study.space and not study.space[name].when:
                    yield Fault(f"variants.dataset.{dataset}.{name}", must)


def _folder_faults(study: StudyConfig) -> Iterator[Fault]:
    """Keys that say how one's own folder is read, where there is no such folder, or not one."""
    for key, value in study.reading.get(study.trial.dataset, {}).items():
        if "dataset" in study.space or not study.trial.dataset.startswith(PREFIX):
            yield Fault(key, "must be left out unless dataset is one image_folder:NAME", value)
        elif study.split and key != "split":
            yield Fault(key, "must be left out beside split, which says it", value)


def _trial_faults(study: StudyConfig, trial: TrialConfig) -> Iterator[Fault]:
    """What a trial does not meet of the demands of its protocol; a KL warm-up without an end."""
    for key, must, choices in requirements(trial):
        value = value_of(trial, key)
        yield Fault(key, must, NOTHING if value in (None, ()) else value, choices)
    key, epochs = "generator.kl_warmup", value_of(trial, "generator.epochs")
    warmup = None if trial.generator.unread_reason(key) else value_of(trial, key)
    numbers = isinstance(warmup, int) and isinstance(epochs, int)  # a plugin's may be anything
    if numbers and warmup >= epochs and "generator.epochs" not in study.space:
        must = f"must be < generator.epochs, which is {epochs}: kl_weight is never reached"
        yield Fault(key, must, warmup)


def _effect_faults(space: Mapping[str, Factor], spanned: Spanned) -> Iterator[Fault]:
    """A factor must be read by some setting, and beside each level of its method's other factors.

    One that is not there beside all of them is left alone: what has an effect stands elsewhere.
    """
    for key in space:
        beside = [(one, trial) for one, trial in spanned.settings if key in one]
        reasons = [trial.unread_reason(key) for _, trial in beside]
        if beside and all(reasons):
            yield Fault(f"space.{key}", f"must have an effect: {_joined(reasons)}")
            continue
        group = key.partition(".")[0]
        if group not in METHODS:
            continue
        for other in (name for name in space if name.startswith(f"{group}.") and name != key):
            by_level: dict[Any, list[str | None]] = {}
            for one, trial in beside:
                reason = getattr(trial, group).unread_reason(key) if other in one else None
                by_level.setdefault(one.get(other), []).append(reason)
            if unread := {level: own for level, own in by_level.items() if all(own)}:
                levels = f"{other} is {' or '.join(map(str, unread))}"
                why = _joined(reason for own in unread.values() for reason in own)
                yield Fault(f"space.{key}", f"must have an effect where {levels}: {why}")


def _joined(reasons: Iterable[str | None]) -> str:
    return "; ".join(dict.fromkeys(map(str, reasons)))


def _sampler_faults(study: StudyConfig) -> Iterator[Fault]:
    """Faults of what proposes settings, and of how many it is to propose."""
    sampler, scheduler, space = study.sampler, study.scheduler.name, study.space
    varied = [f"space.{key}" for key in ("selection", "objective") if key in space]
    for key, value, fit in (("sampler", sampler, "grid"), ("scheduler", scheduler, "none")):
        if value == fit:
            continue
        must = f"must be a constant unless the {key} is {fit}: it decides what is maximised"
        yield from (Fault(path, must) for path in varied)
        if study.trial.selection == "none":
            must = f"must be {fit} where selection is none, which measures nothing"
            yield Fault(key, must, value)
    endless = [key for key, factor in space.items() if factor.enumerate() is None]
    if sampler != "grid":
        if study.trials is None:
            yield Fault("trials", f"must be given: how many settings {sampler} is to try")
    elif endless:
        must = "must have levels, step or choices under sampler grid"
        yield from (Fault(f"space.{key}", must) for key in endless)
    elif study.trials is None and any(islice(assignments(space), MAX_GRID, None)):
        must = f"must span at most {MAX_GRID} settings under sampler grid, unless trials is given"
        yield Fault("space", must)


def _space_faults(space: Mapping[str, Factor]) -> Iterator[Fault]:
    """Faults of sound factors among each other."""
    ordered = in_order(space)
    if around := [key for key in space if key not in ordered]:
        must = "must not wait for itself: the conditions run in a circle through "
        yield Fault(f"space.{around[0]}.when", must + ", ".join(around))
    for key, factor in space.items():
        for name, values in factor.when.items():
            path, others = f"space.{key}.when.{name}", [other for other in space if other != key]
            levels = space[name].enumerate() if name in others else None
            if name not in others:
                must = "must name another factor of the space"
                yield Fault(path, must, choices=tuple(others), near=nearest(name, others))
            elif levels is None:
                yield Fault(path, "must name a factor with choices, step or levels")
            else:
                foreign = [value for value in values if not is_among(value, levels)]
                must, named = f"must be a value that {name} takes", _named(levels)
                yield from (Fault(path, must, value, named) for value in foreign)
        if key == "objective" and None in (factor.choices or ()):
            yield Fault("space.objective", "must name each metric: null stands for one of them")
        value, levels = factor.baseline, factor.enumerate()
        if "baseline" in factor.model_fields_set and not may_be(factor, levels, value):
            must = "one of the levels" if levels else "from {} to {}".format(*factor.bounds)
            must += ", or left out" if value is None else ""
            yield Fault(f"space.{key}.baseline", f"must be {must}", value, _named(levels or ()))


def _named(levels: Sequence[Any]) -> tuple[str, ...]:
    return tuple(level if isinstance(level, str) else show(level) for level in levels)
