"""A study gets another name, under which its YAML finds its runs."""

import json
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import UserError
from harness.store.lease import Holder, Timing
from harness.study.rename import rename_study
from reports.contract import Tag
from reports.read.records import load_records
from tests.harness.cli.conftest import invoke
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study


def test_a_renamed_study_has_all_that_it_had(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command; whoever has adopted its runs names it by its new name."""
    bench.run(make_study())
    bench.run(make_study(name="other", seeds=1))
    before = len(bench.lines())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", bench.uri)
    result = invoke("--rename", "small", "large", "--cache-dir", str(bench.cache))
    assert result.exit_code == 0, result.stderr
    assert "`name: large`" in result.stdout
    parent = bench.parent("large")
    assert parent.info.run_name == "large"
    assert load_records("large", bench.uri).config["name"] == "large"
    assert load_records("other", bench.uri).adopted == {"large": 3}
    outcome = bench.run(make_study(name="large"))
    assert outcome.complete and not outcome.ran and len(bench.lines()) == before
    tags = bench.parent("large").data.tags  # written anew, and the YAML with them
    assert json.loads(tags["ship.study"])["name"] == "large"
    bench.run(make_study(reference_arms=True))  # the old name is free
    assert len(bench.trials()) == 7


REFUSED: dict[tuple[str, str], list[str]] = {
    ("smal", "Large"): [
        "must hold the study, got 'smal' (did you mean small? choices: other, small)",
        "the new name must consist of a-z, 0-9, _ and -, and be free, got 'Large'",
    ],
    ("small", "other"): ["and be free, got 'other'"],
    ("Default", "free"): ["must hold the study, got 'Default' (choices: other, small)"],
    ("small", "gone"): ["experiment 'gone' was deleted; bring it back with"],
    ("other", "free"): ["study 'other' is being run by process 7 on host elsewhere"],
}


def test_what_cannot_be_is_refused(bench: Bench) -> None:
    """All mistakes at once, and nothing is changed."""
    store = bench.store()
    client = store.client
    client.delete_experiment(client.create_experiment("gone"))
    for name in ("small", "other"):
        bench.run(make_study(name=name, space={"generator.n_ctx": [1]}, seeds=1))
    held, holder = store.experiment("other"), Holder("t", "elsewhere", 7, "")
    client.set_experiment_tag(held, Tag.LOCK, json.dumps(vars(holder)))
    beats = iter(range(2, 100))

    def sleep(seconds: float) -> None:
        client.set_experiment_tag(held, Tag.LOCK, json.dumps({**vars(holder), "beat": next(beats)}))

    quick = Timing(claim_pause=0.0, sleep=sleep)
    known: Any = {"tracking_uri": bench.uri, "cache_dir": bench.cache, "timing": quick}
    for names, lines in REFUSED.items():
        with pytest.raises(UserError) as raised:
            rename_study(*names, **known, say=lambda _: None)
        for told, line in zip(str(raised.value).splitlines(), lines, strict=True):
            assert line in told
    assert {one.name for one in client.search_experiments()} == {"Default", "small", "other"}

    def rename(seconds: float) -> None:
        if client.get_experiment(held).name == "other":
            client.rename_experiment(held, "new")
            client.delete_experiment_tag(held, Tag.LOCK)

    with pytest.raises(UserError, match="study 'other' has just been renamed to 'new'"):
        bench.run(make_study(name="other"), timing=replace(quick, sleep=rename))
