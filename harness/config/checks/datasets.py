"""Checks of the datasets that a study names: they are there, sound, and carry its settings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.config.checks.dataset_fit import bare_features, unfit
from harness.config.checks.settings import MAX_GRID
from harness.config.dotted import place
from harness.config.factor import Factor, assignments, is_among
from harness.config.factors import indexed
from harness.errors import Fault
from harness.wording import nearest
from ship.plugins import PluginError
from ship.trial_config import TrialConfig

if TYPE_CHECKING:
    from ship.datasets import Survey

# what decides which classes and pictures a trial needs
_DECIDING = (
    "dataset", "max_classes", "unseen_class", "selection", "pseudo_new_fraction", "generator",
    "generator.early_stopping", "generator.prompt",
)  # fmt: skip


def dataset_faults(
    space: Mapping[str, Factor],
    constants: Mapping[str, Any],
    data_root: Path | None,
    variants: Any,
    seeds: Sequence[int],
    *,
    arms: bool,
) -> list[Fault]:
    """Faults of the datasets: unknown, not on this disk, or unable to carry a setting.

    No picture's content is read.

    Args:
        constants, variants: as the YAML gives them; may be faulty themselves.
        arms: whether reference arms stand beside the study.
    """
    faults: list[Fault] = []
    surveys: dict[str, Survey] = {}
    for path, name in named_values("dataset", space, constants):
        faults += (
            _plugin_faults(path, name)
            or _source_faults(path, name, space, constants)
            or _survey_faults(path, name, data_root, surveys)
        )
    if constants.get("protocol") == "cross_dataset":  # else protocol_checks refuses them
        for path, name in _targets(space, constants):
            faults += _plugin_faults(path, name) or _survey_faults(path, name, data_root, surveys)
    faults += _unseen_faults(space, constants, surveys)
    return faults + _fit_faults(space, constants, variants, seeds, arms, surveys)


def named_values(
    key: str, space: Mapping[str, Factor], constants: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Where in the YAML the texts that a setting takes stand, and what they are.

    Args:
        key: of a setting at the top level, such as dataset.
        space: the study's factors.
        constants: as the YAML gives them; may be faulty themselves.

    Returns:
        Pairs of a place in the YAML and the text there: the factor's choices where the setting is
        varied, else the constant, else the setting's default.
    """
    values = {key: constants.get(key, TrialConfig.model_fields[key].default)}
    if key in space:
        values = indexed(f"space.{key}.choices", space[key].choices or ())
    yield from ((path, value) for path, value in values.items() if isinstance(value, str))


def _plugin_faults(path: str, name: str) -> list[Fault]:
    """A dataset that an installed package has, and that cannot be loaded."""
    from ship.datasets import DATASETS

    try:
        DATASETS.find(name)
    except PluginError as error:
        return [Fault(path, f"must load: {error}")]
    return []


def _source_faults(
    path: str, name: str, space: Mapping[str, Factor], constants: Any
) -> list[Fault]:
    """What is trained on must have training pictures, of every class that is to be shown."""
    from ship.datasets import DATASETS, has_unseen_pictures
    from ship.datasets.imagenet import ImageNetTarget

    if isinstance(DATASETS.find(name), ImageNetTarget):
        must = "must have training pictures (this one is for targets, under cross_dataset)"
        return [Fault(path, must, name)]
    if has_unseen_pictures(name):
        return []
    protocol = constants.get("protocol")
    if protocol in ("few_shot", "cross_dataset", "single_unseen"):
        must = f"must have training pictures of every class when protocol is {protocol}"
        return [Fault(path, must, name)]
    inside = constants.get("generator")
    named = {"generator": inside.get("name") if isinstance(inside, dict) else inside}
    if "generator" in space:
        named = indexed("space.generator.choices", space["generator"].choices or ())
    must = f"must not be real: {name} has no training pictures of its unseen classes"
    return [Fault(where, must, level) for where, level in named.items() if level == "real"]


def _targets(space: Mapping[str, Factor], constants: Any) -> Iterator[tuple[str, str]]:
    given = constants.get("targets")
    listed = indexed("targets", tuple(given)) if isinstance(given, list | tuple) else {}
    listed |= {"targets": given} if isinstance(given, str) else {}
    varied = space["targets"].choices or () if "targets" in space else ()
    listed |= indexed("space.targets.choices", varied)
    yield from ((path, name) for path, name in listed.items() if isinstance(name, str))


def _survey_faults(
    path: str, name: str, data_root: Path | None, surveys: dict[str, "Survey"]
) -> list[Fault]:
    """Why a dataset cannot be read; one that can is added to `surveys`."""
    from ship.datasets import DATASETS, nearest_dataset, survey_dataset
    from ship.datasets.image_folder import PREFIX

    if name not in DATASETS and not name.startswith(PREFIX):
        near = nearest_dataset(name)
        return [Fault(path, "must be a dataset", name, (*DATASETS.names(), f"{PREFIX}NAME"), near)]
    survey = surveys.get(name) or survey_dataset(name, data_root)
    if not survey.faults:
        surveys[name] = survey
    return [Fault(path, f"must be readable: {line}{_hint(line)}") for line in survey.faults]


def _hint(line: str) -> str:
    return " (give --data-root DIR)" if "needs a data root" in line else ""


def _unseen_faults(
    space: Mapping[str, Factor], constants: Any, surveys: Mapping[str, "Survey"]
) -> list[Fault]:
    """unseen_class must be a class of every dataset of the study."""
    if constants.get("protocol") != "single_unseen":
        return []
    faults = []
    for _, dataset in named_values("dataset", space, constants):
        names = surveys[dataset].class_names if dataset in surveys else ()
        for path, name in named_values("unseen_class", space, constants):
            if names and name not in names:
                must = f"must be a class of {dataset}"
                faults.append(Fault(path, must, name, names, nearest(name, names)))
    return faults


def _fit_faults(
    space: Mapping[str, Factor],
    constants: Mapping[str, Any],
    variants: Any,
    seeds: Sequence[int],
    arms: bool,
    surveys: Mapping[str, "Survey"],
) -> list[Fault]:
    """One line for each dataset and kind of what it lacks, of the first setting that needs it."""
    from ship.datasets import has_unseen_pictures

    places = {name: path for path, name in named_values("dataset", space, constants)}
    features = {name: bare_features(name, surveys[name]) for name in places if name in surveys}
    arm = _arms_dataset(space, constants)
    found: dict[tuple[str, str], Fault] = {}
    known = set()
    for trial in _trials(space, constants, variants):
        bare = features.get(trial.dataset)
        named = trial.unseen_class if trial.protocol == "single_unseen" else None
        if bare is None or (named is not None and named not in bare.class_names):
            continue
        if (key := _needs(trial)) in known:
            continue
        known.add(key)
        shown = arms and trial.dataset == arm and has_unseen_pictures(arm)
        for kind, must in unfit(trial, bare, seeds, shown=shown).items():
            path = places[trial.dataset]
            found.setdefault((path, kind), Fault(path, must))
    return list(found.values())


def _needs(trial: TrialConfig) -> tuple[Any, ...]:
    """What `unfit` reads of a trial."""
    generator = trial.generator
    return (
        *(getattr(trial, key) for key in _DECIDING[:5]),
        generator.name == "real",
        getattr(generator, "early_stopping", None) is not None,
        getattr(generator, "prompt", None) == "fixed",
    )


def _arms_dataset(space: Mapping[str, Factor], constants: Mapping[str, Any]) -> str:
    """The dataset that reference arms run on."""
    constant = str(constants.get("dataset", TrialConfig.model_fields["dataset"].default))
    if "dataset" not in space:
        return constant
    factor, levels = space["dataset"], space["dataset"].choices or ()
    if "baseline" in factor.model_fields_set:
        return str(factor.baseline)
    return constant if is_among(constant, levels) or not levels else str(levels[0])


def _trials(
    space: Mapping[str, Factor], constants: Mapping[str, Any], variants: Any
) -> Iterator[TrialConfig]:
    """The study's trials as far as they differ in what datasets must have; faulty ones left out."""
    kept = [key for key in _DECIDING if key in space]
    for key in kept:  # grows: what decides whether a factor is there decides, too
        kept += [name for name in space[key].when if name in space and name not in kept]
    frame = {key: _with_levels(space[key]) for key in space if key in kept}
    groups = variants if isinstance(variants, dict) else {}
    sound = {group: levels for group, levels in groups.items() if isinstance(levels, dict)}
    for assignment in islice(assignments(frame), MAX_GRID):
        try:
            yield TrialConfig.model_validate(place(constants, assignment, sound))
        except (ValidationError, TypeError):  # other checks have a line for it
            continue


def _with_levels(factor: Factor) -> Factor:
    """A range without levels by its ends."""
    if factor.enumerate() is not None:
        return factor
    return Factor(choices=(factor.low, factor.high), when=factor.when)
