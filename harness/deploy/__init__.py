"""Recipes for clusters: files to copy and edit. README.md explains which one to use."""

import sys
from pathlib import Path

FILES = {  # name of a recipe -> its file
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
