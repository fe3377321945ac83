"""What went wrong on the way, in the words of :class:`~wif.errors.TransportError`.

Texts of the libraries below are not passed on: they may hold addresses with passwords, and each says it otherwise.
"""

from __future__ import annotations

__all__ = ["CAUGHT", "translate"]

import http.client
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from urllib3.exceptions import HTTPError, IncompleteRead, InvalidChunkLength

from wif.edges.connections import MalformedAnswer, OversizedAnswer, RedirectAnswer
from wif.edges.tls import CA_VARIABLES
from wif.errors import TransportError

if TYPE_CHECKING:
    from wif.edges.connections import Call
    from wif.edges.proxies import Proxy
    from wif.edges.tls import Authorities

CAUGHT = (HTTPError, OSError, http.client.HTTPException, MalformedAnswer, OversizedAnswer, RedirectAnswer)
"""Everything that sending a request and reading its answer may raise."""

_STAGES = {
    "starting": "before connecting",
    "name": "looking up the name",
    "connect": "connecting",
    "proxy": "connecting to the proxy",
    "tunnel": "waiting for the proxy",
    "tls": "in the TLS handshake",
    "request": "sending the request",
    "headers": "waiting for the answer",
    "body": "reading the answer's body",
}

_TUNNEL = re.compile(r"^Tunnel connection failed: ([0-9]{3})\b")
"""http.client's text for a proxy's answer to CONNECT other than 200."""

# X509_V_ERR numbers of OpenSSL's x509_vfy.h
_NAME_MISMATCH = (62, 63, 64)
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_EXPIRED = 10
_NOT_YET_VALID = 9


def translate(
    error: BaseException,
    *,
    call: Call,
    cloud: str | None,
    operation: str,
    where: str,
    proxy: Proxy | None,
    trust: Authorities | None,
) -> TransportError:
    """The error for the caller.

    Args:
        error: one of :data:`CAUGHT`.
        call: the request under way.
        cloud, operation, where: what was asked, and ``host:port``.
        proxy, trust: the settings that were in force.
    """
    chain = list(_chain(error))

    def make(code: str, what: str, *, hint: str | None = None, retryable: bool | None = None) -> TransportError:
        return TransportError(f"{operation}: {what}", code=code, hint=hint, retryable=retryable, cloud=cloud)

    if call.over or any(isinstance(e, TimeoutError) for e in chain):
        late = "the deadline passed" if call.over else "the time limit of one wait passed"
        return make("timeout", f"no whole answer from {where}: {late} {_STAGES[call.stage]}{_via(proxy)}")
    for e in chain:
        if isinstance(e, RedirectAnswer):
            return make("redirect-refused", f"{where} redirects to {_host(e.args[0])}, and a token follows no redirect")
        if isinstance(e, OversizedAnswer):
            return make("response-too-large", f"the answer of {where} is larger than any real one: {e.args[0]}")
        if isinstance(e, MalformedAnswer):
            return make("response-malformed", f"the answer of {where} is not HTTP as expected: {e.args[0]}")
    return _on_the_way(chain, make, call=call, cloud=cloud, where=where, proxy=proxy, trust=trust)


def _on_the_way(  # noqa: PLR0911 - one return for each kind of failure
    chain: list[BaseException],
    make: Callable[..., TransportError],
    *,
    call: Call,
    cloud: str | None,
    where: str,
    proxy: Proxy | None,
    trust: Authorities | None,
) -> TransportError:
    through = f"the proxy {proxy.host}:{proxy.port}" if proxy is not None else "the proxy"
    cut = any(isinstance(e, ssl.SSLEOFError | ssl.SSLZeroReturnError) for e in chain)
    tls = next((e for e in chain if isinstance(e, ssl.SSLError)), None)
    if tls is not None and not cut:
        peer = through if call.stage == "proxy" else where
        what, hint = _tls(tls, peer=peer, cloud=cloud, trust=trust)
        return make("tls-failed", what, hint=hint)
    if call.stage == "tunnel":
        return _refused_tunnel(chain, make, through=through, where=where)
    if call.stage == "proxy" or (proxy is not None and call.stage in ("name", "connect")):
        return make("proxy-failed", f"no connection to {through} on the way to {where}: {_reason(chain)}")
    if any(isinstance(e, socket.gaierror) for e in chain):
        return make("connection-failed", f"no connection to {where}: {_reason(chain)}")
    if call.stage in ("starting", "name", "connect", "tls"):
        return make("connection-failed", f"no connection to {where}: {_reason(chain)}{_via(proxy)}")
    odd = next((e for e in chain if isinstance(e, http.client.HTTPException)), None)
    if odd is not None and not isinstance(odd, http.client.IncompleteRead | http.client.RemoteDisconnected):
        kind = "a line too long" if isinstance(odd, http.client.LineTooLong) else "its status or header lines"
        return make("response-malformed", f"the answer of {where} is not HTTP as expected: {kind}")
    if any(isinstance(e, InvalidChunkLength) for e in chain):
        return make("response-malformed", f"the answer of {where} is not HTTP as expected: its chunks")
    return make("connection-failed", f"{where} ended the connection {_STAGES[call.stage]}: {_reason(chain)}")


def _refused_tunnel(
    chain: list[BaseException], make: Callable[..., TransportError], *, through: str, where: str
) -> TransportError:
    answered = next((m for e in chain if isinstance(e, OSError) and (m := _TUNNEL.search(str(e)))), None)
    if answered is None:
        return make("proxy-failed", f"{through} opened no way to {where}: {_reason(chain)}")
    status = int(answered[1])
    hint = {
        403: "let the proxy admit this host, or add the host to NO_PROXY",
        407: "put the proxy's user and password into HTTPS_PROXY: http://USER:PASSWORD@HOST:PORT",
    }.get(status)
    return make(
        "proxy-failed", f"{through} refused the way to {where} with status {status}", hint=hint, retryable=status >= 500
    )


def _tls(error: ssl.SSLError, *, peer: str, cloud: str | None, trust: Authorities | None) -> tuple[str, str | None]:
    """What was wrong, and the next step."""
    names = ", ".join((*CA_VARIABLES[cloud], "SSL_CERT_FILE"))
    if not isinstance(error, ssl.SSLCertVerificationError):
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
            return f"{peer} does not speak TLS", "check the port: plain http may answer there"
        return f"the TLS handshake with {peer} failed: {(error.reason or 'unknown').lower().replace('_', ' ')}", None
    code = error.verify_code
    if code in _NAME_MISMATCH:
        return (
            f"the certificate of {peer} is for another name",
            "check that nothing intercepts TLS, and that the name leads to the right address",
        )
    if code in (_EXPIRED, _NOT_YET_VALID):
        when = "has expired" if code == _EXPIRED else "is not valid yet"
        return f"the certificate of {peer} {when}", "check this machine's clock; else its owner must renew it"
    if code in _UNKNOWN_AUTHORITY:
        store = "the given PoolManager's authorities" if trust is None else trust.origin
        return (
            f"the certificate of {peer} is from an authority that is not trusted (trusted: {store})",
            f"name a bundle that holds its authority in one of {names}; each replaces the system's store",
        )
    return f"the certificate of {peer} was not accepted: {error.verify_message}", None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it wraps: urllib3 puts the cause into an attribute, into args, or into ``__cause__``."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting and len(seen) < 20:
        e = waiting.pop(0)
        if isinstance(e, BaseException) and id(e) not in seen:
            seen.add(id(e))
            yield e
            waiting += [*e.args, getattr(e, "original_error", None), e.__cause__]


def _reason(chain: list[BaseException]) -> str:
    for e in chain:
        if isinstance(e, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(e, OSError) and not isinstance(e, ssl.SSLError) and e.errno:
            return os.strerror(e.errno).lower()
    if any(isinstance(e, IncompleteRead | http.client.IncompleteRead) for e in chain):
        return "the answer is not whole"
    return "closed by the peer"


def _via(proxy: Proxy | None) -> str:
    return f" (through the proxy {proxy.host}:{proxy.port})" if proxy is not None else ""


def _host(location: str) -> str:
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    if not host:
        return "another path of its own" if location.startswith("/") and location[1:2] != "/" else "an unreadable place"
    return "".join(c if c.isprintable() else "?" for c in host[:253])
