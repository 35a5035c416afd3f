"""Tiny tokenizers of Hugging Face, read without transformers.

The expected rows are those of open_clip's HFTokenizer with transformers 5.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from ship.architectures import BackboneError, load_tokenizer, truncate_texts
from ship.clip import check_backbone_name
from ship.hub_tokenizer import HubTokenizer, TokenizerError, load_hub_tokenizer
from tests.ship.hub_tokenizers import hub_tokenizers as hub_tokenizers
from tests.ship.hub_tokenizers import read, write_tokenizer

TEXTS = ["A photo of a dog.", "a very very long name of it"]


@pytest.mark.parametrize(
    ("family", "options", "ends", "rows"),
    [
        (
            "siglip", {"clean": "canonicalize"}, (None, 1, 1),
            [[3, 4, 5, 3, 6, 1, 1, 1, 1, 1, 1, 1], [3, 7, 29, 12, 25, 32, 7, 29, 12, 25, 32, 1]],
        ),
        (
            "siglip2", {"clean": "canonicalize"}, (None, 1, 0),
            [[4, 5, 6, 4, 7, 1, 0, 0, 0, 0, 0, 0], [4, 8, 30, 13, 26, 33, 8, 30, 13, 26, 33, 1]],
        ),
        (
            "bert", {"strip_sep_token": True}, (2, 0, 0),
            [[2, 4, 5, 6, 4, 7, 43, 0, 0, 0, 0, 0], [2, 4, 28, 50, 63, 70, 28, 50, 63, 70, 18, 0]],
        ),
        (
            "xlm", {"clean": "lower"}, (0, 2, 1),
            [[0, 4, 5, 6, 4, 7, 45, 2, 1, 1, 1, 1], [0, 4, 8, 30, 13, 26, 33, 8, 30, 13, 26, 2]],
        ),
    ],
)  # fmt: skip
def test_token_rows_equal_open_clips(
    tmp_path: Path, family: str, options: Any, ends: tuple[int | None, int, int], rows: Any
) -> None:
    """Start, end, padding, truncation and cleaning equal those of HFTokenizer."""
    tokenizer = read(tmp_path, family, **options)
    assert (tokenizer.sot_token_id, tokenizer.eot_token_id, tokenizer.pad_token_id) == ends
    assert tokenizer(TEXTS).tolist() == rows
    start = [] if ends[0] is None else [ends[0]]
    assert [*start, *tokenizer.encode(TEXTS[0]), ends[1]] == rows[0][: rows[0].index(ends[1]) + 1]


def test_canonicalized_texts_have_neither_case_nor_punctuation(tmp_path: Path) -> None:
    """Canonicalization removes punctuation and case; a text of signs becomes empty."""
    tokenizer = read(tmp_path, "siglip", clean="canonicalize")
    assert tokenizer.encode("A Dog.") == tokenizer.encode("a_dog") == tokenizer.encode("a dog")
    assert tokenizer.encode(".") == []
    assert tokenizer.decode(tokenizer.encode("A Dog.")) == "a dog"


def test_tokenizer_of_an_architecture_has_its_context_and_options(hub_tokenizers: None) -> None:
    """The tokenizer named in a configuration is loaded with its context and options."""
    tokenizer = load_tokenizer("ViT-B-16-SigLIP2:webli")
    assert isinstance(tokenizer, HubTokenizer) and tokenizer.context_length == 64
    assert truncate_texts("ViT-B-16-SigLIP2:webli", ["a Photo of a dog."]) == ["a photo of a dog"]
    assert truncate_texts("ViT-SO400M-14-SigLIP", ["a dog " * 20]) == ["a dog " * 7 + "a"]


def test_tokenizer_identity_changes_with_file_and_cleaning(tmp_path: Path) -> None:
    """Another file or another cleaning of texts changes the identity."""
    first = read(tmp_path / "a", "siglip")
    assert first.identity == read(tmp_path / "b", "siglip").identity
    other_tokenizers = [read(tmp_path / "b", "siglip", clean="lower"), read(tmp_path / "c", "mt5")]
    assert all(tokenizer.identity != first.identity for tokenizer in other_tokenizers)


INSTALL = r"requires the library tokenizers: pip install tokenizers \(the extra 'tokenizers'"


def test_missing_tokenizers_library_is_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library is required by the name alone, before anything is downloaded."""
    monkeypatch.setattr("ship.hub_tokenizer.find_spec", lambda _: None)
    with pytest.raises(BackboneError, match=f"'ViT-B-16-SigLIP:webli' could .*{INSTALL}"):
        check_backbone_name("ViT-B-16-SigLIP:webli")
    with pytest.raises(TokenizerError, match=INSTALL):
        read(tmp_path, "siglip")
    check_backbone_name("MobileCLIP2-S0:dfndr2b")  # has CLIP's tokenizer


def changed(path: Path, **changes: Any) -> Path:
    """Change a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}))
    return path


def template(*after: str) -> dict[str, Any]:
    """Return the part of a tokenizer file that defines the special tokens of a text."""
    pieces = [{"Sequence": {"id": "A", "type_id": 0}}]
    pieces += [{"SpecialToken": {"id": token, "type_id": 0}} for token in after]
    ids = {token: {"id": token, "ids": [1], "tokens": [token]} for token in after}
    single = {"type": "TemplateProcessing", "single": pieces, "pair": pieces}
    return {"post_processor": {**single, "special_tokens": ids}}


@pytest.mark.parametrize(
    ("changes", "config", "message"),
    [
        ({"model": {"type": "?"}}, {}, "is not a Hugging Face tokenizer"),
        (template(), {}, "after a text and at most one before it, got 0 after and 0 before"),
        (template("</s>", "</s>"), {}, "got 2 after and 0 before"),
        ({}, {"padding_side": "left"}, "pads or truncates on the left"),
        ({}, {"pad_token": {"content": "<none>"}}, "no padding token <none>"),
    ],
)
def test_tokenizer_file_with_another_format_is_one_line(
    tmp_path: Path, changes: Any, config: Any, message: str
) -> None:
    """The message has the file and the fault."""
    path = changed(write_tokenizer(tmp_path, "siglip"), **changes)
    with pytest.raises(TokenizerError, match=message) as caught:
        HubTokenizer(path, config, 12)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("[1]", {}, "tokenizer_config.json must contain a JSON object, got a list"),
        ("{", {}, "tokenizer_config.json is not JSON"),
        ("{}", {"language": "fra_Latn"}, "options that only transformers supports: language"),
        ("{}", {"clean": "wash"}, "clean must be whitespace or lower or canonicalize"),
    ],
)
def test_tokenizer_files_and_options_are_checked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, options: Any, message: str
) -> None:
    """Broken files, and options that only transformers supports, are rejected."""
    write_tokenizer(tmp_path, "siglip")
    (tmp_path / "tokenizer_config.json").write_text(content)
    monkeypatch.setattr(
        "ship.hub_tokenizer.fetch_hub_file", lambda _, names, __: tmp_path / names[0]
    )
    with pytest.raises(TokenizerError, match=message):
        load_hub_tokenizer("org/model", 12, options)
