"""Let a listening socket go without cutting off who has just been let in.

When a listening socket is closed, the kernel resets every connection that it has completed and that nobody has
accepted yet. Under load there always are some: of six stops under load each lost one or two. So new handshakes are
first ignored, by a packet filter on the socket, the ones begun are accepted, and then the socket is closed. A client
whose first packet was ignored sends it again after a second, and is then refused or led elsewhere.
"""

from __future__ import annotations

__all__ = ["SETTLE_SECONDS", "ignore_new_connections"]

import ctypes
import socket
import struct
import sys

SETTLE_SECONDS = 0.25
"""For handshakes that have begun to be completed and accepted: more than most round trips."""

_SO_ATTACH_FILTER = 26
"""asm-generic/socket.h; Python has no name for it."""

_FLAGS_OFFSET = 13
_SYN, _ACK = 0x02, 0x10
_EVERYTHING = 0xFFFFFFFF
_PROGRAM = (
    # struct sock_filter: code, jump if true, jump if false, constant. On a TCP socket the packet begins at its header.
    (0x30, 0, 0, _FLAGS_OFFSET),  # load the byte of the flags
    (0x54, 0, 0, _SYN | _ACK),  # and
    (0x15, 0, 1, _SYN),  # a SYN without ACK begins a connection
    (0x06, 0, 0, 0),  # drop it
    (0x06, 0, 0, _EVERYTHING),  # let all else through
)


def ignore_new_connections(listener: socket.socket) -> bool:
    """Have the kernel drop what would begin a connection; False where this system cannot (it is not Linux)."""
    if sys.platform != "linux":
        return False
    code = b"".join(struct.pack("HBBI", *line) for line in _PROGRAM)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(_PROGRAM), ctypes.addressof(held))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True
