"""Processes of this machine: whose they are, what they hold, and what they listen on."""

from ipaddress import IPv6Address, ip_address
from pathlib import Path

import psutil


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, as far as they are alive; parents come first."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.NoSuchProcess:
        return [pid]


def listening(pids: list[int]) -> dict[tuple[str, int], str]:
    """(address, port) of every TCP socket that listens -> the command line of a process with it."""
    return {
        (socket.laddr.ip, socket.laddr.port): command(socket.pid)
        for socket in psutil.net_connections("tcp")
        if socket.pid in pids and socket.status == psutil.CONN_LISTEN
    }


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address; 127.0.0.1 may be written as IPv6."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def command(pid: int) -> str:
    """A process's command line, "" once it has ended."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def program(pid: int) -> str:
    """The name of the program that a process runs, "" once it has ended."""
    try:
        return Path(psutil.Process(pid).exe()).name
    except psutil.Error:
        return ""


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with, {} once it has ended."""
    try:
        return dict(psutil.Process(pid).environ())
    except psutil.Error:
        return {}


def marked(mark: str) -> list[str]:
    """Command lines of processes whose environment holds a value."""
    return [command(pid) for pid in psutil.pids() if mark in environment_of(pid).values()]
