"""The key of a setting."""

import hashlib
import json
from unittest import mock

from harness.planning import settings
from harness.planning.settings import setting_key
from ship.trial_config import RESULTS_VERSION, TrialConfig


def test_key_is_stable_and_short() -> None:
    """The same setting has the same 16 hexadecimal digits, however it was written."""
    key = setting_key(TrialConfig(), "d", "b")
    assert key == setting_key(TrialConfig.model_validate({"generator": "vae"}), "d", "b")
    assert len(key) == 16
    assert int(key, 16) >= 0


def test_everything_that_decides_a_result_is_in_the_key() -> None:
    """A changed field, data set, backbone or results version is another setting."""
    trial = TrialConfig()
    found = {
        setting_key(trial, "d", "b"),
        setting_key(trial.model_copy(update={"shots": 3}), "d", "b"),
        setting_key(
            TrialConfig.model_validate({"generator": {"name": "vae", "n_ctx": 5}}), "d", "b"
        ),
        setting_key(trial, "e", "b"),
        setting_key(trial, "d", "c"),
        setting_key(trial, "b", "d"),
    }
    with mock.patch.object(settings, "RESULTS_VERSION", -1):
        found.add(setting_key(trial, "d", "b"))
    assert len(found) == 7


def test_integers_given_for_numbers_make_no_other_key() -> None:
    """`kl_weight: 1` and `kl_weight: 1.0` are one setting."""
    whole, real = (
        TrialConfig.model_validate({"generator": {"name": "vae", "kl_weight": value}})
        for value in (1, 1.0)
    )
    assert setting_key(whole, "d", "b") == setting_key(real, "d", "b")


def test_a_key_that_came_later_changes_none_of_before() -> None:
    """Results that were made before there was image_precision are of fp32, and are found."""
    plain = TrialConfig(backbone="pocket")
    before = plain.model_dump(mode="json")
    del before["image_precision"]
    content = {
        "results_version": RESULTS_VERSION,
        "trial": {**before, "objective": plain.selection_metric},
        "dataset": "d",
        "backbone": "b",
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert setting_key(plain, "d", "b") == hashlib.sha256(text.encode()).hexdigest()[:16]
    reduced = plain.model_copy(update={"image_precision": "bf16"})
    assert setting_key(reduced, "d", "b") != setting_key(plain, "d", "b")
