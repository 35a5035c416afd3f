"""Cost of learned prompts in a backbone's text tower, computed from its configuration.

A causal tower computes the context once for many classes, and no token after EOT. A bidirectional
tower, which has no causal mask, computes the whole context length for each prompt.
"""

from typing import Final

from ship.architectures import get_text_settings

# Tokens that a causal tower computes per prompt: the packaged datasets' names with "." and EOT have
# 3.6 on average, and their share of the context is packed (ship.clip.packing).
PROMPT_TOKENS: Final = 4
# Number of tokens that a token attends to in a packed sequence.
_PACKED_TOKENS: Final = 128


def is_bidirectional(name: str) -> bool:
    """Return True if a backbone's text tower has no causal mask, so that prompts are padded."""
    return bool(getattr(get_text_settings(name), "no_causal_mask", False))


def padding_factor(context_length: int) -> int:
    """Return the approximate ratio of tokens per prompt without and with a causal mask."""
    return max(1, context_length // PROMPT_TOKENS)


def prompt_cost(name: str) -> float:
    """Return the cost of a class's prompt in a CoOp step, relative to the backbone ViT-B-16.

    These are the floating-point operations of the text tower's matrix products. A causal tower
    computes about PROMPT_TOKENS positions per prompt, a bidirectional one its whole context.
    """
    return _prompt_operations(name) / _prompt_operations("ViT-B-16")


def _prompt_operations(name: str) -> float:
    """Return the operations of a prompt's products in the blocks, up to a constant factor."""
    text = get_text_settings(name)
    tokens, seen = PROMPT_TOKENS, _PACKED_TOKENS
    if is_bidirectional(name):
        tokens = seen = text.context_length
    attention_and_mlp = (4 + 2 * getattr(text, "mlp_ratio", 4.0)) * text.width**2
    scores_and_mixing = 2 * seen * text.width
    return float(text.layers * tokens * (attention_and_mlp + scores_and_mixing))
