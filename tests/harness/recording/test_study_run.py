"""The study's YAML stands at its own run, whatever dies or is away while the run is described."""

from contextlib import suppress
from pathlib import Path

import pytest

from harness.config.study_config import StudyConfig
from harness.planning.fingerprints import Fingerprints
from harness.planning.plan import make_plan
from harness.recording.study_run import StudyRecord
from harness.store.ledger import Ledger
from tests.harness.fakes import make_study
from tests.harness.flaky import Crash, FakeStore, Post

TEXT = b"name: small  # as the user wrote it\r\n"


@pytest.fixture
def study(tmp_path: Path) -> StudyConfig:
    """A study that was read from a file."""
    source = tmp_path / "small.yaml"
    source.write_bytes(TEXT)
    return make_study().model_copy(update={"source": source})


@pytest.mark.parametrize("fate", ["before", "after", "crash before", "crash after"])
@pytest.mark.parametrize("place", range(2, 5))
def test_a_store_that_is_away(
    study: StudyConfig, prints: Fingerprints, tmp_path: Path, place: int, fate: str
) -> None:
    """The file waits with the tags, before them."""
    fake, plan = FakeStore(), make_plan(study, Ledger(), prints)
    post = Post(tmp_path, fake, *["ok"] * place, fate, fate)
    run_id = post.made_run("small")
    with suppress(Crash):
        StudyRecord(post.store, run_id).describe(study, plan)
    after = Post(tmp_path, fake)
    after.deliver_all()
    StudyRecord(after.store, run_id).describe(study, plan)
    (run,) = fake.runs.values()
    assert run.files == {"study.yaml": TEXT}
    calls = [call for call in post.client.calls + after.client.calls if call.startswith("log_")]
    assert calls.index("log_artifact") < calls.index("log_batch")
