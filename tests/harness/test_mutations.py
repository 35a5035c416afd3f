"""Whatever a YAML holds, there is a study or a list of faults, never another exception."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness import space
from harness.config import parse_study
from harness.faults import ConfigError
from harness.overrides import apply_overrides, override_at

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
_PATHS = st.sampled_from(
    [
        "shots", "seeds", "trials", "sampler", "scheduler", "objective", "selection", "generator",
        "generator.n_ctx", "finetuner", "resources.cpus", "time_limit", "name", "bogus", "space",
        "space.bogus", "space.generator", "space.finetuner", "space.shots", "space.generator.n_ctx",
        "space.generator.n_ctx.when", "space.generator.kl_weight", "space.generator.kl_weight.low",
        "space.generator.kl_weight.levels", "space.generator.kl_weight.step",
        "space.generator.scale.when", "fuse", "resources", "variants", "variants.generator",
        "synthetic", "generator.name", "generator.prompt", "finetuner.name", "protocol", "targets",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@example([("generator", {"name": []})])
@given(st.lists(st.tuples(_PATHS, _VALUES), max_size=4))
def test_mutated_mappings_give_faults_or_a_study(mutations: list[tuple[str, Any]]) -> None:
    """Whatever a mapping holds, the answer is a study that can be run over, or one ConfigError."""
    sound = {
        "space": {
            "generator.n_ctx": [1, 2],
            "generator.kl_weight": {"low": 1e-4, "high": 1, "log": True, "levels": 3},
        },
        "trials": 3,
    }
    mapping = apply_overrides(sound, [override_at(path, value) for path, value in mutations])
    try:
        study = parse_study(mapping, "x")
    except ConfigError as error:
        assert error.faults
        assert all(fault.startswith("study: ") for fault in error.faults)
        return
    for arm in space.reference_arms(study).values():
        assert arm.shots is None or arm.shots >= 1
    if study.sampler == "grid":
        for setting in space.grid(study)[:5]:
            space.resolve(study, setting)
    assert set(space.distributions(study)) == set(study.space)
