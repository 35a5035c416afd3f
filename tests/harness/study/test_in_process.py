"""Studies in this process, without Ray's: the same runs and numbers, and a method at hand."""

import threading

from tests.harness.conftest import Bench
from tests.harness.fakes import make_study
from tests.harness.same_table import assert_same_table, undisturbed


def test_the_store_is_as_ray_leaves_it(ray_bench: Bench, bench: Bench) -> None:
    """Every row, and the table as it is printed."""
    study = make_study(reference_arms=True)
    assert ray_bench.run(study).complete
    folder = bench.log.parent
    quiet = undisturbed(study, folder / "quiet.db", folder)
    assert_same_table(ray_bench.uri, quiet)


def test_a_method_runs_where_the_study_was_started(bench: Bench) -> None:
    """So that a breakpoint in it stops there."""
    seen: set[str] = set()
    bench.behave = lambda config, epoch: seen.add(threading.current_thread().name)
    assert bench.run(make_study(space={"generator.n_ctx": [1]})).complete
    assert seen == {threading.main_thread().name}
