"""Recipes for clusters, as files that users copy and edit; see README.md beside them."""

from pathlib import Path

FILES = {
    "slurm": "slurm.sbatch",
    "kuberay": "kuberay-rayjob.yaml",
    "kuberay-cluster": "kuberay-raycluster.yaml",
    "ray-up": "ray-up.yaml",
    "readme": "README.md",
}
_FOLDER = Path(__file__).parent


def path_of(name: str) -> Path:
    """Where the recipe of this name lies.

    Raises:
        KeyError: there is none.
    """
    return _FOLDER / FILES[name]
