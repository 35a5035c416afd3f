"""A study: one YAML file as typed settings, or every fault of it at once."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.checks import located, settings_of, study_faults
from harness.config.dotted import (
    DEFAULTS,
    GONE,
    Override,
    apply_overrides,
    parse_overrides,
    put,
    value_of,
)
from harness.config.factor import Factor, may_be
from harness.config.levels import meant, parse_space, unread_variants, variant_faults
from harness.config.mistakes import validated
from harness.config.needs import Needs
from harness.config.space import resolve
from harness.config.study_config import REMOVED, STUDY_KEYS, TRIAL_KEYS, StudyConfig
from harness.errors import ConfigError, Fault
from harness.study_files import find_space, label_of, read_yaml
from harness.wording import printable
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
        overrides: "key=value" each, later ones win; see harness.config.dotted.
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
    name: str,
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
        name: the study's name where the mapping has none.
        label: what faults name as their source.
        there, memory: as of load_study.

    Raises:
        ConfigError: with every mistake of type at once (unknown keys, values that a key does not
            take), or, where there is none, with every other mistake at once.
    """
    given, bad = parse_overrides(overrides)
    named = {"name": name, "dataset": DEFAULTS.dataset, **mapping}
    tree, blocked = apply_overrides(named, given)
    tree |= default_selection(tree)
    faults = [_unknown(key) for key in tree if key not in (*STUDY_KEYS, *TRIAL_KEYS)]
    trial, found = validated(TrialConfig, {key: tree[key] for key in TRIAL_KEYS if key in tree})
    faults += found
    space, found = parse_space(tree.get("space"))
    faults += found
    study, found = _study(tree, trial, space, given)
    faults += found
    unsure = {fault.path.removeprefix("space.").partition(".")[0] for fault in faults}
    settings, found = settings_of(study, unsure)
    faults += found
    # what has a fault of its own where it stands is told of that alone
    bad += [line for way, line in blocked if not any(f.path.startswith(way) for f in faults)]
    if bad or faults:
        raise ConfigError([*bad, *_lines(faults, given, label)])
    faults = [*_shadowed(space, given), *unread_variants(study.variants, space, trial)]
    faults += study_faults(study, settings)
    needs = Needs(study, data_root, memory)
    faults += located(study, settings, needs.faults) if there else []
    if faults:
        raise ConfigError(_lines(faults, given, label))
    update: dict[str, Any] = {"source": source}
    if "dataset" not in space:  # what the constant dataset has of its own is constant, too
        trial = resolve(study, {})
        left = {key: levels for key, levels in study.variants.items() if key != "dataset"}
        factors = {key: _with_baseline(key, factor, trial) for key, factor in space.items()}
        update |= {"trial": trial, "variants": left, "space": factors}
    return study.model_copy(update=update)


def _study(
    tree: Mapping[str, Any],
    trial: TrialConfig,
    space: Mapping[str, Factor],
    given: Sequence[Override],
) -> tuple[StudyConfig, list[Fault]]:
    """The study of a YAML, as far as it is sound; the default sampler depends on the space."""
    own = {key: tree[key] for key in STUDY_KEYS if key in tree}
    own["variants"] = {} if tree.get("variants") is None else tree["variants"]
    if "dataset" not in space:  # a --set of a constant goes over what its dataset has of its own
        for item in given:
            # a name stays: what stands beside it is for that one, and no longer for another
            if item.steps[0] in TRIAL_KEYS and item.steps[1:] != ("name",):
                own = put(own, ("variants", "dataset", trial.dataset, *item.steps), GONE)
    faults = []
    if isinstance(own["variants"], dict):
        for steps, fault in variant_faults(own["variants"]):
            own = put(own, ("variants", *steps), GONE)
            faults.append(fault)
    sampler = "tpe" if any(factor.enumerate() is None for factor in space.values()) else "grid"
    own["space"] = {key: _with_baseline(key, factor, trial) for key, factor in space.items()}
    required = {"name": "none", "sampler": sampler, "trial": trial}
    study, found = validated(StudyConfig, own, required)
    return study, faults + found


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


def _unknown(key: Any) -> Fault:
    if key in REMOVED:
        return Fault(key, f"must be left out: {REMOVED[key]} (see CHANGELOG.md)")
    known = (*STUDY_KEYS, *TRIAL_KEYS)
    near = meant(str(key), known)
    choices = () if near else known  # of forty keys, the one that was meant is enough
    return Fault(str(key), "must be a known key", choices=choices, near=near)


def _with_baseline(key: str, factor: Factor, trial: TrialConfig) -> Factor:
    """Give a factor its baseline: the constant if that is a level, else its first level.

    A range without levels has the constant if it lies within, else no baseline.
    """
    if "baseline" in factor.model_fields_set:
        return factor
    levels, constant = factor.enumerate(), value_of(trial, key)
    first = levels[0] if levels else None
    fitting = constant if may_be(factor, levels, constant) else first
    return factor.model_copy(update={"baseline": fitting})


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
