"""Checks of what a protocol allows: which selections, objectives, generators and targets."""

from collections.abc import Mapping
from typing import Any, get_args

from harness.config.factor import Factor
from harness.config.factors import indexed
from harness.errors import Fault
from ship.configs import OBJECTIVES, SEEN_OBJECTIVES, Objective
from ship.trial_config import LEAKING_SELECTIONS, SEEN_SELECTIONS, TrialConfig


def default_selection(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The selection that a YAML means where it names none: few_shot has no new classes to hide."""
    space = tree.get("space")
    given = "selection" in tree or (isinstance(space, dict) and "selection" in space)
    return {"selection": "base_val"} if tree.get("protocol") == "few_shot" and not given else {}


def protocol_faults(space: Mapping[str, Factor], constants: Mapping[str, Any]) -> list[Fault]:
    """Faults of a study's settings under its protocol."""
    protocol = constants.get("protocol", TrialConfig.model_fields["protocol"].default)
    faults = []
    if protocol == "few_shot":
        must = "must not be pseudo_new when protocol is few_shot, which has no new classes"
        faults += _refuse("selection", "pseudo_new", must, space, constants)
    if protocol == "cross_dataset":
        must = "must not look at test pictures when protocol is cross_dataset"
        for leak in sorted(LEAKING_SELECTIONS):
            faults += _refuse("selection", leak, must, space, constants)
    if protocol in ("few_shot", "cross_dataset"):
        must = f"must not be real when protocol is {protocol}, which has no new classes' pictures"
        faults += _refuse("generator", "real", must, space, constants)
    faults += _target_faults(protocol, space, constants)
    return faults + _unseen_faults(protocol, space, constants)


def _values(key: str, space: Mapping[str, Factor], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Where in the YAML a setting's values stand, and what they are."""
    if key in space:
        return indexed(f"space.{key}.choices", space[key].choices or ())
    value = constants.get(key, TrialConfig.model_fields[key].default)
    return {key: value.get("name") if isinstance(value, dict) else value}


def _refuse(
    key: str, bad: str, must: str, space: Mapping[str, Factor], constants: Mapping[str, Any]
) -> list[Fault]:
    found = _values(key, space, constants)
    return [
        Fault(path, must, value)
        for path, value in found.items()
        if isinstance(value, str) and value == bad
    ]


def _target_faults(
    protocol: Any, space: Mapping[str, Factor], constants: Mapping[str, Any]
) -> list[Fault]:
    given = constants.get("targets") or ()
    varied = "targets" in space
    if protocol != "cross_dataset":
        must = "must be left out unless protocol is cross_dataset"
        named = {"targets": given} if given else {}
        named |= {"space.targets": None} if varied else {}
        return [Fault(path, must, value) for path, value in named.items()]
    if not given and not varied:
        must = "must be given when protocol is cross_dataset: a list of datasets"
        return [Fault("targets", must)]
    sources = [name for name in _values("dataset", space, constants).values() if name]
    names = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    places = indexed("targets", tuple(names)) | (_values("targets", space, {}) if varied else {})
    must = "must be another dataset than the one that is trained on"
    return [
        Fault(path, must, name)
        for path, name in places.items()
        if isinstance(name, str) and name in sources
    ]


def _unseen_faults(
    protocol: Any, space: Mapping[str, Factor], constants: Mapping[str, Any]
) -> list[Fault]:
    if protocol == "single_unseen":
        return []
    must = "must be left out unless protocol is single_unseen"
    varied = [Fault("space.unseen_class", must)] if "unseen_class" in space else []
    given = constants.get("unseen_class")
    return varied if given is None else [*varied, Fault("unseen_class", must, given)]


def objective_faults(space: Mapping[str, Factor], constants: Mapping[str, Any]) -> list[Fault]:
    """An objective must be a metric of the pictures that selection looks at."""
    protocol = constants.get("protocol", TrialConfig.model_fields["protocol"].default)
    if not isinstance(protocol, str) or protocol not in OBJECTIVES:
        return []
    selections = list(_values("selection", space, constants).values())
    blind = [one for one in selections if isinstance(one, str) and one in SEEN_SELECTIONS]
    seen_only, known = SEEN_OBJECTIVES[protocol], OBJECTIVES[protocol]
    faults = []
    for path, objective in _values("objective", space, constants).items():
        if objective is None or objective not in get_args(Objective):
            continue
        if "none" in selections:
            must = "must be left out where selection is none, which measures nothing"
            faults.append(Fault(path, must, objective))
        elif blind and objective != seen_only:
            must = f"must be {seen_only} where selection is {blind[0]}, which sees no new classes"
            faults.append(Fault(path, must, objective))
        elif objective not in (*known, seen_only):
            must = f"must be a metric of protocol {protocol}"
            faults.append(Fault(path, must, objective, known))
    return faults
