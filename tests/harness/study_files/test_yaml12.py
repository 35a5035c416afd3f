"""The YAML loader: plain values, YAML 1.2 scalars, duplicate keys, limits, clear lines."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from harness.errors import ConfigError
from harness.study_files.yaml12 import MAX_BYTES, parse_value, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("-.5", -0.5), ("1.", 1.0), ("-.inf", float("-inf")),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-3", -3), ("~", None), ("", None), ("true", True),
        ("yes", "yes"), ("none", "none"), ("1:30", "1:30"), ("'1'", "1"),
        ("[1, 2e0, a]", [1, 2.0, "a"]),
        # an alias is a copy, and the last of two anchors of one name holds, without a warning
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("a: &x 1\nb: &x 2\nc: *x", {"a": 1, "b": 2, "c": 2}),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """Numbers, booleans and nulls are those of YAML 1.2, the rest is text."""
    parsed = parse_value(text, "--set")
    assert parsed == value
    assert type(parsed) is type(value)


UNREADABLE = YAML(typ="safe").load((Path(__file__).parent / "unreadable.yaml").read_text("utf-8"))
DEEP = {
    "text": "[" * 5000,
    "line": "L: line 1, column 17: must be valid YAML: nested more than 16 deep",
}


@pytest.mark.parametrize("case", [*UNREADABLE, DEEP], ids=lambda case: case["text"][:20])
def test_unreadable_yaml_is_one_line(case: dict[str, str]) -> None:
    """What is no plain YAML is refused in one line that says where."""
    with pytest.raises(ConfigError) as caught:
        parse_value(case["text"], "L")
    assert caught.value.faults == [case["line"]]


def test_aliases_cannot_blow_up() -> None:
    """Nested aliases that would expand to billions of nodes are refused at once."""
    layers = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    layers += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 10)]
    with pytest.raises(ConfigError, match="too large once its aliases are written out"):
        parse_value("\n".join(layers), "L")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "x: the file must be readable: is a directory"),
        (b"", "x: the file must hold a study, and is empty"),
        (b"# only a comment\n", "x: the file must hold a study, and is empty"),
        (b"- 1\n", "x: the file must hold a mapping of keys to values, got a list"),
        (b"word", "x: the file must hold a mapping of keys to values, got a single value"),
        (b"a: \xff", "x: the file must be UTF-8 text, and is not at byte 3"),
        (b"a: \x00", "x: must be valid YAML: unacceptable character #x0000: "),
        (b"#" * (MAX_BYTES + 1), f"x: the file must be at most {MAX_BYTES // 1024} KiB"),
    ],
)
def test_file_that_is_no_study(tmp_path: Path, content: bytes | None, line: str) -> None:
    """Empty, binary, oversized and non-mapping files, and a folder, get one clear line."""
    file = tmp_path / "x.yaml"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(file, "x")
    assert len(caught.value.faults) == 1
    assert caught.value.faults[0].startswith(line)


def test_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """A file saved with a byte order mark reads as any other."""
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfshots: 1\n")
    assert read_yaml(file, "x") == {"shots": 1}
