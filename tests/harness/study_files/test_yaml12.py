"""The YAML loader: scalars of YAML 1.2, limits, and messages on invalid files."""

from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.study_files import parse_value, read_yaml
from tests.case_files import load_cases


def parametrize_cases(name: str) -> Any:
    """Parametrize a test with the cases of a YAML file in this folder."""
    return pytest.mark.parametrize(
        "case", load_cases(__file__, name), ids=lambda case: str(case)[:40]
    )


@parametrize_cases("plain.yaml")
def test_scalars_follow_yaml_1_2(case: dict[str, Any]) -> None:
    """Numbers, booleans and null are those of YAML 1.2, and all other scalars are text."""
    assert repr(parse_value(case["text"], "--set")) == repr(case["value"])


@parametrize_cases("unreadable.yaml")
def test_invalid_yaml_is_one_line_error(case: dict[str, Any]) -> None:
    """The line has the position of the fault."""
    with pytest.raises(ConfigError) as caught:
        parse_value(case["text"] * case.get("times", 1), "L")
    assert caught.value.faults == [case["line"]]


def test_aliases_cannot_expand_without_limit() -> None:
    """Nested aliases that would expand to billions of nodes are refused at once."""
    layers = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    layers += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10)]
    with pytest.raises(ConfigError, match="too large after its aliases are expanded"):
        parse_value("\n".join(layers), "L")


@parametrize_cases("no_study.yaml")
def test_file_that_is_not_a_study_is_one_line_error(tmp_path: Path, case: dict[str, Any]) -> None:
    """This includes files that are empty, binary or too large, or contain no mapping."""
    file = tmp_path / "x.yaml"
    file.write_bytes(case["bytes"].encode("latin-1") * case.get("times", 1))
    with pytest.raises(ConfigError) as caught:
        read_yaml(file, "x")
    (line,) = caught.value.faults
    assert line.startswith(f"x: {case['message']}")


def test_folder_is_refused_and_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """A file with the mark is read like a file without it."""
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path, "x")
    assert "must be a regular file, not a folder" in caught.value.faults[0]
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfshots: 1\n")
    assert read_yaml(file, "x") == {"shots": 1}
