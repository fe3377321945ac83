"""Whose program is at the other end of a connection over loopback, as Linux tells it.

Metadata servers ask their clients for no secret. In a pod that is the pod's own business; on a machine with several
users ``wif run`` answers its own user's programs only. The kernel lists every TCP socket with the user who made it.
"""

from __future__ import annotations

__all__ = ["peer_user", "same_user_check"]

import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wif.serve.httpd import Scope

_TABLES = ("tcp", "tcp6")
_FOLDER = Path("/proc/net")
# words of a line: sl, local_address, rem_address, st, queues, timer, retrnsmt, uid, timeout, inode (proc_net_tcp.txt)
_LOCAL, _REMOTE, _UID, _INODE = 1, 2, 7, 9
_PROBE_SECONDS = 1.0


def same_user_check(*, folder: Path = _FOLDER) -> Callable[[Scope], bool] | None:
    """What tells whether a request comes from a program of this process' user; None where the system does not say.

    Args:
        folder: where the kernel's tables are.
    """

    def is_same_user(scope: Scope) -> bool:
        client, server = scope.get("client"), scope.get("server")
        return client is not None and server is not None and peer_user(client, server, folder=folder) == os.geteuid()

    return is_same_user if _is_told(is_same_user) else None


def _is_told(is_same_user: Callable[[Scope], bool]) -> bool:
    """Try it with a connection to ourselves: a kernel may have no such tables, hide them, or name nobody in them."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            address = server.getsockname()
            with socket.create_connection(address, timeout=_PROBE_SECONDS) as client:
                return is_same_user({"client": client.getsockname(), "server": address})
    except OSError:
        return False


def peer_user(client: tuple[str, int], server: tuple[str, int], *, folder: Path = _FOLDER) -> int | None:
    """Who made the socket of the client; None where there is none, any more.

    The tables are read anew for each request: a port is another program's as soon as its last one has closed it.
    """
    # a socket of IPv6 may have connected to an address of IPv4; it stands in the other table
    prefixes = ("",) if ":" in client[0] else ("", "::ffff:")
    ends = [(_written(prefix, client), _written(prefix, server)) for prefix in prefixes]
    for table in _TABLES:
        try:
            text = (folder / table).read_text(encoding="ascii")
        except OSError:
            continue  # no IPv6, for instance
        for local, remote in ends:
            if local not in text:
                continue
            for line in text.splitlines():
                words = line.split()
                # without an inode nobody holds it any more, and its user is told as 0
                if words[_LOCAL : _REMOTE + 1] == [local, remote] and words[_INODE] != "0":
                    return int(words[_UID])
    return None


def _written(prefix: str, end: tuple[str, int]) -> str:
    """An address and its port as the tables have them: words of 32 bits, each in the machine's own order."""
    host, port = prefix + end[0], end[1]
    packed = socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
