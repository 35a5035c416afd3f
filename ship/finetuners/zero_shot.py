"""Zero-shot CLIP: the reference that every fine-tuner is held against."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.configs.finetuners import ZeroShotConfig
from ship.finetuners.descriptions import described, described_features
from ship.finetuners.templates import SINGLE, SUBSET, template_features
from ship.methods import Draw, Finetuner
from ship.tasks import SeedTask

# Prompts by name; "dataset" is not among them: the task brings those text features with it.
_TEMPLATES = {"single": SINGLE, "ensemble": SUBSET}


class ZeroShot(Finetuner):
    """Cosine to the text features of written prompts, (n_cls, feature)."""

    text_features: Tensor

    def __init__(
        self, config: ZeroShotConfig, task: SeedTask, clip: FrozenCLIP, draw: Draw
    ) -> None:
        super().__init__(config, task, clip, draw)
        made = task.text_features
        if config.descriptions:
            made = described_features(clip, described(config, task.class_names))
        elif config.templates != "dataset":
            made = template_features(clip, task.class_names, _TEMPLATES[config.templates])
        # what a file has given is kept with the trial; the rest the backbone gives again
        kept = config.descriptions is not None
        self.register_buffer("text_features", made.to(task.features.dtype), persistent=kept)

    def logits(
        self, pictures: Float[Tensor, "n feature"], choice: Mapping[str, float]
    ) -> Float[Tensor, "n n_cls"]:
        """logit_scale * cosine."""
        return self.logit_scale * pictures @ self.text_features.T
