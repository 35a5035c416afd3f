"""Training data of a trial: features as padded tensors with a leading dimension for seeds.

ship.protocols decides which classes are seen and which images are used.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ship.clip import FrozenCLIP, encode_classes
from ship.seeds import SeedRng, draw_views, gather_rows, to_device
from ship.subsets import FeatureSet, Ids, draw_few_shot_indices
from ship.templates import fill_templates
from ship.trial_config import TrialConfig

# CoOp keeps min(shots, 4) validation images per class (github.com/KaiyangZhou/CoOp, datasets/).
FEW_VALIDATION = 4


@dataclass(frozen=True)
class Images:
    """Labeled images of a task.

    Attributes:
        features: Image features, (n, [view,] feature).
        labels: Indices into the task's classes, (n,).
    """

    features: Float[Tensor, "n *view feature"]
    labels: Int[Tensor, " n"]


@dataclass(frozen=True)
class Task:
    """A set of classes, some seen (with images) and the others unseen (names only).

    All seeds have the same number of rows: seeds with fewer images are padded. `counts` contains
    the numbers of images. Seeds may have different seen classes (pseudo-new classes are drawn by
    seed), but the same number of them.

    `load_unseen` and `load_validation` are functions, so that their images are copied to the device
    only for the few methods that need them.

    Attributes:
        class_names: Names of all classes, (n_cls,).
        text_features: Zero-shot classifier from the dataset's templates, (n_cls, feature).
        seen: Whether each class is seen, (seed, n_cls).
        features: Features of the few-shot images of the seen classes in all views,
            (seed, n, 1 + views, feature).
        labels: Indices into the classes, (seed, n).
        counts: Number of rows of each seed without padding.
        rows_per_epoch: Number of images per epoch; the same for all seeds of a configuration.
        shots: Rounded mean number of images per seen class. Below the configured number if some
            classes have fewer images.
        logit_scale: CLIP's factor on cosines.
        load_unseen: Returns each seed's training images of unseen classes in all views, ordered by
            class. Only generators that use real images of unseen classes may call it.
        load_validation: Returns each seed's validation images of the seen classes, for early
            stopping. Never train on them.
        synthesize_seen: Whether features are synthesized for seen classes, too (few_shot).
        generator_ids: Index of each class in the generator's task. None if the indices are equal.
    """

    class_names: tuple[str, ...]
    text_features: Float[Tensor, "n_cls feature"]
    seen: Bool[Tensor, "seed n_cls"]
    features: Float[Tensor, "seed n view feature"]
    labels: Int[Tensor, "seed n"]
    counts: tuple[int, ...]
    rows_per_epoch: int
    shots: int
    logit_scale: float
    load_unseen: Callable[[], Sequence[Images]]
    load_validation: Callable[[], Sequence[Images]]
    synthesize_seen: bool = False
    generator_ids: Int[Tensor, " n_cls"] | None = None

    @property
    def n_seeds(self) -> int:
        """Number of seeds that are trained together."""
        return len(self.seen)

    @property
    def synthetic_ids(self) -> Int[Tensor, "seed n_synthetic"]:
        """Each seed's classes to synthesize, ascending: unseen ones, or all if synthesize_seen."""
        ids: Tensor = (~self.seen | self.synthesize_seen).nonzero()[:, 1]
        return ids.reshape(self.n_seeds, -1)

    def to_generator_labels(self, labels: Int[Tensor, "seed n"]) -> Int[Tensor, "seed n"]:
        """Map indices of this task's classes to indices of the generator's task."""
        return labels if self.generator_ids is None else self.generator_ids[labels]

    def batch(
        self, rows: Int[Tensor, "seed n"], views: SeedRng
    ) -> tuple[Float[Tensor, "seed n feature"], Int[Tensor, "seed n"]]:
        """Return the features and labels of some rows, each image in a random view.

        Args:
            rows: Indices of the images of each seed, on the CPU or the device.
            views: Random streams that choose the views.
        """
        rows = to_device(rows, self.features.device)
        return draw_views(self.features, rows, views), gather_rows(self.labels, rows)


def make_placeholder_images(
    text_features: Float[Tensor, "n_cls feature"], n_seeds: int
) -> dict[str, Any]:
    """Return placeholder features, labels and counts of a Task, for loading a saved model.

    Each seed has two different artificial images of the first class, the minimum for fitting a
    scale or a covariance.

    Args:
        text_features: Text features of the task, whose size, dtype and device the images have.
        n_seeds: Number of seeds.
    """
    images = torch.eye(2, text_features.shape[1]).to(text_features)
    return {
        "features": images[None, :, None].expand(n_seeds, -1, 1, -1),
        "labels": torch.zeros(n_seeds, 2, dtype=torch.long, device=text_features.device),
        "counts": (2,) * n_seeds,
    }


@dataclass(frozen=True)
class FixedRows:
    """Training rows of a seed: synthetic features that are drawn once, followed by the images.

    Attributes:
        features: Unit-norm features, (n, 1 + views, feature). A synthetic feature is repeated in
            all views.
        labels: Indices into the task's classes, (n,).
        weights: Weight of each row's loss, (n,): `synthetic.loss_weight` for synthetic features, 1
            for images.

    Example:
        >>> rows = FixedRows(
        ...     features=torch.eye(4, 8).unsqueeze(1),  # four features of size 8, without views
        ...     labels=torch.tensor([0, 0, 1, 1]),
        ...     weights=torch.tensor([0.5, 0.5, 1.0, 1.0]),  # two synthetic features, two images
        ... )
        >>> rows.features[:, 0].shape
        torch.Size([4, 8])
    """

    features: Float[Tensor, "n view feature"]
    labels: Int[Tensor, " n"]
    weights: Float[Tensor, " n"]


@dataclass(frozen=True)
class SeedTask:
    """Training data of one seed: the seed's part of a Task.

    Do not modify the tensors in place.

    Attributes:
        class_names: Names of all classes, (n_cls,).
        text_features: Zero-shot classifier from the dataset's templates, (n_cls, feature).
        seen: Whether each class has images, (n_cls,).
        features: Features of the few-shot images of the seen classes, (n, 1 + views, feature).
            View 0 is preprocessed like a test image, without augmentation.
        labels: Indices into the classes, (n,).
        shots: Rounded mean number of images per seen class. Below the configured number if some
            classes have fewer images.
        logit_scale: CLIP's factor on cosines.
        synthetic: Whether training uses synthetic features. Without them, only the seen classes
            compete in the loss.
        fixed: Training rows of a fine-tuner whose `training_data` is "fixed" or "custom". None if
            it is "stream".

    Example:
        >>> task = SeedTask(
        ...     class_names=("cat", "dog"),
        ...     text_features=torch.eye(2, 8),
        ...     seen=torch.tensor([True, False]),  # "dog" has no images
        ...     features=torch.eye(3, 8).unsqueeze(1),  # three images, without augmented views
        ...     labels=torch.tensor([0, 0, 0]),
        ...     shots=3,
        ...     logit_scale=100.0,
        ... )
        >>> task.features[:, 0].mean(0).shape  # the mean image feature of "cat"
        torch.Size([8])
    """

    class_names: tuple[str, ...]
    text_features: Float[Tensor, "n_cls feature"]
    seen: Bool[Tensor, " n_cls"]
    features: Float[Tensor, "n view feature"]
    labels: Int[Tensor, " n"]
    shots: int
    logit_scale: float
    synthetic: bool = False
    fixed: FixedRows | None = None

    @property
    def fixed_rows(self) -> FixedRows:
        """Training rows of a fine-tuner whose `training_data` is "fixed" or "custom".

        Raises:
            ValueError: The fine-tuner's training_data is "stream".
        """
        if self.fixed is None:
            raise ValueError(
                'fixed_rows requires training_data "fixed" or "custom", got training_data "stream"'
            )
        return self.fixed

    @classmethod
    def from_task(
        cls, task: Task, seed_index: int, *, synthetic: bool = False, fixed: FixedRows | None = None
    ) -> "SeedTask":
        """Return one seed's part of a task.

        Args:
            task: Task of all seeds.
            seed_index: Index of the seed.
            synthetic: See SeedTask.
            fixed: See SeedTask.
        """
        n = task.counts[seed_index]
        return cls(
            class_names=task.class_names,
            text_features=task.text_features,
            seen=task.seen[seed_index],
            features=task.features[seed_index, :n],
            labels=task.labels[seed_index, :n],
            shots=task.shots,
            logit_scale=task.logit_scale,
            synthetic=synthetic,
            fixed=fixed,
        )


@dataclass(frozen=True)
class TaskMaker:
    """Factory of few-shot tasks of a dataset, as tensors on the backbone's device.

    Attributes:
        config: Configuration of the trial.
        seeds: Seeds of the trial.
        features: Features and labels of the dataset.
        clip: Backbone that encodes the class names.
        dtype: Data type of all features.
        seen: Classes whose images may be used for training. They determine the length of an epoch,
            and each must have training images.
    """

    config: TrialConfig
    seeds: Sequence[int]
    features: FeatureSet
    clip: FrozenCLIP
    dtype: torch.dtype
    seen: Ids

    def encode(self, sentences: Sequence[Sequence[str]]) -> Float[Tensor, "n_cls feature"]:
        """Return zero-shot text features of classes.

        Args:
            sentences: Complete prompts of each class.
        """
        return encode_classes(self.clip, sentences).to(self.dtype)

    def images(self, features: np.ndarray, labels: np.ndarray) -> Images:
        """Copy images to the device. The arrays may be read-only views of shared memory.

        Args:
            features: Image features, (n, [view,] feature).
            labels: Integer labels, (n,).
        """
        device = self.clip.device
        return Images(
            torch.tensor(features, dtype=self.dtype, device=device),
            torch.tensor(labels, device=device),
        )

    def validation(self, classes: Ids, *, few: bool = False) -> Images:
        """Return the validation images of the given classes.

        Args:
            classes: Labels of the classes.
            few: Whether to draw only min(shots, FEW_VALIDATION) images per class. The draw is the
                same for all seeds.
        """
        labels = self.features.val_labels
        limit = min(self.config.shots or FEW_VALIDATION, FEW_VALIDATION) if few else len(labels)
        rows = draw_few_shot_indices(labels, limit, 0, classes)
        return self.images(self.features.val[rows], labels[rows])

    def task(
        self,
        n_classes: int,
        seen: Sequence[Ids],
        extra_classes: Sequence[tuple[str, Sequence[str]]] = (),
        *,
        synthesize_seen: bool = False,
    ) -> Task:
        """Create the task of the dataset's first n classes, with the seen classes of each seed.

        Args:
            n_classes: Number of classes of the dataset to use.
            seen: Labels of each seed's seen classes.
            extra_classes: Additional classes without images, as (class name, sentences for the
                zero-shot classifier). They are numbered after the dataset's classes.
            synthesize_seen: Whether features are synthesized for seen classes, too.
        """
        features, labels = self.features, self.features.train_labels
        # all seeds have epochs of the same length, whichever classes they see
        mean_count = float(features.count_shots(self.seen, self.config.shots).mean())

        def draw_images(seed: int, classes: Ids) -> Images:
            rows = features.draw(self.config.shots or len(labels), seed, classes)
            rows = rows[np.argsort(labels[rows], kind="stable")]
            return self.images(features.train[rows], labels[rows])

        few_shot = list(map(draw_images, self.seeds, seen))
        n_cls = n_classes + len(extra_classes)
        is_seen = np.stack([np.isin(np.arange(n_cls), classes) for classes in seen])
        unseen = [np.setdiff1d(np.arange(n_classes), classes) for classes in seen]
        names = features.class_names[:n_classes]
        templates = self.config.templates_for(features.dataset, features.template)
        sentences = [*fill_templates(templates, names), *(texts for _, texts in extra_classes)]
        return Task(
            class_names=(*names, *(name for name, _ in extra_classes)),
            text_features=self.encode(sentences),
            seen=torch.tensor(is_seen, device=self.clip.device),
            features=pad_sequence([part.features for part in few_shot], batch_first=True),
            labels=pad_sequence([part.labels for part in few_shot], batch_first=True),
            counts=tuple(len(part.labels) for part in few_shot),
            rows_per_epoch=max(1, round(len(seen[0]) * mean_count)),
            shots=max(1, round(mean_count)),
            logit_scale=self.clip.logit_scale,
            load_unseen=lambda: list(map(draw_images, self.seeds, unseen)),
            load_validation=lambda: list(map(self.validation, seen)),
            synthesize_seen=synthesize_seen,
        )
