"""Shapes in the annotations of ship are checked while the tests run."""

from jaxtyping import install_import_hook

# must run before anything imports ship
install_import_hook(
    [
        "ship.backbone",
        "ship.finetuners",
        "ship.generators",
        "ship.metrics",
        "ship.prompts",
        "ship.replicas",
        "ship.synthesis",
        "ship.task",
        "ship.text_tower",
    ],
    "beartype.beartype",
)
