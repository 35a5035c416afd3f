"""The description of a study in the tags of its own run."""

import pytest

from harness.store import StudyRecord
from harness.store.errors import StoreError


def test_an_invalid_tag_is_named_by_its_key_alone() -> None:
    """The location has none of pydantic's words for the types of a union."""
    with pytest.raises(StoreError) as error:
        StudyRecord.from_tags({"ship.study": '{"seeds": "three"}'})
    assert (
        str(error.value) == "invalid MLflow tag ship.study: seeds: Input should be a valid integer"
    )
