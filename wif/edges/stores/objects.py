"""Object stores as targets: S3, Google Cloud Storage and Azure Blob, and what speaks like them, by obstore.

Every write is conditional: on an ETag (S3, Azure) or a generation (GCS). Such a write can conflict with itself, when
the store has done it and the answer was lost, so after a conflict or a time-out the object is read again: what equals
what was sent is done. S3's ETag is a digest of the content, so a content that comes back brings its tag back: a tag
says what stands there, not that nothing has happened since.
"""

from __future__ import annotations

__all__ = ["LIMITS", "Conditions", "ObjectStore", "StoreLimits"]

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeVar

from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, StoredDocument, WriteConflict
from wif.edges.stores.credentials import Identities
from wif.edges.stores.object_errors import Failure, Operation, failure_of, refusal
from wif.errors import ConfigurationError, ProtocolError

T = TypeVar("T")


class StoreLimits(NamedTuple):
    """How long and how often one operation is tried."""

    connect_seconds: float = 5.0
    request_seconds: float = 10.0
    """One request with its answer; a document has some kilobytes."""
    retries: int = 3
    """Of one request, by obstore, after 5xx, 408, 429 and broken connections."""
    retry_seconds: float = 15.0
    """No repeat begins later than this after the first request."""
    writes: int = 3
    """How often a write is sent whose outcome is open, or that conflicts though nobody changed the object."""
    total_seconds: float = 30.0
    """None of those begins later than this."""


LIMITS = StoreLimits()
"""One read ends within 25 s; a write, with the readings after it, within 80 s though each runs into its limit."""

_REUSED_SECONDS = 0.12
"""For a tenth of a second obstore goes on with the credential that it has got."""

_IMPOSSIBLE: Final[Mapping[str, str]] = {"e_tag": '"0x0"', "version": "1"}
"""Tags that no object has."""


class Conditions:
    """What is known of a server's conditional writes; shared by the stores at one address. Safe for threads.

    Args:
        proven: whether the server is known to keep conditions; else each kind is tried before its first use.
    """

    __slots__ = ("unproven",)

    def __init__(self, *, proven: bool = False) -> None:
        self.unproven = frozenset[str]() if proven else frozenset(("update", "create"))

    def prove(self, kind: Literal["update", "create"]) -> None:
        """The server has refused what it had to refuse."""
        self.unproven -= {kind}


class ObjectStore:
    """One bucket or container, below a prefix. Implements :class:`~wif.edges.stores.Store`; safe for threads.

    Args:
        native: obstore's store.
        name: the target's name.
        cloud: ``aws``, ``gcp`` or ``azure``, for errors.
        tag: which of obstore's two names of a version conditional writes take.
        identities: whose credentials ``native`` uses.
        single_writer: whether to write where the store ignores conditions.
        conditions: what is known of the server.
        limits: times and counts.
    """

    def __init__(
        self,
        native: Any,
        *,
        name: str,
        cloud: str,
        tag: Literal["e_tag", "version"],
        identities: Identities | None = None,
        single_writer: bool = False,
        conditions: Conditions | None = None,
        limits: StoreLimits = LIMITS,
    ) -> None:
        self._native = native
        self._name = name
        self._cloud = cloud
        self._tag: Literal["e_tag", "version"] = tag
        self._identities = identities
        self._single_writer = single_writer
        self._conditions = conditions or Conditions()
        self._conditional = True
        self._limits = limits

    @property
    def name(self) -> str:
        """The URL of ``--to``, canonical."""
        return self._name

    @property
    def is_conditional(self) -> bool:
        """True, until a write has shown that the store ignores conditions."""
        return self._conditional

    @property
    def holds_discovery(self) -> bool:
        """True."""
        return True

    @property
    def keeps_headers(self) -> bool:
        """True."""
        return True

    def read(self, path: str) -> StoredDocument | None:
        """The object with its headers, by one request."""
        found = self._read(path)
        if isinstance(found, Failure):
            # the answer broke, and its rest was asked for in vain: the object may have been replaced meanwhile
            found = self._read(path)
        if isinstance(found, Failure):
            raise self._refusal(found, "read", path)
        return found

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:
        """Put the object on its tag, with its headers; see the module for what follows a conflict."""
        body = bytes(memoryview(body))  # a str would be the path of a file, which obstore would publish
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ProtocolError(
                f"{self._name}: {path} is not written: expected at most {MAX_DOCUMENT_BYTES} bytes",
                code="document-invalid",
            )
        new = StoredDocument(body=body, tag=tag, content_type=content_type, cache_control=cache_control)
        if not self._conditional or "update" in self._conditions.unproven:
            standing = self.read(path)
            if standing is not None and _equal(standing, new):
                return standing.tag
            self._require(standing, tag, path)
            if self._conditional:
                self._prove_update(path, standing, new)
        return self._write(path, new)

    def _write(self, path: str, new: StoredDocument) -> str:
        tag = new.tag
        ends = time.monotonic() + self._limits.total_seconds
        for attempt in range(self._limits.writes):
            if attempt:
                time.sleep(random.uniform(0.5, 1.5) * 0.1 * 2**attempt)  # noqa: S311 - not for secrets
            done = self._put(path, new, tag)
            if isinstance(done, str):
                if self._conditional and "create" in self._conditions.unproven:
                    self._prove_create(path, new)
                if done and self._conditional:
                    return done
            elif done.kind not in ("conflict", "absent", "timeout", "unavailable"):
                raise self._refusal(done, "write", path)
            standing = self.read(path)
            if standing is not None and _equal(standing, new):
                return standing.tag
            self._require(standing, tag, path)
            if isinstance(done, Failure) and (done.kind == "unavailable" or time.monotonic() > ends):
                break  # what is unavailable has been repeated by obstore already
        if isinstance(done, str):
            raise WriteConflict(f"{self._name}: {path} is again what it was before this write")
        raise self._refusal(done, "write", path)

    def delete(self, path: str, *, tag: str) -> None:
        """Delete the object after a look at its tag: these stores' delete, as obstore sends it, has no condition."""
        import obstore  # noqa: PLC0415

        standing = self.read(path)
        if standing is None:
            return
        self._require(standing, tag, path)
        done = self._call(lambda: obstore.delete(self._native, path))
        if not isinstance(done, Failure) or done.kind == "absent":
            return
        if done.kind not in ("timeout", "unavailable") or self.read(path) is not None:
            raise self._refusal(done, "delete", path)

    def close(self) -> None:
        """Nothing to do: obstore closes idle connections by itself."""

    def _read(self, path: str) -> StoredDocument | Failure | None:
        """A failure is one in the middle of the answer."""
        import obstore  # noqa: PLC0415

        result = self._call(lambda: obstore.get(self._native, path))
        if isinstance(result, Failure):
            if result.kind == "absent":
                return None
            raise self._refusal(result, "read", path)
        if result.meta["size"] > MAX_DOCUMENT_BYTES:
            raise ProtocolError(
                f"{self._name}: {path} has {result.meta['size']} bytes, expected at most {MAX_DOCUMENT_BYTES}",
                code="response-too-large",
                hint="look at what stands there: it is none of an issuer's documents",
            )
        body = self._call(lambda: bytes(result.bytes()))
        if isinstance(body, Failure):
            return body
        attributes = result.attributes
        return StoredDocument(
            body=body,
            tag=self._tag_of(result.meta),
            content_type=attributes.get("Content-Type"),
            cache_control=attributes.get("Cache-Control"),
        )

    def _put(self, path: str, document: StoredDocument, tag: str) -> str | Failure:
        """The new tag; empty where the answer names none."""
        import obstore  # noqa: PLC0415

        mode: Any = {self._tag: tag} if tag != ABSENT else "create"
        if not self._conditional:
            mode = "overwrite"  # the caller has looked at the tag just before
        named = {"Content-Type": document.content_type, "Cache-Control": document.cache_control}
        attributes: Any = {name: value for name, value in named.items() if value is not None}
        done = self._call(lambda: obstore.put(self._native, path, document.body, attributes=attributes, mode=mode))
        return done if isinstance(done, Failure) else done.get(self._tag) or ""

    def _call(self, send: Callable[[], T]) -> T | Failure:
        """Send with a credential that is not about to end; once more with a new one where it was refused as ended."""
        from obstore.exceptions import BaseError  # noqa: PLC0415

        for is_last in (False, True):
            identity = self._identities.current() if self._identities is not None else None
            try:
                return send()
            except (BaseError, OSError) as error:
                failure = failure_of(error)
            if failure.kind != "ended" or is_last or self._identities is None or identity is None:
                break
            self._identities.renew(identity)
            time.sleep(_REUSED_SECONDS)
        return failure

    def _refusal(self, failure: Failure, operation: Operation, path: str) -> Exception:
        origin = self._identities.origin if self._identities is not None else "no credential"
        return refusal(failure, operation=operation, target=self._name, cloud=self._cloud, origin=origin, path=path)

    def _tag_of(self, meta: Mapping[str, Any]) -> str:
        tag = meta.get(self._tag)
        if not tag:
            raise ConfigurationError(
                f"{self._name}: the answer names no version of the object (no {self._tag})",
                code="precondition-missing",
                cloud=self._cloud,
                hint="this store cannot be a target: it has neither ETags nor generations",
            )
        return str(tag)

    # -- stores that may ignore conditions ----------------------------------------------------------------------

    def _prove_update(self, path: str, standing: StoredDocument | None, new: StoredDocument) -> None:
        """Write what stands there (or, where nothing does, what is to stand there) on a tag that nothing has."""
        done = self._put(path, standing or new, _IMPOSSIBLE[self._tag])
        if isinstance(done, Failure):
            if done.kind in ("conflict", "absent"):
                self._conditions.prove("update")
                return
            if done.code != "NotImplemented" and done.status != 501:
                raise self._refusal(done, "write", path)
        elif standing is None:
            self._call(lambda: _delete(self._native, path))
        self._give_up_conditions()

    def _prove_create(self, path: str, new: StoredDocument) -> None:
        """Create what stands there since just now: it must conflict."""
        if isinstance(self._put(path, new, ABSENT), str):
            self._give_up_conditions()
        else:
            self._conditions.prove("create")

    def _give_up_conditions(self) -> None:
        self._conditional = False
        if not self._single_writer:
            raise ConfigurationError(
                f"{self._name}: the store ignores conditions on writes", code="precondition-missing", cloud=self._cloud
            )

    def _require(self, standing: StoredDocument | None, tag: str, path: str) -> None:
        if (standing.tag if standing is not None else ABSENT) != tag:
            raise WriteConflict(f"{self._name}: {path} was changed by somebody else")


def _delete(native: Any, path: str) -> None:
    import obstore  # noqa: PLC0415

    obstore.delete(native, path)


def _equal(standing: StoredDocument, new: StoredDocument) -> bool:
    return (standing.body, standing.content_type, standing.cache_control) == (
        new.body,
        new.content_type,
        new.cache_control,
    )
