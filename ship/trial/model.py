"""Load trained models from a trial's files: a tested fine-tuner, and its generator.

Both are built on a task without images, because the files contain everything learned from images.
Files are untrusted input. A file is rejected if its settings would allocate more weights than it
contains.
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

# Maximum number of images per pass through the image tower.
IMAGES_AT_ONCE: Final = 64
# Maximum number of characters in the setting ctx_init of a file.
MAX_CTX_INIT_CHARS: Final = 1000
# Settings that affect training only, with the values that replace them when a model is loaded, so
# that little is allocated. Tensors whose size depends on these settings are not saved.
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
        target: Under protocol cross_dataset, the target dataset whose fine-tuner is loaded.
            Defaults to the first target.
        clip: Backbone that the model was trained with. Defaults to loading it by the name in
            trained.json, which must be pocket, an open_clip NAME:PRETRAINED with a published tag,
            or an hf-hub:ORG/MODEL in the local cache.
        device: torch device of a backbone that is loaded by name.

    Returns:
        The trained model.

    Raises:
        TrainedError: The files are missing, damaged, or of another version or backbone, or have no
            such seed or target. The message is one line with advice.

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
        fault = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise make_trained_error(saved.path, fault) from error


def _may_load(name: str) -> bool:
    """Return True if a backbone may be loaded by the name in a file.

    Allowed are pocket, weights that open_clip publishes, random weights (for tests), and weights of
    the hub that this machine has already downloaded.
    """
    if repository := parse_repository(name):
        return is_repository(repository) and find_cached_file(repository, WEIGHT_FILES) is not None
    architecture, tag = split_name(name)
    tags = {entry.name: (*entry.tags, RANDOM) for entry in list_architectures()}
    return name == "pocket" or tag in tags.get(architecture, ())


def _load_backbone(saved: SavedSeed, clip: FrozenCLIP | None, device: str) -> FrozenCLIP:
    """Load the backbone that the model was trained with, or check a given one.

    The name in a file is untrusted input: it could be the path of an archive whose code torch would
    execute. It is only loaded if `_may_load` allows it.

    Args:
        saved: Files of the seed.
        clip: Backbone to check. None loads the backbone by the name in trained.json.
        device: torch device of a backbone that is loaded by name.

    Raises:
        TrainedError: The backbone cannot be loaded, or differs from that of the training in its
            fingerprint or precision.
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
        fault = f"was trained with {expected}, but the loaded backbone is {actual}"
        raise make_trained_error(saved.path, fault, "use the weights that it was trained with")
    precision = manifest.settings.precision
    if clip.precision != precision:
        fault = f"was trained in precision {precision}, but the backbone is in {clip.precision}"
        raise make_trained_error(saved.path, fault, f"load the backbone in {precision}")
    image_precision = manifest.settings.image_precision
    if clip.image_precision != image_precision:
        actual = f"the backbone is in {clip.image_precision}"
        fault = f"was trained in image_precision {image_precision}, but {actual}"
        advice = f"set the backbone's image_precision to {image_precision}"
        raise make_trained_error(saved.path, fault, advice)
    return clip


class Prediction(NamedTuple):
    """The predicted classes of images.

    Attributes:
        names: Name of each image's most probable class.
        probabilities: Probability of each class for each image, in the order of the model's
            `class_names`.
    """

    names: tuple[str, ...]
    probabilities: Float[Tensor, "n n_cls"]


class TrainedModel:
    """The model that a trial trained under one seed, in the state that was tested.

    Attributes:
        config: Configuration of the trial (ship.trial_config.TrialConfig).
        seed: Seed of the model.
        seeds: All seeds whose models were saved, including this one.
        epoch: Tested epoch of the fine-tuner, or of the generator under selection "authors".
        choice: Selected inference options, such as alpha and beta. Empty if there are none.
        base: Names of the classes with training images.
        new: Names of the classes without training images.
        class_names: Names of all classes, in the order of the logits: first base, then new.
        clip: Backbone.
        notes: One line per part that was not saved, with the reason.

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
        self.seed = saved.entry.seed
        self.epoch = saved.entry.epoch
        self.choice = saved.entry.choice
        self.seeds = tuple(entry.seed for entry in manifest.seeds if entry.blake2b)
        self.notes = manifest.notes
        self.base = classes.base
        self.new = classes.new
        self.class_names = classes.class_names
        _check_sizes(saved, clip)
        task = _build_task(saved, task_index, clip)
        config = _replace_training_settings(self.config.finetuner)
        self._dtype = task.text_features.dtype
        self._finetuner = build_finetuner(config, task, None, clip, [self.seed])
        restore(self._finetuner.learned(), strip_prefix(saved.tensors, f"models.{model_index}"))
        options = sorted(self._finetuner.inference_grid[0])
        if sorted(self.choice) != options:
            rule = f"the inference options of finetuner {config.name} must be {options}"
            raise CheckpointError(f"{rule}, got {sorted(self.choice)}")
        if manifest.generator_kept:
            # if its state does not fit, this raises now instead of in features()
            self._build_generator(())

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
            rng: Seed of the noise, or a SeedRng with one seed. The same seed, with the same names
                in the same order, results in the same features.

        Returns:
            m * per_class unit-norm features, class by class, and the index of each feature's class
            in `class_names`. Both are on the device of the backbone.

        Raises:
            TrainedError: The files contain no generator. `notes` has the reason.
            ValueError: Two names have the same tokens, or per_class is below 1.
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
        # two classes of a dataset may have the same name; the first one is used
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
            images: PIL images, file paths, or images that `clip.preprocess` has transformed, as one
                tensor (n, 3, height, width).

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
            Scores, whose softmax is the probabilities of the classes.

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
        """Build the generator on its task, and return both.

        Args:
            class_names: Names of classes. Those that the task does not have are added to it.

        Raises:
            CheckpointError: The saved state does not fit the generator.
            ValueError: Two names have the same tokens.
        """
        task = _build_task(self._saved, self._saved.manifest.generator_task, self.clip, class_names)
        config = _replace_training_settings(self.config.generator)
        generator = build_generator(config, task, self.clip, [self.seed])
        learned = None if generator is None else generator.learned()
        if generator is None or learned is None:
            raise CheckpointError(f"generator {config.name} has no state to load")
        restore(learned, strip_prefix(self._saved.tensors, "generator"))
        return generator, task


def _open_image(image: Image | str | Path) -> Image:
    """Return an image as RGB, decoding it if it is a path."""
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
    """Return a method's settings with the values of _TRAINING_ONLY, except where they are None."""
    names = {name for name in _TRAINING_ONLY if getattr(config, name, None) is not None}
    return config.model_copy(update={name: _TRAINING_ONLY[name] for name in names})


def _check_sizes(saved: SavedSeed, clip: FrozenCLIP) -> None:
    """Reject files whose settings would allocate more weights than they contain.

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
        fault = f"its settings need more weights than the {n_saved} numbers that the file contains"
        raise make_trained_error(saved.path, fault)
    groups = (saved.manifest.settings.generator, saved.manifest.settings.finetuner)
    if any(len(getattr(group, "ctx_init", None) or "") > MAX_CTX_INIT_CHARS for group in groups):
        raise make_trained_error(
            saved.path, f"ctx_init has more than {MAX_CTX_INIT_CHARS} characters"
        )


def _count_weights(saved: SavedSeed, clip: FrozenCLIP) -> int:
    """Return a lower bound on the number of weights that the settings would allocate.

    Only those weights are counted whose number depends on sizes in the settings.
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
    # number of contexts with n_ctx vectors each: one per class, or per hidden unit of TCP
    n_contexts = 0
    if getattr(finetuner, "class_specific", False):
        n_contexts = max(len(task.class_names) for task in saved.manifest.tasks)
    if isinstance(finetuner, TCPConfig):
        n_contexts = max(1, clip.feature_dim // finetuner.reduction)
    n_context_weights = n_contexts * getattr(finetuner, "n_ctx", 0) * clip.text_width
    return int(n_generator_weights + n_context_weights)
