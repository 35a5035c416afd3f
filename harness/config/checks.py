"""What can be wrong with a study whose keys and values are sound each by itself.

Answers for: levels that stand for no trial, settings that nothing reads, what a sampler and a
protocol need. Each check looks at the typed study, or at the trials that it spans, and gives its
faults; none raises at the first. What datasets and backbones have to have: harness.config.needs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from harness.config.dotted import METHODS, of_dataset, place, trial_fields, value_of
from harness.config.factor import (
    Factor,
    assignments,
    in_order,
    is_active,
    is_among,
    may_be,
    same,
)
from harness.config.mistakes import validated
from harness.config.study_config import SELECTING, StudyConfig
from harness.errors import Fault
from harness.wording import nearest, show
from ship.requirements import requirements
from ship.trial_config import TrialConfig

MAX_GRID = 10_000


# one value of each factor that is there, by dotted names, and the trial with these values
Setting = tuple[Mapping[str, Any], TrialConfig]


def study_faults(study: StudyConfig, settings: Sequence[Setting]) -> list[Fault]:
    """What the settings that a study spans lack to be studied, every such fault at once."""
    faults = list(_space_faults(study.space)) or _dead_faults(study.space, settings)
    faults += _effect_faults(study.space, settings)
    faults += located(study, settings, partial(_trial_faults, study))
    return [*faults, *_sampler_faults(study)]


def settings_of(study: StudyConfig, unsure: Collection[str]) -> tuple[list[Setting], list[Fault]]:
    """The settings that checks look at, and faults of levels and variants that make no trial.

    A factor must be a setting of each variant that it is there beside.

    Args:
        unsure: groups of settings with a fault of their own, of whose variant nothing is said.
    """
    settings: list[Setting] = []
    torn: dict[str, Fault] = {}
    constants, owners = study.trial.model_dump(), trial_fields()
    for assignment in _samples(study.space):
        fitting = dict(assignment)
        for key in assignment:
            group, _, leaf = key.partition(".")
            name = assignment.get(group, value_of(study.trial, group))
            if leaf and group in METHODS and name not in owners[key]:
                if group not in unsure:
                    torn[key] = _unowned(key, name, tuple(owners[key]), group in study.space)
                del fitting[key]
        trial, faults = validated(TrialConfig, place(constants, fitting, study.variants))
        if not faults:
            settings.append((fitting, trial))
        for fault in faults:
            found = _torn(study, fitting, fault)
            torn.setdefault(found.path, found)
    for dataset, own in study.variants.get("dataset", {}).items():
        named = {key: own[key]["name"] for key in METHODS if "name" in own.get(key, {})}
        tree = place(constants, {"dataset": dataset, **named}, study.variants)
        for fault in validated(TrialConfig, tree)[1]:
            path = f"variants.dataset.{dataset}.{fault.path}"
            torn.setdefault(path, replace(fault, path=path))
    return settings, [torn[path] for path in sorted(torn)]


def _unowned(key: str, name: str, owners: Sequence[str], varied: bool) -> Fault:
    """A factor that a variant of its group does not have."""
    group, _, leaf = key.partition(".")
    if varied:
        when = f'"when: {{{group}: [{", ".join(owners)}]}}"'
        return Fault(f"space.{key}", f"must have {when}: {name} has no {leaf}")
    names = tuple(f"{group}.{one}" for one in METHODS[group][name].model_fields if one != "name")
    must = f"must be a setting of {group} {name}, the study's constant"
    must += "" if names else f": {name} has no settings"
    return Fault(f"space.{key}", must, choices=names)


def _torn(study: StudyConfig, assignment: Mapping[str, Any], fault: Fault) -> Fault:
    """A fault of a setting's trial by where it stands in the YAML, with what it may hang on."""
    group, _, leaf = fault.path.partition(".")
    inside = [key for key in assignment if key.partition(".")[0] == group]
    key = fault.path if leaf or group in assignment else [*inside, group][0]
    told = [name for name in inside if name != key and (name == group or not leaf)]
    beside = " and ".join(f"{name} is {show(assignment[name])}" for name in told)
    must = f"{fault.must} (where {beside})" if beside and key in assignment else fault.must
    path, got = place_of(study, assignment, key), assignment.get(key, fault.got)
    return replace(fault, path=path, must=must, got=got)


def _samples(space: Mapping[str, Factor]) -> Iterator[dict[str, Any]]:
    """Every setting of a space, with a range by its ends; of too many some that are drawn."""
    deciding = {name for factor in space.values() for name in factor.when}
    whole = {}
    for key, factor in space.items():
        levels = factor.choices or (factor.enumerate() if key in deciding else None)
        whole[key] = factor.model_copy(update={"choices": levels or factor.bounds})
    return _drawn(whole) if _spans_many(whole) else assignments(whole)


def _drawn(space: Mapping[str, Factor]) -> Iterator[dict[str, Any]]:
    """MAX_GRID settings of a space, in which each level comes about as often as the others."""
    rng, order = np.random.default_rng(0), in_order(space)
    levels = {key: space[key].choices or () for key in order}
    columns = {key: rng.permutation(MAX_GRID) % len(levels[key]) for key in order}
    for row in range(MAX_GRID):
        drawn: dict[str, Any] = {}
        for key in order:
            if is_active(space[key], drawn):
                drawn[key] = levels[key][columns[key][row]]
        yield drawn


def located(
    study: StudyConfig,
    settings: Sequence[Setting],
    rule: Callable[[TrialConfig], Iterable[Fault]],
) -> list[Fault]:
    """What a rule has against the trials of settings, by where their values stand in the YAML.

    Args:
        rule: gives faults with the dotted name of a trial's setting for their path.
    """
    faults: dict[tuple[str, str], Fault] = {}
    for assignment, trial in settings:
        for fault in rule(trial):
            path = place_of(study, assignment, fault.path)
            faults.setdefault((path, fault.must), replace(fault, path=path))
    return list(faults.values())


def place_of(study: StudyConfig, assignment: Mapping[str, Any], key: str) -> str:
    """Where in the YAML a setting has its value of a dotted name from ("targets[1]", too)."""
    name = key.partition("[")[0]
    group, _, leaf = name.partition(".")
    if name in assignment:
        factor, value = study.space[name], assignment[name]
        ends = {".low": factor.low, ".high": factor.high}
        levels = {f".choices[{i}]": level for i, level in enumerate(factor.choices or ())} or ends
        return f"space.{name}{next((at for at in levels if same(levels[at], value)), '')}"
    own = of_dataset(study.trial.model_dump(), assignment, study.variants)
    if any(f"{one}.".startswith(f"{name}.") for one in own):
        return f"variants.dataset.{assignment.get('dataset', study.trial.dataset)}.{key}"
    if leaf and assignment.get(group, constant := value_of(study.trial, group)) != constant:
        return f"variants.{group}.{assignment[group]}.{leaf}"
    return key


def _trial_faults(study: StudyConfig, trial: TrialConfig) -> Iterator[Fault]:
    """What a trial does not meet of the demands of its protocol; a KL warm-up without an end."""
    for key, must, choices in requirements(trial):
        fault, value = Fault(key, must, choices=choices), value_of(trial, key)
        yield fault if value in (None, ()) else replace(fault, got=value)
    key, epochs = "generator.kl_warmup", value_of(trial, "generator.epochs")
    warmup = None if trial.generator.unread_reason(key) else value_of(trial, key)
    numbers = isinstance(warmup, int) and isinstance(epochs, int)  # a plugin's may be anything
    if numbers and warmup >= epochs and "generator.epochs" not in study.space:
        must = f"must be < generator.epochs, which is {epochs}: kl_weight is never reached"
        yield Fault(key, must, warmup)


def _dead_faults(space: Mapping[str, Factor], settings: Sequence[Setting]) -> list[Fault]:
    """A factor whose conditions never hold together would silently not be studied."""
    must = "must be met by some setting: its conditions exclude each other"
    met = {key for assignment, _ in settings for key in assignment}
    return [Fault(f"space.{key}.when", must) for key in space if key not in met]


def _effect_faults(space: Mapping[str, Factor], settings: Sequence[Setting]) -> Iterator[Fault]:
    """A factor must be read by some setting that it is there in.

    Where another setting of the same method decides that, a condition must say so.
    """
    for key in space:
        beside = [setting for setting in settings if key in setting[0]]
        reasons = [trial.unread_reason(key) for _, trial in beside]
        if beside and all(reasons):
            yield Fault(f"space.{key}", f"must have an effect: {_joined(reasons)}")
            continue
        group = key.partition(".")[0]
        others = [name for name in space if name.startswith(f"{group}.") and name != key]
        for other in others if group in METHODS else ():
            if any(other not in assignment for assignment, _ in beside):
                continue  # a condition would take away what has an effect
            by_level: dict[Any, list[str | None]] = {}
            for assignment, trial in beside:
                reason = getattr(trial, group).unread_reason(key)
                by_level.setdefault(assignment[other], []).append(reason)
            read = ", ".join(str(level) for level, own in by_level.items() if not all(own))
            unread = [reason for own in by_level.values() if all(own) for reason in own]
            if unread:
                must = f'must have "when: {{{other}: [{read}]}}": {_joined(unread)}'
                yield Fault(f"space.{key}", must)


def _joined(reasons: Iterable[str | None]) -> str:
    return "; ".join(dict.fromkeys(map(str, reasons)))


def _sampler_faults(study: StudyConfig) -> Iterator[Fault]:
    """Faults of what proposes settings, and of how many it is to propose."""
    sampler, scheduler, space = study.sampler, study.scheduler.name, study.space
    endless = [key for key, factor in space.items() if factor.enumerate() is None]
    if sampler != "grid":
        if study.trials is None:
            yield Fault("trials", f"must be given: how many settings {sampler} is to try")
        must = "must be a constant unless the sampler is grid: it decides what is maximised"
        yield from (Fault(f"space.{key}", must) for key in SELECTING if key in space)
    elif endless:
        must = "must have levels, step or choices under sampler grid"
        yield from (Fault(f"space.{key}", must) for key in endless)
    elif study.trials is None and _spans_many(space):
        must = f"must span at most {MAX_GRID} settings under sampler grid, unless trials is given"
        yield Fault("space", must)
    why = "where selection is none, which measures nothing to be"
    if study.trial.selection == "none" and sampler != "grid":
        yield Fault("sampler", f"must be grid {why} maximised", sampler)
    if study.trial.selection == "none" and scheduler != "none":
        yield Fault("scheduler", f"must be none {why} compared", scheduler)


def _spans_many(space: Mapping[str, Factor]) -> bool:
    return sum(1 for _ in islice(assignments(space), MAX_GRID + 1)) > MAX_GRID


def _space_faults(space: Mapping[str, Factor]) -> Iterator[Fault]:
    """Faults of sound factors among each other."""
    ordered = in_order(space)
    if around := [key for key in space if key not in ordered]:
        must = "must not wait for itself: the conditions run in a circle through "
        yield Fault(f"space.{around[0]}.when", must + ", ".join(around))
    for key, factor in space.items():
        for name, values in factor.when.items():
            others = {other: space[other] for other in space if other != key}
            yield from _when_faults(f"space.{key}.when.{name}", name, values, others)
        path, value, levels = f"space.{key}.baseline", factor.baseline, factor.enumerate()
        if value is not None and not may_be(factor, levels, value):
            must = "one of the levels" if levels else "from {} to {}".format(*factor.bounds)
            yield Fault(path, f"must be {must}", value, _named(levels or ()))


def _when_faults(
    path: str, name: str, values: Sequence[Any], others: Mapping[str, Factor]
) -> Iterator[Fault]:
    """A condition must be of another factor, and of levels that this one has."""
    levels = others[name].enumerate() if name in others else None
    if name not in others:
        must = "must name another factor of the space"
        yield Fault(path, must, choices=tuple(others), near=nearest(name, others))
    elif levels is None:
        yield Fault(path, "must name a factor with choices, step or levels")
    else:
        foreign = [value for value in values if not is_among(value, levels)]
        must, named = f"must be a value that {name} takes", _named(levels)
        yield from (Fault(path, must, value, named) for value in foreign)


def _named(levels: Sequence[Any]) -> tuple[str, ...]:
    return tuple(level if isinstance(level, str) else show(level) for level in levels)
