"""One run of a study: what is left of it runs, and the store says what it has come to."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from harness import planning, resources, store
from harness.checkpoints import Storage
from harness.config import StudyConfig
from harness.planning import Adoption, Fingerprints, StudyOutcome
from harness.progress import reporter
from harness.recording import StudyRecord, TrialRecorder, adopt
from harness.store import StudyStore
from harness.study.interrupts import Interrupts
from harness.study.standing import Standing, read_standing, source_of
from harness.study.trials import Options, Trials
from reports.contract import State

Before = Callable[[str, str], None]  # takes the study's name and the store's URI


@dataclass
class Execution:
    """One run of a study.

    study: its name is its experiment's.
    store: of the study, where nobody else writes; methods may raise StoreError.
    fingerprints: of its data and weights, with the method and the cache folder.
    storage: of its checkpoints.
    options: how it is to be run.
    interrupts: whether somebody stops it.
    record: of the study's own run, from the first write on.
    """

    study: StudyConfig
    store: StudyStore
    fingerprints: Fingerprints
    storage: Storage
    options: Options
    interrupts: Interrupts

    def bring_about(self, before: Before | None) -> StudyOutcome:
        """Run what is left, and say what the study has come to.

        Args:
            before: called before a study that has runs already is changed and run on.

        Raises:
            KeyboardInterrupt: interrupted while the store was away, so that there is no outcome.
        """
        ran = False
        try:
            standing = self._standing()
            self.options.consent(standing.changes(), source_of(self.study))
            adoptable = self._adoptable(standing)
            left = sum(len(work.seeds) for work in standing.plan.work)
            adopted = sum(len(one.work.seeds) for one in adoptable)
            if left > adopted or standing.plan.proposals:
                self._check_places()
            if store.close_dead_runs(self.store, self.store.experiment_id):
                standing = standing.again()
            if before is not None and standing.ledger.runs and not standing.plan.finished:
                before(self.study.name, self.store.uri)
            self.record = StudyRecord.create(self.store, self.store.experiment_id, self.study)
            self.record.describe(self.study, standing.plan)
            self.record.place_runs(standing.ledger, standing.plan)
            if standing.plan.finished:
                outcome = self._outcome(standing)
                self.record.set_final_state(outcome.state)
                return outcome
            ran = True
            outcome = self._run_on_record(standing, adoptable)
        except (KeyboardInterrupt, SystemExit, Exception) as error:
            # whoever stops the study may have stopped Ray with it, which then fails in its own
            # ways; while Ray starts, its own handler of SIGTERM makes it a SystemExit
            if self.interrupts.failure is not None:  # told of as it is, wherever it struck
                raise self.interrupts.failure from None
            if not self.interrupts.requested and not isinstance(error, SystemExit):
                raise
            return self._interrupted(ran=ran)
        if outcome.complete:
            self.storage.forget()
        return outcome

    def _interrupted(self, *, ran: bool) -> StudyOutcome:
        """What has become of a study that somebody stopped, once nothing of it is RUNNING."""
        self.store.hurry()
        try:
            # a signal may have struck between a run's first write and the place that ends it
            store.close_dead_runs(self.store, self.store.experiment_id, store.INTERRUPTED)
            return self._outcome(self._standing(), interrupted=True, ran=ran)
        except store.StoreAway:  # whoever runs the study next closes it
            raise KeyboardInterrupt from None

    def _standing(self) -> Standing:
        experiment_id = self.store.experiment_id
        return read_standing(self.study, self.fingerprints, self.store, experiment_id)

    def _adoptable(self, standing: Standing) -> list[Adoption]:
        """What other studies of the store have finished of what is left."""
        if not self.options.reuse:
            return []
        return planning.adoptions(self.study, standing.plan, standing.elsewhere())

    def _check_places(self) -> None:
        """Raise a UserError where trials could not run, or not leave their checkpoints."""
        resources.preflight(self.options.address, self.study.resources)
        if self.study.checkpoint_every is not None:
            self.storage.check()

    def _outcome(
        self, standing: Standing, *, interrupted: bool = False, ran: bool = False
    ) -> StudyOutcome:
        """What the study has come to, by its plan.

        Args:
            interrupted: whether somebody stopped the run.
            ran: whether anything was run at all.
        """
        name, uri = self.study.name, self.store.uri
        return planning.outcome_of(standing.plan, name, uri, interrupted=interrupted, ran=ran)

    def _run_on_record(self, standing: Standing, adoptable: list[Adoption]) -> StudyOutcome:
        """Run the plan; the study's own run is RUNNING meanwhile, and then says what came of it."""
        self.record.begin()
        try:
            if adoptable:
                standing = self._adopt(standing, adoptable)
            ran = not standing.plan.finished
            if ran:
                how = self.storage, self.options, self.interrupts
                Trials(standing, self.record, *how).run()
                standing = standing.again()
            outcome = self._outcome(standing, ran=ran)
        except BaseException:
            with suppress(store.StudyLost):  # the study's run is another driver's
                self.record.end(State.INTERRUPTED)
            raise
        self.record.end(outcome.state)
        return outcome

    def _adopt(self, standing: Standing, adoptable: list[Adoption]) -> Standing:
        """Take over what other studies have finished; how the study stands then."""
        recorder, written = TrialRecorder(self.record, self.study, self.fingerprints), []
        with reporter("runs known from other studies", self.options.console) as report:
            for place, one in enumerate(adoptable):
                report(place, len(adoptable))
                if adopt(recorder, one):
                    written.append(one)
            report(len(adoptable), len(adoptable))
        for line in planning.adoption_lines(written):
            self.options.say(line)
        if len(written) < len(adoptable):  # what could not be taken runs
            self._check_places()
        return standing.again()
