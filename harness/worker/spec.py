"""A trial on its way to a worker: its settings as text, and the keys of what it reads."""

import json
from collections.abc import Sequence
from typing import Any

from ship.plugins import identities
from ship.trial_config import TrialConfig


def feature_key(config: TrialConfig) -> str:
    """What features a trial reads, as the key of the shared feature sets."""
    return json.dumps([config.backbone, config.image_precision, config.dataset, config.views])


def target_key(config: TrialConfig, target: str) -> str:
    """The key of a target's feature set, which holds test pictures alone."""
    return json.dumps([config.backbone, config.image_precision, target, "test"])


def trial_spec(
    config: TrialConfig,
    seeds: Sequence[int],
    may_stop: bool,
    checkpoint: str = "",
) -> dict[str, Any]:
    """A trial as Ray carries it: plain JSON text under one key, so that Tune resolves nothing.

    Args:
        config: its setting, trained under every seed.
        may_stop: whether the scheduler may stop it.
        checkpoint: what its checkpoint is called; "": it has none.
    """
    spec = {
        "trial": config.model_dump(mode="json"),
        "seeds": list(seeds),
        "objective": config.selection_metric,
        "may_stop": may_stop,
        "checkpoint": checkpoint,
        "plugins": _plugins(config),
    }
    return {"spec": json.dumps(spec)}


def plugins_differ(config: TrialConfig, planned: dict[str, str]) -> str:
    """In what a worker's plugins are others than those that a trial was planned with; "": in none.

    Args:
        config: the trial.
        planned: what the order says of them.
    """
    here = _plugins(config)
    differing = [name for name in planned if here.get(name) != planned[name]]
    return "; ".join(
        f"{name} is {here.get(name)} on this node, and was planned as {planned[name]}"
        for name in differing
    )


def _plugins(config: TrialConfig) -> dict[str, str]:
    """Those that run on a worker; a dataset's has done its work by then."""
    return identities(config.generator.name, config.finetuner.name)
