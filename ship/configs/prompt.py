"""What the prompt of a generator or a fine-tuner may look like."""

from typing import Literal

# Where the class name stands: behind the context, in its middle, or before it (CoOp, sec. 3.2).
NamePosition = Literal["end", "middle", "front"]

# What z makes of a generator's prompt (ship.generators.prompt_network).
PromptMode = Literal["instance_bias", "instance_tokens", "noise", "global", "fixed"]
