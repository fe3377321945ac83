"""Whether the host of a URL can be one that the clouds reach, told from its spelling alone.

Nothing is looked up: a public name that leads to a private address is found by verifying from outside.
"""

from __future__ import annotations

__all__ = [
    "UrlParts",
    "host_problem",
    "is_cluster_default",
    "is_host",
    "is_internal_name",
    "is_private_address",
    "split_url",
]

import ipaddress
import re
from typing import NamedTuple

_URL = re.compile(
    r"(?:(?P<scheme>[^:/?#]*):)?(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.DOTALL,
)
"""RFC 3986 appendix B: matches every text, and changes none, which ``urlsplit`` does with white space."""

_AUTHORITY = re.compile(r"(?:(?P<user>.*)@)?(?P<host>\[[^\]]*\]|[^:]*)(?P<port>:.*)?", re.DOTALL)

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_MAX_HOST_LENGTH = 253

_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"""A last label that makes the whole host an IPv4 address in one of its old spellings (URL standard, host parsing)."""

_INTERNAL_ENDS = frozenset(
    {"cluster", "corp", "home", "internal", "intranet", "lan", "local", "localdomain", "localhost", "private", "svc"}
)
"""Last labels that public DNS does not delegate: RFC 2606, 6762, ICANN's ``internal``, and what is seen in use."""

_INTERNAL_SUFFIXES = (".home.arpa",)
"""RFC 8375."""

_CLUSTER_DEFAULT = re.compile(r"kubernetes(\.default(\.svc(\..*)?)?)?|.*\.svc|(.*\.)?cluster\.local", re.DOTALL)


class UrlParts(NamedTuple):
    """The parts of a URL as they are written; None for one that is not there at all."""

    scheme: str
    user: str | None
    host: str
    """With the brackets of an IPv6 address."""
    port: str | None
    """With its colon, which can stand alone."""
    path: str
    query: str | None
    fragment: str | None


def split_url(url: str) -> UrlParts:
    """Take a URL apart without judging or changing it; every text has parts."""
    whole = _URL.fullmatch(url)
    authority = _AUTHORITY.fullmatch((whole and whole["authority"]) or "")
    if whole is None or authority is None:
        raise AssertionError("every part may be empty")
    return UrlParts(
        scheme=whole["scheme"] or "",
        user=authority["user"],
        host=authority["host"],
        port=authority["port"],
        path=whole["path"],
        query=whole["query"],
        fragment=whole["fragment"],
    )


def is_host(host: str) -> bool:
    """Whether this is a DNS name of ASCII labels or an IP address as URLs write them."""
    if host.startswith("["):
        return _address(host) is not None
    labels = host.removesuffix(".").split(".")
    return len(host) <= _MAX_HOST_LENGTH and all(map(_LABEL.fullmatch, labels))


def host_problem(host: str) -> str:
    """Why the clouds cannot reach this host, as the end of a sentence; empty where nothing is seen."""
    if is_private_address(host):
        return "is an address that is not public"
    if is_internal_name(host):
        return "is a name that public DNS does not have"
    return ""


def is_private_address(host: str) -> bool:
    """Whether this is an address of no public network: private, loopback, link-local, unspecified, reserved.

    An IPv4 address in one of the spellings that only some programs read (``127.1``, ``0x7f.1``) counts as one.
    """
    address = _address(host)
    if address is None:
        labels = host.removesuffix(".").split(".")
        return len(labels) > 1 and _NUMBER.fullmatch(labels[-1]) is not None
    return not address.is_global or address.is_multicast


def is_internal_name(host: str) -> bool:
    """Whether this name can only be known inside: one label, or an end that public DNS does not have."""
    if _address(host) is not None:
        return False
    name = host.removesuffix(".").lower()
    return "." not in name or name.rpartition(".")[2] in _INTERNAL_ENDS or name.endswith(_INTERNAL_SUFFIXES)


def is_cluster_default(host: str) -> bool:
    """Whether this is the API server's name inside every cluster, which kubeadm and others make the issuer."""
    return _CLUSTER_DEFAULT.fullmatch(host.removesuffix(".").lower()) is not None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.IPv6Address(host[1:-1]) if bracketed else ipaddress.IPv4Address(host.removesuffix("."))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
