"""The paper's grid as counts: eleven datasets, five prompt lengths, three seeds trained fused.

Settings are those of the packaged study `reference`, ImageNet's own among them, with the default
selection (pseudo_new), which looks at no test picture. Pictures and classes are the published ones.
Names are needed for their lengths alone: ImageNet's are open_clip's, Caltech-101's the packaged
ones. For the others stand names of as many tokens, in one fixed order, as the lists in
data/prompts.md of github.com/openai/CLIP (commit d05afc4) have; CoOp spells a few otherwise.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from harness.study_files import find_space, label_of, read_yaml
from ship.datasets import DATASETS
from ship.datasets.imagenet import ImageNetDataset
from ship.training import steps_per_epoch
from ship.trial_config import TrialConfig
from tests.bench.bench_launches import class_names
from tests.bench.paper_tasks import DataShape, ExamShape, TaskShape, selected_and_tested

ELEVEN: Final = (
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "flowers102",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)
LENGTHS: Final = (1, 2, 4, 8, 16)
SEEDS: Final = 3

# How many names have one token, two tokens, and so on.
TOKENS: Final[Mapping[str, Sequence[int]]] = {
    "oxford_pets": (9, 16, 9, 3),
    "stanford_cars": (0, 0, 0, 0, 0, 0, 55, 74, 30, 11, 8, 10, 6, 1, 0, 1),
    "flowers102": (8, 51, 29, 11, 1, 2),
    "food101": (25, 41, 30, 4, 0, 1),
    "fgvc_aircraft": (2, 2, 7, 32, 15, 10, 22, 10),
    "sun397": (106, 205, 77, 6, 3),
    "dtd": (13, 23, 11),
    "eurosat": (2, 1, 4, 0, 2, 1),
    "ucf101": (18, 58, 23, 1, 1),
}


def data_shape(dataset: str) -> DataShape:
    """A dataset as it is published, every class with as many pictures as the others.

    Args:
        dataset: one of ELEVEN.
    """
    spec: Any = DATASETS[dataset]
    n, counts = spec.classes, spec.counts
    if isinstance(spec, ImageNetDataset):
        counts = (spec.train_per_class * n, spec.val_per_class * n, counts[2])
    train, val, test = (tuple(evenly(count, n)) for count in counts)
    half = (n + 1) // 2
    return DataShape(names_like(dataset), spec.template, train, val, test, half)


def evenly(pictures: int, classes: int) -> Iterator[int]:
    """Pictures of each class."""
    for place in range(classes):
        yield pictures // classes + (place < pictures % classes)


def names_like(dataset: str) -> tuple[str, ...]:
    """Its class names, or names of as many tokens."""
    if dataset == "imagenet":
        from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES

        return tuple(IMAGENET_CLASSNAMES)
    if dataset == "caltech101":
        return class_names(100)
    counts = enumerate(TOKENS[dataset], start=1)
    names = [" ".join(["cat"] * tokens) for tokens, n in counts for _ in range(n)]
    random.Random(0).shuffle(names)  # base classes and new ones have long names alike
    return tuple(names)


def configs(dataset: str) -> Iterator[TrialConfig]:
    """The trials of one dataset, a prompt length each."""
    path = find_space("reference.yaml")
    study, _ = read_yaml(path, label_of(path))
    constants = {key: study[key] for key in TrialConfig.model_fields if key in study}
    own = study["variants"]["dataset"].get(dataset, {})
    constants |= {key: {**constants[key], **settings} for key, settings in own.items()}
    for length in LENGTHS:
        generator = {**constants["generator"], "n_ctx": length}
        yield TrialConfig(**{**constants, "dataset": dataset, "generator": generator})


@dataclass(frozen=True)
class Stage:
    """What is trained on one task.

    generator_steps, coop_steps: of all epochs that are planned.
    evaluations: looks at the exam's pictures.
    judged: synthetic features that are drawn to be judged, of each seed.
    """

    task: TaskShape
    exam: ExamShape
    generator_steps: int
    coop_steps: int
    evaluations: int
    judged: int


def stages(config: TrialConfig, data: DataShape) -> list[Stage]:
    """Selection, and what is trained anew and tested: all epochs, which is the most there can be.

    Args:
        config: of a trial with SHIP's generator and CoOp, under base_to_new and pseudo_new.
        data: its dataset.
    """
    selected, tested = selected_and_tested(config, data)
    looks = 1 + config.finetuner.epochs  # epoch 0 too
    return [_stage(config, *selected, looks), _stage(config, *tested, 1)]


def _stage(config: TrialConfig, task: TaskShape, exam: ExamShape, looks: int) -> Stage:
    generator, coop = config.generator, config.finetuner
    fitting, tuning = (steps_per_epoch(task.n_nominal, x.batch_size) for x in (generator, coop))
    judged = exam.per_class * task.n_made
    return Stage(task, exam, generator.epochs * fitting, coop.epochs * tuning, looks, judged)
