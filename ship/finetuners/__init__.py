"""Fine-tuners on frozen CLIP features: real and synthetic features in, logits over classes out.

Which there are, `FINETUNERS` says (ship.configs.tables): by name the settings, and what builds it.
"""

from ship.configs import FINETUNERS
from ship.finetuners.base import Finetuner

__all__ = ["FINETUNERS", "Finetuner"]
