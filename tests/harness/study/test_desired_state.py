"""Changes of a study's YAML, weights or images, and notes of a dry run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.factor import Factor
from harness.config.load import load_study
from harness.config.study_config import StudyConfig
from harness.errors import UserError
from harness.method import MethodFunctions
from harness.planning.changes import StudyChanged
from harness.planning.configurations import Configuration
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import Plan, PlanRow
from harness.study.gpu_cost import format_gpu_cost
from harness.study.state import format_prompt_costs, format_prompts, plan_study
from reports.study.load import load_records
from ship.trial_config import TrialConfig
from ship.trial_cost import compute_trial_cost
from tests.harness import fakes
from tests.harness.conftest import Bench
from tests.harness.fakes import FakeImages, make_study


def read_runs(bench: Bench, name: str = "small") -> list[Any]:
    """Return all data of a study's runs."""
    return [run.to_dictionary() for run in bench.list_runs(name)]


@pytest.mark.slow
def test_changed_constant_is_refused_until_accepted(bench: Bench) -> None:
    """A refused study writes nothing. An accepted change is not refused again."""
    bench.run(make_study())
    edited, before = make_study(shots=4), read_runs(bench)
    plan = bench.plan(edited)
    assert [row.state for row in plan.rows] == ["to run"] * 3
    assert "shots: 16 -> 4\n6 finished rows of 3 configurations" in plan.notes[0]
    with pytest.raises(StudyChanged, match="shots: 16 -> 4"):
        bench.run(edited)
    assert read_runs(bench) == before
    assert load_records("small", bench.uri).rows.height == 6

    def behave(config: Any, epoch: int) -> None:
        if config.generator.n_ctx > 1:
            raise RuntimeError("power failure")

    bench.behave = behave
    outcome = bench.run(edited, accept_changes=True)
    assert (outcome.done, outcome.failed) == (1, 2)
    bench.behave = None
    plan = bench.plan(edited)
    assert all(note.startswith("defaults of backbone") for note in plan.notes)
    assert [row.state for row in plan.rows] == ["done", "to run", "to run"]
    assert bench.run(edited).done == 3
    assert load_records("small", bench.uri).n_left_out == 6
    bench.check_invariants()


def test_replaced_weights_are_detected_when_loaded(bench: Bench) -> None:
    """The run fails, and the next one requires that the change is accepted."""

    def make_dataset_study(seeds: int, *datasets: str) -> StudyConfig:
        factor = Factor(choices=datasets, baseline="emoji")
        return make_study(seeds=seeds).model_copy(update={"space": {"dataset": factor}})

    bench.run(make_dataset_study(1, "emoji"))
    method = replace(bench.method, load_backbone=fakes.load_other_weights)
    study = make_dataset_study(2, "emoji")
    planned = bench.get_study_run().data.tags["ship.planned"]
    with pytest.raises(UserError, match="backbone pocket: the weight files changed"):
        bench.run(study, method=method)
    assert bench.get_study_run().data.tags["ship.planned"] == planned
    assert bench.list_states() == ["COMPLETE"]
    bench.check_invariants()
    before = read_runs(bench)
    with pytest.raises(StudyChanged, match="backbone pocket: its content has changed"):
        bench.run(study, method=method)
    assert read_runs(bench) == before
    larger_study = make_dataset_study(1, "emoji", "caltech101")
    outcome = bench.run(larger_study, method=method, accept_changes=True)
    assert outcome.complete and outcome.done == 2
    assert bench.list_states() == ["COMPLETE"] * 3
    bench.check_invariants()


def test_packaged_authors_study_can_be_planned(tmp_path: Path) -> None:
    """It compares two selection rules, each with its controls."""
    study = load_study("authors", ["backbone=pocket", "dataset=photos"])
    plan = plan_study(
        study, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", cache_dir=tmp_path, details=False
    )
    labels = [row.label for row in plan.rows]
    controls = ["zero_shot", "no_synthetic", "text_feature", "real_images"]
    matched = [f"{name} (selection=authors)" for name in ("no_synthetic", "text_feature")]
    assert labels == [*controls, *matched, "selection=none", "selection=authors"]
    assert {row.state for row in plan.rows} == {"to run"}


def test_plan_shows_three_prompts_as_clip_reads_them(tmp_path: Path) -> None:
    """They are in lower case, in tokens and truncated. Methods with other prompts are skipped."""
    names = ("Sea Lion", "x " * 40, "caf\u00e9", "dog", "cat")
    images = FakeImages("mine", "d", "", names, "a {}.")
    method = MethodFunctions(load_dataset=lambda *_: images)
    configs = [
        TrialConfig(templates=templates) for templates in (("dataset",), ("dataset", "{} & co"))
    ]
    zero_shot = TrialConfig.model_validate(
        {"finetuner": {"name": "zero_shot", "templates": "ensemble"}}
    )
    few = TrialConfig(max_classes=4)
    rows = tuple(
        PlanRow(Configuration("k", config), (0,))
        for config in [*configs, configs[0], zero_shot, few]
    )
    plan = Plan(rows, (), 1)
    mapping = {"space": {"templates": ["dataset", "{} 2"]}, "finetuner": "clip_adapter"}
    study = make_study(**mapping, dataset="emoji", sampler="tpe", n_trials=1)
    assert format_prompts(study, plan, Fingerprints(method, None, tmp_path)) == [
        'prompts of emoji (5 class names), as pocket reads them: "a sea lion .", '
        f'"a {" ".join("x" * 29)}", "a caf\u00e9 ."',
        "prompts of emoji (5 class names, 2 templates each), as pocket reads them: "
        f'"a sea lion .", "{" ".join("x" * 30)}", "a caf\u00e9 ."',
        'prompts of emoji (4 class names), as pocket reads them: "a sea lion .", '
        f'"a {" ".join("x" * 29)}", "a caf\u00e9 ."',
        'prompts of emoji (5 class names), as pocket reads them: "sea lion 2", '
        f'"{" ".join("x" * 30)}", "caf\u00e9 2"',
    ]


def test_plan_names_backbones_with_expensive_prompts() -> None:
    """These are text towers without a causal mask. They cost more only if prompts are learned."""
    levels = ["ViT-B-16-SigLIP:webli", "MobileCLIP2-S0:dfndr2b", "RN50:openai"]
    mapping = {"space": {"backbone": levels}, "generator": "none", "dataset": "photos"}
    study = make_study(**mapping)
    assert format_prompt_costs(study, None) == [
        "the text tower of ViT-B-16-SigLIP:webli has no causal mask: a step of CoOp costs about "
        "16 times as much as with a causal mask",
        "the text tower of MobileCLIP2-S0:dfndr2b has no causal mask: a step of CoOp costs about "
        "19 times as much as with a causal mask",
    ]
    fixed = make_study(**mapping, finetuner="clip_adapter")
    assert format_prompt_costs(fixed, None) == []


def test_plan_estimates_gpu_cost_of_trials(tmp_path: Path) -> None:
    """Trials with the packaged backbone are not counted, since they need no GPU."""
    images = FakeImages("mine", "d", "", tuple(map(str, range(100))))
    prints = Fingerprints(MethodFunctions(load_dataset=lambda *_: images), None, tmp_path)
    keys: dict[str, Any] = {"shots": 16, "selection": "none"}
    rows = tuple(
        PlanRow(Configuration("k", TrialConfig(backbone=backbone, **keys)), (0, 1))
        for backbone in ("pocket", "ViT-B-16:openai")
    )
    (line,) = format_gpu_cost(Plan(rows, (), 0), prints)
    assert line.startswith("estimated cost of 1 trial on a GPU: ")
    cost = compute_trial_cost(rows[1].configuration.trial, n_seen=50, n_classes=100, n_seeds=2)
    assert f"{cost.operations / 1e15:.3g} PFLOP, {cost.launches / 1e6:.3g} million" in line
    assert format_gpu_cost(Plan(rows[:1], (), 0), prints) == []
