"""The ledger: one row a (setting, seed), whatever the runs were."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.store.errors import StoreError
from harness.store.ledger import Ledger, LedgerRun
from reports.contract import State
from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.planning.made import run_of

STATES = list(State)


def make_run(key: str, seeds: tuple[int, ...], state: State, **keys: Any) -> LedgerRun:
    """A run with an objective of 50 + seed."""
    setting: Any = SimpleNamespace(key=key, arm="", assignment={})
    return run_of(setting, seeds, state=state, **keys)


runs = st.lists(
    st.builds(
        make_run,
        st.sampled_from(["a", "b"]),
        st.sets(st.integers(0, 3), min_size=1).map(lambda seeds: tuple(sorted(seeds))),
        st.sampled_from(STATES),
    ),
    max_size=12,
)


@given(runs)
def test_a_row_is_the_best_that_happened_to_its_seed(history: list[LedgerRun]) -> None:
    """COMPLETE before PRUNED before FAIL, and nothing for runs that did not end.

    A setting's value is over all of its finished seeds.
    """
    ledger = Ledger(tuple(history))
    for key in "ab":
        done = {seed for seed, run in ledger.of(key).items() if run.state is State.COMPLETE}
        assert set(ledger.objectives(key)) == done
        for seed in range(4):
            states = {r.state for r in history if r.setting_key == key and seed in r.seeds}
            row = ledger.of(key).get(seed)
            best = next(
                (s for s in (State.COMPLETE, State.PRUNED, State.FAIL) if s in states), None
            )
            assert (row.state if row else None) is best


def test_the_last_failure_is_the_one_that_is_told() -> None:
    """Earlier reasons may be of another world."""
    first = make_run("a", (0,), State.FAIL, reason="old")
    second = make_run("a", (0,), State.FAIL, reason="new")
    assert Ledger((first, second)).of("a")[0].reason == "new"


@pytest.mark.parametrize(
    ("tag", "value"),
    [("state", "DONE"), ("state", "DONE" * 99), ("seeds", "0, 1"), ("seeds", "null"),
     ("assignment", "null"), ("failure", "gone")],
)  # fmt: skip
def test_a_run_whose_tags_were_edited_is_named(bench: Bench, tag: str, value: str) -> None:
    """With the way out; deleted, its seeds run again."""
    study = make_study(space={"generator.n_ctx": [1]})
    bench.run(study)
    (run,), client = bench.trials(), bench.store().client
    client.set_tag(run.info.run_id, f"ship.{tag}", value)
    told = f"^{bench.uri}: the tags of run {run.info.run_id} .*or delete the run, and its .*again$"
    with pytest.raises(StoreError, match=told):
        bench.run(study)
    client.delete_run(run.info.run_id)
    assert bench.run(study).complete
