"""The sockets on which processes listen, as Linux tells them (proc_pid_net(5))."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

_LISTENING = "0A"


def processes_of(root: int) -> set[int]:
    """*root* and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended since
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, left = set(), [root]
    while left:
        found.add(process := left.pop())
        left += children.get(process, [])
    return found


def listening(processes: Iterable[int]) -> set[tuple[str, int]]:
    """Address and port of each TCP socket on which one of *processes* listens."""
    inodes = {inode for process in processes for inode in _sockets(process)}
    return {(address, port) for address, port, inode in _table() if inode in inodes}


def _sockets(process: int) -> Iterator[str]:
    try:
        for link in Path(f"/proc/{process}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:  # it has ended, or closed that file, since
        return


def _table() -> Iterator[tuple[str, int, str]]:
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == _LISTENING:
                address, _, port = local.partition(":")
                # Words of 32 bits in the machine's own order, each.
                packed = b"".join(struct.pack("=I", int(address[n : n + 8], 16)) for n in range(0, len(address), 8))
                yield str(ipaddress.ip_address(packed)), int(port, 16), rest[5]
