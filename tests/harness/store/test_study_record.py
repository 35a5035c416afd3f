"""The description of a study in the tags of its parent run."""

import pytest

from harness.store import StudyRecord
from harness.store.errors import StoreError
from harness.store.study_record import MAX_STORED_SEEDS

SEEDS = f"seeds: must be a number of seeds from 0 to {MAX_STORED_SEEDS}, or a list of integers >= 0"
PART = '[{"config_key": "k", "assignment": {}, "control": "", "parts": {"a": "b"}}]'


@pytest.mark.parametrize(
    ("tags", "fault"),
    [
        ({"ship.study": '{"seeds": "three"}'}, f"ship.study: {SEEDS}"),
        ({"ship.study": '{"seeds": [0, -1]}'}, f"ship.study: {SEEDS}"),
        ({"ship.study": '{"seeds": 1e9}'}, f"ship.study: {SEEDS}"),
        ({"ship.study": '{"n_trials": -1}'}, "ship.study: n_trials: Input should be greater than"),
        ({"ship.planned": PART}, "ship.planned: 0.parts: Dictionary should have at most 0 items"),
    ],
)
def test_an_invalid_tag_is_named_by_its_key(tags: dict[str, str], fault: str) -> None:
    """The message has the rule of the key, without pydantic's names of the types in a union."""
    with pytest.raises(StoreError) as error:
        StudyRecord.from_tags(tags)
    assert str(error.value).startswith(f"invalid MLflow tag {fault}")


def test_null_counts_as_missing() -> None:
    """Seeds and n_trials then have their defaults."""
    record = StudyRecord.from_tags({"ship.study": '{"seeds": null, "n_trials": null}'})
    assert (record.seeds, record.n_trials) == ((), 0)
    assert StudyRecord.from_tags({"ship.study": '{"seeds": [3, 5]}'}).seeds == (3, 5)
    assert StudyRecord.from_tags({"ship.study": '{"seeds": 2}'}).seeds == (0, 1)
