"""What is said of a run that has changed a study's table."""

from typing import Any

from reports.cli import changes_from_now, prepare
from reports.tables.preferred import MOST_CHANGES, change_lines
from tests.reports.builder import StoreBuilder, scores
from tests.reports.studies import one_factor

N_CTX = "generator.n_ctx"


def study(levels: dict[int, list[float]], **fields: Any) -> StoreBuilder:
    """A study of n_ctx: level -> H of each seed, base and new accuracy alike."""
    seeds = range(max(map(len, levels.values())))
    builder = StoreBuilder(factors=one_factor(N_CTX, list(levels), 1), seeds=seeds, **fields)
    for level, values in levels.items():
        builder.trial({N_CTX: level}, {s: scores(v, v) for s, v in enumerate(values)})
    return builder


def test_settings_with_one_name_are_two() -> None:
    """Names of numbers are rounded: the one that has not changed is not told of."""
    scale = "generator.scale"
    lines = []
    for first, second in ((60.5, 61.0), (60.5, 62.0)):
        builder = StoreBuilder(factors=one_factor(scale, [0.51213, 0.51244], 0.51213))
        for level, value in ((0.51213, first), (0.51244, second)):
            builder.trial({scale: level}, {s: scores(value, value) for s in range(2)})
        lines.append(builder.study())
    assert change_lines(*lines)[1:] == ["  scale 0.512: 61.0 (n 2) -> 62.0 (n 2)"]


def test_a_study_that_was_extended() -> None:
    """More seeds, a level more and a level less are told in the order of the table."""
    before = study({1: [60, 61], 2: [62, 63], 4: [64, 65]}).study()
    after = study({1: [60, 61, 65], 4: [64, 65, 66], 8: [70, 71, 72]}).study()
    assert change_lines(before, after) == [
        "since the last run (H):",
        "  n_ctx 1: 60.5 (n 2) -> 62.0 (n 3)",
        "  n_ctx 4: 64.5 (n 2) -> 65.0 (n 3)",
        "  n_ctx 8: – -> 71.0 (n 3)",
        "  n_ctx 2: 62.5 (n 2) -> –",
    ]
    assert change_lines(after, after) == []


def test_a_row_counts_once_it_has_a_number() -> None:
    """A level that had failed before is new, and arms have their labels."""
    failed = study({1: [60, 61]}).trial({N_CTX: 2}, {0: {}, 1: {}}, state="FAIL")
    mended = study({1: [60, 61]}).trial({N_CTX: 2}, {s: scores(70, 70) for s in (0, 1)})
    mended.trial({}, {s: scores(50, 50) for s in (0, 1)}, arm="zero_shot")
    assert change_lines(failed.study(), mended.study())[1:] == [
        "  n_ctx 2: – -> 70.0 (n 2)", "  zero-shot: – -> 50.0 (n 2)",
    ]  # fmt: skip


def test_many_changes_are_cut() -> None:
    """Ten rows are listed, and the others counted."""
    before, after = study({1: [60.0]}), study({n: [60.0 + n] for n in range(1, 13)})
    _, *listed, more = change_lines(before.study(), after.study())
    assert len(listed) == MOST_CHANGES and more == "  and 2 more"


def test_nothing_to_compare_with_says_nothing(store_uri: str) -> None:
    """A study of which nothing had ended, or that was not there, has no changes."""
    absent = changes_from_now("absent", store_uri)
    empty = changes_from_now("empty", StoreBuilder(name="empty").write(store_uri))
    there = prepare("there", study({1: [60.0, 61.0]}, name="there").write(store_uri))
    assert absent(there) == empty(there) == []
