"""Look up processes of this machine: descendants, environments and listening sockets."""

from ipaddress import IPv6Address, ip_address
from pathlib import Path

import psutil


def list_descendants(pid: int) -> list[int]:
    """Return a process and all living processes that it has started, parents first."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return [pid]


def find_listening_sockets(pids: list[int]) -> dict[tuple[str, int], str]:
    """Return the command line of each process that listens on TCP, by address and port."""
    return {
        (socket.laddr.ip, socket.laddr.port): get_command_line(socket.pid)
        for socket in psutil.net_connections("tcp")
        if socket.pid in pids and socket.status == psutil.CONN_LISTEN
    }


def is_loopback(address: str) -> bool:
    """Return True if only this machine can reach an address; IPv4 may be written as IPv6."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def get_command_line(pid: int) -> str:
    """Return a process's command line, or "" after its end."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def get_program(pid: int) -> str:
    """Return the name of the program that a process runs, or "" after its end."""
    try:
        return Path(psutil.Process(pid).exe()).name
    except psutil.Error:
        return ""


def get_environment(pid: int) -> dict[str, str]:
    """Return the environment with which a process was started, or {} after its end."""
    try:
        return dict(psutil.Process(pid).environ())
    except psutil.Error:
        return {}


def find_marked_processes(mark: str) -> list[str]:
    """Return the command lines of processes whose environment contains a value."""
    return [get_command_line(pid) for pid in psutil.pids() if mark in get_environment(pid).values()]
