"""Settings of small trials."""

from typing import Any

from ship.trial_config import TrialConfig

SMALL = {"latent_dim": 8, "encoder_hidden": 16, "generator_hidden": 16, "epochs": 3, "lr": 1e-2}


VAE = {"name": "vae", "kl_weight": 0.01, **SMALL}


COOP = {"name": "coop", "epochs": 4, "lr": 0.05, "batch_size": 5}


TIP_F = {"name": "tip_adapter_f", "epochs": 4, "batch_size": 5}


def config(**changes: Any) -> TrialConfig:
    """A short trial."""
    return TrialConfig(
        **{"shots": 2, "generator": VAE, "finetuner": COOP, "eval_every": 2, **changes}
    )
