"""A study: one YAML file as typed settings, or every fault of it at once."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config.factor import Factor, factor_faults, may_be
from harness.config.mapping import Override, apply_overrides, parse_overrides, take_away, validated
from harness.config.space import (
    DEFAULTS,
    METHODS,
    resolve,
    takes,
    trial_fields,
    value_of,
)  # fmt: skip
from harness.config.study_config import REMOVED, STUDY_KEYS, TRIAL_KEYS, StudyConfig
from harness.errors import ConfigError, Fault
from harness.study_files import find_space, label_of, read_yaml
from harness.wording import nearest
from reports.contract import printable
from ship.plugins import PluginError, load_plugin
from ship.trial_config import TrialConfig


def load_study(
    path_or_name: str | Path,
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    *,
    there: bool = True,
    memory: int | None = None,
) -> StudyConfig:
    """Read a study from a YAML file, or from a packaged one by its name.

    Args:
        path_or_name: a file; without a folder, the working directory's comes before the packaged.
        overrides: "key=value" each, later ones win; see harness.config.mapping.
        data_root: where the datasets that are not packaged lie.
        there: whether datasets and backbones are looked at, which have to be there then.
        memory: bytes of the machine that trials run on; None: not known.

    Raises:
        ConfigError: as of parse_study.
    """
    path = find_space(path_or_name)
    label = label_of(path)
    return parse_study(
        read_yaml(path, label), path.stem, label=label, source=path, overrides=overrides,
        data_root=data_root, there=there, memory=memory,
    )  # fmt: skip


def parse_study(
    mapping: Mapping[str, Any],
    name: str | None,
    *,
    label: str = "study",
    source: Path | None = None,
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    there: bool = True,
    memory: int | None = None,
) -> StudyConfig:
    """A study from a mapping as a YAML file gives it.

    Args:
        name: the study's name where neither the mapping nor an override has one; None: one must.
        label: what faults name as their source.
        there, memory: as of load_study.

    Raises:
        ConfigError: with every mistake of type at once (unknown keys, values that a key does not
            take), or, where there is none, with every other mistake at once.
    """
    # these load what reads pictures, which a worker does not need
    from harness.config.checks import Spanned, study_faults
    from harness.config.needs import Needs

    given, unread = parse_overrides(overrides)
    usual = {"dataset": DEFAULTS.dataset} | ({} if name is None else {"name": name})
    tree, blocked = apply_overrides({**usual, **mapping}, given)
    tree |= default_selection(tree)
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
    faults += spanned.located(Needs(study, data_root, memory).faults) if there else []
    if faults:
        raise ConfigError(_lines(faults, given, label))
    if not constant:
        return study
    left = {key: levels for key, levels in study.variants.items() if key != "dataset"}
    return study.model_copy(update={"trial": trial, "variants": left})


def _typed(tree: dict[str, Any], given: Sequence[Override]) -> tuple[StudyConfig, list[Fault]]:
    """The study of a YAML, spelled out, as far as its keys and values are sound; and the faults."""
    known = (*STUDY_KEYS, *TRIAL_KEYS)
    faults = [
        Fault(key, f"must be left out: {REMOVED[key]} (see CHANGELOG.md)")
        if key in REMOVED
        else _unknown(str(key), "must be a known key", str(key), known, known)
        for key in tree
        if key not in known
    ]
    own = {key: tree[key] for key in STUDY_KEYS if key in tree}
    own["trial"] = {key: tree[key] for key in TRIAL_KEYS if key in tree}
    space = own["space"] if isinstance(own["space"], dict) else {}
    if "dataset" not in space:  # a --set of a constant goes over what its dataset has of its own
        for item in given:
            # a name stays: what stands beside it is for that one, and no longer for another
            if item.steps[0] in TRIAL_KEYS and item.steps[1:] != ("name",):
                take_away(own, ("variants", "dataset", str(tree["dataset"]), *item.steps))
    for group, table in METHODS.items():  # plugins of installed packages join where they are named
        levels = space.get(group)
        levels = levels.get("choices") if isinstance(levels, dict) else ()
        for level in levels if isinstance(levels, list) else ():
            with suppress(PluginError):  # told of as a level
                table.get(str(level))
    study, found = validated(StudyConfig, own, {"name": "none", "space": {}})
    factors, of_factors = _factors(own["space"], study.space)
    update: dict[str, Any] = {"space": factors}
    if "sampler" not in own and any(one.enumerate() is None for one in factors.values()):
        update["sampler"] = "tpe"
    return study.model_copy(update=update), [*faults, *found, *of_factors]


def _factors(given: Any, typed: Mapping[str, Factor]) -> tuple[dict[str, Factor], list[Fault]]:
    """The factors that are sound by themselves, and the faults of the others.

    Args:
        given: what the YAML has there, of whatever type, spelled out.
        typed: those whose own keys are sound.
    """
    fields = trial_fields()
    in_short = tuple(dict.fromkeys(re.sub(r"\..*", ".*", name) for name in fields))
    if given == {}:
        return {}, [Fault("space", "must have at least one factor", choices=in_short)]
    sound: dict[str, Factor] = {}
    faults: list[Fault] = []
    for key in map(str, given if isinstance(given, dict) else ()):
        floats, found = takes(fields.get(key, {}), float), []
        if key not in fields:
            found = [_unknown("", "must be a setting of a trial", key, fields, in_short)]
        elif key == "protocol":
            found = [Fault("", "must be a constant: protocols are measured by different metrics")]
        elif key in typed:
            factor = _as_floats(typed[key]) if floats else typed[key]
            found = factor_faults(factor)
            sound |= {} if found else {key: factor}
            if isinstance(factor.step, float) and not found and not floats:
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


def default_selection(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The selection that a YAML means where it names none: few_shot has no new classes to hide."""
    space = tree.get("space")
    given = "selection" in tree or (isinstance(space, dict) and "selection" in space)
    return {"selection": "base_val"} if tree.get("protocol") == "few_shot" and not given else {}


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

    def of(fault: Fault, item: Override) -> bool:
        below = item.path.removeprefix(f"{fault.path}.")
        inside = re.match(rf"{re.escape(item.path)}(?![^.\[])", fault.path)
        above = below != item.path and (below == "name" or item.path.startswith("space."))
        return above or inside is not None

    lines = (
        fault.line("--set" if any(of(fault, item) for item in given) else label) for fault in faults
    )
    return list(dict.fromkeys(lines))
