"""Checks of what a protocol allows: which selections, objectives, generators and targets."""

from collections.abc import Mapping
from typing import Any, get_args

from harness.config.choices import Objective
from harness.config.factor import Factor
from harness.config.factors import indexed
from harness.errors import Fault
from ship.metrics import OBJECTIVES, SEEN_OBJECTIVES, ProtocolName
from ship.trial_config import TrialConfig


def default_selection(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The selection that a YAML means where it names none: few_shot has no new classes to hide."""
    space = tree.get("space")
    given = "selection" in tree or (isinstance(space, dict) and "selection" in space)
    return {"selection": "base_val"} if tree.get("protocol") == "few_shot" and not given else {}


def protocol_faults(space: Mapping[str, Factor], constants: Mapping[str, Any]) -> list[Fault]:
    """Faults of a study's settings under its protocol."""
    if "protocol" in space:
        must = "must be a constant: protocols are measured by different metrics"
        return [Fault("space.protocol", must)]
    protocol = constants.get("protocol", TrialConfig.model_fields["protocol"].default)
    faults = []
    if protocol == "few_shot":
        must = "must be base_val or test when protocol is few_shot, which has no new classes"
        faults += _refuse("selection", "pseudo_new", must, space, constants)
    if protocol == "cross_dataset":
        must = "must be pseudo_new or base_val when protocol is cross_dataset"
        faults += _refuse("selection", "test", must, space, constants)
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


def default_objective(protocol: Any, selections: tuple[Any, ...]) -> str:
    """What a study maximises unless it says otherwise."""
    sound = isinstance(protocol, str) and protocol in OBJECTIVES
    known: ProtocolName = protocol if sound else "base_to_new"
    return SEEN_OBJECTIVES[known] if "base_val" in selections else OBJECTIVES[known][0]


def objective_faults(protocol: Any, selections: tuple[Any, ...], objective: Any) -> list[Fault]:
    """An objective must be a metric of the pictures that selection looks at.

    Args:
        protocol, objective: as the YAML gives them; nothing is said where one of them is unknown,
            as other checks refuse it.
        selections: every selection that a setting of the study may have.
    """
    if (
        not isinstance(protocol, str)
        or protocol not in OBJECTIVES
        or objective not in get_args(Objective)
    ):
        return []
    seen_only = SEEN_OBJECTIVES[protocol]
    if "base_val" in selections and objective != seen_only:
        must = f"must be {seen_only} when selection is base_val, which sees no new classes"
        return [Fault("objective", must, objective)]
    if objective not in OBJECTIVES[protocol] and objective != seen_only:
        must = f"must be a metric of protocol {protocol}"
        return [Fault("objective", must, objective, OBJECTIVES[protocol])]
    return []
