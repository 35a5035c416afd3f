"""A trial with few epochs, which stands for the whole in what is measured."""

from typing import Any

from ship.trial_config import TrialConfig

# The first epoch warms up and the last one is evaluated: the median of the others counts.
EPOCHS = 5


def shortened(config: TrialConfig, most: int = EPOCHS) -> TrialConfig:
    """The same trial with so many epochs of each kind at most, evaluated after the last."""
    update: dict[str, Any] = {"eval_every": most + 1}
    for group in ("generator", "finetuner"):
        settings = getattr(config, group)
        epochs = getattr(settings, "epochs", 0)
        if epochs > most:
            update[group] = settings.model_copy(update={"epochs": most})
    return config.model_copy(update=update)
