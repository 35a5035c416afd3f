"""Shapes in the annotations of ship are checked; Ray is asked as if its user had set nothing."""

import os

from jaxtyping import install_import_hook

# must run before anything imports ship
install_import_hook(
    [
        "ship.architectures",
        "ship.backbone",
        "ship.datasets",
        "ship.extraction",
        "ship.feature_cache",
        "ship.features",
        "ship.finetuners",
        "ship.calibration",
        "ship.generators",
        "ship.judge",
        "ship.metrics",
        "ship.prompts",
        "ship.protocols",
        "ship.quality",
        "ship.replicas",
        "ship.selection",
        "ship.shards",
        "ship.splits",
        "ship.streaming",
        "ship.synthesis",
        "ship.task",
        "ship.text_tower",
        "ship.views",
    ],
    "beartype.beartype",
)

# Ray's core reads them once, when it is imported
for _name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
    os.environ.pop(_name, None)
