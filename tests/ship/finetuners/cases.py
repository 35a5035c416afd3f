"""Fine-tuners with settings that make a test quick."""

from typing import Any

FAST: dict[str, dict[str, Any]] = {
    "coop": {"lr": 0.05, "epochs": 3},
    "cocoop": {"lr": 0.05, "epochs": 2, "batch_size": 4},
    "kgcoop": {"lr": 0.05, "epochs": 3},
    "coop_dept": {"lr": 0.05, "epochs": 3, "batch_size": 256},
    "kgcoop_dept": {"lr": 0.05, "epochs": 3, "batch_size": 256},
    "tcp": {"epochs": 3},
    "clip_adapter": {"lr": 0.01, "epochs": 3, "batch_size": 5, "search": True},
    "linear_adapter": {"lr": 0.01, "epochs": 3, "batch_size": 5},
    "tip_adapter_f": {"epochs": 3, "batch_size": 8},
    "linear_probe": {"lr": 0.01, "epochs": 3, "batch_size": 5},
    "zs_lp": {"epochs": 3, "batch_size": 5},
    "clap": {"epochs": 3, "batch_size": 5},
    "lp_plus_plus": {"epochs": 11},
}
