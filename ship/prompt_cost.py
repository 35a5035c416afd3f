"""Cost of learned prompts in a backbone's text tower, computed from its configuration.

A causal tower computes the context once for many classes, and no token after EOT. A bidirectional
tower, which has no causal mask, computes the whole context length for each prompt.
"""

from typing import Final

from ship.architectures import get_text_settings

# Approximate number of tokens that a causal tower computes per prompt. Class names of the packaged
# datasets have 3.6 on average, with "." and EOT; packed names share a context (ship.clip.packing).
PROMPT_TOKENS: Final = 4
# Number of tokens in a packed sequence, for which each token has attention scores.
_PACKED_TOKENS: Final = 128


def is_bidirectional(name: str) -> bool:
    """Return True if a backbone's text tower has no causal mask, so that prompts are padded."""
    return bool(getattr(get_text_settings(name), "no_causal_mask", False))


def compute_padding_factor(context_length: int) -> int:
    """Return the approximate ratio of tokens per prompt without and with a causal mask."""
    return max(1, context_length // PROMPT_TOKENS)


def compute_prompt_cost(name: str) -> float:
    """Return the cost of a class's prompt in a CoOp step, relative to the backbone ViT-B-16.

    The cost is the number of floating-point operations in the text tower's matrix products. A
    causal tower computes about PROMPT_TOKENS positions per prompt, a bidirectional one the whole
    context length.
    """
    return count_prompt_operations(name) / count_prompt_operations("ViT-B-16")


def count_prompt_tokens(name: str, n_own: int = 0) -> int:
    """Return the number of tokens that a backbone computes per prompt.

    Args:
        name: Name of the backbone.
        n_own: Number of tokens before the class name that the prompts do not share: SOT and context
            vectors. 0 if the prompts share them.
    """
    if is_bidirectional(name):
        return int(get_text_settings(name).context_length)
    return PROMPT_TOKENS + n_own


def count_prompt_operations(name: str, n_own: int = 0) -> float:
    """Return the floating-point operations of a prompt's forward pass through the blocks.

    Only matrix products count, an addition and a multiplication as two operations. The number is an
    upper bound, because the last block computes only EOT's output. The arguments are those of
    `count_prompt_tokens`.
    """
    text, tokens = get_text_settings(name), count_prompt_tokens(name, n_own)
    n_keys = text.context_length if is_bidirectional(name) else _PACKED_TOKENS
    attention_and_mlp = (4 + 2 * getattr(text, "mlp_ratio", 4.0)) * text.width**2
    scores_and_mixing = 2 * n_keys * text.width
    return float(2 * text.layers * tokens * (attention_and_mlp + scores_and_mixing))
