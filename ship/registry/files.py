"""A file with plugins: imported under a name made of its content, here and in other processes."""

import hashlib
import sys
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from importlib.util import decode_source, module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Final

from ship.registry.plugin import Origin, PluginError

MOST_BYTES: Final = 1 << 20
"""Of a file: it goes along with every worker."""


@dataclass(frozen=True)
class PluginFile:
    """A file as it was read, which other processes are to load.

    path: in messages and tracebacks; it may be of another machine.
    """

    path: str
    content: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the content, 64 hex digits."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def origin(self) -> Origin:
        """What messages call it, and what it is: its path is no part of that."""
        return Origin(f"file {self.path}", f"sha256:{self.digest}", self.content)

    def module(self) -> ModuleType:
        """Its module, which is run once in a process: an edited file is another module."""
        name = f"ship_plugin_{self.digest[:16]}"
        if name in sys.modules:
            return sys.modules[name]
        loader = _Loader(self)
        spec = spec_from_loader(name, loader)
        if spec is None:
            raise ImportError(f"no module can be made of {self.path}")
        module = module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pydantic look there while the code runs
        try:
            loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


class _Loader(ExecutionLoader):
    """Loads a module from bytes; tracebacks show the lines of the file that they came from."""

    def __init__(self, file: PluginFile) -> None:
        self._file = file

    def get_filename(self, fullname: str) -> str:
        return self._file.path

    def get_source(self, fullname: str) -> str:
        return decode_source(self._file.content)


def read_plugin_file(path: Path | str) -> PluginFile:
    """Read a file; nothing of it is run.

    Raises:
        PluginError: it is no regular file, cannot be read, or is too large.
    """
    if Path(path).exists() and not Path(path).is_file():  # a device or a pipe might never end
        raise PluginError(f"file {path}: must be a regular file, not a folder, pipe or device")
    try:
        with Path(path).open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise PluginError(f"file {path}: cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise PluginError(
            f"file {path}: has more than {MOST_BYTES} bytes; make it a package with entry points"
        )
    return PluginFile(str(path), content)
