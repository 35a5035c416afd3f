"""What a run of a study has come to."""

from dataclasses import dataclass

from harness.planning.plan import Plan
from reports.contract import State


@dataclass(frozen=True)
class StudyOutcome:
    """What a run left behind, counted in settings (reference arms included).

    done: finished for every seed. failed: without a number for some seed, with a reason.
    pruned: stopped by the scheduler. missing: not run, or cut short.
    ran: whether anything was run at all.
    final: no run would change it: nothing is missing, and what failed would fail again.
    arms: reference arms among those done: what a study is about has no result by them alone.
    unpublished: why the study's own run does not show the report; "" where it does, or was not to.
    """

    done: int
    failed: int
    pruned: int
    missing: int
    experiment: str
    tracking_uri: str
    interrupted: bool = False
    ran: bool = False
    final: bool = False
    arms: int = 0
    unpublished: str = ""

    @property
    def complete(self) -> bool:
        """Whether every setting has a number, or was stopped by the scheduler."""
        return not self.failed and not self.missing and not self.interrupted

    @property
    def state(self) -> State:
        """The state of the study's own run."""
        if self.interrupted:
            return State.INTERRUPTED
        return State.COMPLETE if self.complete else State.FAIL


def outcome_of(
    plan: Plan, experiment: str, tracking_uri: str, *, interrupted: bool, ran: bool
) -> StudyOutcome:
    """Count what a study has come to, in settings.

    Args:
        plan: made after the run, from the ledger as it is then.
        experiment: the study's name in the store.
        tracking_uri: of the store.
        interrupted: whether somebody stopped the run.
        ran: whether anything was run at all.
    """
    rows = plan.rows
    arms = {setting.key for setting in plan.settings if setting.arm}
    return StudyOutcome(
        done=sum(row.state == "done" for row in rows),
        failed=sum(bool(row.reason) for row in rows),
        pruned=sum(row.state == "pruned" for row in rows),
        missing=sum(bool(row.seeds) and not row.reason for row in rows) + plan.proposals,
        experiment=experiment,
        tracking_uri=tracking_uri,
        interrupted=interrupted,
        ran=ran,
        final=plan.finished,
        arms=sum(row.state == "done" and row.key in arms for row in rows),
    )
