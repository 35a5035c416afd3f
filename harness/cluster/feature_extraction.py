"""Features through Ray Data: a large split is encoded by all nodes of a cluster, shard by shard."""

import math
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import ray.data
import torch

from harness.cluster.quiet import quiet_ray
from harness.cluster.session import cluster_resources
from harness.config import Resources
from harness.errors import ClusterError
from harness.resources import at_once
from ship.datasets import DatasetError, Picture, PictureDataset
from ship.features import (
    Block,
    ImageEncoder,
    Layout,
    Shard,
    UndecodableError,
    encode_pictures,
    encode_split,
    undecodable,
)

LARGE = 16_384
"""Views to encode, from which on actors are worth their start of some 15 s.

It is 32 shards: minutes of a driver without a GPU with ViT-B/16, ten seconds of one that has one.
"""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ClusterEncoder:
    """Encodes shards on actors of the open Ray session; a ship.features.split_extraction.Encode.

    The pictures are read where they are encoded: the data root must be there on every node.

    resources: what an actor takes, as much as a trial.
    load_backbone: called once on each actor with the backbone's name and the device.
    verbose: let Ray Data talk.
    large: fewer views than this are encoded by the driver alone.
    """

    resources: Resources
    load_backbone: Callable[[str, str], ImageEncoder]
    verbose: bool = False
    large: int = LARGE

    def __call__(
        self,
        clip: ImageEncoder,
        dataset: PictureDataset,
        split: str,
        views: int,
        shards: Sequence[Shard],
    ) -> Generator[Block, None, None]:
        """Yield each shard's features as an actor finishes it.

        Raises:
            DatasetError: pictures that cannot be decoded, or only on the driver.
            ClusterError: actors cannot start, or one died with the same shard again and again.
        """
        if sum(map(len, shards)) * (1 + views) < self.large:
            yield from encode_split(clip, dataset, split, views, shards)
            return
        sizes = {shard.start: len(shard) for shard in shards}
        with closing(self._rows(clip, dataset, split, views, shards)) as rows:
            for row in rows:
                if row["undecodable"]:
                    raise _undecodable(dataset, split, _text(row["undecodable"]))
                if row["fault"]:
                    raise _failed(dataset, _text(row["fault"]))
                start = int(row["start"])
                features = np.frombuffer(row["features"], dtype="<f4")
                yield start, features.reshape(sizes[start], 1 + views, -1)

    def _rows(
        self,
        clip: ImageEncoder,
        dataset: PictureDataset,
        split: str,
        views: int,
        shards: Sequence[Shard],
    ) -> Generator[Row, None, None]:
        """Run Ray Data; rows come as they are finished, and no more wait than its store takes."""
        # held here until the end: an actor that starts anew asks for them again
        pictures = ray.put(dataset.splits[split].pictures)
        actor = {
            "clip": (clip.name, clip.fingerprint),
            "pictures": [pictures],
            "views": views,
            "threads": max(1, math.ceil(self.resources.cpus)),
            "device": "cuda" if self.resources.gpus else "cpu",
            "load_backbone": self.load_backbone,
        }
        most = min(len(shards), max(1, at_once(self.resources, cluster_resources())))
        with quiet_ray(self.verbose):
            with _quiet_data(self.verbose):
                items = [{"start": shard.start, "stop": shard.stop} for shard in shards]
                plan = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                    _Actor,
                    batch_size=1,
                    compute=ray.data.ActorPoolStrategy(
                        min_size=1, max_size=most, initial_size=most
                    ),
                    num_cpus=self.resources.cpus,
                    num_gpus=self.resources.gpus or None,
                    fn_constructor_kwargs=actor,
                )
            try:
                yield from plan.iter_rows()
            except Exception as error:  # of many kinds; what the cache has of the split stays
                raise _failed(dataset, _last_line(str(error))) from error


class _Actor:
    """Encodes one shard a call, on the node where Ray Data has placed it.

    What goes wrong is a row, too: Ray would try again what raises, and print all of it. A process
    that dies is left to Ray, which starts another one.
    """

    def __init__(
        self,
        clip: tuple[str, str],
        pictures: Sequence[Any],
        views: int,
        threads: int,
        device: str,
        load_backbone: Callable[[str, str], ImageEncoder],
    ) -> None:
        self._views, self._fault = views, ""
        self._layout = Layout.for_device(torch.device(device), threads)
        self._pictures: Sequence[Picture] = ray.get(pictures[0])
        name, fingerprint = clip
        try:
            self._clip = load_backbone(name, device)
            if self._clip.fingerprint != fingerprint:
                self._fault = f"backbone {name} has other weights on a node than on the driver"
        except Exception as error:
            self._fault = _told(error)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        shard = Shard(int(batch["start"][0]), int(batch["stop"][0]))
        features, undecodable, fault = b"", "", self._fault
        try:
            if not fault:
                features = self._encode(shard)
        except UndecodableError as why:  # the driver then looks at the whole split
            undecodable = str(why)
        except Exception as error:
            fault = _told(error)
        return {
            "start": [shard.start],
            "features": [features],  # bytes: shards differ in size
            "undecodable": [_bytes(undecodable)],
            "fault": [_bytes(fault)],
        }

    def _encode(self, shard: Shard) -> bytes:
        blocks = encode_pictures(self._clip, self._pictures, self._views, [shard], self._layout)
        return np.concatenate([part for _, part in blocks]).astype("<f4").tobytes()


def _bytes(text: str) -> bytes:
    """Text as Ray Data takes it: a file's name need not be valid UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _told(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"


def _failed(dataset: PictureDataset, why: str) -> ClusterError:
    return ClusterError(
        f"features of {dataset.name} cannot be extracted on the cluster: {why} "
        "(with --address local this machine does it)"
    )


def _undecodable(dataset: PictureDataset, split: str, name: str) -> DatasetError:
    (picture, *_) = (found for found in dataset.splits[split].pictures if found.name == name)
    try:
        picture.open()
    except Exception:  # Pillow raises nearly anything for broken bytes
        return undecodable(dataset, split, name)
    return DatasetError(
        f"dataset {dataset.name}: {name} can be decoded here, but not on every node of the "
        "cluster: --data-root must be there under the same path on each"
    )


@contextmanager
def _quiet_data(verbose: bool) -> Iterator[None]:
    """A plan that is made inside shows no bar, which the harness has itself, and no start."""
    with warnings.catch_warnings():
        # Ray Data warns of its own defaults when it makes a context
        warnings.simplefilter("ignore", DeprecationWarning)
        context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars, context.print_on_execution_start = False, verbose
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before


def _last_line(told: str) -> str:
    """The last line of a remote traceback, which names the cause."""
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    return lines[-1] if lines else "Ray Data ended without a word"
