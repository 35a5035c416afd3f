"""Recipes for clusters, as files to copy and edit. README.md says which one to use."""

import sys
from pathlib import Path

FILES = {
    "slurm": "slurm.sbatch",
    "kuberay": "kuberay-rayjob.yaml",
    "docker": "Dockerfile",
    "readme": "README.md",
}
FOLDER = Path(__file__).parent


def print_recipe(name: str) -> None:
    """Print the file of a recipe.

    Args:
        name: Key of FILES.
    """
    sys.stdout.write((FOLDER / FILES[name]).read_text(encoding="utf-8"))
