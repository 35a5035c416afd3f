"""Checkpoints in a folder or a bucket are complete or missing, even if their writer is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.checkpoints import Storage, StorageError, resolve_storage_uri
from harness.store import Timing, open_and_lock_study
from harness.study.run import make_storage


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Return an empty storage."""
    uri = str(tmp_path) if request.param == "folder" else request.getfixturevalue("bucket")
    return Storage(uri, "study")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Create a bucket on an S3 server of this machine."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    from pyarrow.fs import FileSystem

    system, _ = FileSystem.from_uri(f"s3://studies?{options}&allow_bucket_creation=true")
    system.create_dir("studies")
    yield f"s3://studies/below?{options}"
    server.stop()


def test_file_is_read_as_written(storage: Storage) -> None:
    """A file can be replaced; removing a missing file is not an error."""
    assert storage.read("a") is None
    storage.check()
    for data in (b"one", bytes(3 * 2**20)):
        storage.write("a", data)
        assert storage.read("a") == data
    storage.write("b", b"other")
    storage.delete("a")
    storage.delete("a")
    assert storage.read("a") is None
    assert storage.read("b") == b"other"
    storage.remove()
    storage.remove()
    assert storage.read("b") is None


def test_studies_and_stores_do_not_share_checkpoints(tmp_path: Path) -> None:
    """Stores of two machines may have the same address and the same experiment IDs."""

    def make_study_storage(folder: str, study: str) -> Storage:
        (tmp_path / folder).mkdir(exist_ok=True)
        with open_and_lock_study(
            f"sqlite:///{tmp_path / folder}/mlflow.db",
            study,
            Timing(claim_pause=0.0),
            timeout=0.0,
            fail=Mock(),
            is_stopped=Mock(),
            print_line=Mock(),
        ) as study_store:
            return make_storage(str(tmp_path), study_store)

    storage = make_study_storage("a", "small")
    assert make_study_storage("a", "small") == storage
    for other in (make_study_storage("b", "small"), make_study_storage("a", "large")):
        storage.write("x", b"checkpoint")
        assert other.read("x") is None
        other.remove()
        assert storage.read("x") == b"checkpoint"


def test_storage_uri_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option precedes the environment variable and the cache; paths become absolute."""
    monkeypatch.delenv("SHIP_SWEEP_STORAGE", raising=False)
    assert resolve_storage_uri(None, tmp_path) == str(tmp_path / "checkpoints")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIP_SWEEP_STORAGE", "s3://bucket/x")
    assert resolve_storage_uri(None, tmp_path) == "s3://bucket/x"
    assert resolve_storage_uri("near", tmp_path) == str(tmp_path / "near")
    for folder in ("a:b", "s3"):
        assert resolve_storage_uri(folder, tmp_path) == str(tmp_path / folder)
    with pytest.raises(StorageError, match="must be a folder or begin with s3://, got 's3:/x'"):
        resolve_storage_uri("s3:/x", tmp_path)


WRITER = """
import sys
from harness.checkpoints import Storage
storage = Storage(sys.argv[1], "study")
for number in range(10**6):
    storage.write("a", bytes([number % 256]) * 2**24)
"""


@pytest.mark.faults
def test_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    """The file is the old or the new one, whenever the writer is killed."""
    storage = Storage(str(tmp_path), "study")
    for attempt in range(8):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)])
        end = time.monotonic() + 60
        while storage.read("a") is None:
            assert time.monotonic() < end
            time.sleep(0.01)
        time.sleep(0.01 * attempt)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        data = storage.read("a")
        assert data is not None
        assert len(data) == 2**24
        assert data == data[:1] * 2**24
        storage.delete("a")
    assert not list(tmp_path.rglob("*.part"))
