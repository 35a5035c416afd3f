"""What the prompt of a generator or a fine-tuner may look like."""

from typing import Literal

# Where the class name stands: behind the context, in its middle, or before it (CoOp, sec. 3.2).
NamePosition = Literal["end", "middle", "front"]

# What z makes of a generator's prompt (ship.generators.prompt).
PromptMode = Literal["instance_bias", "instance_tokens", "noise", "global", "fixed"]


def uses_z(prompt: PromptMode) -> bool:
    """Whether a prompt depends on z, so that a class has more than one synthetic feature."""
    return prompt in ("instance_bias", "instance_tokens", "noise")
