"""What a real cloud would have refused, and why this one has refused: for the log, and for the CLI to print.

The clouds' own error texts say little, on purpose. The local STS may say more, to the one who runs it: every
refusal is logged with the clause that decided, every issuer that only a local STS accepts with the reason.
"""

from __future__ import annotations

__all__ = ["Note", "Notes", "is_private_url", "issuer_objections"]

import ipaddress
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

logger = logging.getLogger("wif.emulator")

MAX_NOTES = 1000
_NAMES = {"aws": "AWS", "gcp": "GCP", "azure": "Azure"}
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".svc", ".svc.cluster.local", ".test", ".invalid", ".lan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One thing that a user of the local STS should know."""

    cloud: str
    issuer: str
    text: str
    """One sentence."""


class Notes:
    """The last notes, and how many there were.

    Args:
        listener: called with each note, on the server's thread; the CLI prints them.
    """

    def __init__(self, listener: Callable[[Note], None] | None = None) -> None:
        self._listener = listener
        self.recent: deque[Note] = deque(maxlen=MAX_NOTES)
        self.count = 0

    def passed(self, cloud: str, issuer: str) -> None:
        """A token of this issuer was accepted; note what the real cloud would not have let pass."""
        for objection in issuer_objections(cloud, issuer):
            note = Note(cloud=cloud, issuer=issuer, text=f"{_NAMES[cloud]} itself would have refused: {objection}")
            self.count += 1
            self.recent.append(note)
            logger.warning("%s", note.text)
            if self._listener is not None:
                self._listener(note)

    def refused(self, cloud: str, operation: str, reason: str) -> None:
        """A request was refused; the reason is for the one who runs this."""
        logger.info("%s refused %s: %s", cloud, operation, reason)


@lru_cache(maxsize=256)
def issuer_objections(cloud: str, issuer: str) -> tuple[str, ...]:
    """Why the real cloud takes no tokens of this issuer; empty where it would."""
    try:
        parts = urlsplit(issuer)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return (f"the issuer {issuer!r} is not a URL",)
    found = []
    if parts.scheme != "https":
        found.append(f"the issuer {issuer} is plain http")
    if _is_private(host):
        found.append(f"the issuer {issuer} is at a private or loopback address")
    if parts.query or parts.fragment:
        found.append(f"the issuer {issuer} has a query or fragment")
    if cloud == "aws" and port is not None:
        found.append(f"the issuer {issuer} has a port")
    return tuple(found)


def is_private_url(url: str) -> bool:
    """Whether a URL is at a private or loopback address, or of a name that only a private network knows."""
    try:
        return _is_private(urlsplit(url).hostname or "")
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or "." not in host or host.endswith(_PRIVATE_SUFFIXES)
