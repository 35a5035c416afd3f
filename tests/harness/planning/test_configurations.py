"""Keys of configurations, which are hashes of everything that determines a result."""

import hashlib
import re
from pathlib import Path
from unittest import mock

import pytest

from harness.planning import configurations
from harness.planning.configurations import compute_key
from ship.configs import FINETUNERS, GENERATORS
from ship.plugins import load_plugin
from ship.templates import ENSEMBLE
from ship.trial_config import TrialConfig


def test_key_is_stable_and_short() -> None:
    """Equal configurations have the same 16 hexadecimal digits, even if their YAML differs."""
    key = compute_key(TrialConfig(), "d", "b")
    assert re.fullmatch("[0-9a-f]{16}", key)
    assert key == compute_key(TrialConfig.model_validate({"generator": "vae"}), "d", "b")
    generators = ({"name": "vae", "kl_weight": value} for value in (1, 1.0))
    integer, decimal = (
        TrialConfig.model_validate({"generator": generator}) for generator in generators
    )
    assert compute_key(integer, "d", "b") == compute_key(decimal, "d", "b")


def test_everything_that_determines_a_result_is_in_the_key() -> None:
    """Another option, dataset, backbone or results version gives another key."""
    trial = TrialConfig()
    keys = {
        compute_key(trial, "d", "b"),
        compute_key(trial.model_copy(update={"shots": 3}), "d", "b"),
        compute_key(
            TrialConfig.model_validate({"generator": {"name": "vae", "n_ctx": 5}}), "d", "b"
        ),
        compute_key(trial, "e", "b"),
        compute_key(trial, "d", "c"),
        compute_key(trial, "b", "d"),
    }
    with mock.patch.object(configurations, "RESULTS_VERSION", -1):
        keys.add(compute_key(trial, "d", "b"))
    assert len(keys) == 7


def test_metric_plugins_change_the_key_only_of_studies_that_name_them() -> None:
    """Without metrics the hashed JSON has no such field, so that keys of older versions stay."""
    plain = TrialConfig(shots=3)
    with mock.patch.object(configurations.hashlib, "sha256", wraps=hashlib.sha256) as sha256:
        key = compute_key(plain, "d", "b")
    assert b'"metrics"' not in sha256.call_args.args[0]
    assert compute_key(plain.model_copy(update={"metrics": ("share",)}), "d", "b") != key


def test_templates_with_equal_sentences_have_one_key() -> None:
    """A template's name and its sentences have one key. For CoOp, `authors` means `dataset`."""
    templates = [["authors"], ["dataset", "authors"], ["ensemble"], list(ENSEMBLE), ["a {}"]]
    templates += [["ensemble", ENSEMBLE[0]], [" a \n{}"]]
    trials = [TrialConfig(), *(TrialConfig.model_validate({"templates": t}) for t in templates)]
    gda = {"finetuner": "gda", "dataset": "imagenet"}
    trials += [TrialConfig.model_validate({**gda, "templates": t}) for t in ("authors", "ensemble")]
    keys = [compute_key(trial, "d", "b") for trial in trials]
    assert [keys.index(key) for key in keys] == [0, 0, 0, 3, 3, 5, 3, 5, 8, 8]


@pytest.mark.usefixtures("restore_registries")
def test_a_plugins_version_is_only_in_the_keys_of_its_methods(tmp_path: Path) -> None:
    """The version is a hash of the file's content. The path has no effect."""
    source = (Path(__file__).parents[2] / "third_party" / "nearest_mean.py").read_text("utf-8")
    plain = compute_key(TrialConfig(), "d", "b")
    keys = []
    for name, text in (("a", source), ("b", source), ("a", f"{source}\n# edited")):
        for table in (FINETUNERS, GENERATORS):
            for method in ("nearest_mean", "noisy_text"):
                table.pop(method, None)
                table.origins.pop(method, None)
        path = tmp_path / f"{name}.py"
        path.write_text(text, "utf-8")
        load_plugin(path)
        trial = TrialConfig.model_validate({"finetuner": "nearest_mean"})
        keys.append(compute_key(trial, "d", "b"))
        assert configurations.format_plugins(trial).startswith("finetuner nearest_mean: sha256:")
    assert keys[0] == keys[1] != keys[2]
    assert compute_key(TrialConfig(), "d", "b") == plain
    assert configurations.format_plugins(TrialConfig()) == ""
