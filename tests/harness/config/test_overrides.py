"""--set key=value: what it reaches, and what is said where a command lacks one."""

import re
from collections.abc import Mapping
from typing import Any

import pytest

from harness.config.load import parse_study
from harness.config.mapping import apply_overrides, parse_overrides
from harness.errors import ConfigError
from tests.told import told

CASES = told(__file__, "overrides.yaml")


def found(place: Any, dotted: str) -> Any:
    """What stands at a dotted name; of a mapping its keys."""
    while dotted:
        whole = isinstance(place, Mapping) and dotted in place
        key, _, dotted = (dotted, "", "") if whole else dotted.partition(".")
        if isinstance(place, Mapping) and key not in place:  # a factor's name has a dot in it
            more, _, dotted = dotted.partition(".")
            key = f"{key}.{more}"
        place = place[key] if isinstance(place, Mapping) else getattr(place, key)
    return list(place) if isinstance(place, Mapping | tuple) else place


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case["set"]))
def test_what_overrides_reach(case: dict[str, Any]) -> None:
    """Constants, groups, their members, keys of the study, factors, and variants at each depth."""
    expected = case.get("left") or case["has"]
    if "left" in case:
        study: Any = apply_overrides(case["study"], parse_overrides(case["set"])[0])[0]
    else:
        study = parse_study(case["study"], "x", overrides=case["set"])
    assert {key: found(study, key) for key in expected} == expected


def test_a_smaller_space_names_the_variants_to_drop() -> None:
    """The lines have every --set that the command lacks; with them the study is sound."""
    case = CASES[-1]
    with pytest.raises(ConfigError) as caught:
        parse_study(case["study"], "x", label="x", overrides=case["set"][:2])
    assert re.findall(r"--set (\S+?)\)", str(caught.value)) == case["set"][2:]
