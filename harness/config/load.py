"""A study: one YAML file as typed settings, or every fault of it at once."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config.factor import Factor, factor_faults, may_be
from harness.config.mapping import Override, apply_overrides, checked, parse_overrides, sound_part
from harness.config.space import DEFAULTS, METHODS, resolve, takes, trial_fields, value_of
from harness.config.study_config import OWN_KEYS, STUDY_KEYS, TRIAL_KEYS, StudyConfig
from harness.errors import ConfigError, Fault
from harness.study_files import file_label, find_space, plain, read_yaml
from harness.wording import nearest
from reports.contract import printable
from ship.plugins import PluginError, load_plugin
from ship.trial_config import TrialConfig


def load_study(
    space: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    *,
    label: str = "study",
    there: bool = True,
) -> StudyConfig:
    """Read a study from a YAML file, from a packaged one by its name, or from a mapping.

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
        tree = plain(space, label)
    else:
        source = find_space(space)
        label = file_label(source)
        tree = {"name": source.stem, **read_yaml(source, label)}
    # these load what reads pictures, which a worker does not need
    from harness.config.checks import Spanned, study_faults
    from harness.config.needs import Needs

    given, unread = parse_overrides(overrides)
    tree, blocked = apply_overrides({"dataset": DEFAULTS.dataset, **tree}, given)
    study, faults = _typed(tree, given)
    unsure = {fault.path.removeprefix("space.").partition(".")[0] for fault in faults}
    spanned = Spanned(study, unsure)
    faults += spanned.faults
    if unread or blocked or faults:
        raise ConfigError([*unread, *blocked, *_lines(faults, given, label)])
    # what the constant dataset has of its own is constant, too
    constant = "dataset" not in study.space
    trial = resolve(study, {}) if constant else study.trial
    space = {key: _with_baseline(key, factor, trial) for key, factor in study.space.items()}
    study = study.model_copy(update={"space": space, "source": source})
    faults = [*_shadowed(space, given), *study_faults(study, spanned)]
    faults += spanned.located(Needs(study, data_root).faults) if there else []
    if faults:
        raise ConfigError(_lines(faults, given, label))
    if not constant:
        return study
    left = {key: levels for key, levels in study.variants.items() if key != "dataset"}
    return study.model_copy(update={"trial": trial, "variants": left})


def _typed(tree: dict[str, Any], given: Sequence[Override]) -> tuple[StudyConfig, list[Fault]]:
    """The study of a YAML, spelled out, as far as its keys and values are sound; and the faults."""
    known = (*STUDY_KEYS, *TRIAL_KEYS)
    must = "must be a known key"
    faults = [_unknown(key, must, key, known, known) for key in tree if key not in known]
    space, of_factors = _factors(tree["space"])
    if tree.get("protocol") == "few_shot" and "selection" not in space:
        tree.setdefault("selection", "base_val")  # there are no new classes to hide
    trial, found = sound_part(TrialConfig, {key: tree[key] for key in TRIAL_KEYS if key in tree})
    faults += found
    own = {key: tree[key] for key in STUDY_KEYS if key in tree} | {"trial": trial, "space": space}
    own["variants"], of_variants = _variants(own["variants"])
    if "dataset" not in space:
        _set_over_own(own["variants"].get("dataset", {}).get(str(tree["dataset"]), {}), given)
    if "sampler" not in own and any(one.enumerate() is None for one in space.values()):
        own["sampler"] = "tpe"
    study, found = sound_part(StudyConfig, own, {"name": "none"})
    return study, [*faults, *found, *of_variants, *of_factors]


def _variants(given: Any) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    """The variants that are well formed, and the faults of the others.

    Whether a method has their keys and takes their values is found out when trials are made.
    """
    faults: list[Fault] = []

    def inside(path: str, value: Any, known: tuple[str, ...] | None = None) -> dict[str, Any]:
        """What a place has that is to be a mapping, of known keys alone if they are given."""
        if not isinstance(value, dict):
            faults.append(Fault(path, "must be a mapping", value))
            return {}
        keys = known or tuple(value)
        for key in [key for key in value if key not in keys]:
            must, near = "must be a known key", nearest(key, keys)
            faults.append(Fault(f"{path}.{key}", must, choices=keys, near=near))
        return {key: one for key, one in value.items() if key in keys}

    sound: dict[str, dict[str, Any]] = {}
    for group, levels in inside("variants", given, (*METHODS, "dataset")).items():
        sound[group], known = {}, None if group in METHODS else OWN_KEYS
        for level, its in inside(f"variants.{group}", levels).items():
            path = f"variants.{group}.{level}"
            own = inside(path, its, known)
            if group in METHODS and "name" in own:
                faults.append(Fault(f"{path}.name", "must be left out", own.pop("name")))
            groups = () if group in METHODS else (*METHODS, "synthetic")
            own |= {key: inside(f"{path}.{key}", own[key]) for key in groups if key in own}
            sound[group][level] = own
    return sound, faults


def _set_over_own(own: dict[str, Any], given: Sequence[Override]) -> None:
    """A --set of a constant wins: what the dataset has of its own in that place is removed.

    The name of a dataset's method stays, so that its settings do not pass to another method.
    """
    for group, *leaf in (item.steps for item in given):
        if not leaf:
            own.pop(group, None)
        elif leaf != ["name"] and isinstance(own.get(group), dict):
            own[group].pop(leaf[0], None)


def _factors(given: Any) -> tuple[dict[str, Factor], list[Fault]]:
    """The factors that are sound by themselves, and the faults of the others.

    Args:
        given: what the YAML has there, spelled out.
    """
    if not isinstance(given, dict):
        return {}, [Fault("space", "must be a mapping", given)]
    must = "must be a list of levels, or a mapping"
    typed = {
        key: checked(Factor, one) if isinstance(one, dict) else (None, [Fault("", must, one)])
        for key, one in given.items()
    }
    for group, table in METHODS.items():  # plugins of installed packages join where they are named
        factor = typed.get(group, (None,))[0]
        for level in factor.choices or () if factor else ():
            with suppress(PluginError):  # told of as a level
                table.get(str(level))
    fields = trial_fields()
    in_short = tuple(dict.fromkeys(re.sub(r"\..*", ".*", name) for name in fields))
    if not given:
        return {}, [Fault("space", "must have at least one factor", choices=in_short)]
    sound: dict[str, Factor] = {}
    faults: list[Fault] = []
    for key, (factor, found) in typed.items():
        if key not in fields:
            found = [_unknown("", "must be a setting of a trial", key, fields, in_short)]
        elif key == "protocol":
            found = [Fault("", "must be a constant: protocols are measured by different metrics")]
        elif factor is not None:
            floats = takes(fields[key], float)
            if floats:
                factor = _as_floats(factor)
            found = factor_faults(factor)
            if not found:
                sound[key] = factor
                if isinstance(factor.step, float) and not floats:
                    found = [Fault("step", "must be an integer", factor.step)]
        faults += [replace(fault, path=f"space.{key}.{fault.path}".strip(".")) for fault in found]
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


def load_plugins(files: Sequence[Path | str]) -> None:
    """Let the plugins of files join what a YAML may name, for as long as the process lasts.

    Raises:
        ConfigError: a line for each file that cannot be used.
    """
    lines = []
    for file in files:
        try:
            load_plugin(file)
        except PluginError as error:
            lines.append(f"--plugin: {printable(str(error))}")
    if lines:
        raise ConfigError(lines)


def _unknown(
    path: str, must: str, key: str, known: Iterable[str], choices: tuple[str, ...]
) -> Fault:
    """A key that is none, with what was probably meant: a dotted name without its group, or alike.

    Of many keys, the one that was meant is enough.
    """
    whole = (name for name in trial_fields() if name.rpartition(".")[2] == key)
    near = next(whole, nearest(key.removesuffix(".name"), known))
    return Fault(path, must, choices=() if near else choices, near=near)


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
        must = f"must not be a factor of the study to be set: use --set space.{path}=null to "
        must += f"drop the factor, or --set space.{path}.choices=[...] to change its levels"
        yield Fault(path, must)


def _lines(faults: Sequence[Fault], given: Sequence[Override], label: str) -> list[str]:
    """The faults as lines, each once, of the file or of the override that brings it in."""
    lines = []
    for fault in faults:
        at = f"{fault.path.replace('[', '.')}."
        brought = any(
            at.startswith(f"{path}.") or (path.startswith("space.") and path.startswith(at))
            for path in (item.path.removesuffix(".name") for item in given)
        )
        lines.append(fault.line("--set" if brought else label))
    return list(dict.fromkeys(lines))
