"""A pool of Ray actors that encode shards of pictures; they stay, with their backbone, until close.

An actor that dies costs the shards that it was at: another one encodes them.
"""

import math
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ray
import torch
from ray.exceptions import RayError

from harness.config import Resources
from harness.errors import ClusterError
from ship.architectures import ImagePrecision
from ship.clip import FrozenCLIP
from ship.datasets import Picture, UndecodableError
from ship.features import Features, Layout, Shard, encode_pictures

MOST_DEATHS: Final = 3
"""Actors that may die with the same shard, or before they have begun."""

LoadBackbone = Callable[[str, str], FrozenCLIP]
"""Given a backbone's name and a torch device."""


@dataclass(frozen=True)
class Order:
    """What an actor is to encode.

    backbone: its name and its fingerprint, and the precision of its image tower.
    split: tells the pictures from those of the order before.
    pictures: the one reference to all of the split's, which an actor reads when the split is new.
    views: augmented views of each picture, beside the picture itself.
    shards: which of the pictures.
    threads: that decode.
    """

    backbone: tuple[str, str, ImagePrecision]
    split: str
    pictures: tuple[Any]
    views: int
    shards: tuple[Shard, ...]
    threads: int


@dataclass(frozen=True)
class Reply:
    """What became of an order.

    features: of each shard; none where something went wrong.
    undecodable: the name of a picture that cannot be decoded on that node.
    fault: whatever else went wrong. Both are text, as Ray would try again what raises, and print
        all of it.
    """

    features: tuple[Features, ...] = ()
    undecodable: str = ""
    fault: str = ""


class Encoder:
    """An actor: encodes orders, one after the other, on the node where Ray has placed it."""

    def __init__(self, load_backbone: LoadBackbone, device: str) -> None:
        self._load_backbone, self._device = load_backbone, device
        self._clip: FrozenCLIP | None = None
        self._split = ""
        self._pictures: Sequence[Picture] = ()

    def node(self) -> str:
        """The id of the node that it is on, once it is there."""
        return str(ray.get_runtime_context().get_node_id())

    def encode(self, order: Order) -> Reply:
        """Decode and encode some shards."""
        try:
            return Reply(self._features(order))
        except UndecodableError as why:  # the driver then looks at the whole split
            return Reply(undecodable=why.picture)
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            return Reply(fault=f"{type(error).__name__}: {first}")

    def _features(self, order: Order) -> tuple[Features, ...]:
        clip = self._backbone(*order.backbone)
        if order.split != self._split:
            self._pictures = ray.get(order.pictures[0])
            self._split = order.split
        layout = Layout.for_device(torch.device(self._device), order.threads)
        encoded = encode_pictures(clip, self._pictures, order.views, order.shards, layout)
        return tuple(features for _, features in encoded)

    def _backbone(self, name: str, fingerprint: str, precision: ImagePrecision) -> FrozenCLIP:
        if self._clip is None or (self._clip.name, self._clip.fingerprint) != (name, fingerprint):
            self._clip = None  # never two in memory
            self._clip = self._load_backbone(name, self._device)
            if self._clip.fingerprint != fingerprint:
                raise ValueError(f"backbone {name} has other weights on a node than on the driver")
        self._clip.image_precision = precision
        return self._clip


@dataclass(eq=False)
class _Worker:
    """A living actor, and the node that it is on."""

    actor: Any
    node: str = ""


class EncodingPool:
    """Starts actors as there is work for them, and gives out the work."""

    def __init__(
        self,
        resources: Resources,
        most: int,
        cores: Callable[[], dict[str, float]],
        load_backbone: LoadBackbone,
        device: str,
    ) -> None:
        """Build a pool that has no actor yet.

        Args:
            resources: that an actor takes.
            most: actors at once.
            cores: tells each node's, by its id.
            load_backbone: called on an actor, once for each backbone.
            device: torch device of the actors.
        """
        self._resources, self._most, self._cores = resources, max(1, most), cores
        self._load_backbone, self._device = load_backbone, device
        self._idle: list[_Worker] = []
        self._starting: dict[Any, _Worker] = {}
        self._busy: dict[Any, tuple[_Worker, tuple[Shard, ...]]] = {}
        self._failed_starts = 0

    def encode(
        self, shards: Sequence[Shard], order: Callable[[tuple[Shard, ...], int], Order], views: int
    ) -> Generator[tuple[tuple[Shard, ...], Reply], None, None]:
        """Have shards encoded by all actors; each order's shards and its reply, as they come.

        Args:
            shards: of one split.
            order: given some of them and the number of threads, what an actor is told.
            views: of each picture, the picture itself included.

        Raises:
            ClusterError: actors cannot start, or died with the same shard again and again.
        """
        waiting, deaths = deque(shards), Counter[Shard]()
        try:
            while waiting or self._busy:
                self._grow(len(waiting))
                self._give(waiting, order, views)
                done, _ = ray.wait([*self._busy, *self._starting])
                for reference in done:
                    if reference in self._starting:
                        self._started(reference)
                        continue
                    worker, part = self._busy.pop(reference)
                    try:
                        reply = ray.get(reference)
                    except RayError as error:
                        ray.kill(worker.actor)
                        deaths.update(part)
                        if max(deaths.values()) >= MOST_DEATHS:
                            raise ClusterError(_last_line(error)) from error
                        waiting.extendleft(reversed(part))
                        continue
                    self._idle.append(worker)
                    yield part, reply
        finally:
            if self._busy:  # given up: what they are at, nobody wants
                self.close()

    def close(self) -> None:
        """End all actors."""
        working = [worker for worker, _ in self._busy.values()]
        for worker in (*self._idle, *self._starting.values(), *working):
            ray.kill(worker.actor)
        self._idle.clear()
        self._starting.clear()
        self._busy.clear()

    def _workers(self) -> list[_Worker]:
        """Those that have started."""
        return [*self._idle, *(worker for worker, _ in self._busy.values())]

    def _grow(self, waiting: int) -> None:
        """Start as many actors as the shards that wait can use."""
        there = len(self._workers()) + len(self._starting)
        wanted = min(self._most, len(self._busy) + waiting)
        if self._failed_starts >= MOST_DEATHS:
            return
        kind = ray.remote(Encoder).options(
            num_cpus=self._resources.cpus, num_gpus=self._resources.gpus, max_restarts=0
        )
        for _ in range(wanted - there):
            actor: Any = kind.remote(self._load_backbone, self._device)
            self._starting[actor.node.remote()] = _Worker(actor)

    def _started(self, reference: Any) -> None:
        worker = self._starting.pop(reference)
        try:
            worker.node = ray.get(reference)
        except RayError as error:
            self._failed_starts += 1
            if self._failed_starts >= MOST_DEATHS and not self._workers():
                raise ClusterError(_last_line(error)) from error
            return
        self._idle.append(worker)

    def _give(
        self,
        waiting: deque[Shard],
        order: Callable[[tuple[Shard, ...], int], Order],
        views: int,
    ) -> None:
        """Give each idle actor its share."""
        if not self._idle or not waiting:
            return
        cores, workers = self._cores(), self._workers()
        while self._idle and waiting:
            worker = self._idle.pop()
            beside = sum(other.node == worker.node for other in workers)
            threads = decoding_threads(self._resources, cores.get(worker.node, 0.0), beside)
            layout = Layout.for_device(torch.device(self._device), threads)
            size = shards_at_once(layout, len(waiting[0]) * views, len(waiting), len(workers))
            part = tuple(waiting.popleft() for _ in range(size))
            self._busy[worker.actor.encode.remote(order(part, threads))] = worker, part


def decoding_threads(resources: Resources, cores: float, actors: int) -> int:
    """Threads of an actor: with a GPU, its part of the node's cores, which have nothing else to do.

    A core decodes some hundred pictures a second, a GPU encodes thousands.

    Args:
        resources: that an actor takes.
        cores: of the node.
        actors: on the node.
    """
    own = max(1, math.ceil(resources.cpus))
    return max(own, int(cores / actors)) if resources.gpus else own


def shards_at_once(layout: Layout, views: int, waiting: int, actors: int) -> int:
    """How many shards an actor is given: so many that no thread of it waits, and each actor works.

    Args:
        layout: of the actor.
        views: in a shard.
        waiting: shards that are to do.
        actors: of the pool.
    """
    batches = math.ceil(views / layout.views_per_batch)
    enough = math.ceil(2 * layout.threads / batches)
    return max(1, min(enough, waiting // max(1, actors)))


def _last_line(error: RayError) -> str:
    """The last line of a remote traceback, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
