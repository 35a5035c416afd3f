"""Studies of one name: which one a name means, and how a report says so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from reports.cli import app
from reports.contract.names import TAG_FRESH_OF, find_study, split_name
from reports.contract.schema import ReportError
from reports.read.runs import locate
from tests.reports.builder import prompt_len

Build = Callable[..., Any]


def test_a_number_is_what_follows_the_last_full_stop() -> None:
    """Other names have none."""
    assert split_name("prompt_len.2") == ("prompt_len", 2)
    assert split_name("prompt_len-2") == ("prompt_len-2", None)
    assert split_name("prompt_len.02") == ("prompt_len.02", None)


def test_a_bare_name_is_the_newest() -> None:
    """Ten comes after nine; a number names one; NAME.1 is the experiment NAME."""
    store = {"a": "", **{f"a.{n}": "a" for n in (2, 9, 10)}, "a-3": "", "ab.11": "ab"}
    found = find_study("a", store)
    assert found is not None
    assert (found.experiment, found.exact, found.newest) == ("a.10", "a.10", True)
    assert found.line == "study a.10, the newest; beside it: a.1, a.2, a.9"
    first = find_study("a.1", store)
    assert first is not None
    assert (first.experiment, first.exact, first.newest) == ("a", "a.1", False)
    assert first.line == "study a.1, an older one, the newest is a.10; beside it: a.2, a.9, a.10"
    assert find_study("a.3", store) is None


def test_a_study_alone_has_no_number() -> None:
    """Nor is there anything to say."""
    found = find_study("a", {"a": "", "b": ""})
    assert found is not None
    assert (found.exact, found.line) == ("a", "")
    assert find_study("a.1", {"a": ""}) == found


def test_somebody_elses_experiment_is_no_later_study() -> None:
    """Without the tag, NAME.2 is not ship-sweep's."""
    found = find_study("a", {"a": "", "a.2": ""})
    assert found is not None
    assert found.experiment == "a"
    assert find_study("a.2", {"a": "", "a.2": ""}) is None


@pytest.fixture
def two(packaged: Build, store_uri: str) -> str:
    """A store with prompt_len and a later study of that name, with fewer levels."""
    from mlflow.tracking import MlflowClient

    packaged().write(store_uri)
    prompt_len(name="prompt_len.2", seeds=(0, 1, 2)).write(store_uri)
    client = MlflowClient(tracking_uri=store_uri)
    later = client.get_experiment_by_name("prompt_len.2")
    client.set_experiment_tag(later.experiment_id, TAG_FRESH_OF, "prompt_len")
    return store_uri


@pytest.mark.parametrize("fast", [True, False])
def test_both_ways_to_read_a_store_find_the_same(
    two: str, monkeypatch: pytest.MonkeyPatch, fast: bool
) -> None:
    """Plain SQL, and MLflow's client."""
    if not fast:
        monkeypatch.setattr("reports.read.runs._names_from_sqlite", lambda *_: None)
    assert locate("prompt_len", two).exact == "prompt_len.2"
    assert locate("prompt_len.1", two).experiment == "prompt_len"
    with pytest.raises(ReportError, match=r"no study 'prompt_len.3'; studies here: prompt_len, p"):
        locate("prompt_len.3", two)


def test_a_report_says_which_study_it_shows(
    two: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the title, the folder's name, a footnote, and on stderr."""
    monkeypatch.chdir(tmp_path)
    newest = CliRunner().invoke(app, ["prompt_len", "--tracking-uri", two])
    assert newest.exit_code == 0, newest.output
    line = "study prompt_len.2, the newest; beside it: prompt_len.1"
    assert newest.stderr.strip() == line
    assert "prompt_len.2: generator.n_ctx" in newest.stdout
    assert line in (tmp_path / "prompt_len.2-report" / "prompt_len.2.md").read_text()
    first = CliRunner().invoke(app, ["prompt_len.1", "--tracking-uri", two, "--format", "markdown"])
    assert "### prompt_len.1: generator.n_ctx" in first.stdout
    assert "5 seeds" in first.stdout
    assert "the newest is prompt_len.2" in first.stderr
