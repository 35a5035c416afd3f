"""CLIP's byte-pair merges, cut down to those that the pocket model's words need.

The cut tokenizer splits every needed word as the full one does: a merge is kept if it is among
the commonest, or if replaying the full tokenizer on the needed words applies it.
"""

import gzip
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final

import regex
from open_clip.tokenizer import SimpleTokenizer

PREFIX: Final = 2048
"""How many of the commonest merges are kept in any case, so that other words split sensibly."""

HEADER: Final = '"bpe_simple_vocab_16e6.txt#version: 0.2 (merges needed by the pocket CLIP)'

Merge = tuple[str, str]


def words_in(tokenizer: SimpleTokenizer, texts: Iterable[str]) -> set[str]:
    """The tokenizer's words (in its byte alphabet) in some texts."""
    return {
        "".join(tokenizer.byte_encoder[byte] for byte in word.encode("utf-8"))
        for text in texts
        for word in regex.findall(tokenizer.pat, tokenizer.clean_fn(text))
    }


def merges_applied(ranks: dict[Merge, int], word: str) -> list[Merge]:
    """The merges, in order, by which byte-pair encoding assembles one word.

    Args:
        ranks: every merge and its rank; the lowest rank is applied first.
        word: a word in the byte alphabet; its last letter carries the end-of-word mark.
    """
    parts = [*word[:-1], word[-1] + "</w>"]
    applied = []
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        applied.append(best)
        parts = _merge(parts, best)
    return applied


def _merge(parts: list[str], pair: Merge) -> list[str]:
    """Join every occurrence of the pair, from the left."""
    merged: list[str] = []
    position = 0
    while position < len(parts):
        if tuple(parts[position : position + 2]) == pair:
            merged.append("".join(pair))
            position += 2
        else:
            merged.append(parts[position])
            position += 1
    return merged


def truncate_merges(
    ranks: dict[Merge, int], words: Iterable[str], prefix: int = PREFIX
) -> list[Merge]:
    """The merges to keep, in their order."""
    needed = {merge for word in words for merge in merges_applied(ranks, word)}
    ordered = sorted(ranks, key=ranks.__getitem__)
    return [merge for merge in ordered if ranks[merge] < prefix or merge in needed]


def write_merges(merges: Iterable[Merge], path: Path) -> None:
    """In open_clip's format; the same merges give the same bytes."""
    text = "\n".join([HEADER, *(" ".join(merge) for merge in merges)])
    # No newline at the end: open_clip would read it as one more, empty, merge.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as file:
        file.write(text.encode("utf-8"))


def build_vocabulary(texts: Iterable[str], path: Path) -> int:
    """Write the merges that some texts need; returns the vocabulary's size.

    Raises:
        ValueError: the cut tokenizer splits a word differently.
    """
    full = SimpleTokenizer()
    words = sorted(words_in(full, texts))
    write_merges(truncate_merges(full.bpe_ranks, words), path)
    cut = SimpleTokenizer(bpe_path=str(path))
    if differing := [word for word in words if full.bpe(word) != cut.bpe(word)]:
        raise ValueError(f"the cut vocabulary splits differently: {differing[:10]}")
    return int(cut.vocab_size)
