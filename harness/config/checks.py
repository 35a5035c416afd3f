"""What can be wrong with a study whose keys and values are sound each by itself.

Answers for: levels that stand for no trial, settings that nothing reads, what a sampler and a
protocol need. Each check looks at the typed study, or at the trials that it spans, and gives its
faults; none raises at the first. What datasets and backbones have to have: harness.config.needs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations, islice
from typing import Any

from harness.config.dotted import METHODS, of_dataset, place, trial_fields, value_of
from harness.config.factor import Factor, assignments, in_order, is_among, is_within, same
from harness.config.mistakes import validated
from harness.config.study_config import SELECTING, StudyConfig
from harness.errors import Fault
from harness.wording import nearest, show
from ship.requirements import requirements
from ship.trial_config import TrialConfig

MAX_GRID = 10_000


@dataclass(frozen=True)
class Setting:
    """One value of each factor that is there, by dotted names, and the trial with these values."""

    assignment: Mapping[str, Any]
    trial: TrialConfig


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
            settings.append(Setting(fitting, trial))
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
    inside = [
        key for key in assignment if key == group or (not leaf and key.startswith(f"{group}."))
    ]
    key = fault.path if leaf or group in assignment else [*inside, group][0]
    beside = [f"{name} is {show(assignment[name])}" for name in inside if name != key]
    must = (
        f"{fault.must} (where {' and '.join(beside)})"
        if beside and key in assignment
        else fault.must
    )
    path, got = place_of(study, assignment, key), assignment.get(key, fault.got)
    return replace(fault, path=path, must=must, got=got)


def _samples(space: Mapping[str, Factor]) -> Iterator[dict[str, Any]]:
    """Every setting of a space, with a range by its ends, if there are not too many.

    Else those that differ in what is no number, on which effects depend, and those that differ
    from the baseline in two factors.
    """
    deciding = {name for factor in space.values() for name in factor.when}
    whole = {}
    for key, factor in space.items():
        levels = factor.choices or (factor.enumerate() if key in deciding else None)
        whole[key] = factor.model_copy(update={"choices": levels or factor.bounds})
    if sum(1 for _ in islice(assignments(whole), MAX_GRID + 1)) <= MAX_GRID:
        return assignments(whole)
    names = [
        key
        for key, factor in whole.items()
        if any(isinstance(level, str | bool | None) for level in factor.choices or ())
    ]
    frames = (_around(whole, {*keys, *deciding}) for keys in (names, *combinations(whole, 2)))
    return islice(chain.from_iterable(map(assignments, frames)), 2 * MAX_GRID)


def _around(space: Mapping[str, Factor], kept: Collection[str]) -> dict[str, Factor]:
    """A space in which the other factors stay at their baselines; a range without one: at low."""
    alone = {
        key: factor.low if factor.baseline is None else factor.baseline
        for key, factor in space.items()
        if key not in kept
    }
    changed = {key: space[key].model_copy(update={"choices": (alone[key],)}) for key in alone}
    return {**space, **changed}


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
    for setting in settings:
        for fault in rule(setting.trial):
            path = place_of(study, setting.assignment, fault.path)
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
    key, (warmup, epochs) = (
        "generator.kl_warmup",
        (value_of(trial, f"generator.{name}") for name in ("kl_warmup", "epochs")),
    )
    if "generator.epochs" in study.space or not isinstance(warmup, int):
        return
    if isinstance(epochs, int) and warmup >= epochs and not trial.generator.unread_reason(key):
        must = f"must be < generator.epochs, which is {epochs}: kl_weight is never reached"
        yield Fault(key, must, warmup)


def _dead_faults(space: Mapping[str, Factor], settings: Sequence[Setting]) -> list[Fault]:
    """A factor whose conditions never hold together would silently not be studied."""
    must = "must be met by some setting: its conditions exclude each other"
    met = {key for setting in settings for key in setting.assignment}
    return [Fault(f"space.{key}.when", must) for key in space if key not in met]


def _effect_faults(space: Mapping[str, Factor], settings: Sequence[Setting]) -> Iterator[Fault]:
    """A factor must be read by some setting that it is there in.

    Where another setting of the same method decides that, a condition must say so.
    """
    for key in space:
        beside = [setting for setting in settings if key in setting.assignment]
        group = key.partition(".")[0]
        reasons = [setting.trial.unread_reason(key) for setting in beside]
        if beside and all(reasons):
            yield Fault(f"space.{key}", f"must have an effect: {_joined(reasons)}")
            continue
        for other in space if group in METHODS else ():
            if other == key or not other.startswith(f"{group}."):
                continue
            if any(other not in setting.assignment for setting in beside):
                continue  # a condition would take away what has an effect
            by_level: dict[Any, list[str | None]] = {}
            for setting in beside:
                reason = getattr(setting.trial, group).unread_reason(key)
                by_level.setdefault(setting.assignment[other], []).append(reason)
            read = ", ".join(str(level) for level, own in by_level.items() if not all(own))
            unread = [reason for own in by_level.values() if all(own) for reason in own]
            if unread:
                must = f'must have "when: {{{other}: [{read}]}}": {_joined(unread)}'
                yield Fault(f"space.{key}", must)


def _joined(reasons: Iterable[str | None]) -> str:
    return "; ".join(dict.fromkeys(map(str, reasons)))


def _sampler_faults(study: StudyConfig) -> Iterator[Fault]:
    """Faults of what proposes settings, and of how many it is to propose."""
    sampler, scheduler = study.sampler, study.scheduler.name
    if sampler == "grid":
        yield from _grid_faults(study.space, study.trials)
    else:
        if study.trials is None:
            yield Fault("trials", f"must be given: how many settings {sampler} is to try")
        must = "must be a constant unless the sampler is grid: it decides what is maximised"
        yield from (Fault(f"space.{key}", must) for key in SELECTING if key in study.space)
    why = "where selection is none, which measures nothing to be"
    if study.trial.selection == "none" and sampler != "grid":
        yield Fault("sampler", f"must be grid {why} maximised", sampler)
    if study.trial.selection == "none" and scheduler != "none":
        yield Fault("scheduler", f"must be none {why} compared", scheduler)


def _grid_faults(space: Mapping[str, Factor], trials: int | None) -> Iterator[Fault]:
    """Faults of a space that a grid is to run over: every factor has levels, and not too many."""
    endless = [key for key, factor in space.items() if factor.enumerate() is None]
    must = "must have levels, step or choices under sampler grid"
    yield from (Fault(f"space.{key}", must) for key in endless)
    if not endless and trials is None:
        count = sum(1 for _ in islice(assignments(space), MAX_GRID + 1))
        if count > MAX_GRID:
            must = "settings under sampler grid, unless trials is given"
            yield Fault("space", f"must span at most {MAX_GRID} {must}")


def _space_faults(space: Mapping[str, Factor]) -> Iterator[Fault]:
    """Faults of sound factors among each other."""
    stuck = set(space).difference(in_order(space))
    if around := [key for key in space if key in stuck]:
        must = "must not wait for itself: the conditions run in a circle through "
        yield Fault(f"space.{around[0]}.when", must + ", ".join(around))
    for key, factor in space.items():
        for name, values in factor.when.items():
            yield from _when_faults(f"space.{key}.when.{name}", name, values, key, space)
        if "baseline" not in factor.model_fields_set:
            continue
        path, value, levels = f"space.{key}.baseline", factor.baseline, factor.enumerate()
        if levels is None:
            low, high = factor.bounds
            if not is_within(factor, value):
                yield Fault(path, f"must be from {low} to {high}", value)
        elif not is_among(value, levels):
            yield Fault(path, "must be one of the levels", value, _named(levels))


def _when_faults(
    path: str, name: str, values: Sequence[Any], key: str, space: Mapping[str, Factor]
) -> Iterator[Fault]:
    others = tuple(other for other in space if other != key)
    levels = space[name].enumerate() if name in others else None
    if name not in others:
        must = "must name another factor of the space"
        yield Fault(path, must, choices=others, near=nearest(name, others))
    elif levels is None:
        yield Fault(path, "must name a factor with choices, step or levels")
    else:
        for value in values:
            if not is_among(value, levels):
                yield Fault(path, f"must be a value that {name} takes", value, _named(levels))


def _named(levels: Sequence[Any]) -> tuple[str, ...]:
    return tuple(level if isinstance(level, str) else show(level) for level in levels)
