"""Defaults of a study that omits keys, in a dry run, in the store and in results."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import reports
from harness import run_study
from harness.config.load import load_study
from harness.study_files import parse_value
from tests.harness.conftest import Bench

BARE_STUDY: dict[str, Any] = {"space": {"generator": ["none", "vae", "real"]}, "seeds": 2}
LINE = "defaults of backbone pocket for keys that the YAML omits: dataset photos, "


def make_bare_study(**keys: Any) -> Any:
    """Return a study with few keys that runs on one worker."""
    return load_study({"name": "small", **BARE_STUDY, "max_concurrent_trials": 1, **keys})


def read_artifact(bench: Bench, name: str) -> str:
    """Return the text of a file that the study's own run has."""
    client, run_id = bench.open_store().client, bench.get_study_run().info.run_id
    return Path(client.download_artifacts(run_id, name)).read_text()


def test_dry_run_lists_the_defaults(bench: Bench) -> None:
    """They are in one line. A study that uses no defaults has no such line."""
    (line,) = [
        note for note in bench.plan(make_bare_study()).notes if note.startswith("defaults of")
    ]
    assert line.startswith(LINE)
    assert "finetuner.coop.lr 0.3, finetuner.coop.epochs 60" in line
    packaged = bench.plan(load_study("prompt_len"))
    assert not any(note.startswith("defaults of") for note in packaged.notes)


def test_store_has_the_defaults_as_values(bench: Bench) -> None:
    """The resolved YAML is the same study, so nothing is left to run."""
    bench.run(make_bare_study())
    started, tags = bench.list_started(), dict(bench.get_study_run().data.tags)
    resolved = parse_value(read_artifact(bench, "study.resolved.yaml"), "x")
    assert (resolved["dataset"], resolved["finetuner"]["lr"]) == ("photos", 0.3)
    for again in (make_bare_study(), load_study(resolved)):
        plan = bench.plan(again)
        assert plan.finished
        assert not any("changed" in note for note in plan.notes)
        bench.run(again)
        assert bench.list_started() == started
        stored = bench.get_study_run().data.tags
        assert {name: text for name, text in stored.items() if name in tags} == tags


def test_other_value_for_an_omitted_key_is_a_change(bench: Bench) -> None:
    """The plan's note has the previous default and the new value."""
    bench.run(make_bare_study())
    notes = "\n".join(bench.plan(make_bare_study(finetuner={"lr": 0.002})).notes)
    assert "finetuner.lr: 0.3 -> 0.002" in notes


def run_real_method(space: str, overrides: list[str], folder: Path, uri: str) -> Any:
    """Run a study with ship's method in this process, and return its outcome and its results."""
    cache = folder / "cache"
    outcome = run_study(space, overrides, in_process=True, tracking_uri=uri, cache_dir=cache)
    assert outcome.complete
    return outcome, reports.load_study(space, uri)


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_bare_study_trains_and_real_images_raise_h(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most seeds are tested after training, and the gain's confidence interval excludes 0."""
    monkeypatch.chdir(tmp_path)
    Path("bare.yaml").write_text("space: {generator: [none, real]}\ncontrols: false\n")
    overrides = ["max_classes=40"]  # takes a minute
    outcome, study = run_real_method("bare", overrides, tmp_path, uri)
    assert (outcome.done, outcome.failed, outcome.missing) == (2, 0, 0)
    trained = study.rows.group_by("generator").agg((pl.col("selection_epoch") > 0).mean())
    assert trained["selection_epoch"].min() > 0.5
    (real,) = study.estimates.filter(row="generator real", metric=study.metric).to_dicts()
    assert real["difference_low"] > 0
    assert real["difference"] > 3


@pytest.mark.weekly
@pytest.mark.timeout(900)
def test_packaged_study_tests_only_trained_models(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each seed of the baseline and of the controls is tested after at least one epoch."""
    monkeypatch.chdir(tmp_path)
    small = ["seeds=2", "max_classes=40", "space={generator.n_ctx: [4]}"]
    _, study = run_real_method("prompt_len", small, tmp_path, uri)
    rows = study.rows
    trained = rows.filter(pl.col("flag/untrained").is_not_null())
    assert len(trained) == 2 * 4  # the baseline, and all controls except zero-shot
    assert trained["flag/untrained"].sum() == 0
    assert trained["selection_epoch"].min() > 0
