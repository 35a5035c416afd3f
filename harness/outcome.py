"""What a run of a study has come to."""

from dataclasses import dataclass

from harness.plan import Plan


@dataclass(frozen=True)
class StudyOutcome:
    """What a run left behind, counted in settings (reference arms included).

    done: finished for every seed. failed: without a number for some seed, with a reason.
    pruned: stopped by the scheduler. missing: not run, or cut short.
    ran: whether anything was run at all.
    """

    done: int
    failed: int
    pruned: int
    missing: int
    experiment: str
    tracking_uri: str
    interrupted: bool = False
    ran: bool = False

    @property
    def complete(self) -> bool:
        """Whether the study is what its YAML says, failures apart from nothing."""
        return not self.failed and not self.missing and not self.interrupted


def outcome_of(
    plan: Plan, experiment: str, tracking_uri: str, *, interrupted: bool, ran: bool
) -> StudyOutcome:
    """Count the rows of the plan that would be next."""
    rows = plan.rows
    return StudyOutcome(
        done=sum(row.state == "done" for row in rows),
        failed=sum(bool(row.reason) for row in rows),
        pruned=sum(row.state == "pruned" for row in rows),
        missing=sum(bool(row.seeds) and not row.reason for row in rows) + plan.proposals,
        experiment=experiment,
        tracking_uri=tracking_uri,
        interrupted=interrupted,
        ran=ran,
    )
