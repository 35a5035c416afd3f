"""How extraction is spread over threads: many decode, few encode where memory is the device's."""

import time
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor

from ship.datasets import PictureDataset
from ship.features.encode import Layout, Shard, encode_pictures
from tests.ship.features.encoders import FakeEncoder, preprocess


class WatchedEncoder(FakeEncoder):
    """Notes how many threads decode, and how many encode, at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most = Counter[str](), Counter[str]()
        self.preprocess: Callable[[Image.Image], Tensor] = self._decode

    def _stay(self, what: str, seconds: float) -> None:
        with self._lock:
            self.now[what] += 1
            self.most[what] = max(self.most[what], self.now[what])
        time.sleep(seconds)
        with self._lock:
            self.now[what] -= 1

    def _decode(self, image: Image.Image) -> Tensor:
        self._stay("decoding", 0.005)
        return preprocess(image)

    def encode_images(self, pictures: Tensor, /) -> Tensor:
        self._stay("encoding", 0.02)
        return super().encode_images(pictures)


@pytest.mark.parametrize(("at_device", "most"), [(2, 2), (None, 6)])
def test_few_threads_encode_while_all_decode(
    streamed: PictureDataset, at_device: int | None, most: int
) -> None:
    """Each batch in work takes memory of the device; without a bound all threads encode."""
    encoder, pictures = WatchedEncoder(), streamed.splits["train"].pictures
    layout = Layout(threads=6, cores_each=1, views_per_batch=4, at_device=at_device)
    blocks = encode_pictures(encoder, pictures, 0, [Shard(0, 96)], layout)
    assert sum(len(features) for _, features in blocks) == 96
    assert encoder.most["encoding"] <= most
    assert encoder.most["decoding"] > 2


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (16, 16), (128, 32)])
def test_a_gpu_gets_the_threads_that_it_is_given(cores: int, threads: int) -> None:
    """And memory for two batches, however many they are."""
    layout = Layout.for_device(torch.device("cuda"), cores)
    assert (layout.threads, layout.at_device) == (threads, 2)
