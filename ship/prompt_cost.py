"""Cost of learned prompts in a backbone's text tower, computed from its configuration.

A causal tower computes a shared context only once for many classes, and no tokens after the
end-of-text token (EOT). A bidirectional tower, which has no causal mask, computes the whole context
length for each prompt.
"""

from typing import Final

from ship.architectures import get_text_settings

# Approximate number of tokens that a causal tower computes per prompt in addition to the shared
# context (ship.clip.packing). For the packaged datasets, a class name with "." and EOT has 3.6 on
# average.
PROMPT_TOKENS: Final = 4
# Number of tokens in a packed sequence. Attention scores are computed between all of them.
_PACKED_TOKENS: Final = 128


def is_bidirectional(name: str) -> bool:
    """Return True if a backbone's text tower has no causal mask, so that prompts are padded."""
    return bool(getattr(get_text_settings(name), "no_causal_mask", False))


def compute_padding_factor(context_length: int) -> int:
    """Return about how many times more tokens a bidirectional tower computes than a causal one."""
    return max(1, context_length // PROMPT_TOKENS)


def compute_prompt_cost(name: str) -> float:
    """Return the cost of one class's prompt in a CoOp step, relative to backbone ViT-B-16.

    The cost is the number of floating-point operations (see count_prompt_operations).
    """
    return count_prompt_operations(name) / count_prompt_operations("ViT-B-16")


def count_prompt_tokens(name: str, n_unshared: int = 0) -> int:
    """Return the approximate number of tokens that a backbone computes per prompt.

    Args:
        name: Name of the backbone.
        n_unshared: Number of tokens before the class name (the start-of-text token and context
            vectors) if each prompt has different ones, 0 if all prompts share them.
    """
    if is_bidirectional(name):
        return int(get_text_settings(name).context_length)
    return PROMPT_TOKENS + n_unshared


def count_prompt_operations(name: str, n_unshared: int = 0) -> float:
    """Return the floating-point operations of a prompt's forward pass through the blocks.

    Only matrix products are counted; an addition and a multiplication are two operations. The
    number is an upper bound, because the last block computes only EOT's output. For the arguments,
    see count_prompt_tokens.
    """
    text, tokens = get_text_settings(name), count_prompt_tokens(name, n_unshared)
    n_keys = text.context_length if is_bidirectional(name) else _PACKED_TOKENS
    attention_and_mlp = (4 + 2 * getattr(text, "mlp_ratio", 4.0)) * text.width**2
    scores_and_mixing = 2 * n_keys * text.width
    return float(2 * text.layers * tokens * (attention_and_mlp + scores_and_mixing))
