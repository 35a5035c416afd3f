"""Predicted tokens and operations against those of real trials."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import pytest

from ship.cost.finetuners import FINETUNER_COSTS
from ship.cost.generators import GENERATOR_COSTS
from ship.cost.tasks import PLANS
from ship.cost.trial import trial_cost
from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS
from ship.protocols import PROTOCOLS
from ship.trial_config import TrialConfig
from tests.ship.cost import counting

# Operations, on a tower of usual width and on one where the small networks are most of it; what is
# left out (class means, SVDs) weighs more there.
TOLERANCE = {"pocket": 0.02, "thin": 0.05}
# Tokens where batches are drawn at random; a mean over batches, which a single trial need not hit.
TOKENS = 0.02


def config(**changes: Any) -> TrialConfig:
    """A trial of a second; one evaluation, at the last epoch, so that all planned epochs run."""
    settings = {
        "max_classes": 12,
        "shots": 2,
        "eval_every": 10,
        "generator": counting.VAE,
        "finetuner": counting.FINETUNERS["coop"][0],
    }
    return TrialConfig(**{**settings, **changes})


def check(setting: TrialConfig, towers: Sequence[str] = ("pocket", "thin")) -> None:
    """Tokens and operations on one tower or both."""
    benches = {"pocket": counting.pocket, "thin": counting.thin}
    for name in towers:
        cost, tokens, flops = benches[name]().compare(setting)
        assert cost.text_tokens == pytest.approx(tokens, rel=TOKENS), name
        assert cost.flops == pytest.approx(flops, rel=TOLERANCE[name]), name


def test_every_entry_has_a_model() -> None:
    """A new generator, fine-tuner or protocol needs a cost model and a case here."""
    assert GENERATOR_COSTS.keys() == GENERATORS.keys() == counting.GENERATORS.keys()
    assert FINETUNER_COSTS.keys() == FINETUNERS.keys() == counting.FINETUNERS.keys()
    assert PLANS.keys() == PROTOCOLS.keys()


@pytest.mark.parametrize("generator", [*chain(*counting.GENERATORS.values())], ids=str)
def test_generators(generator: dict[str, Any]) -> None:
    """Every generator with CoOp."""
    check(config(generator=generator))


@pytest.mark.parametrize("finetuner", [*chain(*counting.FINETUNERS.values())], ids=str)
def test_finetuners(finetuner: dict[str, Any]) -> None:
    """Every fine-tuner with the VAE."""
    check(config(finetuner=finetuner))


@pytest.mark.parametrize("name", ["coop", "tip_adapter_f", "gda"])
def test_fixed_synthetic_sets(name: str) -> None:
    """Features drawn once cost once, whoever asks for them."""
    synthetic = {"draw": "fixed", "per_class": 3, "ratio": 2.0}
    check(config(finetuner=counting.FINETUNERS[name][0], synthetic=synthetic), ["thin"])


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": "few_shot", "selection": "base_val"},
        {"protocol": "few_shot", "selection": "test"},
        {"protocol": "generalized_zero_shot"},
        {"protocol": "single_unseen"},
        {"selection": "base_val"},
        {"selection": "test"},
        {"quality": False},
    ],
    ids=str,
)
def test_protocols(changes: dict[str, Any]) -> None:
    """Every protocol and selection within one dataset."""
    check(config(**changes), ["thin"])


@pytest.mark.parametrize("selection", ["pseudo_new", "base_val"])
def test_cross_dataset(selection: str) -> None:
    """A fine-tuner a target; names that the source has are not synthesized."""
    whole = counting.pocket().features
    targets = {"a": counting.target(whole, 10, 26), "b": counting.target(whole, 20, 30)}
    setting = config(protocol="cross_dataset", targets=("a", "b"), selection=selection)
    cost, tokens, flops = counting.pocket().compare(setting, targets=targets)
    assert cost.text_tokens == pytest.approx(tokens, rel=TOKENS)
    assert cost.flops == pytest.approx(flops, rel=TOLERANCE["pocket"])


@pytest.mark.parametrize(
    "changes",
    [
        {"generator": "none"},
        {"generator": "gaussian_base"},
        {"generator": "none", "finetuner": counting.FINETUNERS["cocoop"][0]},
        {"finetuner": counting.FINETUNERS["zero_shot"][0], "generator": "real"},
        {
            "selection": "test",
            "finetuner": "tip_adapter",
            "generator": {"name": "vae", "prompt": "fixed"},
        },
    ],
    ids=str,
)
def test_tokens_are_exact_where_names_decide_them(changes: dict[str, Any]) -> None:
    """Passes over lists of names, and over a fixed number of features of each class."""
    cost, tokens, _ = counting.pocket().compare(config(**changes), 3)
    assert round(cost.text_tokens, 6) == tokens


def test_sampling_in_parts_and_batches_beyond_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """More prompts than go through the tower at once, more rows asked for than there are."""
    for module in ("ship.cost.generators", "ship.generators.prompt_network"):
        monkeypatch.setattr(f"{module}.PROMPTS_AT_ONCE", 100)
    generator = {**counting.VAE, "batch_size": 512, "epochs": 2}
    setting = config(generator=generator, max_classes=40, shots=None, views=0)
    cost, tokens, flops = counting.thin().compare(setting, 5)
    assert cost.text_tokens == pytest.approx(tokens, rel=TOKENS)
    assert cost.flops == pytest.approx(flops, rel=TOLERANCE["thin"])


def test_a_trial_that_ended_sooner_cost_less() -> None:
    """Only the epochs that ran are counted where they are known."""
    bench, setting = counting.pocket(), config(generator={**counting.VAE, "epochs": 4})
    data = counting.DataShape.of(counting.studied_classes(setting, bench.features))
    ran = {"selection_generator": 4, "final_generator": 4, "final": 2}
    planned = trial_cost(setting, 2, bench.tower, data)
    assert trial_cost(setting, 2, bench.tower, data, ran=ran) == planned
    stopped = trial_cost(setting, 2, bench.tower, data, ran={**ran, "final_generator": 1})
    assert 0.7 < stopped.flops / planned.flops < 0.95
