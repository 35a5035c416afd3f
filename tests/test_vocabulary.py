"""The names in the store are spelled in harness.store alone, and are those that ship gives."""

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


def literals(source: str) -> Iterator[str]:
    """Every text that a source holds, with the parts of f-strings, without docstrings."""
    tree = ast.parse(source)
    alone = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def spelled(source: str) -> list[str]:
    """The tags and metric keys that a source spells out; names of ship's modules are none."""
    return [
        text
        for text in literals(source)
        if (TAG.match(text) and text not in MODULES) or METRIC.match(text)
    ]


def sources(*packages: str) -> dict[str, str]:
    """Path below the repository -> text of each source of some packages."""
    return {
        path.relative_to(ROOT).as_posix(): path.read_text("utf-8")
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def test_names_of_the_store_are_spelled_only_in_harness_store() -> None:
    """Writers and readers import them from there."""
    assert not [
        f"{path}: {text!r}"
        for path, source in sources("harness", "reports").items()
        if not path.startswith("harness/store/")
        for text in spelled(source)
    ]


def test_a_name_that_is_spelled_out_is_noticed() -> None:
    """The test above can fail."""
    for case in load_cases(__file__, "sources.yaml")["spelling"]:
        assert spelled(case["source"]) == case["names"], case


def test_every_tag_has_one_name() -> None:
    """Two members with one value would be one tag with two meanings."""
    assert len({tag.value for tag in store.Tag}) == len(store.Tag.__members__)
    assert all(tag.startswith(("ship.", "mlflow.")) for tag in store.Tag)


def test_the_store_has_ships_protocols() -> None:
    """They have the same names and objectives.

    cross_dataset selects by base and new classes. base_to_new measures more on test images than can
    be maximized.
    """
    assert set(store.PROTOCOLS) == set(PROTOCOLS) == set(get_args(ProtocolName))
    seen = torch.tensor([[True, False]])
    beside = set(score_open_world(Predictions(torch.eye(2)[None], torch.tensor([0, 1]), seen)))
    for name, objectives in OBJECTIVES.items():
        selected = "base_to_new" if name == "cross_dataset" else name
        tested = {*objectives, *(beside if selected == "base_to_new" else ())}
        assert tested == set(store.PROTOCOLS[selected].headings)


def test_the_store_has_ships_flags_and_prefixes() -> None:
    """The flags of synthetic features follow the store's names."""
    value = torch.ones(1)
    judged = {"diversity": value, "real_diversity": value, "cosine_to_mean": value}
    heads = {text for source in sources("ship").values() for text in literals(source)}
    whole = {text for text in heads if text.startswith(store.FLAG)} - {store.FLAG}
    raised = {*flag_faults({**judged, "text_cosine_to_mean": value})}
    assert {f"{store.FLAG}{name}" for name in raised} | whole == {
        f"{store.FLAG}{name}" for name in store.FLAGS
    }
    assert {store.FLAG, store.QUALITY} <= heads
