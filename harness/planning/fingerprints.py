"""Fingerprints of backbones and data sets, remembered so that a finished study loads neither."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import Any

from harness.method import Method
from ship.whole_file import write_whole

MEMORY = "fingerprints.json"
MOST_BYTES = 16 * 2**20


@dataclass
class Fingerprints:
    """Content hashes that setting keys are made of.

    A data set is loaded once; its loader remembers what pictures hold. A backbone's weights take
    seconds to load and hash, so its fingerprint is remembered in cache_dir under the name and the
    size and modification time of the weight files; a pretrained tag's weights never change, so
    there the name and open_clip's version are enough.

    reading: how folders of one's own are read, by dataset: what the method's load_dataset is told.
    """

    method: Method
    data_root: Path | None
    cache_dir: Path
    reading: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _pictures: dict[str, Any] = field(default_factory=dict)
    _backbones: dict[str, str] = field(default_factory=dict)

    def dataset(self, name: str) -> str:
        """Fingerprint of a data set.

        Raises:
            ValueError: the data set cannot be read.
        """
        return str(self.pictures(name).fingerprint)

    def pictures(self, name: str) -> Any:
        """The data set itself, as the method loads it.

        Raises:
            ValueError: the data set cannot be read.
        """
        if name not in self._pictures:
            own, place = self.reading.get(name, {}), (self.data_root, self.cache_dir)
            self._pictures[name] = self.method.load_dataset(name, *place, **own)
        return self._pictures[name]

    def backbone(self, name: str) -> str:
        """Fingerprint of a backbone; loads its weights if they were not seen before.

        Raises:
            ValueError: the backbone cannot be loaded.
        """
        if name not in self._backbones:
            key = _stamp(name)
            kept = _sealed(key, self._read().get(key))
            self.remember(name, kept or self.method.load_backbone(name, "cpu").fingerprint)
        return self._backbones[name]

    def remember(self, name: str, fingerprint: str) -> None:
        """Take the fingerprint of a backbone that was loaded anyway."""
        if self._backbones.get(name) == fingerprint:
            return
        self._backbones[name] = fingerprint
        memory, key = self._read(), _stamp(name)
        if _sealed(key, memory.get(key)) != fingerprint:
            memory[key] = _seal(key, fingerprint)
            content = json.dumps(memory, indent=1, sort_keys=True).encode("ascii")
            # one that cannot be remembered is computed again: no reason to stop
            with suppress(OSError):
                write_whole(self.cache_dir / MEMORY, content)

    def _read(self) -> dict[str, Any]:
        try:
            with (self.cache_dir / MEMORY).open("rb") as file:
                memory = json.loads(file.read(MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return memory if isinstance(memory, dict) else {}


def _seal(key: str, fingerprint: str) -> str:
    """A fingerprint with a checksum of itself and its key, as it is kept."""
    checksum = hashlib.blake2b(f"{key}|{fingerprint}".encode(), digest_size=8).hexdigest()
    return f"{fingerprint} {checksum}"


def _sealed(key: str, kept: Any) -> str | None:
    """The fingerprint that _seal was given; None where the text has been changed since.

    A wrong one would make results of other weights pass for this backbone's.
    """
    if not isinstance(kept, str):
        return None
    fingerprint = kept.rpartition(" ")[0]
    return fingerprint if kept == _seal(key, fingerprint) else None


def _stamp(backbone: str) -> str:
    """What a remembered fingerprint holds for: the backbone's name and its files as they are."""
    parts = [backbone]
    pretrained = Path(backbone.partition(":")[2])
    if backbone == "pocket":
        folder = Path(str(files("ship.pocket")))
        weights = sorted(p for p in folder.rglob("*") if p.suffix in {".safetensors", ".json"})
    elif pretrained.name and pretrained.is_file():
        weights = [pretrained]
    else:
        weights = []
    for file in weights:
        stat = file.stat()
        parts.append(f"{file.name} {stat.st_size} {stat.st_mtime_ns}")
    try:
        parts.append(version("open_clip_torch"))
    except PackageNotFoundError:
        parts.append("")
    # the hash's own definition is code: a changed one must not meet old memories
    parts.append(_source_stamp())
    return f"{backbone} {hashlib.blake2b('|'.join(parts).encode(), digest_size=8).hexdigest()}"


def _source_stamp() -> str:
    folder = Path(str(files("ship"))) / "clip"  # files("ship.clip") would import it, and torch
    sources = [(folder / name).read_bytes() for name in ("backbone.py", "weights.py")]
    return hashlib.blake2b(b"".join(sources), digest_size=8).hexdigest()
