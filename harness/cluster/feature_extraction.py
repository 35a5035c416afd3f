"""Features through a cluster: splits are encoded by actors on all of its nodes, shard by shard."""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

import ray

from harness.cluster.encoding_pool import EncodingPool, LoadBackbone, Order, Reply
from harness.cluster.session import cluster_resources, cores_of_nodes
from harness.config import Resources
from harness.errors import ClusterError
from harness.resources import at_once
from ship.clip import FrozenCLIP
from ship.datasets import DatasetError, PictureDataset, UndecodableError
from ship.features import Done, Features, Shard, encode_split, undecodable

LARGE: Final = 16_384
"""Views to encode, from which on actors without a GPU are worth their start of some 15 s.

It is 32 shards: minutes of a driver with ViT-B/16.
"""


@dataclass
class ClusterEncoder:
    """Encodes shards on actors of a Ray session; a ship.features.Encode.

    The actors start with the first split that needs them and stay until the context ends. The
    pictures are read where they are encoded: the data root must be there on every node.

    Where actors have GPUs they encode everything: the driver may have no GPU, and on a GPU of its
    own it would keep memory that trials are to have.

    resources: what an actor takes, as much as a trial.
    load_backbone: called once on each actor with the backbone's name and the device.
    accelerator: torch device of an actor that has a GPU.
    session: what the actors need open around them, such as a Ray session.
    large: fewer views than this the driver encodes alone, if no GPU is asked for.
    """

    resources: Resources
    load_backbone: LoadBackbone
    accelerator: str = "cuda"
    session: Callable[[], AbstractContextManager[Any]] = nullcontext
    large: int = LARGE
    _open: ExitStack = field(default_factory=ExitStack, init=False)
    _pool: EncodingPool | None = field(default=None, init=False)

    def __enter__(self) -> "ClusterEncoder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()
        self._pool = None

    def __call__(
        self,
        clip: FrozenCLIP,
        dataset: PictureDataset,
        split: str,
        views: int,
        shards: Sequence[Shard],
        done: Done,
    ) -> Generator[tuple[Shard, Features], None, None]:
        """Yield each shard's features as an actor finishes it.

        Raises:
            DatasetError: pictures that cannot be decoded, or only on the driver.
            ClusterError: actors cannot start, or one died with the same shard again and again.
        """
        small = sum(map(len, shards)) * (1 + views) < self.large
        if small and not self.resources.gpus:
            yield from encode_split(clip, dataset, split, views, shards, done)
            return
        with closing(self._encoded(clip, dataset, split, views, shards)) as replies:
            for part, reply in replies:
                if reply.undecodable:
                    raise _undecodable(dataset, split, reply.undecodable)
                if reply.fault:
                    raise _failed(dataset, reply.fault)
                for shard, features in zip(part, reply.features, strict=True):
                    done(len(shard) * (1 + views))
                    yield shard, features

    def _encoded(
        self,
        clip: FrozenCLIP,
        dataset: PictureDataset,
        split: str,
        views: int,
        shards: Sequence[Shard],
    ) -> Generator[tuple[tuple[Shard, ...], Reply], None, None]:
        """Orders and their replies, as they come."""
        if self._pool is None:
            self._pool = self._start()
        # held here until the end: an actor that starts later asks for them, too
        pictures = (ray.put(dataset.splits[split].pictures),)
        called = f"{dataset.fingerprint} {split}"

        def order(part: tuple[Shard, ...], threads: int) -> Order:
            backbone = (clip.name, clip.fingerprint, clip.image_precision)
            return Order(backbone, called, pictures, views, part, threads)

        try:
            yield from self._pool.encode(shards, order, 1 + views)
        except ClusterError as error:  # what the cache has of the split stays
            raise _failed(dataset, str(error)) from error

    def _start(self) -> EncodingPool:
        self._open.enter_context(self.session())
        most = at_once(self.resources, cluster_resources())
        device = self.accelerator if self.resources.gpus else "cpu"
        pool = EncodingPool(self.resources, most, cores_of_nodes, self.load_backbone, device)
        return self._open.enter_context(closing(pool))


def _failed(dataset: PictureDataset, why: str) -> ClusterError:
    return ClusterError(f"features of {dataset.name} cannot be extracted: {why}")


def _undecodable(dataset: PictureDataset, split: str, name: str) -> DatasetError:
    (picture, *_) = (found for found in dataset.splits[split].pictures if found.name == name)
    try:
        picture.open()
    except UndecodableError:
        return undecodable(dataset, split, name)
    return DatasetError(
        f"dataset {dataset.name}: {name} can be decoded here, but not on every node of the "
        "cluster: --data-root must be there under the same path on each"
    )
