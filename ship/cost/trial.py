"""The cost of a whole trial: the stages of ship.trial.run.run_trial, in counts."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from ship.cost.finetuners import FINETUNER_COSTS
from ship.cost.generators import GENERATOR_COSTS, Asked, GeneratorCost
from ship.cost.model import Cost, UnknownCostError, product
from ship.cost.shapes import DataShape, TowerShape
from ship.cost.tasks import PLANS, ExamShape, TaskShape
from ship.cost.text import counted, plain_pass
from ship.cost.training import FinetunerCost, SynthesisCost
from ship.quality.distances import BOOTSTRAP_DRAWS
from ship.quality.sets import MAX_FEATURES
from ship.trial_config import TrialConfig


def trial_cost(
    config: TrialConfig,
    n_seeds: int,
    tower: TowerShape,
    data: DataShape,
    targets: Sequence[DataShape] = (),
    ran: Mapping[str, int] | None = None,
) -> Cost:
    """What a trial of so many fused seeds takes, all its stages together.

    Text tokens are exact where names alone decide them, and expectations where batches are drawn or
    seeds differ in their pseudo-new classes. Drawing pictures, optimizers, norms and all else that
    is no matrix product is left out.

    Args:
        data, targets: of config.dataset (as studied_classes cuts it) and of config.targets.
        ran: epochs that were run, by stage (EpochMetrics.stage); None: all that are planned, an
            upper bound.

    Raises:
        UnknownCostError: nobody has written down what the generator or the fine-tuner computes.
    """
    trial = _Stages(config, n_seeds, tower, ran)
    plan = PLANS[config.protocol](config, data, targets)
    total = Cost()
    for sentences in plan.encoded:
        lengths = tower.sentence_lengths(sentences)
        total += plain_pass(tower, counted(lengths), False, n_seeds)
    if plan.selection is not None:
        total += trial.select(*plan.selection, plan.ages)
    task = plan.retrained or plan.finals[0][0]
    generator, fitting = trial.fit(task, "final_generator")
    finetuner = trial.finetuner(task, generator)
    if plan.retrained is not None:
        total += fitting
    # an age's exam is the test
    for task, exams in plan.finals if plan.ages == 1 else ():
        if plan.retrained is not None:
            finetuner = trial.finetuner(task, generator)
            epochs = trial.epochs("final", finetuner.epochs * len(plan.finals))
            total += finetuner.once + finetuner.epoch.times(epochs / len(plan.finals))
        for exam in exams:
            chosen = min(n_seeds, finetuner.choices)
            total += finetuner.logits(exam.pictures).times(chosen)
        total += trial.judge(task, exams[0], _of_task(generator, config, task, tower, n_seeds))
    return total


def _of_task(
    generator: GeneratorCost | None,
    config: TrialConfig,
    task: TaskShape,
    tower: TowerShape,
    n_seeds: int,
) -> GeneratorCost | None:
    """The generator as it samples for a task: cross_dataset's targets have names of their own."""
    if generator is None:
        return None
    return _known(GENERATOR_COSTS, "generator", config.generator.name)(
        config.generator, task, tower, n_seeds
    )


Model = TypeVar("Model")


def _known(models: Mapping[str, Model], noun: str, name: str) -> Model:
    """What counts a generator or a fine-tuner."""
    if name not in models:
        raise UnknownCostError(
            f"nobody has written down what {noun} {name} computes, as it is a plugin"
        )
    return models[name]


class _Stages:
    """What every stage of a trial needs."""

    def __init__(
        self, config: TrialConfig, n_seeds: int, tower: TowerShape, ran: Mapping[str, int] | None
    ) -> None:
        self.config, self.n_seeds, self.tower, self.ran = config, n_seeds, tower, ran

    def epochs(self, stage: str, planned: int) -> int:
        """Epochs of a stage: those that ran, if that is known."""
        return planned if self.ran is None else self.ran.get(stage, 0)

    def fit(self, task: TaskShape, stage: str) -> tuple[GeneratorCost | None, Cost]:
        """The generator on a task's seen classes, and what fitting it takes."""
        config = self.config.generator
        model = _known(GENERATOR_COSTS, "generator", config.name)
        made = model(config, task, self.tower, self.n_seeds)
        if made is None:
            return None, Cost()
        return made, made.once + made.epoch.times(self.epochs(stage, made.epochs))

    def finetuner(self, task: TaskShape, generator: GeneratorCost | None) -> FinetunerCost:
        """The fine-tuner of a task."""
        synthesis = None
        own = _of_task(generator, self.config, task, self.tower, self.n_seeds)
        if own is not None and task.n_made:
            synthesis = SynthesisCost(self.config.synthetic, own, task)
        config = self.config.finetuner
        model = _known(FINETUNER_COSTS, "finetuner", config.name)
        return model(config, task, self.tower, self.n_seeds, synthesis)

    def select(self, task: TaskShape, exam: ExamShape, ages: int) -> Cost:
        """The stages of selection; with several ages of the generator, each is looked at once."""
        generator, fitting = self.fit(task, "selection_generator")
        finetuner = self.finetuner(task, generator)
        if ages > 1:
            count = min(ages, generator.epochs or 1) if generator is not None else 1
            looked = finetuner.logits(exam.pictures).times(finetuner.choices)
            trained = finetuner.epoch.times(self.epochs("selection", finetuner.epochs * count))
            return fitting + (finetuner.once + looked).times(count) + trained
        looks = self.evaluations(finetuner.epochs) * finetuner.choices
        looked = finetuner.logits(exam.pictures).times(looks)
        trained = finetuner.once + finetuner.epoch.times(finetuner.epochs)
        return fitting + self.judge(task, exam, generator) + trained + looked

    def evaluations(self, epochs: int) -> int:
        """How often selection looks, epoch 0 and the last one among them."""
        every = self.config.eval_every
        return 1 + epochs // every + (epochs % every > 0)

    def judge(self, task: TaskShape, exam: ExamShape, generator: GeneratorCost | None) -> Cost:
        """What drawing synthetic features of an exam's classes and judging them takes.

        Args:
            task: says which classes are synthesized.
            exam: whose pictures the features are compared with.
            generator: that draws them; None: there is none, and nothing is judged.
        """
        if generator is None or not exam.judged or not self.config.quality:
            return Cost()
        n, f = exam.per_class * task.n_made, self.tower.feature_dim
        drawn = any(0 < share < 1 for share in task.made)
        sampling = generator.sample(Asked(n, task.made, drawn))
        recognised = 2 * product(n, f, len(task.names))
        x, y = min(exam.judged, MAX_FEATURES), min(n, MAX_FEATURES)
        distances = product(x + y, f, x + y) + product(x, f, y)
        resampled = product(BOOTSTRAP_DRAWS, x, x + y) + product(BOOTSTRAP_DRAWS, y, y)
        quality = self.n_seeds * (recognised + distances + resampled)
        return sampling + Cost(evaluation_flops=quality)
