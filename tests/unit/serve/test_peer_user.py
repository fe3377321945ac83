"""Who is at the other end of a loopback connection, by the kernel's tables."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from wif.serve.peer_user import peer_user

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the tables are written as this machine has them")

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
ROW = "{:4d}: {} {} 01 00000000:00000000 00:00000000 00000000 {:5d}        0 {} 1 0000000000000000 20 4 30 10 -1\n"
CLIENT, SERVER = ("127.0.0.1", 50_000), ("127.0.0.1", 8787)
OURS, THEIRS = "0100007F:2253", "0100007F:C350"
MAPPED = "0000000000000000FFFF0000"


def tables(folder: Path, *rows: tuple[str, str, int, int], name: str = "tcp") -> Path:
    text = "".join(ROW.format(number, *row) for number, row in enumerate(rows))
    (folder / name).write_text(HEAD + text)
    return folder


def test_the_client_s_socket_is_looked_for_and_not_the_server_s(tmp_path: Path) -> None:
    folder = tables(tmp_path, (OURS, "00000000:0000", 0, 1), (OURS, THEIRS, 0, 2), (THEIRS, OURS, 1000, 3))
    assert peer_user(CLIENT, SERVER, folder=folder) == 1000


def test_the_same_port_to_another_server_is_another_connection(tmp_path: Path) -> None:
    folder = tables(tmp_path, (THEIRS, "0100007F:2254", 7, 1))
    assert peer_user(CLIENT, SERVER, folder=folder) is None


def test_a_socket_that_nobody_holds_any_more_is_nobody_s(tmp_path: Path) -> None:
    """Its user is told as 0, which may be ours."""
    assert peer_user(CLIENT, SERVER, folder=tables(tmp_path, (THEIRS, OURS, 0, 0))) is None


def test_a_client_of_both_families(tmp_path: Path) -> None:
    tables(tmp_path)
    folder = tables(tmp_path, (MAPPED + THEIRS, MAPPED + OURS, 1001, 5), name="tcp6")
    assert peer_user(CLIENT, SERVER, folder=folder) == 1001


def test_ipv6(tmp_path: Path) -> None:
    loopback = "00000000000000000000000001000000"
    folder = tables(tmp_path, (f"{loopback}:C350", f"{loopback}:2253", 1002, 5), name="tcp6")
    assert peer_user(("::1", 50_000), ("::1", 8787), folder=folder) == 1002
