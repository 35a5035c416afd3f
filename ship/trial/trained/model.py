"""A generator and a fine-tuner as a trial tested them, built again from files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets import sentence
from ship.finetuners import FusedFinetuner, build_finetuner
from ship.generators import FeatureSource, build_generator
from ship.training import CheckpointError, ReplicaRng, restore, under
from ship.trial.trained.form import SaidTask
from ship.trial.trained.read import Kept, TrainedError, backbone_of, read_kept, refusal
from ship.trial.trained.skeleton import require_sizes, skeleton, untrained

# Pictures that go through the image tower at once.
PICTURES_AT_ONCE = 64


def load_trained(
    place: str | Path,
    seed: int | None = None,
    *,
    target: str | None = None,
    clip: FrozenCLIP | None = None,
    device: str = "cpu",
) -> "TrainedModel":
    """Load what a trial of a study with `save: true` has trained under one seed.

    Args:
        place: a folder with trained.json and the seeds' files, or the path of one seed's file.
        seed: which of the folder's; None: the first.
        target: cross_dataset: the target whose fine-tuner is wanted; None: the first.
        clip: the backbone; None: it is loaded by its name, which must be pocket or an open_clip
            NAME:PRETRAINED with a published tag.
        device: torch device of a backbone that is loaded.

    Raises:
        TrainedError: the files are missing, damaged, or of another version or backbone: one line
            that says what would do.
    """
    kept = read_kept(Path(place), seed)
    backbone = backbone_of(kept, clip, device)
    try:
        return TrainedModel(kept, backbone, target)
    except TrainedError:
        raise
    except (ValueError, RuntimeError) as error:  # settings and tensors that do not fit
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise refusal(kept.path, why) from error


class TrainedModel:
    """What a trial trained under one seed, as selection chose it.

    Attributes:
        config: the setting (ship.trial_config.TrialConfig).
        seed, seeds: this one, and those of which there are files beside it.
        epoch: that the fine-tuner was tested at.
        choice: of inference, such as alpha and beta; {}: there is none.
        base, new: names of the classes with training pictures, and of those without.
        class_names: both, in the order of logits.
        clip: the backbone.
        notes: what was not kept, and why.
    """

    def __init__(self, kept: Kept, clip: FrozenCLIP, target: str | None = None) -> None:
        said = kept.said
        self._kept, self.clip = kept, clip
        self.config, self.seed, self.epoch = said.settings, kept.seed.seed, kept.seed.epoch
        self.seeds = tuple(one.seed for one in said.seeds if one.blake2b)
        self.choice, self.notes = kept.seed.choice, said.notes
        self._place = self._model(target)
        task = said.tasks[said.models[self._place].task]
        self.base, self.new, self.class_names = task.base, task.new, task.class_names
        require_sizes(kept, clip)
        self._finetuner = self._built_finetuner(task)
        if said.generator_kept:
            self._generator(())  # a file that does not fit is refused now

    @torch.no_grad()
    def features(
        self,
        class_names: Sequence[str] | None = None,
        per_class: int = 16,
        rng: int | ReplicaRng = 0,
    ) -> tuple[Float[Tensor, "n feature"], Int[Tensor, " n"]]:
        """Synthetic image features of classes, also of ones that the trial has never seen.

        Args:
            class_names: m names; None: `class_names`.
            per_class: features of each.
            rng: a seed, or a stream of one replica, of the noise. Equal noise and names in equal
                order give equal features.

        Returns:
            m * per_class unit-norm features, class by class, and of each the place of its class in
            `class_names`. On the device of the backbone.

        Raises:
            TrainedError: the trial has no generator that could be kept.
            ValueError: names that the backbone cannot tell apart, or per_class below 1.
        """
        if not self._kept.said.generator_kept:
            fault = f"generator {self.config.generator.name} has nothing to sample from"
            raise refusal(self._kept.path, fault, "its run has logits alone")
        if per_class < 1:
            raise ValueError(f"per_class must be at least 1, got {per_class}")
        wanted = self.class_names if class_names is None else tuple(class_names)
        known = self._kept.said.tasks[self._kept.said.generator_task].class_names
        further = tuple(dict.fromkeys(name for name in wanted if name not in set(known)))
        generator, dtype = self._generator(further)
        place = {name: i for i, name in reversed(list(enumerate((*known, *further))))}
        ids = torch.tensor([place[name] for name in wanted], dtype=torch.long)
        labels = torch.arange(len(wanted)).repeat_interleave(per_class).to(self.clip.device)
        if isinstance(rng, int):
            rng = ReplicaRng([rng], "trained/noise", self.clip.device, dtype)
        made = generator.sample(ids.to(self.clip.device)[labels].unsqueeze(0), rng)
        return made[0], labels

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n ..."] | Sequence[Image]
    ) -> Float[Tensor, "n n_cls"]:
        """Class scores over `class_names`, under the inference choice that selection chose.

        Args:
            pictures: n unit-norm features of the backbone, (n, feature); or n pictures, as PIL's or
                as the backbone's preprocess gives them, (n, 3, height, width).

        Raises:
            ValueError: features of another size than the backbone's.
        """
        features = self._features_of(pictures)
        if features.shape[1:] != (self.clip.feature_dim,):
            raise ValueError(
                f"features must be (n, {self.clip.feature_dim}), got {list(features.shape)}"
            )
        dtype = self._text_features(self._kept.said.models[self._place].task).dtype
        features = features.to(self.clip.device, dtype)
        return self._finetuner.logits(features, self.choice)[0]

    def _features_of(self, pictures: Tensor | Sequence[Image]) -> Tensor:
        if isinstance(pictures, Tensor) and pictures.ndim != 4:
            return pictures
        if not len(pictures):
            return torch.empty(0, self.clip.feature_dim)
        parts = []
        for start in range(0, len(pictures), PICTURES_AT_ONCE):
            part: Any = pictures[start : start + PICTURES_AT_ONCE]
            if not isinstance(part, Tensor):
                part = torch.stack([self.clip.preprocess(one) for one in part])
            parts.append(self.clip.encode_images(part))
        return torch.cat(parts)

    def _model(self, target: str | None) -> int:
        """Place of the fine-tuner for a target."""
        names = [model.target for model in self._kept.said.models]
        if target is None:
            return 0
        if target not in names:
            choices = f"choices: {', '.join(names[:10])}"
            raise refusal(self._kept.path, f"has no target {target!r}", choices)
        return names.index(target)

    def _text_features(self, task: int) -> Tensor:
        return self._kept.tensors[f"tasks.{task}.text_features"]

    def _built_finetuner(self, said: SaidTask) -> FusedFinetuner:
        text = self._text_features(self._kept.said.models[self._place].task)
        task = skeleton(said.class_names, text, len(said.base), self.clip)
        config = untrained(self.config.finetuner)
        made = build_finetuner(config, task, None, self.clip, [self.seed])
        restore(made.learned(), under(self._kept.tensors, f"models.{self._place}"))
        if set(self.choice) != set(made.choices[0]):
            raise CheckpointError(f"finetuner {config.name} takes no choice of {[*self.choice]}")
        return made

    def _generator(self, further: tuple[str, ...]) -> tuple[FeatureSource, torch.dtype]:
        """The generator for its own classes and further ones, and the precision of its features."""
        place = self._kept.said.generator_task
        said, text = self._kept.said.tasks[place], self._text_features(place)
        if further:
            sentences = [sentence(self._kept.said.template, name) for name in further]
            text = torch.cat([text, self.clip.encode_texts(sentences).to(text)])
        task = skeleton((*said.class_names, *further), text, len(said.base), self.clip)
        config = untrained(self.config.generator)
        generator = build_generator(config, task, self.clip, [self.seed])
        learned = None if generator is None else generator.learned()
        if generator is None or learned is None:
            raise CheckpointError(f"generator {config.name} has nothing to keep")
        restore(learned, under(self._kept.tensors, "generator"))
        return generator, text.dtype
