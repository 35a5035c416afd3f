"""A study: one YAML file as typed settings, or every fault of it at once."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from harness.config.defaults import with_defaults
from harness.config.factor import Factor, factor_faults, may_be
from harness.config.mapping import (
    OVERRIDE,
    Override,
    apply_overrides,
    parse_overrides,
    sound_part,
    steps,
)
from harness.config.space import GROUPS, METHODS, resolve, trial_fields, value_of
from harness.config.study_config import OWN_KEYS, STUDY_KEYS, TRIAL_KEYS, StudyConfig
from harness.errors import NOTHING, ConfigError, Fault
from harness.removed import REMOVED
from harness.study_files import file_label, find_space, plain, read_yaml
from harness.wording import nearest, printable
from ship.plugins import PluginError, load_plugin
from ship.trial_config import TrialConfig

_KNOWN = "is an unknown key"
# Words that other tools have for keys of a study.
_MEANT = {
    "metric": "objective",
    "model": "backbone",
    "data": "dataset",
    "learning_rate": "finetuner.lr",
    "num_samples": "trials",
    "num_seeds": "seeds",
}


def load_study(
    space: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    *,
    label: str = "study",
    there: bool = True,
) -> StudyConfig:
    """Read a study from a YAML file, from a packaged one by its name, or from a mapping.

    Keys that are left out have the backbone's defaults: see harness.config.defaults.

    Args:
        space: a YAML file, the name of a packaged study (a file of that name in the working
            directory comes first), or a mapping with the keys of a YAML; its name may come from an
            override.
        overrides: "key=value" each, later ones win; see harness.config.mapping.
        data_root: where the datasets that are not packaged lie.
        label: what faults of a mapping name as their source.
        there: whether datasets and backbones have to be there; False: they are not looked at.

    Raises:
        ConfigError: with every mistake of type at once (unknown keys, values that a key does not
            take), or, where there is none, with every other mistake at once.
    """
    source = None
    if isinstance(space, Mapping):
        tree = {str(key): plain(value, f"{label}: {key}") for key, value in space.items()}
    else:
        source = find_space(space)
        label = file_label(source)
        tree = {"name": source.stem, **read_yaml(source, label)}
    # these load what reads pictures, which a worker does not need
    from harness.config.checks import Spanned, study_faults
    from harness.config.needs import Needs

    given, unread = parse_overrides(overrides)
    tree, blocked = apply_overrides(tree, given)
    tree, added = with_defaults(tree)
    study, faults = _typed(tree, given)
    unsure = {fault.path.removeprefix("space.").partition(".")[0] for fault in faults}
    spanned = Spanned(study, unsure)
    faults += spanned.faults
    if unread or blocked or faults:
        raise ConfigError([*unread, *blocked, *_lines(faults, given, label)])
    faults = [*_shadowed(study.space, given), *study_faults(study, spanned)]
    if "dataset" not in study.space:  # what the constant one has of its own is constant, too
        left = {key: levels for key, levels in study.variants.items() if key != "dataset"}
        study = study.model_copy(update={"trial": resolve(study, {}), "variants": left})
    space = {key: _with_baseline(key, factor, study.trial) for key, factor in study.space.items()}
    known = {"space": space, "source": source, "backbone_defaults": added}
    study = study.model_copy(update=known)
    faults += spanned.located(Needs(study, data_root).faults) if there else []
    if faults:
        raise ConfigError(_lines(faults, given, label))
    return study


def _typed(tree: dict[str, Any], given: Sequence[Override]) -> tuple[StudyConfig, list[Fault]]:
    """The study of a YAML, spelled out, as far as its keys and values are sound; and the faults."""
    known = (*STUDY_KEYS, *TRIAL_KEYS)
    faults = [_unknown(key, _KNOWN, key, known) for key in tree if key not in known]
    if tree["space"] == {}:
        choices = _in_short(trial_fields())
        faults.append(Fault("space", "must have at least one factor", choices=choices))
    trial, of_trial = sound_part(TrialConfig, {key: tree[key] for key in TRIAL_KEYS if key in tree})
    own: dict[str, Any] = {key: tree[key] for key in STUDY_KEYS if key in tree}
    factors, of_factors = dict[str, Factor](), list[Fault]()
    if isinstance(tree["space"], dict):
        factors, of_factors = _sound_factors(tree["space"])
        own["space"] = factors
    if trial.protocol == "few_shot" and "selection" not in {*tree, *factors}:
        trial = trial.model_copy(update={"selection": "base_val"})  # no new classes to hide
    if any(factor.enumerate() is None for factor in factors.values()):
        own.setdefault("sampler", "tpe")
    study, of_study = sound_part(StudyConfig, {**own, "trial": trial})
    faults += [*of_trial, *of_study, *_sound_variants(study.variants), *of_factors]
    if "dataset" not in factors:
        _set_over_own(study.variants.get("dataset", {}).get(trial.dataset, {}), given)
    return study, faults


def _sound_variants(variants: Mapping[str, Mapping[str, dict[str, Any]]]) -> list[Fault]:
    """Take out of variants what a dataset cannot have, and give all of their faults.

    Whether a method has a variant's keys and takes their values is found out when trials are made.
    """
    faults, groups = list[Fault](), (*METHODS, "dataset")
    for group in (group for group in variants if group not in groups):
        near = nearest(group, groups)
        faults.append(Fault(f"variants.{group}", _KNOWN, choices=groups, near=near))
    for group in METHODS:
        for level, own in variants.get(group, {}).items():
            if "name" in own:  # the level's
                path = f"variants.{group}.{level}.name"
                faults.append(Fault(path, "must be left out", own["name"]))
    for dataset, own in variants.get("dataset", {}).items():
        for key, value in [*own.items()]:
            path = f"variants.dataset.{dataset}.{key}"
            if key not in OWN_KEYS:
                near = nearest(key, OWN_KEYS)
                faults.append(Fault(path, _KNOWN, choices=OWN_KEYS, near=near))
                del own[key]
            elif key in GROUPS and not isinstance(value, dict):
                faults.append(Fault(path, "must be a mapping", value))
                del own[key]
    return faults


def _set_over_own(own: dict[str, Any], given: Sequence[Override]) -> None:
    """A --set of a constant wins: what the dataset has of its own in that place is removed.

    The name of a dataset's method stays, so that its settings do not pass to another method.
    """
    for group, *leaf in (steps(item.path) for item in given):
        if not leaf:
            own.pop(group, None)
        elif leaf != ["name"] and isinstance(own.get(group), dict):
            own[group].pop(leaf[0], None)


def _sound_factors(space: Mapping[str, Any]) -> tuple[dict[str, Factor], list[Fault]]:
    """The factors that are sound by themselves, and the faults of the others."""
    sound, faults, fields = dict[str, Factor](), list[Fault](), trial_fields()
    for key, given in space.items():
        path = f"space.{key}"
        if key not in fields:
            faults.append(_unknown(path, "must be a setting of a trial", key, fields))
        elif key == "protocol":
            must = "must be a constant: protocols are measured by different metrics"
            faults.append(Fault(path, must))
        elif not isinstance(given, dict):
            faults.append(Fault(path, "must be a list of levels, or a mapping", given))
        else:
            factor, found = sound_part(Factor, given, "space", key)
            floats = any(float in (one, *get_args(one)) for one in fields[key])
            factor = _as_floats(factor) if floats else factor
            own = () if found else factor_faults(factor)
            found += [replace(fault, path=f"{path}.{fault.path}") for fault in own]
            if not found:
                sound[key] = factor
                if isinstance(factor.step, float) and not floats:
                    found = [Fault(f"{path}.step", "must be an integer", factor.step)]
            faults += found
    return sound, faults


def _as_floats(factor: Factor) -> Factor:
    """A factor of a setting that takes floats, with 1.0 for 1, before levels are made of it."""

    def typed(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(typed, value))
        return float(value) if type(value) is int and abs(value) <= 2**53 else value

    given = factor.model_fields_set & {"choices", "low", "high", "step", "baseline"}
    return factor.model_copy(update={name: typed(getattr(factor, name)) for name in given})


def listed(name: str, given: Any, kind: Any, example: str) -> list[Any]:
    """What an argument of Python lists, be it by a generator, which can be asked but once.

    Raises:
        ConfigError: it is no list of such values.
    """
    one = isinstance(given, str | Path) or not isinstance(given, Iterable)
    values = [] if one else [*given]
    if one or not all(isinstance(value, kind) for value in values):
        raise ConfigError([f'{name} must be a list such as ["{example}"], got {given!r}'])
    return values


def load_plugins(plugins: Sequence[Path | str]) -> None:
    """Add the plugins of files and modules to what a YAML may name, for this process.

    Raises:
        ConfigError: A line for each file or module that cannot be used.
    """
    lines = []
    for plugin in plugins:
        try:
            load_plugin(plugin)
        except PluginError as error:
            lines.append(f"plugins (--plugin): {printable(str(error))}")
    if lines:
        raise ConfigError(lines)


def _unknown(path: str, must: str, key: str, known: Iterable[str]) -> Fault:
    """A key that is none, with what was probably meant: a dotted name without its group, or alike.

    Of many keys, the one that was meant is enough.
    """
    whole = (name for name in trial_fields() if name.rpartition(".")[2] == key)
    near = _MEANT.get(path) or next(whole, nearest(key.removesuffix(".name"), known))
    return Fault(path, must, choices=() if near else _in_short(known), near=near)


def _in_short(names: Iterable[str]) -> tuple[str, ...]:
    """The names, with one entry for all the settings of a group."""
    return tuple(dict.fromkeys(re.sub(r"\..*", ".*", name) for name in names))


def _with_baseline(key: str, factor: Factor, trial: TrialConfig) -> Factor:
    """Give a factor its baseline: the constant if that is a level, else its first level.

    A range without levels has the constant if it lies within, else no baseline.
    """
    if "baseline" in factor.model_fields_set:
        return factor
    levels, constant = factor.enumerate(), value_of(trial, key)
    first = levels[0] if levels else None
    fitting = constant if may_be(factor, levels, constant) else first
    return factor if fitting is None else factor.model_copy(update={"baseline": fitting})


def _shadowed(space: Mapping[str, Factor], given: Sequence[Override]) -> Iterator[Fault]:
    """An override of a constant that the study varies would silently do nothing."""
    for path in (item.path for item in given if item.path in space):
        must = f"must not be a factor of the study to be set: use space.{path}=null to "
        must += f"drop the factor, or space.{path}.choices=[...] to change its levels"
        yield Fault(path, must)


def _lines(faults: Iterable[Fault], given: Sequence[Override], label: str) -> list[str]:
    """The faults as lines, each once, of the file or of the override that brings it in.

    Many settings share a fault, and a value may be refused of several methods.
    """
    once = {}
    for fault in faults:
        detail = fault.detail if fault.got is NOTHING else ""
        once[fault.path, fault.must, detail, str(fault.got)] = fault
    lines = []
    for fault in once.values():
        brought = any(_brings(item.path.removesuffix(".name"), fault.path) for item in given)
        source = OVERRIDE if brought else label
        removed = REMOVED.get(_word(fault))
        lines.append(f"{source}: {removed}" if removed else fault.line(source))
    return lines


def _word(fault: Fault) -> str:
    """Return the word of a fault in harness.removed: its key, with the value if that is refused."""
    path = fault.path.removeprefix("space.")
    return path if fault.got is NOTHING else f"{path}: {fault.got}"


def _brings(given: str, place: str) -> bool:
    """Whether an override of a path brings in what is at fault in a place.

    A level is at fault in the place of its factor, whose `baseline` and `when` bring in no level.
    """
    one, other = (steps(path.replace("[", ".")) for path in (given, place))
    inside = other[0] == "space" and one[: len(other)] == other and len(one) > len(other)
    return other[: len(one)] == one or (inside and one[2:3] not in (("baseline",), ("when",)))
