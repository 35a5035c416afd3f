"""Loading any YAML results in a study or a list of faults, never in another exception."""

from pathlib import Path
from typing import Any
from unicodedata import category

import optuna
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.config import space
from harness.config.load import load_study
from harness.config.mapping import Override, apply_overrides
from harness.config.study_config import STUDY_KEYS, TRIAL_KEYS
from harness.errors import ConfigError

SPACES = {
    path.name: path.read_bytes()
    for path in Path(__file__).parents[3].joinpath("search_spaces").glob("*.yaml")
}
# Random values, keys and paths for studies.
_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["vae", "none", "coop", "tpe", "grid", "asha", "emoji", "shots", "generator"])
)  # fmt: skip
_KEYS = ["name", "choices", "low", "high", "log", "step", "levels", "when", "baseline", "n_ctx"]
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*_KEYS, "epochs", "shots", "generator"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
_NAMES = ["generator", "generator.n_ctx", "generator.kl_weight", "finetuner", "shots", "bogus"]
_PATHS = st.sampled_from([*STUDY_KEYS, *TRIAL_KEYS]) | st.builds(
    lambda *parts: ".".join(filter(None, parts)),
    st.sampled_from(["", "space", "variants", "variants.dataset", "variants.dataset.emoji"]),
    st.sampled_from(_NAMES),
    st.sampled_from(["", *_KEYS]),
)
_MUTATIONS = st.lists(st.tuples(_PATHS, _VALUES), max_size=4)


@example([("generator", {"name": []})])
@example([("targets", [None, None])])
@given(_MUTATIONS)
def test_mutated_mappings_give_faults_or_a_study(mutations: list[tuple[str, Any]]) -> None:
    """All configurations and controls of such a study can be resolved."""
    valid = {
        "space": {
            "generator.n_ctx": [1, 2],
            "generator.kl_weight": {"low": 1e-4, "high": 1, "log": True, "levels": 3},
        },
        "n_trials": 3,
    }
    mapping, _ = apply_overrides(valid, [Override(path, value) for path, value in mutations])
    try:
        study = load_study({"name": "x", **mapping})
    except ConfigError as error:
        assert error.faults
        assert all(fault.startswith("study: ") for fault in error.faults)
        return
    for control in space.resolve_controls(study).values():
        assert control.shots is None or control.shots >= 1
    if study.sampler == "grid":
        for assignment in space.enumerate_grid(study)[:5]:
            space.resolve(study, assignment)
    suggested = space.suggest(optuna.create_study().ask(), study)
    assert suggested.keys() <= study.space.keys()


_INSERTED = st.binary(max_size=6) | st.sampled_from(
    [
        b"\n", b": ", b"- ", b"{", b"[", b"}", b"&a ", b"*a",
        b"!!python/object:os.system ", b"!!binary ", b"!!bool ", b"!!int '' ", b"!!str ",
        b"<<: ", b"---\n", b'"\\e[2J": 1\n', b"\t", b"1e999", b".nan", b"9" * 40, b"null", b"? ",
        b"|\n",
    ]
)  # fmt: skip
_EDITS = st.lists(
    st.tuples(st.integers(0, 10**4), st.integers(0, 12), _INSERTED), min_size=1, max_size=4
)
_FILES = st.sampled_from(sorted(SPACES))


@example("prompt_len.yaml", [(0, 0, b'"\\e[2J": 1\n')])
@given(_FILES, _EDITS)
def test_mutated_files_give_faults_or_a_study(
    tmp_path_factory: pytest.TempPathFactory, name: str, edits: list[tuple[int, int, bytes]]
) -> None:
    """The lines of the faults are printable and begin with the file's path."""
    content, path = SPACES[name], tmp_path_factory.getbasetemp() / "fuzzed.yaml"
    for position, length, inserted in edits:
        start = position % (len(content) + 1)
        content = content[:start] + inserted + content[start + length :]
    path.write_bytes(content)
    try:
        load_study(str(path))
    except ConfigError as error:
        assert error.faults
        for fault in error.faults:
            assert fault.startswith(str(path))
            assert not any(category(character) in ("Cc", "Cs") for character in fault)
