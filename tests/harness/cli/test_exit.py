"""The lines at the end of a run."""

import shlex

import pytest

from harness.cli.exit import COMPLETE, INTERRUPTED, Closing, finish
from harness.planning import StudyOutcome


def test_the_command_for_mlflow_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the folder is called, the store's address is one word of the shell."""
    uri = "sqlite:////tmp/a b's $(x)/mlflow.db"
    outcome = StudyOutcome(0, 0, 0, 0, "small", uri, interrupted=False, ran=True)
    assert finish(outcome, Closing()) == COMPLETE
    command = capsys.readouterr().out.partition(": ")[2]
    assert shlex.split(command) == ["mlflow", "ui", "--backend-store-uri", uri, "--port", "5000"]


def test_a_report_that_is_not_in_mlflow_is_told_of_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The study is complete all the same, and so is its exit code."""
    told = "the report is not in MLflow yet, the same command writes it: no answer"
    outcome = StudyOutcome(0, 0, 0, 0, "small", "http://host", ran=True, unpublished=told)
    assert finish(outcome, Closing()) == COMPLETE
    assert capsys.readouterr().err.splitlines() == [told]


@pytest.mark.parametrize(("arms", "what"), [(0, "setting"), (2, "setting but 2 reference arms")])
def test_an_interrupted_study_without_a_result_says_so(
    capsys: pytest.CaptureFixture[str], arms: int, what: str
) -> None:
    """In a sentence, not in a table of dashes, and then how it goes on."""
    keys = {"interrupted": True, "ran": True, "arms": arms}
    outcome = StudyOutcome(arms, 0, 0, 5, "small", "sqlite:///mlflow.db", **keys)
    assert finish(outcome, Closing()) == INTERRUPTED
    out, err = capsys.readouterr()
    assert out.startswith(f"no {what} has finished yet, so there is no table\nall runs ")
    assert err == "interrupted: the same command goes on from here\n"
