"""Protocols: the classes and images used for training, selection and test of a trial.

ship.protocol_rules defines the rules of each protocol.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.datasets.base import split_pieces
from ship.metrics import (
    Predictions,
    percent,
    score_base_to_new,
    score_generalized_zero_shot,
    score_open_world,
)
from ship.protocol_rules import N_GENERATOR_AGES, PROTOCOLS, check_requirements
from ship.subsets import FeatureSet, draw_pseudo_new
from ship.tasks import Images, Task, TaskMaker
from ship.templates import fill_templates
from ship.trial_config import LEAKING_SELECTIONS, ProtocolName, TrialConfig

# Metric of cross_dataset: accuracy on the test images of the source (the dataset to train on).
SOURCE = "source"

# Metrics on the selection images at the selected epoch, (seed,) each. None during selection.
SelectionMetrics = Mapping[str, Tensor] | None


@dataclass(frozen=True)
class EvalSet:
    """Images on which a model trained on `task` is evaluated.

    Attributes:
        task: Task that the model is trained on.
        images: Images to classify.
        name: Name of the metric that is measured on the images, e.g. "accuracy/dtd". "" for
            protocols with a single evaluation set, which have several metrics.
        competing: Mask of the classes that may be predicted, (n_cls,). None if this depends on the
            metric.
    """

    task: Task
    images: Images
    name: str = ""
    competing: Bool[Tensor, " n_cls"] | None = None

    @cached_property
    def all_seen(self) -> bool:
        """Whether the classes of all images are seen classes of every seed.

        Cached, because reading it waits for the device.
        """
        return bool(self.task.seen[:, self.images.labels].all())

    def predictions(self, logits: Float[Tensor, "seed n n_cls"]) -> Predictions:
        """Return a model's predictions for the images.

        Args:
            logits: Class scores of each seed.
        """
        return Predictions(logits, self.images.labels, self.task.seen, self.competing)


# The evaluation sets of one trained model, which have the same task. The quality of synthetic
# features is measured against the images of the first one.
TestSets: TypeAlias = tuple[EvalSet, ...]


@dataclass(frozen=True)
class Protocol:
    """The tasks and evaluation sets of a trial.

    Attributes:
        name: Name of the protocol, which determines how accuracy is computed.
        selection: Evaluation set on which the epoch is selected. During selection, models are
            trained on its task. None for selection none, where the last epoch is tested.
        metric: Metric that selection maximizes, "" for selection none.
        tested_models: Evaluation sets of each tested model. cross_dataset tests one model per
            target, the other protocols a single one.
        generator_task: Task on which the generator of the tested models is trained. None if no
            model is trained after selection: the selected model is tested.
        custom_metrics: Names of the metric plugins that the test computes.
        n_ages: Number of times at which the training of the generator is paused to train a
            fine-tuner with its current state (see build_protocol). N_GENERATOR_AGES for selection
            "authors". 1 for other selections: a fine-tuner is trained only after the generator's
            last epoch.
    """

    name: ProtocolName
    selection: EvalSet | None
    metric: str
    tested_models: tuple[TestSets, ...]
    generator_task: Task | None
    n_ages: int
    custom_metrics: tuple[str, ...] = ()

    def score(
        self, predictions: Predictions, eval_set: EvalSet, chosen: SelectionMetrics
    ) -> dict[str, Tensor]:
        """Return the metrics of an evaluation set, (seed,) each, in percent.

        Args:
            predictions: Predictions for the evaluation set's images.
            eval_set: The evaluation set.
            chosen: Selection metrics at the selected epoch. None during selection.
        """
        if self.name in ("generalized_zero_shot", "single_unseen"):
            constant = None if chosen is None else chosen.get("calibration")
            metrics = score_generalized_zero_shot(predictions, eval_set.all_seen, constant)
            if chosen is None or constant is not None:
                return metrics
            # without images of unseen classes, selection has no constant for calibrated stacking
            return {
                name: value for name, value in metrics.items() if not name.startswith("calibrat")
            }
        if self.name == "few_shot" or eval_set.name:
            all_images = torch.ones_like(predictions.correct)
            return {eval_set.name or "accuracy": percent(predictions.correct, all_images)}
        metrics = score_base_to_new(predictions, eval_set.all_seen)
        return metrics if chosen is None else metrics | score_open_world(predictions)

    def combine(self, by_eval_set: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Combine the metrics of all evaluation sets of a test.

        Args:
            by_eval_set: Metrics of each evaluation set by name, (seed,) each.

        Returns:
            The metrics of the only evaluation set. For cross_dataset:

            - accuracy/NAME: accuracy on each target.
            - accuracy: mean over the targets.
            - source: accuracy on the source, averaged over the models of all targets. Omitted if
              the source has no test images.
        """
        if self.name != "cross_dataset":
            return by_eval_set[0]
        by_target = {
            name: value
            for metrics in by_eval_set
            for name, value in metrics.items()
            if name != SOURCE
        }
        source = [metrics[SOURCE] for metrics in by_eval_set if SOURCE in metrics]
        metrics = {"accuracy": torch.stack(list(by_target.values())).mean(0), **by_target}
        return {**metrics, SOURCE: torch.stack(source).mean(0)} if source else metrics


def build_protocol(
    config: TrialConfig,
    seeds: Sequence[int],
    features: FeatureSet,
    targets: Mapping[str, FeatureSet],
    clip: FrozenCLIP,
    dtype: torch.dtype = torch.float32,
) -> Protocol:
    """Create the tasks and evaluation sets of a trial.

    The first classes of a dataset are the seen ones. The selections are:

    - "pseudo_new" holds out a seeded fraction of the seen classes, trains on the others, and
      evaluates on validation images of both. The tested model is retrained on all seen classes.
    - "base_val" evaluates on the validation images of the seen classes, "few_val" on at most
      FEW_VALIDATION (ship.tasks) of them per class.
    - "none" evaluates nothing and tests the model of the last epoch.
    - "test" evaluates on the test images after each epoch.
    - "authors" evaluates on the test images like SHIP's authors. The training of the generator is
      paused N_GENERATOR_AGES times; its numbers of epochs at these times are its *ages*. At each
      age a new fine-tuner is trained to its last epoch. The fine-tuner with the best metric is
      reported.

    All selections except "pseudo_new" train on all seen classes. Their tested model is not trained
    again, except in cross_dataset, where a fine-tuner is trained for each target.

    Args:
        config: Configuration of the trial.
        seeds: Seeds of the trial.
        features: Features of config.dataset, restricted by select_studied_classes.
        targets: Features of config.targets by name, for cross_dataset.
        clip: Backbone that encodes the class names.
        dtype: Data type of all features and losses.

    Raises:
        ValueError: Protocol cross_dataset has no targets, or the configuration or dataset does not
            meet the requirements (ship.protocol_rules.check_requirements).
    """
    rules, selection = PROTOCOLS[config.protocol], config.selection
    if rules.has_targets and not targets:
        raise ValueError("protocol cross_dataset requires targets: a list of datasets")
    check_requirements(config, features, seeds)
    seen = np.arange(rules.count_seen(len(features.class_names), features.n_base))
    task_maker = TaskMaker(config, seeds, features, clip, dtype, seen)
    new_labels = (
        _number_new_classes(config, features, targets.values()) if rules.has_targets else {}
    )
    extra_classes = [(cls.name, cls.sentences) for cls in new_labels]
    synthesize_seen = not (rules.has_new_classes or rules.has_targets)
    n_classes = len(features.class_names)
    task = task_maker.task(
        n_classes, [seen] * len(seeds), extra_classes, synthesize_seen=synthesize_seen
    )
    test = EvalSet(task, task_maker.images(features.test, features.test_labels))
    tested_models: tuple[TestSets, ...] = ((test,),)
    if rules.has_targets:
        tested_models = tuple(
            _build_target_sets(name, target, task_maker, test, new_labels)
            for name, target in targets.items()
        )
    selection_set: EvalSet | None = None
    if selection in LEAKING_SELECTIONS:
        selection_set = test
    elif selection == "pseudo_new":
        bases = [draw_pseudo_new(seen, config.pseudo_new_fraction, seed)[0] for seed in seeds]
        selection_set = EvalSet(task_maker.task(len(seen), bases), task_maker.validation(seen))
    elif selection != "none":
        # the same task as for the test, including the targets' class names
        selection_set = EvalSet(task, task_maker.validation(seen, few=selection == "few_val"))
    trains_after_selection = rules.has_targets or selection in ("pseudo_new", "none")
    return Protocol(
        config.protocol,
        selection_set,
        config.selection_metric,
        tested_models,
        generator_task=task if trains_after_selection else None,
        n_ages=N_GENERATOR_AGES if selection == "authors" else 1,
        custom_metrics=config.metrics,
    )


class _Class(NamedTuple):
    """A class of the source or a target.

    If new classes of several targets agree in all attributes, they are a single class of the
    generator's task.

    Attributes:
        key: Name as CLIP reads it, and its number among equal names of the dataset, from 0.
            (ImageNet has two pairs of equal names.)
        name: Name of the class.
        sentences: Sentences from the dataset's templates for the zero-shot classifier.
    """

    key: tuple[str, int]
    name: str
    sentences: tuple[str, ...]


def _list_classes(config: TrialConfig, features: FeatureSet) -> list[_Class]:
    """Return the classes of a dataset, with sentences from the trial's templates for it."""
    names = [split_pieces(name) for name in features.class_names]
    keys = [(name, names[:i].count(name)) for i, name in enumerate(names)]
    templates = config.templates_for(features.dataset, features.template)
    sentences = fill_templates(templates, features.class_names)
    classes = zip(keys, features.class_names, sentences, strict=True)
    return [_Class(key, name, tuple(texts)) for key, name, texts in classes]


def _number_new_classes(
    config: TrialConfig, source: FeatureSet, targets: Iterable[FeatureSet]
) -> dict[_Class, int]:
    """Assign labels to the targets' new classes, continuing those of the source's classes.

    A target's class is new if the source has no class with the same key. Other classes are seen:
    no features are synthesized for them.
    """
    source_keys = {cls.key for cls in _list_classes(config, source)}
    new_classes = dict.fromkeys(
        cls
        for target in targets
        for cls in _list_classes(config, target)
        if cls.key not in source_keys
    )
    return {cls: len(source_keys) + i for i, cls in enumerate(new_classes)}


def _build_target_sets(
    name: str,
    target: FeatureSet,
    task_maker: TaskMaker,
    test: EvalSet,
    new_labels: Mapping[_Class, int],
) -> TestSets:
    """Create the evaluation sets of a target.

    Their task has the source's images. Its classes are those of the source, followed by the
    target's new classes.

    Args:
        name: Name of the target.
        target: Features of the target.
        task_maker: Factory of the source's tasks, and of tensors on its device.
        test: Test images of the source, with the generator's task.
        new_labels: New class -> its label in the generator's task.
    """
    task, device = test.task, test.task.seen.device
    classes = _list_classes(task_maker.config, target)
    source = _list_classes(task_maker.config, task_maker.features)
    source_labels = {cls.key: label for label, cls in enumerate(source)}
    # for each class of the target, its label in the generator's task
    target_labels = [
        source_labels[cls.key] if cls.key in source_labels else new_labels[cls] for cls in classes
    ]
    # for each class of the task to create, its label in the generator's task
    task_labels = [
        *range(len(source_labels)),
        *(label for label in target_labels if label >= len(source_labels)),
    ]
    column_of = {label: column for column, label in enumerate(task_labels)}
    ids = torch.tensor(task_labels, device=device)
    columns = torch.tensor([column_of[label] for label in target_labels], device=device)
    text_features = task.text_features[ids]
    # the target's templates apply to all of its classes, including those that the source has
    text_features[columns] = task_maker.encode([cls.sentences for cls in classes])
    final_task = replace(
        task,
        class_names=tuple(task.class_names[label] for label in task_labels),
        text_features=text_features,
        seen=task.seen[:, ids],
        generator_ids=ids,
    )
    positions = torch.arange(len(ids), device=device)
    images = task_maker.images(target.test, target.test_labels)
    images = Images(images.features, columns[images.labels])
    eval_sets = [EvalSet(final_task, images, f"accuracy/{name}", torch.isin(positions, columns))]
    if len(test.images.labels):
        eval_sets.append(EvalSet(final_task, test.images, SOURCE, positions < len(source_labels)))
    return tuple(eval_sets)
