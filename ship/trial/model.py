"""A generator and a fine-tuner as a trial tested them, built again from files.

They are built on a task without pictures: what they took from pictures is kept. Whatever a setting
in a file would have built is no larger than the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from ship.architectures import BackboneError, architectures
from ship.clip import RANDOM, FrozenCLIP, class_features
from ship.configs.finetuners import TCPConfig
from ship.configs.generators import uses_z
from ship.datasets import Picture
from ship.datasets.base import to_rgb
from ship.finetuners import build_finetuner
from ship.generators import FeatureSource, build_generator
from ship.replicas import ReplicaRng
from ship.state import CheckpointError, restore, under
from ship.tasks import Task, no_pictures
from ship.templates import written
from ship.trial.trained import KeptSeed, TrainedError, read_kept, refusal

# Pictures that go through the image tower at once.
PICTURES_AT_ONCE: Final = 64
# Characters of the words that a context starts from.
MOST_WORDS: Final = 1000
# Settings that shape training alone: there is no training, and what they shape is not kept.
_TRAINING_ALONE: Final = {
    "encoder_hidden": 1,
    "critic_hidden": 1,
    "early_stopping": None,
    "epochs": 1,
    "batch_size": 1,
    # what they gave was kept; and a path is somebody else's word
    "descriptions": "",
}


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
    backbone = _backbone(kept, clip, device)
    try:
        return TrainedModel(kept, backbone, target)
    except TrainedError:
        raise
    # settings and tensors that do not fit, or a plugin that is another one here
    except (ValueError, RuntimeError, TypeError, ImportError, AttributeError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise refusal(kept.path, why) from error


def _backbone(kept: KeptSeed, clip: FrozenCLIP | None, device: str) -> FrozenCLIP:
    """The backbone that something was trained with, once it is sure that it is the one.

    A name from a file is loaded only where it stands for published weights: a path in it could be
    that of an archive, which torch would run.

    Raises:
        TrainedError: it cannot be loaded, or is another one.
    """
    said, name = kept.said, kept.said.settings.backbone
    if clip is None:
        way_out = "load it yourself and give it as clip=FrozenCLIP.load(...)"
        architecture, _, tag = name.partition(":")
        # random weights are drawn from a fixed seed: no file is read
        known = {entry.name: (*entry.tags, RANDOM) for entry in architectures()}
        if name != "pocket" and tag not in known.get(architecture, ()):
            fault = f"its backbone {name[:200]!r} has no published weights"
            raise refusal(kept.path, fault, way_out)
        try:
            clip = FrozenCLIP.load(name, device, said.settings.precision)
        except BackboneError as error:
            raise refusal(kept.path, str(error), way_out) from error
        clip.image_precision = said.settings.image_precision
    weights, precision = said.backbone_fingerprint, said.settings.precision
    if clip.fingerprint != weights:
        held = f"and this one is {clip.name!r} of fingerprint {clip.fingerprint!r}"
        fault = f"was trained with backbone {name[:200]!r} of fingerprint {weights[:32]!r}, {held}"
        raise refusal(kept.path, fault, "load the weights that it was trained with")
    if clip.precision != precision:
        fault = f"was trained in precision {precision}, and the backbone is loaded in "
        raise refusal(kept.path, fault + clip.precision, f"load it in {precision}")
    if clip.image_precision != (wanted := said.settings.image_precision):
        fault = f"was trained in image_precision {wanted}, and the backbone has "
        raise refusal(kept.path, fault + clip.image_precision, f"set it to {wanted}")
    return clip


class Prediction(NamedTuple):
    """What pictures show.

    names: of each picture's most probable class.
    probabilities: of the classes, in the order of logits.
    """

    names: tuple[str, ...]
    probabilities: Float[Tensor, "n n_cls"]


class TrainedModel:
    """What a trial trained under one seed, as selection chose it.

    Attributes:
        config: the setting (ship.trial_config.TrialConfig).
        seed: this one.
        seeds: those of which there are files beside it, this one among them.
        epoch: that the fine-tuner was tested at.
        choice: of inference, such as alpha and beta; {}: there is none.
        base: names of the classes with training pictures.
        new: names of those without.
        class_names: both, in the order of logits.
        clip: the backbone.
        notes: what was not kept, and why.
    """

    def __init__(self, kept: KeptSeed, clip: FrozenCLIP, target: str | None = None) -> None:
        said = kept.said
        targets = [model.target for model in said.models]
        if target not in (None, *targets):
            choices = f"choices: {', '.join(targets[:10])}"
            raise refusal(kept.path, f"has no target {target!r}", choices)
        place = 0 if target is None else targets.index(target)
        number = said.models[place].task
        classes = said.tasks[number]
        self._kept = kept
        self.clip = clip
        self.config = said.settings
        self.seed = kept.seed.seed
        self.epoch = kept.seed.epoch
        self.choice = kept.seed.choice
        self.seeds = tuple(one.seed for one in said.seeds if one.blake2b)
        self.notes = said.notes
        self.base = classes.base
        self.new = classes.new
        self.class_names = classes.class_names
        _require_sizes(kept, clip)
        task = _task(kept, number, clip)
        config = _untrained(self.config.finetuner)
        self._dtype = task.text_features.dtype
        self._finetuner = build_finetuner(config, task, None, clip, [self.seed])
        restore(self._finetuner.learned(), under(kept.tensors, f"models.{place}"))
        if set(self.choice) != set(self._finetuner.choices[0]):
            raise CheckpointError(f"finetuner {config.name} takes no choice of {[*self.choice]}")
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
        generator, task = self._generator(wanted)
        place = {name: i for i, name in reversed(list(enumerate(task.class_names)))}
        ids = torch.tensor([place[name] for name in wanted], dtype=torch.long)
        labels = torch.arange(len(wanted)).repeat_interleave(per_class).to(self.clip.device)
        if isinstance(rng, int):
            dtype = task.text_features.dtype
            rng = ReplicaRng([rng], "trained/noise", self.clip.device, dtype)
        made = generator.sample(ids.to(self.clip.device)[labels].unsqueeze(0), rng)
        return made[0], labels

    @torch.no_grad()
    def encode(self, pictures: Sequence[Image | str | Path] | Tensor) -> Float[Tensor, "n feature"]:
        """Unit-norm features of n pictures, on the device of the backbone.

        Args:
            pictures: as PIL's, paths of files, or as the backbone's preprocess gives them,
                (n, 3, height, width).

        Raises:
            ship.datasets.UndecodableError: a file is no picture that can be decoded.
        """
        parts = [torch.empty(0, self.clip.feature_dim, device=self.clip.device)]
        for start in range(0, len(pictures), PICTURES_AT_ONCE):
            part: Any = pictures[start : start + PICTURES_AT_ONCE]
            if not isinstance(part, Tensor):
                part = torch.stack([self.clip.preprocess(_opened(one)) for one in part])
            parts.append(self.clip.encode_images(part))
        return torch.cat(parts)

    @torch.no_grad()
    def logits(
        self, pictures: Float[Tensor, "n ..."] | Sequence[Image | str | Path]
    ) -> Float[Tensor, "n n_cls"]:
        """Class scores over `class_names`, under the inference choice that selection chose.

        Args:
            pictures: n unit-norm features of the backbone, (n, feature); or n pictures as `encode`
                takes them.

        Raises:
            ValueError: features of another size than the backbone's.
            ship.datasets.UndecodableError: as of `encode`.
        """
        if not isinstance(pictures, Tensor) or pictures.ndim == 4:
            pictures = self.encode(pictures)
        if pictures.shape[1:] != (self.clip.feature_dim,):
            raise ValueError(
                f"features must be (n, {self.clip.feature_dim}), got {list(pictures.shape)}"
            )
        return self._finetuner.logits(pictures.to(self.clip.device, self._dtype), self.choice)[0]

    def predict(
        self, pictures: Float[Tensor, "n ..."] | Sequence[Image | str | Path]
    ) -> Prediction:
        """The class of each picture among `class_names`, and the probability of each class.

        Args:
            pictures: as `logits` takes them.

        Raises:
            ValueError: as of `logits`.
            ship.datasets.UndecodableError: as of `encode`.
        """
        probabilities = self.logits(pictures).softmax(-1)
        best = probabilities.argmax(-1).tolist()
        return Prediction(tuple(self.class_names[place] for place in best), probabilities)

    def __repr__(self) -> str:
        """The setting in a few words, and what it tells apart."""
        generator, finetuner = self.config.generator.name, self.config.finetuner.name
        classes = f"{len(self.base)} base and {len(self.new)} new classes"
        method = f"{finetuner} with generator {generator}"
        return f"TrainedModel({method}, {classes} of {self.config.dataset}, seed {self.seed})"

    def _generator(self, wanted: Sequence[str]) -> tuple[FeatureSource, Task]:
        """The generator, and its task, to which further ones of the wanted classes are added."""
        task = _task(self._kept, self._kept.said.generator_task, self.clip, wanted)
        config = _untrained(self.config.generator)
        generator = build_generator(config, task, self.clip, [self.seed])
        learned = None if generator is None else generator.learned()
        if generator is None or learned is None:
            raise CheckpointError(f"generator {config.name} has nothing to keep")
        restore(learned, under(self._kept.tensors, "generator"))
        return generator, task


def _opened(picture: Image | str | Path) -> Image:
    if isinstance(picture, str | Path):
        return Picture(str(picture), Path(picture)).open()
    return to_rgb(picture)


def _task(kept: KeptSeed, place: int, clip: FrozenCLIP, wanted: Sequence[str] = ()) -> Task:
    """A task of one replica, without pictures.

    Args:
        place: of the task in the file.
        wanted: names of classes, of which those that are no classes of it yet become unseen ones.
    """
    said, text = kept.said.tasks[place], kept.tensors[f"tasks.{place}.text_features"]
    further = tuple(dict.fromkeys(name for name in wanted if name not in set(said.class_names)))
    if further:
        settings = kept.said.settings
        templates = settings.templates_for(settings.dataset, kept.said.template)
        made = class_features(clip, written(templates, further))
        text = torch.cat([text, made.to(text)])
    text = text.to(clip.device)
    return Task(
        class_names=said.class_names + further,
        text_features=text,
        seen=(torch.arange(len(text), device=text.device) < len(said.base)).unsqueeze(0),
        **no_pictures(text, 1),
        n_nominal=2,
        shots=1,
        logit_scale=clip.logit_scale,
        unseen=list,
        held_out=list,
    )


def _untrained(config: Any) -> Any:
    """Settings of a generator or a fine-tuner, without what shapes its training alone."""
    given = {name for name in _TRAINING_ALONE if getattr(config, name, None) is not None}
    return config.model_copy(update={name: _TRAINING_ALONE[name] for name in given})


def _require_sizes(kept: KeptSeed, clip: FrozenCLIP) -> None:
    """Refuse what would take more to build than the file has: sizes are somebody else's word.

    Raises:
        TrainedError: text features of another shape than the classes and the backbone have, or
            settings of more weights than there are in the file.
    """
    for number, task in enumerate(kept.said.tasks):
        text = kept.tensors.get(f"tasks.{number}.text_features", torch.empty(0))
        wanted = (len(task.class_names), clip.feature_dim)
        if text.shape != wanted or not text.is_floating_point():
            fault = f"text features of task {number} are {[*text.shape]}, not {[*wanted]}"
            raise refusal(kept.path, fault)
    there = sum(value.numel() for value in kept.tensors.values())
    if _weights(kept, clip) > there:
        fault = f"the settings are of more weights than the {there} numbers that it has"
        raise refusal(kept.path, fault)
    groups = (kept.said.settings.generator, kept.said.settings.finetuner)
    if any(len(getattr(group, "ctx_init", None) or "") > MOST_WORDS for group in groups):
        raise refusal(kept.path, f"ctx_init has more than {MOST_WORDS} characters")


def _weights(kept: KeptSeed, clip: FrozenCLIP) -> int:
    """Weights whose number the settings decide."""
    generator: Any = kept.said.settings.generator
    finetuner: Any = kept.said.settings.finetuner
    found, rows = 0, 0
    if kept.said.generator_kept and hasattr(generator, "generator_hidden"):
        prompt = getattr(generator, "prompt", None)  # None: the weights make the feature itself
        vectors = generator.n_ctx if prompt == "instance_tokens" else 1
        made = clip.feature_dim if prompt is None else vectors * clip.text_width
        if prompt is None or uses_z(prompt):
            found = generator.generator_hidden * (generator.latent_dim + made)
    if getattr(finetuner, "class_specific", False):
        rows = max(len(task.class_names) for task in kept.said.tasks)
    if isinstance(finetuner, TCPConfig):
        rows = max(1, clip.feature_dim // finetuner.reduction)
    return int(found + rows * getattr(finetuner, "n_ctx", 0) * clip.text_width)
