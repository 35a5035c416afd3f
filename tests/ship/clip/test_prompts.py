"""Prompts are assembled token by token, and equal open_clip's encoding of the sentence."""

from functools import partial

import pytest
import torch

from ship.clip import FrozenCLIP, make_class_prompts
from ship.methods import Rng
from ship.methods.prompts import make_initial_context
from ship.settings import NamePosition
from tests.ship.conftest import WORDS

CONTEXT = "a photo of a"
SENTENCES: dict[NamePosition, str] = {
    "end": "a photo of a {}.",
    "middle": "a photo {} of a.",
    "front": "{} a photo of a.",
}
NAMES = (*WORDS, "crème brûlée", "日本の犬", "Ökosystem №5")

everywhere = pytest.mark.parametrize("position", list(SENTENCES))


def words(clip: FrozenCLIP, text: str) -> torch.Tensor:
    """Return the embedded tokens of a text, without SOT and EOT."""
    return clip.text.embed(torch.tensor(clip.tokenizer.encode(text)))


@everywhere
def test_embedded_words_as_context_equal_the_sentence(
    clip64: FrozenCLIP, position: NamePosition
) -> None:
    """A prompt with embedded words as context has the features of the whole sentence."""
    ids = torch.arange(len(NAMES)).flip(0)
    ctx = words(clip64, CONTEXT).expand(len(NAMES), -1, -1)
    prompts, eot = make_class_prompts(clip64, NAMES, 4, position).assemble(ctx, ids)
    sentences = [SENTENCES[position].format(NAMES[i]) for i in ids.tolist()]
    tokens = clip64.tokenizer(sentences)
    for row, index, token_ids in zip(prompts, eot.tolist(), tokens, strict=True):
        assert token_ids[index] == clip64.tokenizer.eot_token_id
        assert torch.equal(row[: index + 1], clip64.text.embed(token_ids[: index + 1]))
    with torch.no_grad():
        expected = clip64._model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(clip64.text.encode(prompts, eot), expected, atol=1e-12, rtol=0)


@everywhere
def test_long_names_are_truncated_and_keep_eot(clip: FrozenCLIP, position: NamePosition) -> None:
    """EOT replaces the last token; shorter names in the batch are unchanged."""
    names = ["very " * 40 + "long dog", "dog"]
    ctx = torch.randn(2, 4, clip.text_width)
    parts = make_class_prompts(clip, names, 4, position)
    prompts, eot = parts.assemble(ctx, torch.tensor([0, 1]))
    assert eot.tolist() == [clip.context_length - 1, 7] and prompts.shape[1] == clip.context_length
    end = clip.text.embed(torch.tensor(clip.tokenizer.eot_token_id))
    assert torch.equal(prompts[0, -1], end) and torch.equal(prompts[1, 7], end)
    alone, _ = make_class_prompts(clip, ["dog"], 4, position).assemble(ctx[1:], torch.tensor([0]))
    assert torch.equal(prompts[1, :8], alone[0])
    very = (prompts[0] == words(clip, "very")[0]).all(-1)
    start = {"end": 5, "middle": 3, "front": 1}[position]
    assert very.nonzero()[:, 0].tolist() == list(range(start, start + clip.context_length - 2 - 4))


@everywhere
def test_too_large_n_ctx_is_rejected_with_the_maximum(
    clip: FrozenCLIP, position: NamePosition
) -> None:
    """The largest n_ctx leaves one token for a name; the message contains it."""
    most = clip.context_length - 3
    parts = make_class_prompts(clip, ["dog"], most, position)
    _, eot = parts.assemble(torch.zeros(1, most, clip.text_width), torch.tensor([0]))
    assert eot.tolist() == [clip.context_length - 1]
    with pytest.raises(ValueError, match=f"n_ctx must be at most {most} .*got {most + 1}"):
        make_class_prompts(clip, ["dog"], most + 1, position)


@pytest.mark.parametrize("n_ctx", [2, 4, 6])
def test_initial_words_fill_the_last_contexts(clip: FrozenCLIP, n_ctx: int) -> None:
    """Contexts before the words stay random; excess words are dropped from the start."""
    draw = partial(Rng, 7, torch.empty(0))
    ctx = make_initial_context(clip, n_ctx, CONTEXT, draw("t"))
    noise = make_initial_context(clip, n_ctx, None, draw("t"))
    kept = min(n_ctx, 4)
    assert torch.equal(ctx[n_ctx - kept :], words(clip, CONTEXT)[4 - kept :])
    assert torch.equal(ctx[: n_ctx - kept], noise[: n_ctx - kept])
    assert 0.015 < noise.std() < 0.025


@everywhere
def test_names_that_are_equal_after_truncation_are_rejected(
    clip: FrozenCLIP, position: NamePosition
) -> None:
    """The message has both names and n_ctx."""
    names = ["dog", "very dog", "very cat"]
    most = clip.context_length - 3 - len(clip.tokenizer.encode("very dog")) + 1
    make_class_prompts(clip, names, most, position)
    make_class_prompts(clip, ["very dog"] * 2, most + 1, position)  # ImageNet has them, uncut
    with pytest.raises(ValueError, match=f"the same .* n_ctx {most + 1} .*: very dog, very cat$"):
        make_class_prompts(clip, names, most + 1, position)
