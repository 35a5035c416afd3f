"""Hugging Face tokenizers, read with the small library `tokenizers`.

open_clip reads them with transformers, a much larger dependency. Token IDs equal those of
open_clip's HFTokenizer, whose tokenizer_mode "clips" is not supported. Importing this module does
not import torch; creating a tokenizer does.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ship.hub import fetch_hub_file
from ship.whole_file import read_whole

_FILES: Final = ("tokenizer.json", "tokenizer_config.json")
# Padding tokens of BERT and XLM-R, for configurations that name none and rely on transformers'
# defaults.
_DEFAULT_PADS: Final = ("[PAD]", "<pad>")
# Values of `clean`: what open_clip does to a text before it is tokenized.
_CLEAN_MODES: Final = ("whitespace", "lower", "canonicalize")
# Maximum size of a tokenizer's file. SigLIP 2's, with 256,000 tokens, has 34 MB.
_MAX_BYTES: Final = 200_000_000


class TokenizerError(ValueError):
    """A tokenizer cannot be used. The message is one line."""


def require_tokenizers() -> None:
    """Check that the library `tokenizers` is installed.

    Raises:
        TokenizerError: It is not installed. The message contains the command to install it.
    """
    if find_spec("tokenizers") is None:
        advice = "pip install tokenizers (the extra 'tokenizers' of ship-sweep)"
        raise TokenizerError(f"its tokenizer requires the library tokenizers: {advice}")


class HubTokenizer:
    """A Hugging Face tokenizer with the interface of open_clip's SimpleTokenizer.

    Calling it returns a numpy array, where open_clip's returns a tensor.

    Attributes:
        sot_token_id: ID of the token before a text. None if there is none.
        eot_token_id: ID of the token after a text.
        pad_token_id: ID that fills a row up to the context length. May equal eot_token_id.
        context_length: Number of tokens in a row, including start, end and padding.
        identity: Properties that determine its output, for fingerprints.
    """

    def __init__(
        self,
        file: Path,
        config: Mapping[str, Any],
        context_length: int,
        clean: str = "whitespace",
        strip_sep_token: bool = False,
    ) -> None:
        """Read a tokenizer.

        Args:
            file: Path of its tokenizer.json.
            config: Content of its tokenizer_config.json.
            context_length: Number of tokens in a row.
            clean: How texts are cleaned before they are tokenized, as in open_clip: "whitespace",
                "lower", or "canonicalize", which also removes punctuation.
            strip_sep_token: Whether the end token (BERT's [SEP]) is replaced by token 0.

        Raises:
            TokenizerError: The library `tokenizers` is not installed, the file is not a tokenizer,
                or the tokenizer is not supported. A supported one adds one token after a text and
                at most one before it, and pads and truncates on the right.
            ValueError: The file is missing, unreadable or too large.
        """
        require_tokenizers()
        from open_clip.tokenizer import get_clean_fn
        from tokenizers import Tokenizer

        content = read_whole(file, _MAX_BYTES)
        try:
            self._tokenizer: Any = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises nothing more specific
            raise TokenizerError(f"{file} is not a Hugging Face tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if "left" in (config.get("padding_side"), config.get("truncation_side")):
            raise TokenizerError(f"{file} pads or truncates on the left, which is not supported")
        self._clean = get_clean_fn(clean)
        self.context_length = context_length
        self.sot_token_id, end_id = self._find_ends(file)
        self.eot_token_id = 0 if strip_sep_token else end_id
        self.pad_token_id = self._find_padding(file, config)
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        self.identity = {"file": digest, "clean": clean, "pad": self.pad_token_id}

    def encode(self, text: str) -> list[int]:
        """Return the token IDs of a text, without start and end tokens."""
        ids: list[int] = self._tokenizer.encode(self._clean(text), add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token IDs, including special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the token IDs of texts with start, end and padding, (n, context_length)."""
        rows = np.full((len(texts), self.context_length), self.pad_token_id, dtype=np.int64)
        start = [] if self.sot_token_id is None else [self.sot_token_id]
        max_text_tokens = self.context_length - len(start) - 1
        for row, text in zip(rows, texts, strict=True):
            ids = [*start, *self.encode(text)[:max_text_tokens], self.eot_token_id]
            row[: len(ids)] = ids
        return rows

    def _find_ends(self, file: Path) -> tuple[int | None, int]:
        """Return the IDs of the tokens before and after a text; the first is None if there is none.

        Raises:
            TokenizerError: The tokenizer does not add one token after a text, or adds more than one
                before it.
        """
        encoded = self._tokenizer.encode("a")
        is_special, ids = list(encoded.special_tokens_mask), list(encoded.ids)
        if 0 not in is_special:
            raise TokenizerError(f"{file} encodes the text 'a' as special tokens only")
        text_start, text_end = is_special.index(0), len(ids) - is_special[::-1].index(0)
        before, after = ids[:text_start], ids[text_end:]
        if len(before) > 1 or len(after) != 1:
            rule = "must add one token after a text and at most one before it"
            raise TokenizerError(f"{file} {rule}, got {len(after)} after and {len(before)} before")
        return (before or [None])[0], after[0]

    def _find_padding(self, file: Path, config: Mapping[str, Any]) -> int:
        """Return the ID of the configuration's padding token; by default, of one of _DEFAULT_PADS.

        Raises:
            TokenizerError: The vocabulary does not contain the token.
        """
        entry = config.get("pad_token")
        name = entry.get("content") if isinstance(entry, dict) else entry
        names = [str(name)] if name else _DEFAULT_PADS
        for token in names:
            token_id: int | None = self._tokenizer.token_to_id(token)
            if token_id is not None:
                return token_id
        raise TokenizerError(f"{file} has no padding token {' or '.join(names)}")


def load_hub_tokenizer(
    repository: str, context_length: int, options: Mapping[str, Any]
) -> HubTokenizer:
    """Load a tokenizer, downloading its files if they are not in the hub's cache.

    Args:
        repository: Repository on the Hugging Face Hub.
        context_length: Number of tokens in a row.
        options: open_clip's tokenizer_kwargs.

    Raises:
        TokenizerError: `tokenizers` is not installed, or the tokenizer or one of its options is not
            supported.
        HubError: Its files cannot be downloaded.
        ValueError: Its tokenizer.json is unreadable or too large.
    """
    require_tokenizers()
    if unknown := set(options) - {"clean", "strip_sep_token"}:
        names = ", ".join(sorted(unknown))
        raise TokenizerError(f"its tokenizer has options that only transformers supports: {names}")
    if (clean := options.get("clean", "whitespace")) not in _CLEAN_MODES:
        modes = " or ".join(_CLEAN_MODES)
        raise TokenizerError(f"its tokenizer's option clean must be {modes}, got {clean}")
    tokenizer_file, config_file = (
        Path(fetch_hub_file(repository, [name], "its tokenizer is")) for name in _FILES
    )
    try:
        config = json.loads(read_whole(config_file, _MAX_BYTES))
    except ValueError as error:
        raise TokenizerError(f"{config_file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise TokenizerError(
            f"{config_file} must contain a JSON object, got a {type(config).__name__}"
        )
    return HubTokenizer(tokenizer_file, config, context_length, **options)
