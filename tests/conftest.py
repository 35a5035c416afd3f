"""Shapes in the annotations of ship are checked while the tests run."""

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
