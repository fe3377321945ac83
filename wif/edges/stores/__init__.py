"""Places that documents are published to, behind one face: read with a tag, write on that tag, conflict or done.

Each kind of place has a module of its own; :mod:`wif.edges.stores.opening` maps the URL of ``--to`` to it.
"""

from __future__ import annotations

__all__ = ["ABSENT", "MAX_DOCUMENT_BYTES", "Store", "StoredDocument", "WriteConflict"]

from dataclasses import dataclass, field
from typing import Final, Protocol

from wif.errors import UnavailableError

ABSENT: Final = ""
"""The tag of a document that is not there: a write on it creates, and conflicts where somebody else has created."""

MAX_DOCUMENT_BYTES = 1024 * 1024
"""The largest document that is read or written; a key set of 100 RSA keys has 45 KB."""


class WriteConflict(UnavailableError):
    """The document is no longer the one that the tag names; nothing was written. Read, decide, write again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="write-conflict")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDocument:
    """A document as it stands at a place."""

    body: bytes = field(repr=False)
    tag: str
    """Names this version at this place: an ETag, a generation, a resourceVersion, a digest. Opaque."""
    content_type: str | None = None
    """None where the place keeps none (a directory, a ConfigMap)."""
    cache_control: str | None = None
    """None where the place keeps none."""


class Store(Protocol):
    """One target. Safe for threads. Every failure is a :class:`~wif.errors.WifError`.

    Errors of all methods: ``target-unavailable`` after bounded repeats (retryable), ``target-refused`` for missing
    rights or a place that does not exist, ``extra-missing``.
    """

    @property
    def name(self) -> str:
        """The URL of ``--to``, in its one canonical spelling; names the target in reports and in the state."""

    @property
    def is_conditional(self) -> bool:
        """Whether a write on an old tag is refused by the place itself."""

    @property
    def holds_discovery(self) -> bool:
        """Whether it keeps the discovery document; the Google control planes take the key set alone."""

    @property
    def keeps_headers(self) -> bool:
        """Whether Content-Type and Cache-Control are stored with a document and can drift."""

    def read(self, path: str) -> StoredDocument | None:
        """The document at a path below the target's prefix, e.g. ``openid/v1/jwks``; None where there is none."""

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:
        """Replace the version ``tag`` (or create: :data:`ABSENT`) by these bytes, whole or not at all.

        Returns:
            The new tag.

        Raises:
            WriteConflict: another version stands there, or one stands where none was expected. Where the place is
                not conditional, only what a read just before shows.
        """

    def delete(self, path: str, *, tag: str) -> None:
        """Remove the version ``tag``; nothing happens where nothing is.

        Raises:
            WriteConflict: another version stands there, as far as the place can tell.
        """

    def close(self) -> None:
        """Let go of connections."""
