"""Sound files of short trials, for some fine-tuners."""

import pytest

from ship.clip import FrozenCLIP
from ship.subsets import FeatureSet
from tests.ship.finetuners.cases import FAST
from tests.ship.trial.trained.made import SAID, SEED, Sound, small

FINETUNERS = ("coop", "tip_adapter_f", "gda", "zero_shot")


@pytest.fixture(scope="module")
def sound(
    tmp_path_factory: pytest.TempPathFactory, clip: FrozenCLIP, features: FeatureSet
) -> Sound:
    """Files of a short trial, for some fine-tuners."""
    found = Sound()
    for name in FINETUNERS:
        folder = tmp_path_factory.mktemp(name) / "trained"
        finetuner = {"name": name, **FAST.get(name, {})}
        small(folder, features, clip, finetuner=finetuner)
        found[name] = {file: (folder / file).read_bytes() for file in (SAID, SEED)}
    return found
