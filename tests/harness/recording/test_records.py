"""The study's own run is correct although the store does not answer or the driver dies."""

from contextlib import suppress
from pathlib import Path

import pytest

from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.recording import numbers
from harness.recording.study_run import ParentRun
from harness.store.history import RunHistory
from tests.harness.fakes import make_study
from tests.harness.flaky import Crash, FakeStore, make_study_store

TEXT = b"name: small  # as the user wrote it\r\n"


@pytest.mark.parametrize("outcome", ["before", "after", "crash before", "crash after"])
@pytest.mark.parametrize("n_before", range(1, 4))
def test_yaml_is_saved_before_the_tags(
    prints: Fingerprints, tmp_path: Path, n_before: int, outcome: str
) -> None:
    """The order is kept if a request fails, or if the driver dies and another one continues."""
    source = tmp_path / "small.yaml"
    source.write_bytes(TEXT)
    study = make_study().model_copy(update={"source": source})
    fake, plan = FakeStore(), make_plan(study, RunHistory(), prints)
    first, second = (
        make_study_store(fake, *["ok"] * n_before, outcome, outcome),
        make_study_store(fake),
    )
    run_id = first.create_run("7", "small", {})
    with suppress(Crash):
        ParentRun(first, "7", run_id).describe(study, plan)
    (run,) = fake.runs.values()
    ParentRun(second, "7", run_id, dict(run.tags)).describe(study, plan)
    assert run.files["study.yaml"] == TEXT
    calls = [call for store in (first, second) for call in store.client.calls]  # type: ignore[attr-defined]
    assert calls.index("log_artifact") < calls.index("log_batch")


def test_an_edited_comment_updates_the_saved_yaml(prints: Fingerprints, tmp_path: Path) -> None:
    """The file is replaced although no value has changed."""
    source = tmp_path / "small.yaml"
    study = make_study().model_copy(update={"source": source})
    fake, plan = FakeStore(), make_plan(study, RunHistory(), prints)
    store = make_study_store(fake)
    run_id = store.create_run("7", "small", {})
    (run,) = fake.runs.values()
    for text in (TEXT, TEXT + b"# edited"):
        source.write_bytes(text)
        ParentRun(store, "7", run_id, dict(run.tags)).describe(study, plan)
        assert run.files["study.yaml"] == text


@pytest.mark.parametrize(
    ("ends", "n_seeds", "line"),
    [({}, 1, "H 61.8, 1 seed"), ({"_low": 61.1, "_high": 62.5}, 10, "H 61.8 ± 0.7, 10 seeds")],
)
def test_run_description_has_its_result(ends: dict[str, float], n_seeds: int, line: str) -> None:
    """It has the mean of the protocol's metric and half of its confidence interval, if any."""
    metrics = {f"test/harmonic_mean{end}": value for end, value in {"": 61.8, **ends}.items()}
    assert numbers.format_summary(metrics, n_seeds, "base_to_new") == line
    assert numbers.format_summary({}, n_seeds, "base_to_new") == ""
