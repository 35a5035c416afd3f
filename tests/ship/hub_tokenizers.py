"""Tiny tokenizers of Hugging Face in the formats that open_clip's architectures use."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ship.hub_tokenizer import HubTokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,'"


@dataclass(frozen=True)
class Family:
    """A kind of tokenizer.

    Attributes:
        special: Special tokens, in the order of their IDs.
        template: What is put around a text $A.
        pad: Padding token in tokenizer_config.json. None if that file has none.
    """

    special: tuple[str, ...]
    template: str
    pad: str | None = None


FAMILIES = {
    "siglip": Family(("<pad>", "</s>", "<unk>"), "$A </s>", "</s>"),
    "siglip2": Family(("<pad>", "<eos>", "<bos>", "<unk>"), "$A <eos>", "<pad>"),
    "mt5": Family(("<pad>", "</s>", "<unk>"), "$A </s>", "<pad>"),
    "bert": Family(("[PAD]", "[UNK]", "[CLS]", "[SEP]"), "[CLS] $A [SEP]"),
    "xlm": Family(("<s>", "<pad>", "</s>", "<unk>"), "<s> $A </s>"),
}
OF_REPOSITORY = {
    "timm/ViT-B-16-SigLIP": "siglip",
    "timm/ViT-B-16-SigLIP-i18n-256": "siglip2",
    "bert-base-uncased": "bert",
    "facebook/xlm-v-base": "xlm",
    "google/mt5-base": "mt5",
}


def family_of(repository: str) -> str:
    """Return the family of a tokenizer that an architecture of open_clip names."""
    return "siglip2" if "SigLIP2" in repository else OF_REPOSITORY[repository]


def write_tokenizer(folder: Path, name: str) -> Path:
    """Write the two files of a tiny tokenizer of a family, and return the first one's path."""
    family = FAMILIES[name]
    tokenizer = _word_piece(family) if name == "bert" else _unigram(family)
    pairs = [(token, number) for number, token in enumerate(family.special)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=family.template, special_tokens=pairs
    )
    tokenizer.add_special_tokens(list(family.special))
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if family.pad:
        config["pad_token"] = family.pad
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder / "tokenizer.json"


def _word_piece(family: Family) -> Tokenizer:
    words = ["a", "photo", "of", "dog", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {token: at for at, token in enumerate(dict.fromkeys((*family.special, *words)))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _unigram(family: Family) -> Tokenizer:
    pieces = ["▁a", "▁photo", "▁of", "▁dog", "▁", *LETTERS]
    vocabulary = [(token, 0.0) for token in family.special]
    vocabulary += [(piece, -2.0 - (len(piece) == 1)) for piece in pieces]
    unknown = family.special.index("<unk>")
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unknown, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


@pytest.fixture
def hub_tokenizers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fake hub with a tiny tokenizer under each of open_clip's names."""

    def load(repository: str, names: list[str], what: str) -> str:
        folder = tmp_path / "hub" / repository
        write_tokenizer(folder, family_of(repository))
        return str(folder / names[0])

    monkeypatch.setattr("ship.hub_tokenizer.fetch_hub_file", load)


def read(folder: Path, name: str, length: int = 12, **options: Any) -> HubTokenizer:
    """Write a tiny tokenizer of a family and read it."""
    path = write_tokenizer(folder, name)
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    return HubTokenizer(path, config, length, **options)
