"""Cost of learned prompts in a backbone's text tower, computed from its configuration.

In a causal tower, classes can share one copy of the context vectors, and tokens after the
end-of-text token (EOT) are skipped. A bidirectional tower, which has no causal mask, processes
every prompt at full length (`context_length` tokens).

An argument `backbone` is the name of a backbone.
"""

from typing import Final

from ship.architectures import get_text_settings

# Approximate number of tokens per prompt that a causal tower processes: class name, "." and EOT,
# without the shared context. The mean over the packaged datasets is 3.6.
NAME_TOKENS: Final = 4
# Equals ship.clip.packing.SEQUENCE_TOKENS. It is repeated here because that module imports torch.
# Each token has attention scores for all tokens of its packed sequence.
_PACKED_TOKENS: Final = 128


def is_bidirectional(backbone: str) -> bool:
    """Return True if a backbone's text tower has no causal mask, so that prompts are padded."""
    return bool(getattr(get_text_settings(backbone), "no_causal_mask", False))


def compute_padding_factor(context_length: int) -> int:
    """Estimate the tokens per prompt of a bidirectional tower as a multiple of a causal tower's.

    Args:
        context_length: Number of tokens of a padded prompt.

    Returns:
        The factor, rounded down. At least 1.
    """
    return max(1, context_length // NAME_TOKENS)


def compute_prompt_cost(backbone: str) -> float:
    """Return a backbone's operations per prompt as a multiple of ViT-B-16's.

    All prompts share their context vectors, as in CoOp. See estimate_prompt_operations.
    """
    return estimate_prompt_operations(backbone) / estimate_prompt_operations("ViT-B-16")


def estimate_prompt_tokens(backbone: str, n_unshared: int = 0) -> int:
    """Return the approximate number of tokens that a text tower processes per prompt.

    Args:
        backbone: Name of the backbone.
        n_unshared: Number of tokens before the class name (the start-of-text token and context
            vectors) that are processed for each prompt separately. 0 if all prompts share them.
            Ignored for bidirectional towers, which always process `context_length` tokens.
    """
    if is_bidirectional(backbone):
        return int(get_text_settings(backbone).context_length)
    return NAME_TOKENS + n_unshared


def estimate_prompt_operations(backbone: str, n_unshared: int = 0) -> float:
    """Return the approximate number of operations of a prompt's forward pass through the blocks.

    Only matrix products are counted. An addition and a multiplication of floating-point numbers are
    two operations. All blocks count the same, although the last one computes only EOT's output. A
    causal tower's number is based on the mean length of class names and on packed sequences of 128
    tokens, so it is too low for classes with long names. For the arguments, see
    estimate_prompt_tokens.
    """
    text, tokens = get_text_settings(backbone), estimate_prompt_tokens(backbone, n_unshared)
    n_keys = text.context_length if is_bidirectional(backbone) else _PACKED_TOKENS
    projections_and_mlp = (4 + 2 * getattr(text, "mlp_ratio", 4.0)) * text.width**2
    attention_products = 2 * n_keys * text.width
    return float(2 * text.layers * tokens * (projections_and_mlp + attention_products))
