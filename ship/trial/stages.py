"""What the stages of a trial are made of: a generator that is fitted, fine-tuners, the journal."""

from collections.abc import Generator as GeneratorOf
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ship.clip import FrozenCLIP
from ship.epoch_metrics import EpochMetrics, Stage
from ship.finetuners import FusedFinetuner, build_finetuner
from ship.generators import FeatureSource, Sample, Synthesizer, build_generator
from ship.protocols import Final, Protocol
from ship.subsets import FeatureSet
from ship.tasks import Task
from ship.training import Part, State
from ship.trial.journal import Journal
from ship.trial.judge import judge
from ship.trial.selection import Best, Choices
from ship.trial.trained import trained_files
from ship.trial_config import TrialConfig


@dataclass(frozen=True)
class Fitted:
    """A fitted generator (None: no synthetic features) and what its last epoch reported."""

    generator: FeatureSource | None
    reported: Mapping[str, Tensor]

    def parts(self) -> dict[str, Part]:
        """The generator by its name in a checkpoint."""
        return {} if self.generator is None else {"generator": self.generator}

    def sampler(self, ids: Int[Tensor, " n_cls"] | None = None) -> Sample | None:
        """What draws features of a task's classes; None: there is no generator.

        Args:
            ids: each class as the generator's own task numbers it; None: the same numbers.
        """
        if self.generator is None:
            return None
        sample = self.generator.sample
        return sample if ids is None else lambda class_ids, rng: sample(ids[class_ids], rng)

    def judged(self, finals: Sequence[Final], seeds: Sequence[int]) -> dict[str, Tensor]:
        """Quality of features synthesized for the finals' classes, (replica,) each, by name.

        Over several finals it is the mean, of flags the maximum; {} without generator.
        """
        found = [
            judge(sample, final.exams[0], seeds)
            for final in finals
            if (sample := self.sampler(final.ids)) is not None
        ]
        shared = set.intersection(*map(set, found)) if found else set()
        names = [name for name in (found[0] if found else ()) if name in shared]
        stacked = {name: torch.stack([one[name] for one in found]) for name in names}
        return {
            # a flag is up where any target raised it
            name: values.amax(0) if name.startswith("flag/") else values.mean(0)
            for name, values in stacked.items()
        }

    def flags(self) -> dict[str, Tensor]:
        """flag/posterior_collapse, (replica,) of 0 or 1: no latent unit is active.

        {} for generators without a posterior.
        """
        if "active_units" not in self.reported:
            return {}
        return {"flag/posterior_collapse": (self.reported["active_units"] == 0).double()}


@dataclass(frozen=True)
class Trial:
    """What every stage of a trial needs.

    kept: the dataset, where what is trained is to be kept; None: it is not.
    """

    config: TrialConfig
    seeds: Sequence[int]
    clip: FrozenCLIP
    journal: Journal
    kept: FeatureSet | None = None

    def fit(
        self, task: Task, stage: Stage, **kept: Part
    ) -> GeneratorOf[EpochMetrics, None, Fitted]:
        """Fit the generator on the task's seen classes.

        Args:
            kept: what a later stage needs beside it.
        """
        generator = self.generator(task)
        if generator is None:
            self.journal.enter(**kept)
            return Fitted(None, {})
        self.journal.enter(generator=generator, **kept)
        losses: Mapping[str, Tensor] = self.journal.reported(stage)
        for epoch in range(self.journal.done(stage) + 1, generator.epochs + 1):
            if epoch > 1 and generator.finished:
                break
            losses = generator.train_epoch()
            yield from self.journal.report(stage, epoch, losses)
        return Fitted(generator, losses)

    def keep(
        self,
        protocol: Protocol,
        generator: State | None,
        finetuners: Sequence[State],
        best: Best,
        choices: Choices,
    ) -> None:
        """Note what was tested, where that is kept.

        Args:
            protocol: whose finals it was tested in.
            generator: what it has learned; None: there is none.
            finetuners: what that of each final has learned.
            best: what selection chose for each replica.
            choices: for inference, which it was chosen from.
        """
        if self.kept is not None:
            self.journal.trained = trained_files(
                self.config,
                self.seeds,
                self.kept,
                self.clip,
                protocol,
                generator,
                finetuners,
                best.epoch.tolist(),
                [choices[place] for place in best.choice.tolist()],
            )

    def generator(self, task: Task) -> FeatureSource | None:
        """The generator for a task before its first epoch; None: no synthetic features."""
        return build_generator(self.config.generator, task, self.clip, self.seeds)

    def finetuner(self, task: Task, sample: Sample | None) -> FusedFinetuner:
        """The untrained fine-tuner of a task."""
        synthesizer = None
        if sample is not None and task.synthesized_ids.shape[1]:
            synthesizer = Synthesizer(self.config.synthetic, sample, task, self.seeds)
        return build_finetuner(self.config.finetuner, task, synthesizer, self.clip, self.seeds)
