"""What a YAML varies: the factors of its `space`, and its `variants`, each by itself."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from harness.config.dotted import GROUPS, METHODS, Variants, takes, trial_fields, value_of
from harness.config.factor import Factor, factor_faults, is_among
from harness.config.mistakes import validated
from harness.errors import Fault
from harness.wording import nearest
from ship.plugins import PluginError
from ship.trial_config import TrialConfig

_VARIED = (*METHODS, "dataset")
_OWN = (
    "max_classes", "shots", "views", "pseudo_new_fraction", "eval_every", "quality", *METHODS,
    "synthetic",
)  # fmt: skip
"""What a dataset may have of its own; the others say what a study measures, and of whom."""


def parse_space(raw: Any) -> tuple[dict[str, Factor], list[Fault]]:
    """The factors of a YAML's `space`, without the faulty ones, and the faults of each by itself.

    Whether a level is a value of its setting, the trials tell that are made with it.

    Args:
        raw: what the YAML has there, of whatever type, spelled out.
    """
    if raw is None or raw == {}:
        return {}, [Fault("space", "must have at least one factor", choices=_in_short())]
    if not isinstance(raw, dict):
        return {}, [Fault("space", "must be a mapping of settings to factors", raw)]
    _load_plugins(raw)
    space: dict[str, Factor] = {}
    faults: list[Fault] = []
    for key, value in raw.items():
        factor, found = _parse_factor(str(key), value)
        space |= {str(key): factor} if factor else {}
        faults += [replace(fault, path=f"space.{key}.{fault.path}".strip(".")) for fault in found]
    return space, faults


def _load_plugins(space: Mapping[str, Any]) -> None:
    """Load what levels name of installed packages; who cannot be loaded is told of as a level."""
    for group, table in METHODS.items():
        factor = space.get(group)
        levels = factor.get("choices") if isinstance(factor, dict) else ()
        for name in levels if isinstance(levels, list) else ():
            with suppress(PluginError):
                table.get(str(name))


def _parse_factor(key: str, value: Any) -> tuple[Factor | None, list[Fault]]:
    """A factor and its faults, by paths below it."""
    owners = trial_fields().get(key, {})
    found = []
    if not owners:
        near, must = meant(key, trial_fields()), "must be a setting of a trial"
        found = [Fault("", must, choices=_in_short(), near=near)]
    if key == "protocol":
        found = [Fault("", "must be a constant: protocols are measured by different metrics")]
    if not isinstance(value, dict):
        must = "must be a list of choices, or a mapping with choices or low and high"
        return None, [*found, Fault("", must, value)]
    factor, faults = validated(Factor, value)
    if takes(owners, float):
        factor = _as_floats(factor)
    found += faults or factor_faults(factor)
    nothing = "baseline" in factor.model_fields_set and factor.baseline is None
    if nothing and not found and not is_among(None, factor.enumerate() or ()):
        found = [Fault("baseline", "must be one of the levels, or left out", None)]
    if found or takes(owners, float) or not isinstance(factor.step, float):
        return None if found else factor, found
    return factor, [Fault("step", "must be an integer", factor.step)]


def _as_floats(factor: Factor) -> Factor:
    """A factor of a setting that takes floats, with 1.0 for 1, before levels are made of it."""

    def typed(value: Any) -> Any:
        return float(value) if type(value) is int and abs(value) <= 2**53 else value

    given = factor.model_fields_set & {"low", "high", "step", "baseline"}
    update = {name: typed(getattr(factor, name)) for name in given}
    if factor.choices is not None:
        update["choices"] = tuple(map(typed, factor.choices))
    return factor.model_copy(update=update)


def meant(key: str, known: Iterable[str]) -> str | None:
    """What an unknown key was probably meant to be: a dotted name without its group, or alike."""
    whole = (name for name in trial_fields() if name.rpartition(".")[2] == key)
    return next(whole, nearest(key.removesuffix(".name"), known))


def _in_short() -> tuple[str, ...]:
    """What may be a factor, each group's settings as one entry: "shots", "generator.*"."""
    groups = (f"{name}.*" for name in TrialConfig.model_fields if name in GROUPS)
    return (*(name for name in trial_fields() if "." not in name), *groups)


def variant_faults(variants: Mapping[str, Any]) -> Iterator[tuple[tuple[Any, ...], Fault]]:
    """What cannot stand in `variants` (group -> level of that group -> settings), and where.

    `dataset` has settings of single datasets, whether it is varied or not. Whether the settings are
    sound, the trials tell that are made with them.
    """
    from ship.datasets import DATASETS, PREFIX, nearest_dataset

    def fault(must: str, *at: Any, **notes: Any) -> tuple[tuple[Any, ...], Fault]:
        return at, Fault(".".join(map(str, ("variants", *at))), must, **notes)

    for group, levels in variants.items():
        if group not in _VARIED:
            must, near = "must be a group that a study can vary", nearest(str(group), _VARIED)
            yield fault(must, group, choices=_VARIED, near=near)
        elif not isinstance(levels, dict):
            yield fault("must be a mapping of levels to settings", group, got=levels)
        for name, own in levels.items() if isinstance(levels, dict) and group in _VARIED else ():
            if not isinstance(own, dict):
                yield fault("must be a mapping of settings", group, name, got=own)
            elif group != "dataset" and "name" in own:
                yield fault("must be left out", group, name, "name", got=own["name"])
            elif group == "dataset" and name not in DATASETS and not str(name).startswith(PREFIX):
                choices, near = (*DATASETS.names(), f"{PREFIX}NAME"), nearest_dataset(str(name))
                yield fault("must be a dataset", group, name, choices=choices, near=near)
            elif group == "dataset":
                for key, value in own.items():
                    if key not in _OWN:
                        must, near = "must be a setting of a dataset's own", nearest(str(key), _OWN)
                        yield fault(must, group, name, key, choices=_OWN, near=near)
                    elif key in GROUPS and not isinstance(value, dict):
                        yield fault("must be a mapping of settings", group, name, key, got=value)


def unread_variants(
    variants: Variants, space: Mapping[str, Factor], trial: TrialConfig
) -> Iterator[Fault]:
    """Sound variants that no setting of a study would run with.

    A group's constant has its settings at the top level, and a factor goes over what a dataset has.

    Args:
        space: the study's factors.
        trial: its constants.
    """
    for group in METHODS:
        levels = space[group].choices or () if group in space else ()
        for name in variants.get(group, {}):
            path = f"variants.{group}.{name}"
            if name not in levels:
                must = f"must be for a level of space.{group} (drop it: --set {path}=null)"
                yield Fault(path, must)
            elif name == value_of(trial, group):
                yield Fault(path, f"must stand under {group}, as {name} is the study's constant")
    must = "must be left out: it is a factor of the space"
    for dataset, settings in variants.get("dataset", {}).items():
        for key, value in settings.items():
            names = [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
            for name in names:
                if name in space and not space[name].when:
                    yield Fault(f"variants.dataset.{dataset}.{name}", must)
