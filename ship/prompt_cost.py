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
    return prompt_operations(name) / prompt_operations("ViT-B-16")


def prompt_tokens(name: str, n_own: int = 0) -> int:
    """Return the number of tokens that a backbone computes per prompt.

    Args:
        name: Name of the backbone.
        n_own: Tokens before the class name that are not shared by the prompts: SOT and contexts.
    """
    if is_bidirectional(name):
        return int(get_text_settings(name).context_length)
    return PROMPT_TOKENS + n_own


def prompt_operations(name: str, n_own: int = 0) -> float:
    """Return the floating-point operations of a prompt's products in the blocks, forward only.

    An addition and a multiplication count as two operations. The number is an upper bound, because
    the last block computes only EOT's output. The arguments are those of `prompt_tokens`.
    """
    text, tokens = get_text_settings(name), prompt_tokens(name, n_own)
    seen = text.context_length if is_bidirectional(name) else _PACKED_TOKENS
    attention_and_mlp = (4 + 2 * getattr(text, "mlp_ratio", 4.0)) * text.width**2
    scores_and_mixing = 2 * seen * text.width
    return float(2 * text.layers * tokens * (attention_and_mlp + scores_and_mixing))
