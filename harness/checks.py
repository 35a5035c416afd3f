"""Checks of a search space against the trials it describes, and of what those trials need."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import ValidationError

from harness.factor import Factor, assignments, in_order, is_among
from harness.faults import Fault, from_pydantic, nearest, show
from harness.fields import place
from harness.parse import FIELDS, GROUPS, indexed
from ship.trial_config import TrialConfig

MAX_GRID = 10_000
# zero_shot trains nothing, but what a generator makes beside it is still judged
_ZERO_SHOT_TAKES = (
    "backbone", "precision", "dataset", "targets", "max_classes", "unseen_class", "shots", "views",
    "generator", "finetuner", "quality",
)  # fmt: skip
_CACHED = ("tip_adapter", "tip_adapter_f", "gda")
_STEPWISE = ("synthetic.ratio", "synthetic.draw")


def space_faults(space: Mapping[str, Factor], constants: Mapping[str, Any]) -> list[Fault]:
    """Faults of sound factors among each other and against TrialConfig.

    Args:
        constants: the YAML's trial settings, groups as mappings with a name; may be faulty
            themselves: only faults of the space are returned.
    """
    faults = []
    for key, factor in space.items():
        faults += _when_faults(key, space)
        faults += _owner_faults(key, space, constants) or _level_faults(key, space, constants)
        faults += _baseline_faults(key, factor)
    faults += _cycle_faults(space)
    return faults or _dead_faults(space)


def _names(group: str, key: str, space: Mapping[str, Factor], constants: Any) -> tuple[str, ...]:
    """The variants of `group` beside which the factor `key` is there."""
    if group in space:
        levels = space[group].choices or ()
        when = space[key].when.get(group)
        names = [name for name in levels if when is None or is_among(name, when)]
    else:
        inside = constants.get(group)
        names = [inside.get("name")] if isinstance(inside, dict) else []
    return tuple(name for name in names if isinstance(name, str))


def _owner_faults(key: str, space: Mapping[str, Factor], constants: Any) -> list[Fault]:
    """A factor must be a setting of every variant beside which it is there, and must matter."""
    group, _, leaf = key.partition(".")
    owners = FIELDS[key].owners
    if leaf and "" not in owners:
        names = [name for name in _names(group, key, space, constants) if name in GROUPS[group]]
        lacking = [name for name in names if name not in owners]
        if lacking and group in space:
            having = ", ".join(owners)
            must = f'must have "when: {{{group}: [{having}]}}": {", ".join(lacking)} has no {leaf}'
            return [Fault(f"space.{key}", must)]
        if lacking:
            keys = tuple(
                name for name, field in FIELDS.items()
                if name.startswith(f"{group}.") and lacking[0] in field.owners
            )  # fmt: skip
            must = f"must be a setting of {group} {lacking[0]}, the study's constant"
            return [Fault(f"space.{key}", must, choices=keys or ("none",))]
    reason = _no_effect(key, space, constants)
    return [Fault(f"space.{key}", f"must have an effect: {reason}")] if reason else []


def _no_effect(key: str, space: Mapping[str, Factor], constants: Mapping[str, Any]) -> str | None:
    """Why varying a factor would change nothing under the study's constants, or None."""

    def constant(group: str) -> Any:
        inside = constants.get(group, TrialConfig.model_fields[group].default)
        inside = inside.get("name") if isinstance(inside, dict) else inside
        return None if group in space else inside

    taken = key.partition(".")[0] in _ZERO_SHOT_TAKES
    if constant("finetuner") == "zero_shot" and not taken:
        return "finetuner zero_shot trains nothing"
    if constant("finetuner") == "tip_adapter" and key == "synthetic.weight":
        return "finetuner tip_adapter trains nothing that a weight could weigh"
    if constant("generator") == "none" and key.startswith("synthetic."):
        return "generator none makes no synthetic features"
    if key == "synthetic.per_class" and _draws_fresh(constant("finetuner"), space, constants):
        return f"finetuner {constant('finetuner')} draws fresh features (synthetic.draw: fresh)"
    if constant("finetuner") in _CACHED and key in _STEPWISE:
        return f"finetuner {constant('finetuner')} holds one fixed set of synthetic features"
    if key == "pseudo_new_fraction" and constant("selection") in ("base_val", "test"):
        return f"selection {constant('selection')} holds out no classes"
    return None


def _draws_fresh(finetuner: Any, space: Mapping[str, Factor], constants: Any) -> bool:
    """Whether a constant fine-tuner takes fresh synthetic features at each step."""
    if finetuner is None or finetuner in _CACHED or "synthetic.draw" in space:
        return False
    synthetic = constants.get("synthetic")
    drawn = synthetic.get("draw", "fresh") if isinstance(synthetic, dict) else "fresh"
    return bool(drawn == "fresh")


def _level_faults(key: str, space: Mapping[str, Factor], constants: Any) -> list[Fault]:
    """Each level of a factor must be a value that TrialConfig takes."""
    factor, field = space[key], FIELDS[key]
    group, _, leaf = key.partition(".")
    if factor.is_range and field.number is None:
        return [Fault(f"space.{key}", "must list choices, as it is no number")]
    ends = {"low": factor.low, "high": factor.high}
    values = ends if factor.choices is None else indexed("choices", factor.choices)
    names: tuple[str, ...] = ()
    if leaf and "" not in field.owners:
        named = _names(group, key, space, constants)
        names = tuple(name for name in named if name in field.owners) or tuple(field.owners)
    frames = [place(constants, {group: name}) for name in names] or [dict(constants)]
    known = [{fault.path for fault in trial_faults(frame)} for frame in frames]
    faults: dict[str, Fault] = {}
    for where, value in values.items():
        path = f"space.{key}.{where}"
        if not isinstance(value, str | int | float | None):
            faults[path] = Fault(path, "must be a single value", value)
        for frame, before in zip(frames, known, strict=True):
            for fault in trial_faults(place(frame, {key: value})):
                if fault.path == key or fault.path not in before:
                    moved = Fault(path, fault.must, value, fault.choices, fault.near)
                    faults.setdefault(path, moved)
    if factor.step is not None and field.number == "int" and not isinstance(factor.step, int):
        faults["step"] = Fault(f"space.{key}.step", "must be an integer", factor.step)
    return list(faults.values())


def trial_faults(tree: Mapping[str, Any]) -> list[Fault]:
    """Faults of a trial's settings as a YAML gives them."""
    try:
        trial = TrialConfig.model_validate(tree)
    except ValidationError as error:
        return from_pydantic(error, TrialConfig)
    return [Fault(path, "must be finite", value) for path, value in _not_finite(trial.model_dump())]


def _not_finite(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _not_finite(value, f"{prefix}{key}.")
        elif isinstance(value, float) and not abs(value) < float("inf"):
            yield f"{prefix}{key}", value


def _bare(level: Any) -> str:
    return level if isinstance(level, str) else show(level)


def _baseline_faults(key: str, factor: Factor) -> list[Fault]:
    if "baseline" not in factor.model_fields_set:
        return []
    path, value = f"space.{key}.baseline", factor.baseline
    levels = factor.enumerate()
    if levels is not None and not is_among(value, levels):
        choices = tuple(map(_bare, levels))
        return [Fault(path, "must be one of the levels", value, choices)]
    if levels is None and factor.low is not None and factor.high is not None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not factor.low <= value <= factor.high:
            return [Fault(path, f"must be from {factor.low} to {factor.high}", value)]
    return []


def _when_faults(key: str, space: Mapping[str, Factor]) -> list[Fault]:
    faults = []
    others = tuple(name for name in space if name != key)
    for name, values in space[key].when.items():
        path = f"space.{key}.when.{name}"
        if name not in others:
            must = "must name another factor of the space"
            faults.append(Fault(path, must, choices=others, near=nearest(name, others)))
            continue
        levels = space[name].enumerate()
        if levels is None:
            faults.append(Fault(path, "must name a factor with choices, step or levels"))
            continue
        if not values:
            faults.append(Fault(path, "must have at least one value", values))
        choices = tuple(map(_bare, levels))
        for value in values:
            if not is_among(value, levels):
                faults.append(Fault(path, f"must be a value that {name} takes", value, choices))
    return faults


def _cycle_faults(space: Mapping[str, Factor]) -> list[Fault]:
    ordered = in_order(space)
    stuck = [key for key in space if key not in ordered]
    must = "must not wait for itself: the conditions run in a circle through "
    return [Fault(f"space.{stuck[0]}.when", must + ", ".join(stuck))] if stuck else []


def _dead_faults(space: Mapping[str, Factor]) -> list[Fault]:
    """A factor whose conditions never hold together would silently not be studied."""
    deciding = {name for factor in space.values() for name in factor.when}
    alive: set[str] = set()
    for key in space:
        frame = {name: space[name] for name in space if name in deciding or name == key}
        frame[key] = Factor(choices=(None,), when=space[key].when)
        if any(key in assignment for assignment in islice(assignments(frame), MAX_GRID)):
            alive.add(key)
    return [
        Fault(f"space.{key}.when", "must be met by some setting: its conditions exclude each other")
        for key in space
        if key not in alive
    ]


def grid_faults(space: Mapping[str, Factor], trials: int | None) -> list[Fault]:
    """Faults of a space that a grid is to run over: every factor has levels, and not too many."""
    endless = [key for key, factor in space.items() if factor.enumerate() is None]
    if endless:
        must = "must have levels, step or choices under sampler grid"
        return [Fault(f"space.{key}", must) for key in endless]
    count = sum(1 for _ in islice(assignments(space), (trials or MAX_GRID) + 1))
    if trials is None and count > MAX_GRID:
        must = f"must span at most {MAX_GRID} settings under sampler grid, unless trials is given"
        return [Fault("space", must)]
    return []
