"""The API servers of a cluster as its EndpointSlices announce them, on loopback.

A slice cannot hold 127.0.0.1, so each server gets an address of 192.0.2.0/24 (TEST-NET-1) or of 2001:db8::/32 there,
and a small CONNECT proxy leads those addresses to the servers' ports. :func:`kubeconfig_through` writes a kubeconfig
that uses the proxy; ``HTTPS_PROXY=proxy.url`` does the same for every kubeconfig. ::

    with api_servers(2) as cluster:
        client = KubeClient.from_kubeconfig(cluster.kubeconfig)
        for endpoint in client.api_server_endpoints():
            client.at(*endpoint).issuer_documents()
        cluster.servers[1].reconfigure(signing_key=cluster.servers[0].make_key("next"))
"""

from __future__ import annotations

__all__ = ["ADDRESSES", "ServerCluster", "SliceProxy", "announce", "api_servers", "kubeconfig_through"]

import contextlib
import ipaddress
import json
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wif.emulator.apiserver import ApiServer

ADDRESSES = ("192.0.2.11", "192.0.2.12", "192.0.2.13")
"""What the servers are announced as, in their order."""
PORT = 6443
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"


class SliceProxy:
    """A CONNECT proxy that maps addresses to ports of 127.0.0.1; what it does not know is refused with 403.

    Loopback addresses are let through as they are, so that one ``HTTPS_PROXY`` serves all of a test's requests.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = {ipaddress.ip_address(address): port for address, port in ports.items()}
        self.asked: list[str] = []
        """The targets of all CONNECT requests, as they came."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def add(self, address: str, port: int) -> None:
        """Lead one more address to a port."""
        self._ports[ipaddress.ip_address(address)] = port

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in tuple(self._open):  # those that serve let go of theirs meanwhile
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError, ValueError, IndexError):
            self._hold(held, sock)
            sock.settimeout(60)
            with sock.makefile("rb") as stream:
                target = stream.readline(4096).decode("latin-1").split()[1]
                while stream.readline(4096).strip():
                    pass
            self.asked.append(target)
            host, _, port = target.rpartition(":")
            address = ipaddress.ip_address(host.strip("[]"))
            to = int(port) if address.is_loopback else self._ports.get(address)
            if to is None:
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            try:
                onward = socket.create_connection(("127.0.0.1", to), timeout=10)
            except OSError:
                sock.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                return
            self._hold(held, onward)
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            onward.settimeout(60)
            back = threading.Thread(target=_pump, args=(onward, sock), daemon=True)
            back.start()
            _pump(sock, onward)
            back.join(65)

    def _hold(self, held: contextlib.ExitStack, sock: socket.socket) -> None:
        with self._lock:
            self._open.add(sock)
        held.callback(sock.close)
        held.callback(self._open.discard, sock)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


def announce(
    server: ApiServer,
    addresses: Sequence[str],
    *,
    not_ready: Sequence[str] = (),
    name: str = "kubernetes",
    port_name: str = "https",
) -> None:
    """Make or replace the EndpointSlice of ``default/kubernetes`` that names these addresses (of one family)."""
    family = "IPv6" if ":" in (*addresses, *not_ready)[0] else "IPv4"
    body: dict[str, Any] = {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "ports": [{"name": port_name, "port": PORT, "protocol": "TCP"}],
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": address not in not_ready}}
            for address in (*addresses, *not_ready)
        ],
    }
    status, _ = server.request("PUT", f"{SLICES}/{name}", body)
    if status == 404:
        server.create(SLICES, body)
    elif status not in (200, 201):
        raise AssertionError(f"the slice was answered with {status}")


def kubeconfig_through(server: ApiServer, proxy_url: str, path: Path, *, address: str | None = None) -> Path:
    """Write the administrator's kubeconfig with ``proxy-url``; ``address`` replaces the server's own in it."""
    document = json.loads(server.kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    cluster["proxy-url"] = proxy_url
    if address is not None:
        host = f"[{address}]" if ":" in address else address
        cluster |= {"server": f"https://{host}:{PORT}", "tls-server-name": "kubernetes.default.svc"}
    path.write_text(json.dumps(document))
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCluster:
    """API servers of one cluster that the cluster's own slices announce."""

    servers: tuple[ApiServer, ...]
    addresses: tuple[str, ...]
    proxy: SliceProxy
    kubeconfig: Path
    """An administrator's, by way of the proxy, at the first server's own address."""

    @property
    def environment(self) -> dict[str, str]:
        """For programs that a test starts with another kubeconfig."""
        return {"HTTPS_PROXY": self.proxy.url, "https_proxy": self.proxy.url, "NO_PROXY": "", "no_proxy": ""}


@contextlib.contextmanager
def api_servers(
    number: int = 2, *, issuer: str | None = None, arguments: Sequence[str] = ()
) -> Iterator[ServerCluster]:
    """Start them, announce them, and end them."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(ApiServer(issuer=issuer, arguments=arguments))
        peers = [stack.enter_context(ApiServer(peer_of=first)) for _ in range(number - 1)]
        servers = (first, *peers)
        addresses = ADDRESSES[:number]
        ports = {
            address: int(server.url.rpartition(":")[2]) for address, server in zip(addresses, servers, strict=True)
        }
        proxy = stack.enter_context(SliceProxy(ports))
        announce(first, addresses)
        folder = Path(tempfile.mkdtemp(prefix="wif-test-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        kubeconfig = kubeconfig_through(first, proxy.url, folder / "kubeconfig")
        yield ServerCluster(servers=servers, addresses=addresses, proxy=proxy, kubeconfig=kubeconfig)
