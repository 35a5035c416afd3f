"""Settings of small trials."""

from typing import Any

from ship.trial_config import TrialConfig
from tests.case_files import load_cases

SETTINGS: dict[str, Any] = load_cases(__file__, "settings.yaml")
SMALL, VAE = SETTINGS["small"], SETTINGS["vae"]
COOP = {"name": "coop", "epochs": 4, "lr": 5.0, "batch_size": 5}


def config(**changes: Any) -> TrialConfig:
    """A short trial."""
    return TrialConfig(
        **{"shots": 2, "generator": VAE, "finetuner": COOP, "eval_every": 2, **changes}
    )
