"""Configurations of small trials."""

from typing import Any

from ship.trial_config import TrialConfig
from tests.case_files import load_cases

TRIALS: dict[str, Any] = load_cases(__file__, "trials.yaml")
SMALL, VAE = TRIALS["small"], TRIALS["vae"]
COOP = {"name": "coop", "epochs": 4, "lr": 5.0, "batch_size": 5}


def make_config(**changes: Any) -> TrialConfig:
    """Return the configuration of a short trial with these changes."""
    return TrialConfig(
        **{"shots": 2, "generator": VAE, "finetuner": COOP, "eval_every": 2, **changes}
    )
