"""What a process and its descendants listen on, read from /proc."""

import socket
import struct
from collections import defaultdict
from ipaddress import IPv6Address, ip_address
from pathlib import Path

LISTEN = "0A"


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, as far as they are alive."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children[parent].append(int(folder.name))
    found = [pid]
    for one in found:
        found += children[one]
    return found


def listening(pids: list[int]) -> dict[tuple[str, int], str]:
    """(address, port) of every TCP socket that listens -> the command line of a process with it."""
    owner = {inode: pid for pid in pids for inode in _sockets(pid)}
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and (pid := owner.get(fields[9])) is not None:
                address, port = fields[1].split(":")
                found[_address(address), int(port, 16)] = command(pid)
    return found


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address; 127.0.0.1 may be written as IPv6."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def command(pid: int) -> str:
    """A process's command line, "" once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with, {} once it has ended."""
    try:
        content = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    pairs = (item.partition(b"=") for item in content.split(b"\0"))
    return {key.decode(): value.decode() for key, _, value in pairs}


def _sockets(pid: int) -> list[str]:
    """The inodes of a process's sockets."""
    found = []
    try:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                found.append(target[8:-1])
    except OSError:
        pass
    return found


def _address(digits: str) -> str:
    """An address from its words in the byte order of the machine."""
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    raw = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
