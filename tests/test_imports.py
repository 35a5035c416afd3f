"""Imports go one way, through each package's face, and commands start light."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Packages whose __init__ hands on all that others may take from them.
FACES = sorted(
    path.parent.relative_to(ROOT).as_posix().replace("/", ".")
    for name in ("harness", "reports")
    for path in (ROOT / name).glob("*/__init__.py")
    if path.parent.name not in ("cli", "data", "deploy")
)
FACES += [
    f"ship.{name}"
    for name in (
        "clip",
        "configs",
        "features",
        "metrics",
        "registry",
        "single_seed",
        "subsets",
        "tasks",
        "testing",
        "training",
        "trial",
    )
]
# Imported by its own name: it needs Ray, and the rest of its package does not.
BY_ITS_NAME = ("harness.worker.trainable", "harness.worker.worker")


def loaded(statement: str) -> set[str]:
    """Top-level modules in sys.modules after a statement."""
    code = f"{statement}; import sys, json; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(out.stdout.splitlines()[-1])}


@pytest.mark.parametrize(
    ("statement", "banned"),
    [
        (
            "import ship.trial.run, ship.features.feature_set",
            {"ray", "optuna", "mlflow", "harness", "reports"},
        ),
        ("import reports.cli, reports.tables.build", {"torch", "ray", "ship", "harness"}),
        ("import harness.cli.main", {"torch", "ray", "mlflow", "optuna", "open_clip"}),
        (
            "from harness.config import load_study; load_study('prompt_len')",
            {
                "torch",
                "ray",
                "optuna",
                "mlflow",
                "open_clip",
                "torchvision",
                "scipy",
                "pandas",
                "vl_convert",
                "great_tables",
                "sklearn",
                "reports",
            },
        ),
        ("import reports.cli", {"mlflow", "vl_convert", "scipy", "polars"}),
        (
            "import harness.study.run, harness.worker.trainable",
            {"torch", "polars", "vl_convert", "great_tables", "open_clip", "torchvision"},
        ),
        (
            "import ship.trial_config, ship.epoch_metrics, ship.architectures, ship.subsets",
            {"torch", "open_clip", "PIL", "polars"},
        ),
        ("import reports.contract", {"mlflow", "numpy", "polars", "pydantic", "ship", "harness"}),
        ("import harness.data.cli", {"torch", "torchvision", "numpy", "PIL", "ship"}),
    ],
)
def test_does_not_import(statement: str, banned: set[str]) -> None:
    """What a package must not know, or is not needed yet, it does not load."""
    assert not loaded(statement) & banned


def past_the_face(source: str, module: str) -> Iterator[str]:
    """Modules inside other packages that a source imports from, going past their faces."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module not in BY_ITS_NAME:
            package = ".".join(node.module.split(".")[:2])
            inside = f"{module}.".startswith(f"{package}.")
            if package in FACES and node.module != package and not inside:
                yield node.module


def test_packages_are_used_through_their_faces() -> None:
    """What stands behind an __init__ can be moved without anybody else noticing."""
    assert len(FACES) >= 20
    found = [
        f"{path.relative_to(ROOT)}: {module}"
        for name in ("ship", "harness", "reports")
        for path in sorted((ROOT / name).rglob("*.py"))
        for module in past_the_face(
            path.read_text("utf-8"),
            path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."),
        )
    ]
    assert not found


def test_going_past_a_face_is_noticed() -> None:
    """The test above can fail."""
    source = "from harness.store.open import Store\nfrom harness.store import open_store"
    assert list(past_the_face(source, "harness.study.run")) == ["harness.store.open"]
    assert not list(past_the_face(source, "harness.store.session"))
