"""Tags and metric keys are defined in harness.store only, and agree with the names of ship."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import torch

from harness import store
from ship.metrics import Predictions, score_open_world
from ship.protocol_rules import PROTOCOLS
from ship.quality import flag_faults
from ship.trial_config import OBJECTIVES, ProtocolName
from tests.case_files import load_cases

ROOT = Path(__file__).parents[1]
TAG = re.compile(r"ship\\?\.[a-z_(]+")
METRIC = re.compile(r"(trial|flag|quality)/|.*/(curve_)?seed_(\d|$)")
MODULES = {f"ship.{path.stem}" for path in (ROOT / "ship").glob("*")}


def find_literals(source: str) -> Iterator[str]:
    """Yield all string literals of a source, including parts of f-strings, except docstrings."""
    tree = ast.parse(source)
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings:
            yield node.value


def find_store_names(source: str) -> list[str]:
    """Return the tags and metric keys in the string literals of a source.

    Names of ship's modules look like tags and are not returned.
    """
    return [
        text
        for text in find_literals(source)
        if (TAG.match(text) and text not in MODULES) or METRIC.match(text)
    ]


def read_sources(*packages: str) -> dict[str, str]:
    """Return the text of each source of some packages, by its path below the repository."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def test_tags_and_metric_keys_are_only_in_harness_store() -> None:
    """Code that reads or writes the store imports the names from there."""
    assert not [
        f"{path}: {text!r}"
        for path, source in read_sources("harness", "reports").items()
        if not path.startswith("harness/store/")
        for text in find_store_names(source)
    ]


def test_tags_and_metric_keys_in_literals_are_detected() -> None:
    """They are detected in f-strings and regular expressions, but not in docstrings."""
    for case in load_cases(__file__, "sources.yaml")["literals"]:
        assert find_store_names(case["source"]) == case["names"], case


def test_every_tag_has_one_name() -> None:
    """Two members with the same value would be one tag with two meanings."""
    assert len({tag.value for tag in store.Tag}) == len(store.Tag.__members__)
    assert all(tag.startswith(("ship.", "mlflow.")) for tag in store.Tag)


def test_store_has_the_protocols_of_ship() -> None:
    """Their names and objectives are equal.

    cross_dataset selects by base and new classes. base_to_new reports metrics on test images that
    are not objectives, too.
    """
    assert set(store.PROTOCOLS) == set(PROTOCOLS) == set(get_args(ProtocolName))
    is_seen = torch.tensor([[True, False]])
    predictions = Predictions(torch.eye(2)[None], torch.tensor([0, 1]), is_seen)
    open_world_metrics = set(score_open_world(predictions))
    for name, objectives in OBJECTIVES.items():
        selected = "base_to_new" if name == "cross_dataset" else name
        tested = {*objectives, *(open_world_metrics if selected == "base_to_new" else ())}
        assert tested == set(store.PROTOCOLS[selected].headings)


def test_store_has_the_flags_and_prefixes_of_ship() -> None:
    """A flag is either a literal in ship, or computed from the quality of synthetic features."""
    value = torch.ones(1)
    quality = {"diversity": value, "real_diversity": value, "cosine_to_mean": value}
    literals = {text for source in read_sources("ship").values() for text in find_literals(source)}
    literal_flags = {text for text in literals if text.startswith(store.FLAG)} - {store.FLAG}
    quality_flags = {*flag_faults({**quality, "text_cosine_to_mean": value})}
    assert {f"{store.FLAG}{name}" for name in quality_flags} | literal_flags == {
        f"{store.FLAG}{name}" for name in store.FLAGS
    }
    assert {store.FLAG, store.QUALITY} <= literals
