"""Whether a server's certificate would be accepted: a TLS handshake with itself, in memory.

So it is OpenSSL that decides about dates, names and signatures, as it will at the client, and no library that parses
certificates is loaded.
"""

from __future__ import annotations

__all__ = ["Presented", "certificates_of", "look_at"]

import re
import ssl
from collections.abc import Sequence
from typing import NamedTuple

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+?-----END CERTIFICATE-----")
_ROUNDS = 10
"""Of bytes from one side to the other; a handshake takes three."""


class Presented(NamedTuple):
    """What a client sees."""

    problem: str
    """Why it would refuse the certificate; empty where it would not."""
    not_after: float = 0.0
    """Unix seconds; 0 where it is not known, as of a certificate that is refused."""
    not_before: float = 0.0


def certificates_of(pem: str) -> tuple[str, ...]:
    """The certificates of a PEM text, each written as the others are, so that two texts can be compared."""
    found = []
    for block in _PEM.findall(pem):
        try:
            der = ssl.PEM_cert_to_DER_cert(block)
            found.append(ssl.DER_cert_to_PEM_cert(der))
        except ValueError:
            continue
    return tuple(dict.fromkeys(found))


def look_at(server: ssl.SSLContext, *, authorities: str | None = None, names: Sequence[str] = ()) -> Presented:
    """Connect to a server's context as a client.

    Args:
        authorities: PEM that the client trusts; None trusts the leaf itself: only its dates are looked at then.
        names: that the certificate must all have.
    """
    trusted = authorities
    if trusted is None:
        anonymous = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anonymous.check_hostname = False
        anonymous.verify_mode = ssl.CERT_NONE
        outcome = _handshake(server, anonymous, None)
        if isinstance(outcome, str):
            return Presented(outcome)
        trusted = ssl.DER_cert_to_PEM_cert(outcome.getpeercert(True) or b"")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = bool(names)
    if authorities is None:
        client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=trusted)
    except (ssl.SSLError, ValueError):
        return Presented("its authority cannot be read")
    found = Presented("")
    for name in names or (None,):
        outcome = _handshake(server, client, name)
        if isinstance(outcome, str):
            return Presented(outcome)
        shown = outcome.getpeercert() or {}
        found = Presented("", _seconds(shown.get("notAfter")), _seconds(shown.get("notBefore")))
    return found


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> ssl.SSLObject | str:
    """The client's end of the connection, or what went wrong."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(_ROUNDS):
        done = 0
        for side in (ours, theirs):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return str(error.verify_message or "it is not accepted").lower()
            except (ssl.SSLError, ValueError) as error:
                return f"no handshake ({getattr(error, 'reason', None) or type(error).__name__})"
        if done == 2:
            return ours
    return "no handshake"


def _seconds(text: object) -> float:
    return ssl.cert_time_to_seconds(text) if isinstance(text, str) else 0.0
