"""Small trials of every generator, fine-tuner, protocol and selection, taken from ship's tables.

A method that is added there is covered without a change here: its sizes are made small by the names
that settings have, and each choice and switch of its settings gets a trial.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, get_args, get_origin

from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS
from ship.protocols import PROTOCOLS
from ship.synthesis import SyntheticConfig
from ship.trial_config import Selection, TrialConfig

TABLES: Final[Mapping[str, Mapping[str, tuple[type[Any], Any]]]] = {
    "generator": GENERATORS,
    "finetuner": FINETUNERS,
}
SMALL: Final[Mapping[str, Any]] = {
    "latent_dim": 4,
    "encoder_hidden": 8,
    "generator_hidden": 8,
    "critic_hidden": 8,
    "n_critic": 2,
    "epochs": 2,
    "batch_size": 8,
}
# numbers and texts that switch something on
SWITCHED: Final[Mapping[str, Any]] = {
    "kl_warmup": 1,
    "free_bits": 0.01,
    "early_stopping": 1,
    "classification_weight": 0.1,
    "ctx_init": "a photo",
    "l2": 0.1,
    "scale": 0.1,
    "shrinkage": 0.1,
    "dose": 0.5,
    "per_class": 2,
    "weight": 0.5,
}
# the quick ones, for trials that are about something else
QUICK: Final[Mapping[str, Any]] = {
    "selection": "none",
    "generator": {"name": "gaussian_text"},
    "finetuner": {"name": "zero_shot"},
}


def small(name: str, config: type[Any], **settings: Any) -> dict[str, Any]:
    """A method's settings, with sizes that make a trial take no time."""
    sizes = {key: value for key, value in SMALL.items() if key in config.model_fields}
    return {"name": name, **sizes, **settings}


def trial(**settings: Any) -> TrialConfig:
    """A trial with two pictures a class, SHIP's generator and CoOp."""
    vae, coop = (
        small(name, table[name][0]) for name, table in (("vae", GENERATORS), ("coop", FINETUNERS))
    )
    return TrialConfig(**{"shots": 2, "generator": vae, "finetuner": coop, **settings})


def methods() -> Iterator[dict[str, Any]]:
    """Each generator with CoOp, and each fine-tuner with SHIP's generator."""
    for group, table in TABLES.items():
        for name, (config, _) in table.items():
            yield {group: small(name, config)}


def variants() -> Iterator[dict[str, Any]]:
    """Each choice that a method's settings offer, and all of its switches at once."""
    for group, table in TABLES.items():
        for name, (config, _) in table.items():
            for settings in _varied(config):
                yield {**QUICK, group: small(name, config, **settings)}
    for settings in _varied(SyntheticConfig):
        yield {**QUICK, "finetuner": small("coop", FINETUNERS["coop"][0]), "synthetic": settings}


def _varied(config: type[Any]) -> Iterator[dict[str, Any]]:
    for field, info in config.model_fields.items():
        if field == "name":
            continue
        choices: tuple[Any, ...] = ()
        if get_origin(info.annotation) is Literal:
            choices = get_args(info.annotation)
        elif info.annotation is bool:
            choices = (True, False)
        for choice in choices:
            if choice != info.default:
                yield {field: choice}
    switched = {key: value for key, value in SWITCHED.items() if key in config.model_fields}
    if switched:
        yield switched


def protocols() -> Iterator[dict[str, Any]]:
    """Each protocol under each selection, on quick trained methods; some refuse each other."""
    quick = {
        "generator": small("mlp_vae", GENERATORS["mlp_vae"][0]),
        "finetuner": small("linear_probe", FINETUNERS["linear_probe"][0]),
    }
    for protocol in PROTOCOLS:
        targets = {"targets": ("here", "there")} if protocol == "cross_dataset" else {}
        for selection in get_args(Selection):
            yield {**quick, "protocol": protocol, "selection": selection, **targets}
