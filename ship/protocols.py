"""Protocols: the classes and images used for training, selection and test of a trial.

ship.requirements has the rules of each protocol.
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
from ship.requirements import N_AGES, PROTOCOLS, check_requirements
from ship.subsets import FeatureSet, draw_pseudo_new
from ship.tasks import Images, Task, TaskMaker
from ship.templates import fill_templates
from ship.trial_config import LEAKING_SELECTIONS, ProtocolName, TrialConfig

# Name of the metric of the source's test images in cross_dataset.
SOURCE = "source"

# Metrics on the selection images at the selected epoch, (seed,) each. None during selection.
SelectionMetrics = Mapping[str, Tensor] | None


@dataclass(frozen=True)
class EvalSet:
    """Images on which a model trained on `task` is evaluated.

    Attributes:
        task: Task that the model was trained on.
        images: Images to classify.
        name: Metric that the evaluation set measures, or "" for protocols with a single evaluation
            set.
        competing: Mask of the classes that may be predicted, (n_cls,). None if the protocol's
            metrics determine them.
    """

    task: Task
    images: Images
    name: str = ""
    competing: Bool[Tensor, " n_cls"] | None = None

    @cached_property
    def all_seen(self) -> bool:
        """Whether every seed sees the classes of all images. Read from the device only once."""
        return bool(self.task.seen[:, self.images.labels].all())

    def predictions(self, logits: Float[Tensor, "seed n n_cls"]) -> Predictions:
        """Return a model's predictions for the images.

        Args:
            logits: Class scores of each seed.
        """
        return Predictions(logits, self.images.labels, self.task.seen, self.competing)


# The evaluation sets of one trained model. All have the task that the model was trained on. The
# quality of synthetic features is measured against the images of the first one.
TestSets: TypeAlias = tuple[EvalSet, ...]


@dataclass(frozen=True)
class Protocol:
    """The tasks and evaluation sets of a trial.

    Attributes:
        name: Name of the protocol, which determines how accuracy is computed.
        selection: Evaluation set that selects the epoch, with the task trained for it. None
            if nothing is selected (selection none) and the last epoch is tested.
        metric: Metric that selection maximizes, "" if nothing is selected.
        tested_models: Evaluation sets of each tested model. cross_dataset tests one model per
            target, the other protocols a single one.
        generator_task: Task on which the generator is fitted for the final models. None if nothing
            is retrained and the model kept by selection is tested.
        custom_metrics: Names of the metric plugins that the test computes.
        ages: Number of the generator's ages (epochs of its training) that selection compares, each
            with a separate fine-tuner (selection authors). 1 means that the generator is trained to
            its end and that selection compares epochs of one fine-tuner.
    """

    name: ProtocolName
    selection: EvalSet | None
    metric: str
    tested_models: tuple[TestSets, ...]
    generator_task: Task | None
    ages: int
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
            # without images of unseen classes, selection found no constant of calibrated stacking
            return {k: value for k, value in metrics.items() if not k.startswith("calibrat")}
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
            The metrics of the only evaluation set. For cross_dataset: the accuracy of each target,
            their mean `accuracy`, and the accuracy on the source averaged over the targets' models,
            if the source has test images.
        """
        if self.name != "cross_dataset":
            return by_eval_set[0]
        by_target = {n: v for metrics in by_eval_set for n, v in metrics.items() if n != SOURCE}
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

    The first classes of a dataset are the seen ones.

    The selections are:

    - "pseudo_new" holds out a seeded fraction of the seen classes, trains on the others, and
      evaluates on validation images of both. The tested model is retrained on all seen classes.
    - "base_val" evaluates on validation images of the seen classes, "few_val" on a few of them.
    - "none" evaluates nothing and tests the model of the last epoch.
    - "test" evaluates on the test images after each epoch.
    - "authors" evaluates on the test images like SHIP's authors: a fine-tuner is trained to its end
      for each of five ages of the generator, and the age with the best test accuracy is reported.

    All but "pseudo_new" train once, on all seen classes. In cross_dataset a fine-tuner is trained
    again for each target.

    Args:
        config: Configuration of the trial.
        seeds: Seeds of the trial.
        features: Features of config.dataset, restricted by select_studied_classes.
        targets: Features of config.targets by name, for cross_dataset.
        clip: Backbone that encodes the class names.
        dtype: Data type of all features and losses.

    Raises:
        ValueError: Protocol cross_dataset has no targets, or the configuration or dataset does not
            meet the requirements (ship.requirements.check_requirements).
    """
    rules, selection = PROTOCOLS[config.protocol], config.selection
    if rules.targets and not targets:
        raise ValueError("protocol cross_dataset requires targets: a list of datasets")
    check_requirements(config, features, seeds)
    seen = np.arange(rules.count_seen(len(features.class_names), features.n_base))
    tasks = TaskMaker(config, seeds, features, clip, dtype, seen)
    new_labels = _number_new_classes(config, features, targets.values()) if rules.targets else {}
    extra_classes = [(cls.name, cls.sentences) for cls in new_labels]
    synthesize_seen = not (rules.new_classes or rules.targets)
    n_classes = len(features.class_names)
    task = tasks.task(
        n_classes, [seen] * len(seeds), extra_classes, synthesize_seen=synthesize_seen
    )
    test = EvalSet(task, tasks.images(features.test, features.test_labels))
    tested_models: tuple[TestSets, ...] = ((test,),)
    if rules.targets:
        tested_models = tuple(
            _build_target_sets(name, target, tasks, test, new_labels)
            for name, target in targets.items()
        )
    chosen_on: EvalSet | None = None
    if selection in LEAKING_SELECTIONS:
        chosen_on = test
    elif selection == "pseudo_new":
        bases = [draw_pseudo_new(seen, config.pseudo_new_fraction, seed)[0] for seed in seeds]
        chosen_on = EvalSet(tasks.task(len(seen), bases), tasks.validation(seen))
    elif selection != "none":
        # the same task as for the test, including the targets' class names
        chosen_on = EvalSet(task, tasks.validation(seen, few=selection == "few_val"))
    retrained = rules.targets or selection in ("pseudo_new", "none")
    return Protocol(
        config.protocol,
        chosen_on,
        config.selection_metric,
        tested_models,
        generator_task=task if retrained else None,
        ages=N_AGES if selection == "authors" else 1,
        custom_metrics=config.metrics,
    )


class _Class(NamedTuple):
    """A class of the source or a target. Equal ones are one class of the generator's task.

    Attributes:
        key: Name as CLIP reads it, and its number among equal names (ImageNet has two such pairs).
        name: Name of the class.
        sentences: Sentences from the dataset's templates for the zero-shot classifier.
    """

    key: tuple[str, int]
    name: str
    sentences: tuple[str, ...]


def _list_classes(config: TrialConfig, features: FeatureSet) -> list[_Class]:
    """Return the classes of a dataset, with the templates that the trial uses for it."""
    names = [split_pieces(name) for name in features.class_names]
    keys = [(name, names[:i].count(name)) for i, name in enumerate(names)]
    templates = config.templates_for(features.dataset, features.template)
    sentences = fill_templates(templates, features.class_names)
    classes = zip(keys, features.class_names, sentences, strict=True)
    return [_Class(key, name, tuple(texts)) for key, name, texts in classes]


def _number_new_classes(
    config: TrialConfig, source: FeatureSet, targets: Iterable[FeatureSet]
) -> dict[_Class, int]:
    """Assign numbers to the targets' classes that the source lacks, after the source's classes.

    A class whose name equals a name of the source (as CLIP reads it) is the source's class: it is
    seen, and no features are synthesized for it.
    """
    source_keys = {cls.key for cls in _list_classes(config, source)}
    targets_classes = dict.fromkeys(
        c for t in targets for c in _list_classes(config, t) if c.key not in source_keys
    )
    return {cls: len(source_keys) + i for i, cls in enumerate(targets_classes)}


def _build_target_sets(
    name: str, target: FeatureSet, tasks: TaskMaker, test: EvalSet, new_labels: Mapping[_Class, int]
) -> TestSets:
    """Create the evaluation sets of a target.

    Their task has the source's images and classes, followed by the target's further classes.

    Args:
        name: Name of the target.
        target: Features of the target.
        tasks: Factory of the source's tasks.
        test: Test images of the source, with the generator's task.
        new_labels: Number in the generator's task of each class that the source does not have.
    """
    task, device = test.task, test.task.seen.device
    classes = _list_classes(tasks.config, target)
    source = _list_classes(tasks.config, tasks.features)
    label_of = {c.key: i for i, c in enumerate(source)}
    numbers = [label_of[c.key] if c.key in label_of else new_labels[c] for c in classes]
    numbered = [
        *range(len(label_of)),
        *(number for number in numbers if number >= len(label_of)),
    ]
    column_of = {number: i for i, number in enumerate(numbered)}
    ids = torch.tensor(numbered, device=device)
    columns = torch.tensor([column_of[number] for number in numbers], device=device)
    text_features = task.text_features[ids]
    # the target's templates apply to all of its classes, including those that the source has
    text_features[columns] = tasks.encode([c.sentences for c in classes])
    final_task = replace(
        task,
        class_names=tuple(task.class_names[number] for number in numbered),
        text_features=text_features,
        seen=task.seen[:, ids],
        generator_ids=ids,
    )
    positions = torch.arange(len(ids), device=device)
    images = tasks.images(target.test, target.test_labels)
    images = Images(images.features, columns[images.labels])
    eval_sets = [EvalSet(final_task, images, f"accuracy/{name}", torch.isin(positions, columns))]
    if len(test.images.labels):
        eval_sets.append(EvalSet(final_task, test.images, SOURCE, positions < len(label_of)))
    return tuple(eval_sets)
