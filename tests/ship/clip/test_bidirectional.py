"""Towers without a causal mask, and tokenizers without SOT, equal open_clip's encode_text."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ship.clip import FrozenCLIP, bidirectional, make_class_prompts
from ship.clip.text import get_text_module
from ship.settings import NamePosition
from tests.ship.hub_tokenizers import hub_tokenizers as hub_tokenizers
from tests.ship.towers import SHRUNKEN, TEXTS, open_clips, random_tower

pytestmark = pytest.mark.usefixtures("hub_tokenizers")

BIDIRECTIONAL = [
    "MobileCLIP2-S0",  # CLIP's tokenizer, pooled at EOT
    "ViT-SO400M-14-SigLIP",  # no SOT, EOT is padding; pooled at the last of 16 positions
    "ViT-B-16-SigLIP2",  # no SOT, another padding
    "ViT-SO400M-16-SigLIP-i18n-256",  # no projection
    "ViT-H-14-CLIPA",  # BERT's tokenizer, whose end is made padding
]
CAUSAL = ["ViT-H-14-worldwide", "ViT-L-14-worldwide"]  # XLM's; mT5's, which has no SOT
NAMES = ["dog", "a photo", "very very last dog", "24 photos of 3 dogs"]
CONTEXT, LONG = "a photo of a", "a photo of a very last photo of a dog of a photo of a dog"


@pytest.fixture(params=[*BIDIRECTIONAL, *CAUSAL])
def clip(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FrozenCLIP:
    """A backbone in double precision whose text tower is made small."""
    return random_tower(monkeypatch, request.param, torch.float64, **SHRUNKEN)


def words(clip: FrozenCLIP, text: str) -> Tensor:
    """Return the embedded tokens of a text, without start and end."""
    return clip.text.embed(torch.tensor(clip.tokenizer.encode(text)))


def close(actual: Tensor, expected: Tensor) -> None:
    """Return True if features are equal up to rounding in double precision."""
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)


def test_encode_texts_equals_open_clip(clip: FrozenCLIP) -> None:
    """encode_texts equals open_clip's encode_text for short and truncated sentences."""
    expected = open_clips(clip, TEXTS)
    assert (expected[0] - expected[1]).abs().max() > 1e-3
    close(clip.encode_texts(TEXTS), expected)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_embedded_words_as_context_equal_the_sentence(
    clip: FrozenCLIP, position: NamePosition
) -> None:
    """A prompt with embedded words as context has the features of the whole sentence."""
    n_ctx, names = len(clip.tokenizer.encode(CONTEXT)), ["dog", "a photo", "3 dogs"]
    ctx = words(clip, CONTEXT).expand(len(names), -1, -1)
    whole = make_class_prompts(clip, names, n_ctx, position).assemble(ctx, torch.arange(len(names)))
    front = "{} a photo of a." if position == "front" else "a photo {} of a."
    sentence = "a photo of a {}." if position == "end" else front
    close(clip.text.encode(*whole), open_clips(clip, [sentence.format(name) for name in names]))


def test_shared_context_equals_the_sentence(clip: FrozenCLIP) -> None:
    """Names after two shared contexts of words have the features of the whole sentences."""
    contexts = ["a photo of a", "dog a of photo"]
    n_ctx = len(clip.tokenizer.encode(CONTEXT))
    parts = make_class_prompts(clip, NAMES, n_ctx)
    prefix = parts.prefix(torch.stack([words(clip, text) for text in contexts]))
    actual = clip.text.encode_shared(prefix, parts.names, parts.host_lengths)
    for features, text in zip(actual, contexts, strict=True):
        close(features, open_clips(clip, [f"{text} {name}." for name in NAMES]))


def test_padding_raises_the_token_count_and_the_padding_factor(clip: FrozenCLIP) -> None:
    """Padded prompts count all positions, and padding_factor is at least as large."""
    n, before = len(NAMES), clip.text.n_tokens
    parts = make_class_prompts(clip, NAMES, 1)
    prefix = parts.prefix(torch.zeros(1, 1, clip.text_width, dtype=torch.float64))
    clip.text.encode_shared(prefix, parts.names, parts.host_lengths)
    passed = (clip.text.n_tokens - before) // clip.text.depth
    if clip.text.is_causal:
        assert passed < n * clip.context_length and clip.text.padding_factor == 1
    else:
        assert passed == n * clip.context_length
        assert clip.text.padding_factor == clip.context_length // 4


def test_names_without_context_and_truncated_names_equal_open_clip(clip: FrozenCLIP) -> None:
    """Names without contexts have open_clip's features; a truncated name keeps EOT."""
    names = ["dog", LONG * 9]
    parts = make_class_prompts(clip, names, 0)
    nothing = torch.zeros(2, 0, clip.text_width, dtype=torch.float64)
    prompts, eot = parts.assemble(nothing, torch.arange(2))
    assert eot[1] == clip.context_length - 1
    close(clip.text.encode(prompts, eot), open_clips(clip, ["dog.", LONG * 9]))


def test_largest_n_ctx_leaves_one_token_for_the_name(clip: FrozenCLIP) -> None:
    """The largest n_ctx leaves one token for the name, and is larger by 1 without SOT."""
    most = clip.context_length - (2 if clip.tokenizer.sot_token_id is None else 3)
    assert make_class_prompts(clip, ["dog"], most).host_lengths == (2,)
    with pytest.raises(ValueError, match=f"n_ctx must be at most {most} .*got {most + 1}"):
        make_class_prompts(clip, ["dog"], most + 1)


def test_names_with_equal_tokens_are_rejected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Names that SigLIP's tokenizer maps to the same tokens are rejected by name."""
    clip = random_tower(monkeypatch, "ViT-B-16-SigLIP", **SHRUNKEN)
    make_class_prompts(clip, ["a dog", "A Dog", "a photo"], 4)  # the same to CLIP: for the dataset
    with pytest.raises(
        ValueError, match=r"same tokens for backbone 'ViT-B-16-SigLIP:random': dog, dog!$"
    ):
        make_class_prompts(clip, ["a", "dog", "dog!"], 4)


def by_blocks(clip: FrozenCLIP, ids: Tensor, depth: int, start: int, tokens: Tensor) -> Tensor:
    """Compute features by open_clip's blocks, with some tokens replaced from a depth on."""
    tower: Any = get_text_module(clip._model)
    hidden = tower.token_embedding(ids) + tower.positional_embedding
    for place, block in enumerate(tower.transformer.resblocks):
        if place == depth:
            end = start + tokens.shape[1]
            hidden = torch.cat([hidden[:, :start], tokens, hidden[:, end:]], dim=1)
        hidden = block(hidden, attn_mask=tower.attn_mask)
    outputs, pooling = tower.ln_final(hidden), getattr(tower, "pool_type", "")
    last = (pooling or tower.text_pool_type) == "last"
    eot = (ids == clip.tokenizer.eot_token_id).int().argmax(1)
    places = torch.full_like(eot, ids.shape[1] - 1) if last else eot
    pooled, projection = outputs[torch.arange(len(ids)), places], tower.text_projection
    if isinstance(projection, torch.nn.Linear):
        pooled = projection(pooled)
    elif projection is not None:
        pooled = pooled @ projection
    return F.normalize(pooled, dim=-1)


@pytest.mark.parametrize(("depth", "m"), [(1, 2), (2, 1)])
def test_class_specific_tokens_equal_open_clips_blocks(
    clip: FrozenCLIP, depth: int, m: int
) -> None:
    """TCP's tokens give the features and gradients of open_clip's own blocks."""
    rng = torch.Generator().manual_seed(0)
    n_ctx, start = len(clip.tokenizer.encode(CONTEXT)), clip.tokenizer.sot_token_id is not None
    shape = (2, len(NAMES), m, clip.text_width)
    tokens = torch.randn(shape, dtype=torch.float64, generator=rng).requires_grad_()
    parts = make_class_prompts(clip, NAMES, n_ctx)
    prefix = parts.prefix(words(clip, CONTEXT).expand(2, -1, -1))
    actual = clip.text.encode_shared(prefix, parts.names, parts.host_lengths, tokens, depth)
    sentences = [f"{CONTEXT} {name}." for name in NAMES] * 2
    ids = torch.as_tensor(clip.tokenizer(sentences))
    expected = by_blocks(clip, ids, depth, start + n_ctx - m, tokens.flatten(0, 1))
    close(actual.flatten(0, 1), expected)
    target = torch.randn(actual.shape, dtype=torch.float64, generator=rng)
    slopes = [
        torch.autograd.grad((x * target.reshape(x.shape)).sum(), tokens)[0]
        for x in (actual, expected)
    ]
    torch.testing.assert_close(*slopes, atol=1e-9, rtol=0)
    with torch.no_grad():
        again = clip.text.encode_shared(prefix, parts.names, parts.host_lengths, tokens, depth)
    close(again, actual.detach())


def test_chunked_prompts_equal_one_pass(clip: FrozenCLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts that are encoded in chunks have the features of a single pass."""
    expected = clip.encode_texts(TEXTS)
    monkeypatch.setattr(bidirectional, "PROMPTS_AT_ONCE", 2)
    close(clip.encode_texts(TEXTS), expected)


@pytest.mark.parametrize("name", BIDIRECTIONAL[:2])
def test_tokens_after_eot_are_replaced_by_padding(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens after EOT do not matter, and the fingerprint contains the padding's ID."""
    clip = random_tower(monkeypatch, name, torch.float64, **SHRUNKEN)
    ids = torch.as_tensor(clip.tokenizer(["dog"]))
    eot = (ids == clip.tokenizer.eot_token_id).int().argmax(1)
    prompts = clip.text.embed(ids)
    prompts[:, int(eot) + 1 :] = 7.0
    close(clip.text.encode(prompts, eot), open_clips(clip, ["dog"]))
    clip.tokenizer.pad_token_id = 5
    other = FrozenCLIP(clip.name, clip._model, clip.tokenizer)
    assert other.fingerprint != clip.fingerprint
    assert (other.encode_texts(["dog"]) - clip.encode_texts(["dog"])).abs().max() > 1e-6


def test_tower_pooling_at_another_token_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose eos_id differs from the tokenizer's EOT is rejected."""
    with pytest.raises(ValueError, match="pools at token 9, but its tokenizer's EOT is 2"):
        random_tower(monkeypatch, "ViT-H-14-worldwide", **SHRUNKEN, eos_id=9)
