"""The guard in front of local credential endpoints: who asks from elsewhere, or through somebody else, is refused.

A program that is led to fetch a URL (SSRF), a browser whose name look-up was turned to loopback (DNS rebinding), and
a proxy that hands requests on, all leave traces: a ``Host`` that is not ours, a header that says where the request
came from, a peer that is no loopback address. The listener itself binds to nothing but loopback.
"""

from __future__ import annotations

__all__ = ["METADATA_HOSTS", "LoopbackGuard", "loopback_address", "require_own_network"]

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError
from wif.serve.httpd import Address

if TYPE_CHECKING:
    from wif.serve.httpd import Scope

METADATA_HOSTS = frozenset(
    {
        b"metadata.google.internal",
        b"metadata.google.internal.",
        b"metadata.google.internal:80",
        b"169.254.169.254",
        b"169.254.169.254:80",
    }
)
"""What clients of the clouds' metadata servers ask for, also where HTTP_PROXY led them here."""

_NAMES = ("127.0.0.1", "localhost", "[::1]")
_HANDED_ON = frozenset(
    {
        b"cf-connecting-ip",
        b"client-ip",
        b"forwarded",
        b"origin",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-real-ip",
    }
)
"""Headers of who hands a request on, and of browsers."""
_PREFIXES = (b"x-forwarded", b"x-original-", b"x-envoy-")

_HINT = "give 127.0.0.1:PORT, [::1]:PORT or localhost:PORT: whoever reaches the port may get credentials"


class LoopbackGuard:
    """Judges requests by their head. :meth:`allow` names the listeners, once they have their ports.

    Args:
        same_user: whether a request comes from a program of our user; asked where no secret is. None: not asked.
    """

    def __init__(self, *, same_user: Callable[[Scope], bool] | None = None) -> None:
        self._same_user = same_user
        self._hosts: frozenset[bytes] = frozenset()
        self._metadata_hosts: frozenset[bytes] = METADATA_HOSTS

    def allow(self, host: str, port: int) -> None:
        """Take requests for this listener, by its address and by the names of loopback, with its port or without."""
        own = f"[{host}]" if ":" in host else host
        names = {own, *_NAMES}
        self._hosts |= {f"{name}{tail}".encode() for name in names for tail in ("", f":{port}")}
        # a hosts file may lead the metadata server's name here; the port is then ours
        self._metadata_hosts |= {f"metadata.google.internal:{port}".encode(), f"169.254.169.254:{port}".encode()}
        self._metadata_hosts |= self._hosts

    def refusal(self, scope: Scope, *, as_metadata_server: bool = False) -> str | None:
        """Why this request is refused, in one plain sentence that names no identity; None where it is not.

        Args:
            scope: ASGI's.
            as_metadata_server: whether it may be meant for a cloud's metadata server by name; such a server's
                clients have no secret.
        """
        client = scope.get("client")
        if client is None or not _is_loopback(client[0]):
            return "only this machine's loopback address is answered"
        hosts = self._metadata_hosts if as_metadata_server else self._hosts
        found = 0
        for name, value in scope["headers"]:
            if name == b"host":
                found += 1
                if value.lower() not in hosts:
                    return "the Host header names another server"
            elif (plain := name.replace(b"_", b"-")) in _HANDED_ON or plain.startswith(_PREFIXES):
                return f"a request with the header {name.decode('latin-1')[:64]} was handed on by somebody"
        if found != 1:
            return "exactly one Host header is needed"
        if as_metadata_server and self._same_user is not None and not self._same_user(scope):
            return "only programs of the user who started this are answered"
        return None


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def loopback_address(text: str) -> Address:
    """Read where to listen, and take nothing but loopback.

    Raises:
        ConfigurationError: config-invalid.
    """
    address = Address.parse(text)
    if address.host == "localhost":  # not looked up: a hosts file may say anything
        return Address(host="127.0.0.1", port=address.port)
    try:
        found = ip_address(address.host)
        # what is mapped into IPv6 counts as loopback from Python 3.13 on; it is a way around, not an address
        is_loopback = found.is_loopback and getattr(found, "ipv4_mapped", None) is None
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(
            f"credentials are not served on {text[:128]!r}, which is no loopback address",
            code="config-invalid",
            hint=_HINT,
        )
    return address


def require_own_network(environ: Mapping[str, str], *, is_forced: bool = False) -> None:
    """Refuse to serve in a pod with ``hostNetwork``: its loopback address is every such pod's and the node's.

    Told by ``WIF_POD_IP`` and ``WIF_HOST_IP``, which the manifest fills from ``status.podIP`` and ``status.hostIP``;
    they are equal with ``hostNetwork`` and else never. Without them nothing is known, and nothing refused.

    Raises:
        ConfigurationError: config-conflict.
    """
    pod, node = (_addresses(environ.get(name, "")) for name in ("WIF_POD_IP", "WIF_HOST_IP"))
    if is_forced or not pod & node:
        return
    raise ConfigurationError(
        "this pod has the node's network (WIF_POD_IP is WIF_HOST_IP): every process of the node could get credentials",
        code="config-conflict",
        hint="remove hostNetwork from the pod, or say force_host_network where all of the node may have them",
    )


def _addresses(text: str) -> frozenset[str]:
    found: set[str] = set()
    for part in _parts(text):
        try:
            found.add(str(ip_address(part)))
        except ValueError:
            found.add(part)
    return frozenset(found)


def _parts(text: str) -> Iterable[str]:
    return (part for part in text.replace(",", " ").split() if part)
