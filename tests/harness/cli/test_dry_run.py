"""--dry-run prints the plan on stdout, and warnings on stderr."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import harness.resources
import harness.study
from harness.planning.configurations import Configuration
from harness.planning.plan import PlanRow, TimeEstimate
from harness.store import RunHistory
from ship.trial_config import TrialConfig
from tests.harness.cli.conftest import invoke

DRY = ("--space", "prompt_len", "--dry-run")


SetPlan = Callable[..., None]


@pytest.fixture
def set_plan(monkeypatch: pytest.MonkeyPatch) -> SetPlan:
    """Return a function that replaces the plan of any study. Its keywords are the plan's fields."""

    def replace_plan(**fields: Any) -> None:
        empty = {
            "rows": (),
            "n_proposals": 0,
            "estimate": None,
            "notes": (),
            "history": RunHistory(),
            "finished": False,
        }
        plan = SimpleNamespace(**{**empty, **fields})
        monkeypatch.setattr(harness.study, "plan_study", lambda *_, **__: plan)

    return replace_plan


def test_the_plan_and_its_time_are_printed_and_nothing_runs(
    calls: dict[str, Any], set_plan: SetPlan
) -> None:
    """The plan has state, seeds and time per configuration, the total time, and its basis.

    Control characters of notes are escaped.
    """
    rows = (
        PlanRow(Configuration("a", TrialConfig(), {"n_ctx": "[1]"}), (), done=(0, 1)),
        PlanRow(Configuration("b", TrialConfig(), {"n_ctx": 2}), (1,), done=(0,)),
        PlanRow(Configuration("c", TrialConfig(), {"n_ctx": 4}), (0, 1)),
    )
    estimate = TimeEstimate({"b": 0.4, "c": 90.0}, (0.4, 90.0), (72.0,) * 100, 2, 12)
    notes = ("x.yaml: the study has changed:\n  shots: 4, was \x1b[31m8",)
    set_plan(rows=rows, n_proposals=3, estimate=estimate, notes=notes)
    lines = invoke(*DRY).stdout.splitlines()
    assert [line.split() for line in lines[2:5]] == [
        ["n_ctx=[1]", "done"],
        ["n_ctx=2", "to", "run", "1", "<1", "s"],
        ["n_ctx=4", "to", "run", "0,", "1", "1.5", "min"],
    ]
    assert lines[5:-1] == [
        "3 more configurations will be proposed by the sampler",
        "estimated time left for trials: about 1.0 h on this machine, 2 trials at once "
        "(about 2.0 h of computing); from 12 finished trials",
        "x.yaml: the study has changed:",
        "  shots: 4, was \\x1b[31m8",
    ]
    assert lines[-1].startswith("the difference that 10 seeds can detect is unknown")
    # the number of concurrent trials is unknown on a cluster
    on_cluster = invoke(*DRY, "--address", "auto").stdout
    assert "for trials: about 2.0 h of computing; from 12 finished trials" in on_cluster
    assert "study" not in calls


def test_without_a_finished_trial_the_time_is_reported_as_unknown(
    calls: dict[str, Any], set_plan: SetPlan
) -> None:
    """A plan without work has no such line."""
    unknown = "estimated time left for trials: unknown until the first trial has finished"
    set_plan(rows=(PlanRow(Configuration("a", TrialConfig(), {"n_ctx": 1}), (0,)),))
    assert invoke(*DRY).stdout.splitlines()[3].startswith(unknown)
    set_plan(finished=True)
    assert unknown not in invoke(*DRY).stdout


GPU = ("--set", "resources.gpus=1")
SERIAL = ("--set", "max_concurrent_trials=1")


@pytest.mark.parametrize(
    ("arguments", "gpus", "finished", "warning"),
    [
        (GPU, 0, False, "warning: a run would be refused: resources must fit one machine"),
        (GPU, 0, True, ""),
        (SERIAL, 2, False, "warning: 1 of 2 GPUs would be idle: lower `resources.cpus` or"),
        ((), 2, False, ""),
        ((), 2, True, ""),
        (("--address", "auto"), 2, False, ""),
    ],
)
def test_a_dry_run_warns_of_missing_and_idle_resources(
    set_plan: SetPlan,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    gpus: int,
    finished: bool,
    warning: str,
) -> None:
    """The plan is shown nevertheless, since the study may run on another machine."""
    set_plan(finished=finished)
    monkeypatch.setattr(harness.resources, "count_visible_gpus", lambda: gpus)
    monkeypatch.setattr(harness.resources, "find_gpu_fault", lambda: None)
    result = invoke(*DRY, *arguments)
    assert result.exit_code == 0 and "study prompt_len" in result.stdout
    assert result.stderr.startswith(warning) and len(result.stderr.splitlines()) == bool(warning)
