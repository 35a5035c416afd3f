"""Reports state that models were tested untrained, or that selection was saturated."""

from pathlib import Path

import pytest

import harness
from reports import load_study
from ship.clip import FrozenCLIP
from tests.harness.conftest import Bench
from tests.harness.study.test_trained import make_model_study, run_study
from tests.ship.conftest import build_features

STUDY = Path(__file__).parent / "untrained.yaml"


def check_answer(text: str) -> None:
    """Check that an answer has no verdict, and explains why."""
    assert text.startswith("no headroom: real images do not change H")
    assert "saturated: in 4 of 4 trials" in text
    assert "kl_weight: No verdict: there is no headroom and selection is saturated." in text
    assert "Synthetic features do not change H" in text
    assert "inconclusive" not in text and "quivalent" not in text


@pytest.mark.slow
def test_untrained_fine_tuner_gets_no_verdict(bench: Bench) -> None:
    """The store, the table and the answer have the flags."""
    features = build_features(FrozenCLIP.load("pocket"))
    finetuner = {"name": "coop", "epochs": 4, "lr": 1e-12, "batch_size": 5}
    study = make_model_study(finetuner=finetuner, eval_every=1, controls=True, save_models=False)
    assert run_study(bench, features, study).complete
    loaded = load_study("small", tracking_uri=bench.uri)
    check_answer(str(loaded.answer()))
    rows = loaded.rows
    trained = rows.filter((rows["control"] != "zero_shot") | rows["control"].is_null())
    assert trained["flag/saturated"].to_list() == [1.0] * 10
    assert trained["flag/untrained"].to_list() == [0.0] * 10
    frame = loaded.table("generator.kl_weight").frame
    assert frame.filter(control="zero_shot")["epoch"].to_list() == [None]
    assert frame["epoch"].drop_nulls().to_list() == [4] * 5


@pytest.mark.weekly
@pytest.mark.timeout(600)
def test_study_without_headroom_gets_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study uses the packaged images and backbone, and a published learning rate."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIP_SWEEP_CACHE", str(tmp_path / "cache"))
    assert harness.run_study(STUDY, in_process=True).complete
    loaded = load_study("untrained")
    check_answer(str(loaded.answer()))
    table = loaded.table("generator.kl_weight").markdown()
    assert "| **0.001 †** | **2** | **4** |" in table
    assert "† saturated in 10 of 10 trials" in table
