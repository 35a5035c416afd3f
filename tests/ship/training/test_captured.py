"""Steps that are recorded and replayed, on an emulated device, give what steps give as they are."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from ship.clip.frozen_clip import FrozenCLIP
from ship.finetuners import FINETUNERS
from ship.generators import GENERATORS
from ship.training.captured import WARM_UP, Captured, CudaRecorder
from ship.trial.run import run_trial
from ship.trial_config import TrialConfig
from tests.emulated import EmulatedDevice, EmulatedRecorder, emulated_device
from tests.ship.conftest import build_clip, build_features
from tests.ship.finetuners.cases import FAST
from tests.ship.generators.cases import CASES, VAE

# Steps enough for a recording: more than WARM_UP an epoch.
SMALL_BATCH = {"batch_size": 2}
TRAINED = [case for case in CASES if case.split("/")[0] in ("vae", "mlp_vae", "wgan")]


@pytest.fixture(scope="module")
def device() -> Iterator[EmulatedDevice]:
    """The emulated device."""
    with emulated_device() as device:
        yield device


def backbone(device: EmulatedDevice, recorder: EmulatedRecorder | None) -> FrozenCLIP:
    """The tiny CLIP on the device."""
    tiny = build_clip()
    clip = FrozenCLIP("tiny", tiny._model, tiny.tokenizer, device.name, recorder=recorder)
    assert clip.device.type != "cpu"
    return clip


def results(
    device: EmulatedDevice, recorder: EmulatedRecorder | None, **setting: Any
) -> dict[str, tuple[float, ...]]:
    """Everything that a trial reports."""
    clip = backbone(device, recorder)
    config = TrialConfig(
        backbone="tiny", dataset="tiny", shots=4, quality=False, selection="base_val", **setting
    )
    run = run_trial(config, [3, 5], build_features(build_clip()), clip)
    return {
        f"{item.stage}/{item.epoch}/{name}": values
        for item in run
        for name, values in item.per_replica.items()
    }


def same(device: EmulatedDevice, least: int, **setting: Any) -> None:
    """Check a trial with recorded steps against one without."""
    recorder = EmulatedRecorder(device)
    expected = results(device, None, **setting)
    found = results(device, recorder, **setting)
    assert list(found) == list(expected)
    for name, values in expected.items():  # memory that lies otherwise is summed up otherwise
        assert found[name] == pytest.approx(values, rel=1e-5, abs=1e-6), name
    assert recorder.recorded >= least and recorder.replayed > recorder.recorded


@pytest.mark.parametrize("case", TRAINED)
def test_every_generator_is_trained_alike(device: EmulatedDevice, case: str) -> None:
    """Losses and scores, with warm-up of the KL, early stopping and two-player steps."""
    name, settings = CASES[case]
    generator = {"name": name, **settings, **SMALL_BATCH}
    least = 1 if settings.get("prompt") == "fixed" else 2  # a step, and what it decodes for CoOp
    finetuner = {"name": "coop", **FAST["coop"], **SMALL_BATCH}
    same(device, least, generator=generator, finetuner=finetuner)


@pytest.mark.parametrize("name", [n for n in FINETUNERS if n in FAST])
def test_every_finetuner_is_trained_alike(device: EmulatedDevice, name: str) -> None:
    """Its rate falls from step to step, and none of that is frozen in the recording."""
    batches = SMALL_BATCH if "batch_size" in FINETUNERS[name][0].model_fields else {}
    finetuner = {"name": name, **FAST[name], **batches}
    generator = {"name": "vae", **VAE, **SMALL_BATCH}
    same(device, 2, generator=generator, finetuner=finetuner)


def test_all_that_is_trained_is_among_the_cases() -> None:
    """A new method is tried here, too."""
    trained = {n for n, (config, _) in FINETUNERS.items() if "epochs" in config.model_fields}
    assert trained == set(FAST)
    fitted = {n for n, (config, _) in GENERATORS.items() if "lr" in config.model_fields}
    assert fitted == {CASES[case][0] for case in TRAINED}


def test_a_number_of_the_host_is_frozen(device: EmulatedDevice) -> None:
    """What the emulation is for: a step that reads a Python number is not what was recorded."""
    captured, factors = Captured(EmulatedRecorder(device)), iter([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    found = []
    for _ in range(WARM_UP + 3):
        made = captured(lambda x: x * next(factors), torch.ones(1).to(device.name))
        found.append(made.cpu().item())
    assert found == [0.0, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_recording_changes_nothing(device: EmulatedDevice) -> None:
    """A step that adds to a tensor adds once a run, the recorded one too."""
    captured, total = Captured(EmulatedRecorder(device)), torch.zeros(1).to(device.name)

    def step(x: Tensor) -> Tensor:
        total.add_(x)
        return total * 1

    seen = [captured(step, torch.ones(1).to(device.name)).cpu().item() for _ in range(6)]
    assert seen == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_other_shapes_have_their_own_recording(device: EmulatedDevice) -> None:
    """A last batch that is smaller, or an exam's features, never meet a recording of others."""
    recorder = EmulatedRecorder(device)
    captured = Captured(recorder)
    for _ in range(WARM_UP + 2):
        for size in (2, 3):
            made = captured(lambda x: x + 1, torch.zeros(size).to(device.name))
            assert made.cpu().tolist() == [1.0] * size
    assert recorder.recorded == 2


def test_outputs_do_not_share_memory(device: EmulatedDevice) -> None:
    """What one run gave is not overwritten by the next."""
    captured = Captured(EmulatedRecorder(device))
    made = [captured(lambda x: x + 1, torch.full((1,), v).to(device.name)) for v in range(7)]
    assert [one.cpu().item() for one in made] == [1, 2, 3, 4, 5, 6, 7]


def test_a_step_that_cannot_be_recorded_goes_on_as_it_is(device: EmulatedDevice) -> None:
    """One warning with the reason, and right numbers."""
    captured = Captured(EmulatedRecorder(device))
    found = []
    with pytest.warns(UserWarning, match="not permitted when stream is capturing") as told:
        for step in range(WARM_UP + 3):
            x = torch.full((1,), float(step)).to(device.name)
            found.append(captured(lambda x: x * x.item(), x).cpu().item())
    assert found == [0.0, 1.0, 4.0, 9.0, 16.0, 25.0] and len(told) == 1


def test_without_a_recorder_steps_are_run(device: EmulatedDevice) -> None:
    """As on a CPU."""
    captured = Captured(None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [captured(lambda x: x + 1, torch.zeros(1)).item() for _ in range(6)] == [1.0] * 6


def test_cuda_is_asked_as_its_notes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm-up on a side stream, both waited for; graphs of one pool; a replay runs no Python."""
    said: list[Any] = []

    class Stream:
        def __init__(self, name: str = "side") -> None:
            self.name = name

        def wait_stream(self, other: "Stream") -> None:
            said.append(f"{self.name} waits for {other.name}")

    class Graph:
        def replay(self) -> None:
            said.append("replay")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        said.append(f"on {stream.name}")
        yield
        said.append("off")

    @contextmanager
    def graph(recorded: Graph, pool: str) -> Iterator[None]:
        said.append(f"recording into {pool}")
        yield
        said.append("recorded")

    def run(x: Tensor) -> Tensor:
        said.append("run")
        return x + 1

    for name, stub in {
        "current_stream": lambda: Stream("main"),
        "Stream": Stream,
        "stream": on,
        "CUDAGraph": Graph,
        "graph": graph,
        "graph_pool_handle": lambda: "the pool",
    }.items():
        monkeypatch.setattr(torch.cuda, name, stub)
    monkeypatch.setattr(
        Tensor, "record_stream", lambda made, to: said.append(f"kept for {to.name}")
    )
    captured = Captured(CudaRecorder())
    for size in (1, 2):
        for _ in range(WARM_UP):
            captured(run, torch.zeros(size))
        warm_up = ["side waits for main", "on side", "run", "off", "main waits for side"]
        assert said == [*warm_up, "kept for main"] * WARM_UP
        said.clear()
        for _ in range(2):
            captured(run, torch.zeros(size))
        assert said == ["recording into the pool", "run", "recorded", "replay", "replay"]
        said.clear()
