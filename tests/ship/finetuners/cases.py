"""Small settings of every fine-tuner."""

from typing import Any

from ship.configs import FINETUNERS

FAST: dict[str, dict[str, Any]] = {
    "coop": {"lr": 0.05, "epochs": 3, "batch_size": 5},
    "cocoop": {"lr": 0.05, "epochs": 2, "batch_size": 4},
    "kgcoop": {"lr": 0.05, "epochs": 3, "batch_size": 5},
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
# what is built and how; every entry of FINETUNERS is here
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, FAST.get(name, {})) for name in FINETUNERS},
    "coop/class_specific": (
        "coop",
        {**FAST["coop"], "class_specific": True, "name_position": "middle"},
    ),
    "linear_probe/zero": ("linear_probe", {**FAST["linear_probe"], "init": "zero"}),
}
