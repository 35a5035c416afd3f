"""Load trained models from a trial's files: the tested fine-tuner, and its generator.

Both are built on a task without images, because everything learned from images is saved. Settings
in a file cannot make the loader allocate more weights than the file contains.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, Int
from PIL.Image import Image
from torch import Tensor

from ship.architectures import BackboneError, list_architectures, split_name
from ship.clip import RANDOM, FrozenCLIP, encode_classes
from ship.configs.finetuners import TCPConfig
from ship.configs.generators import uses_z
from ship.datasets import ImageFile
from ship.datasets.base import to_rgb
from ship.finetuners import build_finetuner
from ship.generators import FeatureSource, build_generator
from ship.hub import WEIGHT_FILES, find_cached_file, is_repository, parse_repository
from ship.seeds import SeedRng
from ship.state import CheckpointError, restore, strip_prefix
from ship.tasks import Task, make_placeholder_images
from ship.templates import fill_templates
from ship.trial.trained import SavedSeed, TrainedError, make_trained_error, read_saved

# Images per pass through the image tower.
IMAGES_AT_ONCE: Final = 64
# Maximum number of characters of a context's initial words.
MAX_CTX_INIT_CHARS: Final = 1000
# Values that replace the settings of training when a model is loaded. Tensors whose size depends on
# these settings are not saved.
_TRAINING_ONLY: Final = {
    "encoder_hidden": 1,
    "critic_hidden": 1,
    "early_stopping": None,
    "epochs": 1,
    "batch_size": 1,
    # The text features of descriptions are saved, and a path in a file is untrusted input.
    "descriptions": "",
}


def load_trained(
    path: str | Path,
    seed: int | None = None,
    *,
    target: str | None = None,
    clip: FrozenCLIP | None = None,
    device: str = "cpu",
) -> "TrainedModel":
    """Load the model that a trial trained under one seed. The study must have `save_models: true`.

    Args:
        path: Folder with trained.json and the seeds' files, or path of one seed's file.
        seed: Seed to load. Defaults to the seed of the file, or to the folder's first seed.
        target: Target dataset of the fine-tuner under cross_dataset. Defaults to the first one.
        clip: Backbone. Defaults to loading it by its name, which must be pocket, an open_clip
            NAME:PRETRAINED with a published tag, or an hf-hub:ORG/MODEL that is in the local cache.
        device: torch device of a backbone loaded by name.

    Returns:
        The trained model.

    Raises:
        TrainedError: The files are missing, damaged, or of another version or backbone. The message
            is one line that says what to do.

    Example:
        >>> load_trained("trained", seed=0)
        TrainedModel(clip_adapter with generator gaussian_text, 4 base and 4 new classes of photos,
        seed 0)
    """
    saved = read_saved(Path(path), seed)
    backbone = _load_backbone(saved, clip, device)
    try:
        return TrainedModel(saved, backbone, target)
    except TrainedError:
        raise
    # The file's settings and tensors may not match, or a plugin may have changed since training.
    except (ValueError, RuntimeError, TypeError, ImportError, AttributeError) as error:
        why = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise make_trained_error(saved.path, why) from error


def _may_load(name: str) -> bool:
    """Return True if a backbone that is named in a file may be loaded.

    Allowed are weights that open_clip publishes, weights of the hub that this machine has already
    downloaded, and random weights, which are drawn from a fixed seed.
    """
    if repository := parse_repository(name):
        return is_repository(repository) and find_cached_file(repository, WEIGHT_FILES) is not None
    architecture, tag = split_name(name)
    tags = {entry.name: (*entry.tags, RANDOM) for entry in list_architectures()}
    return name == "pocket" or tag in tags.get(architecture, ())


def _load_backbone(saved: SavedSeed, clip: FrozenCLIP | None, device: str) -> FrozenCLIP:
    """Return the backbone that the model was trained with.

    A name in a file is untrusted input, so it is only loaded if `_may_load` allows it: it could be
    the path of an archive whose code torch would execute.

    Args:
        saved: Files of the seed.
        clip: Backbone to check. None loads it by its name in the file.
        device: torch device of a backbone loaded by name.

    Raises:
        TrainedError: The backbone cannot be loaded, or differs from that of the training.
    """
    manifest, name = saved.manifest, saved.manifest.settings.backbone
    if clip is None:
        advice = "load it yourself and pass clip=FrozenCLIP.load(...)"
        if not _may_load(name):
            fault = f"its backbone {name[:200]!r} is neither published by open_clip nor cached"
            raise make_trained_error(saved.path, fault, advice)
        try:
            clip = FrozenCLIP.load(name, device, manifest.settings.precision)
        except BackboneError as error:
            raise make_trained_error(saved.path, str(error), advice) from error
        clip.image_precision = manifest.settings.image_precision
    fingerprint = manifest.backbone_fingerprint
    if clip.fingerprint != fingerprint:
        actual = f"{clip.name!r} with fingerprint {clip.fingerprint!r}"
        expected = f"backbone {name[:200]!r} with fingerprint {fingerprint[:32]!r}"
        fault = f"was trained with {expected}, got {actual}"
        raise make_trained_error(saved.path, fault, "load the weights that it was trained with")
    precision = manifest.settings.precision
    if clip.precision != precision:
        fault = f"was trained in precision {precision}, got a backbone in {clip.precision}"
        raise make_trained_error(saved.path, fault, f"load it in {precision}")
    image_precision = manifest.settings.image_precision
    if clip.image_precision != image_precision:
        actual = f"a backbone in {clip.image_precision}"
        fault = f"was trained in image_precision {image_precision}, got {actual}"
        raise make_trained_error(saved.path, fault, f"set it to {image_precision}")
    return clip


class Prediction(NamedTuple):
    """The predicted classes of images.

    Attributes:
        names: Name of each image's most probable class.
        probabilities: Probabilities of all classes, in the order of the model's `class_names`.
    """

    names: tuple[str, ...]
    probabilities: Float[Tensor, "n n_cls"]


class TrainedModel:
    """The model that a trial trained under one seed, in the state that was tested.

    Attributes:
        config: Configuration of the trial (ship.trial_config.TrialConfig).
        seed: Seed of the model.
        seeds: All seeds with files in the folder, including this one.
        epoch: Tested epoch of the fine-tuner, or of the generator under selection "authors".
        choice: Selected inference options, such as alpha and beta. Empty if there are none.
        base: Names of the classes with training images.
        new: Names of the classes without training images.
        class_names: Names of both, in the order of the logits.
        clip: Backbone.
        notes: Parts that are not saved, and why.

    Example:
        >>> model = load_trained("trained", seed=0)
        >>> names, probabilities = model.predict(["first.jpg", "second.jpg"])
        >>> probabilities.shape == (2, len(model.class_names))
        True
        >>> features, labels = model.features(["axolotl", "zeppelin"], per_class=50)
        >>> len(features)
        100
    """

    def __init__(self, saved: SavedSeed, clip: FrozenCLIP, target: str | None = None) -> None:
        """Build the model from a seed's files. Use `load_trained` instead."""
        manifest = saved.manifest
        targets = [model.target for model in manifest.models]
        if target not in (None, *targets):
            choices = f"choices: {', '.join(targets[:10])}"
            raise make_trained_error(saved.path, f"has no target {target!r}", choices)
        model_index = 0 if target is None else targets.index(target)
        task_index = manifest.models[model_index].task
        classes = manifest.tasks[task_index]
        self._saved = saved
        self.clip = clip
        self.config = manifest.settings
        self.seed = saved.seed.seed
        self.epoch = saved.seed.epoch
        self.choice = saved.seed.choice
        self.seeds = tuple(entry.seed for entry in manifest.seeds if entry.blake2b)
        self.notes = manifest.notes
        self.base = classes.base
        self.new = classes.new
        self.class_names = classes.class_names
        _require_sizes(saved, clip)
        task = _build_task(saved, task_index, clip)
        config = _replace_training_settings(self.config.finetuner)
        self._dtype = task.text_features.dtype
        self._finetuner = build_finetuner(config, task, None, clip, [self.seed])
        restore(self._finetuner.learned(), strip_prefix(saved.tensors, f"models.{model_index}"))
        if set(self.choice) != set(self._finetuner.inference_grid[0]):
            raise CheckpointError(f"finetuner {config.name} has no options {[*self.choice]}")
        if manifest.generator_kept:
            self._build_generator(())  # raises here, not in features(), if its state does not fit

    @torch.no_grad()
    def features(
        self,
        class_names: Sequence[str] | None = None,
        per_class: int = 16,
        rng: int | SeedRng = 0,
    ) -> tuple[Float[Tensor, "n feature"], Int[Tensor, " n"]]:
        """Synthesize image features of classes, including classes new to the model.

        Args:
            class_names: Names of m classes. Defaults to the model's `class_names`.
            per_class: Number of features per class.
            rng: Seed of the noise, or a random stream of one seed. The same noise, and the same
                names in the same order, result in the same features.

        Returns:
            m * per_class unit-norm features, class by class, and the index of each feature's class
            in `class_names`. Both are on the device of the backbone.

        Raises:
            TrainedError: The trial has no generator that can be saved.
            ValueError: The backbone cannot distinguish the names, or per_class is below 1.
        """
        if not self._saved.manifest.generator_kept:
            fault = f"contains no state of generator {self.config.generator.name}"
            raise make_trained_error(
                self._saved.path, fault, "only logits and predictions are available"
            )
        if per_class < 1:
            raise ValueError(f"per_class must be at least 1, got {per_class}")
        names = self.class_names if class_names is None else tuple(class_names)
        generator, task = self._build_generator(names)
        # Two classes of a dataset may have the same name: the first one is used.
        id_of = {name: i for i, name in reversed(list(enumerate(task.class_names)))}
        ids = torch.tensor([id_of[name] for name in names], dtype=torch.long)
        labels = torch.arange(len(names)).repeat_interleave(per_class).to(self.clip.device)
        if isinstance(rng, int):
            dtype = task.text_features.dtype
            rng = SeedRng([rng], "trained/noise", self.clip.device, dtype)
        class_ids = ids.to(self.clip.device)[labels]
        features = generator.sample(class_ids.unsqueeze(0), rng)
        return features[0], labels

    @torch.no_grad()
    def encode(self, images: Sequence[Image | str | Path] | Tensor) -> Float[Tensor, "n feature"]:
        """Return unit-norm features of n images, on the device of the backbone.

        Args:
            images: PIL images, file paths, or a tensor of images preprocessed by the backbone's
                `preprocess`, (n, 3, height, width).

        Raises:
            ship.datasets.UndecodableError: A file cannot be decoded as an image.
        """
        parts = [torch.empty(0, self.clip.feature_dim, device=self.clip.device)]
        for start in range(0, len(images), IMAGES_AT_ONCE):
            part: Any = images[start : start + IMAGES_AT_ONCE]
            if not isinstance(part, Tensor):
                part = torch.stack([self.clip.preprocess(_open_image(image)) for image in part])
            parts.append(self.clip.encode_images(part))
        return torch.cat(parts)

    @torch.no_grad()
    def logits(
        self, images: Float[Tensor, "n ..."] | Sequence[Image | str | Path]
    ) -> Float[Tensor, "n n_cls"]:
        """Return class scores over `class_names`, with the selected inference options.

        Args:
            images: n unit-norm features of the backbone, (n, feature), or n images in any form
                that `encode` accepts.

        Returns:
            Scores, (n, n_cls). Their softmax gives the probabilities.

        Raises:
            ValueError: The features do not have the backbone's size.
            ship.datasets.UndecodableError: A file cannot be decoded as an image.
        """
        if not isinstance(images, Tensor) or images.ndim == 4:
            images = self.encode(images)
        if images.shape[1:] != (self.clip.feature_dim,):
            raise ValueError(
                f"features must be (n, {self.clip.feature_dim}), got {list(images.shape)}"
            )
        return self._finetuner.logits(images.to(self.clip.device, self._dtype), self.choice)[0]

    def predict(self, images: Float[Tensor, "n ..."] | Sequence[Image | str | Path]) -> Prediction:
        """Predict the class of each image, with the probabilities of all `class_names`.

        Args:
            images: n features or images in any form that `logits` accepts.

        Returns:
            Name of each image's most probable class, and the probabilities (n, n_cls).

        Raises:
            ValueError: The features do not have the backbone's size.
            ship.datasets.UndecodableError: A file cannot be decoded as an image.
        """
        probabilities = self.logits(images).softmax(-1)
        best = probabilities.argmax(-1).tolist()
        return Prediction(tuple(self.class_names[label] for label in best), probabilities)

    def __repr__(self) -> str:
        """Return the method, the numbers of classes, the dataset and the seed."""
        generator, finetuner = self.config.generator.name, self.config.finetuner.name
        classes = f"{len(self.base)} base and {len(self.new)} new classes"
        method = f"{finetuner} with generator {generator}"
        return f"TrainedModel({method}, {classes} of {self.config.dataset}, seed {self.seed})"

    def _build_generator(self, class_names: Sequence[str]) -> tuple[FeatureSource, Task]:
        """Build the generator and its task, which also gets those classes that it does not have."""
        task = _build_task(self._saved, self._saved.manifest.generator_task, self.clip, class_names)
        config = _replace_training_settings(self.config.generator)
        generator = build_generator(config, task, self.clip, [self.seed])
        learned = None if generator is None else generator.learned()
        if generator is None or learned is None:
            raise CheckpointError(f"generator {config.name} has no state to load")
        restore(learned, strip_prefix(self._saved.tensors, "generator"))
        return generator, task


def _open_image(image: Image | str | Path) -> Image:
    if isinstance(image, str | Path):
        return ImageFile(str(image), Path(image)).open()
    return to_rgb(image)


def _build_task(
    saved: SavedSeed, task_index: int, clip: FrozenCLIP, names: Sequence[str] = ()
) -> Task:
    """Build a task of one seed with placeholder images.

    Args:
        saved: Files of the seed.
        task_index: Index of the task in the manifest.
        clip: Backbone that encodes new class names.
        names: Class names. Those that the task does not have are added as unseen classes.
    """
    entry = saved.manifest.tasks[task_index]
    text = saved.tensors[f"tasks.{task_index}.text_features"]
    new_names = tuple(dict.fromkeys(name for name in names if name not in set(entry.class_names)))
    if new_names:
        settings = saved.manifest.settings
        templates = settings.templates_for(settings.dataset, saved.manifest.template)
        new_text = encode_classes(clip, fill_templates(templates, new_names))
        text = torch.cat([text, new_text.to(text)])
    text = text.to(clip.device)
    return Task(
        class_names=entry.class_names + new_names,
        text_features=text,
        seen=(torch.arange(len(text), device=text.device) < len(entry.base)).unsqueeze(0),
        **make_placeholder_images(text, 1),
        rows_per_epoch=2,
        shots=1,
        logit_scale=clip.logit_scale,
        load_unseen=list,
        load_validation=list,
    )


def _replace_training_settings(config: Any) -> Any:
    """Return a method's settings with those that only affect training replaced, except None."""
    names = {name for name in _TRAINING_ONLY if getattr(config, name, None) is not None}
    return config.model_copy(update={name: _TRAINING_ONLY[name] for name in names})


def _require_sizes(saved: SavedSeed, clip: FrozenCLIP) -> None:
    """Reject files whose settings would allocate more weights than the file contains.

    Sizes in a file are untrusted input.

    Raises:
        TrainedError: Text features do not have the shape given by the classes and the backbone, the
            settings need more weights than the file contains, or ctx_init is too long.
    """
    for i, task in enumerate(saved.manifest.tasks):
        text = saved.tensors.get(f"tasks.{i}.text_features", torch.empty(0))
        shape = (len(task.class_names), clip.feature_dim)
        if text.shape != shape or not text.is_floating_point():
            fault = f"text features of task {i} must be {[*shape]}, got {[*text.shape]}"
            raise make_trained_error(saved.path, fault)
    n_saved = sum(value.numel() for value in saved.tensors.values())
    if _count_weights(saved, clip) > n_saved:
        fault = f"its settings need more weights than the {n_saved} numbers that it contains"
        raise make_trained_error(saved.path, fault)
    groups = (saved.manifest.settings.generator, saved.manifest.settings.finetuner)
    if any(len(getattr(group, "ctx_init", None) or "") > MAX_CTX_INIT_CHARS for group in groups):
        raise make_trained_error(
            saved.path, f"ctx_init has more than {MAX_CTX_INIT_CHARS} characters"
        )


def _count_weights(saved: SavedSeed, clip: FrozenCLIP) -> int:
    """Return a lower bound on the number of weights that the settings would allocate.

    Only weights whose number the settings can make large are counted.
    """
    generator: Any = saved.manifest.settings.generator
    finetuner: Any = saved.manifest.settings.finetuner
    n_generator_weights = 0
    if saved.manifest.generator_kept and hasattr(generator, "generator_hidden"):
        prompt = getattr(generator, "prompt", None)  # None: the decoder's output is the feature
        n_vectors = generator.n_ctx if prompt == "instance_tokens" else 1
        n_outputs = clip.feature_dim if prompt is None else n_vectors * clip.text_width
        if prompt is None or uses_z(prompt):
            n_generator_weights = generator.generator_hidden * (generator.latent_dim + n_outputs)
    n_contexts = 0  # contexts of n_ctx vectors each: one per class, or per hidden unit of TCP
    if getattr(finetuner, "class_specific", False):
        n_contexts = max(len(task.class_names) for task in saved.manifest.tasks)
    if isinstance(finetuner, TCPConfig):
        n_contexts = max(1, clip.feature_dim // finetuner.reduction)
    n_context_weights = n_contexts * getattr(finetuner, "n_ctx", 0) * clip.text_width
    return int(n_generator_weights + n_context_weights)
