"""Protocols: which classes and pictures a trial may train on, be selected on, and be tested on."""

from typing import Final as Constant

from ship.metrics import ProtocolName
from ship.protocols.across import cross_dataset
from ship.protocols.base import Exam, Final, Protocol
from ship.protocols.within import (
    Build,
    base_to_new,
    few_shot,
    generalized_zero_shot,
    single_unseen,
)

# name in YAML -> what builds it; the first line of its docstring is what --list-options prints
PROTOCOLS: Constant[dict[ProtocolName, Build]] = {
    "base_to_new": base_to_new,
    "few_shot": few_shot,
    "cross_dataset": cross_dataset,
    "generalized_zero_shot": generalized_zero_shot,
    "single_unseen": single_unseen,
}

__all__ = [
    "PROTOCOLS",
    "Exam",
    "Final",
    "Protocol",
    "base_to_new",
]
