"""A ConfigMap as a target, and as the place of the trusted state: ``configmap:NAMESPACE/NAME``.

Each document is one entry, named by the last part of its path: ``openid-configuration``, ``jwks``. So a ConfigMap
holds the documents of one issuer. What else is in it is left alone, and a ConfigMap that is there without data (the
chart makes it so: a right to create cannot be limited to a name) holds no documents.

A tag is the resourceVersion and a digest of the document: the write is a merge patch on the resourceVersion, and
where that has moved on though the document has not (somebody changed another entry), it is tried again on the new
one. Only a change of the document itself is a conflict. As with S3's ETag, a document that went from A to B and back
to A counts as unchanged.
"""

from __future__ import annotations

__all__ = ["ConfigMapStore"]

import base64
import binascii
import hashlib
import random
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wif.edges.kube_objects import Objects, Resource, resource_version
from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, StoredDocument, WriteConflict
from wif.errors import ConfigurationError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient

WRITE_SECONDS = 45.0
"""For one write with all its tries."""

_TRIES = 40
_PAUSE_SECONDS, _PAUSE_GROWTH, _MAX_PAUSE_SECONDS = 0.02, 1.4, 1.0
"""Between tries: at random up to a bound that grows. Writers of other entries are what it waits for."""

_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
"""What Kubernetes takes as the name of an entry (also not ``.`` and ``..``)."""

_LABELS = {"app.kubernetes.io/managed-by": "wif"}


class ConfigMapStore:
    """Documents as entries of one ConfigMap. See :class:`~wif.edges.stores.Store`.

    Rights: ``get`` and ``patch`` on this ConfigMap by name; ``create`` only where it is not there yet.

    Args:
        kube: who asks. It is not closed with the store.
        namespace: of the ConfigMap; it must exist.
        name: of the ConfigMap; it is made at the first write where there is none.
    """

    is_conditional = True
    holds_discovery = True
    keeps_headers = False

    def __init__(self, kube: KubeClient, namespace: str, name: str) -> None:
        self._objects = Objects(kube, Resource(group="", plural="configmaps", namespace=namespace))
        self._objects.resource.path(name)  # checks the name
        self._name = name
        self.name = f"configmap:{namespace}/{name}"

    @classmethod
    def from_url(cls, url: str, *, client: KubeClient) -> ConfigMapStore:
        """The ConfigMap of ``configmap:NAMESPACE/NAME``.

        Raises:
            ConfigurationError: config-invalid.
        """
        scheme, _, rest = url.partition(":")
        namespace, _, name = rest.removeprefix("//").partition("/")
        if scheme != "configmap" or not namespace or not name:
            raise ConfigurationError(
                f"{url!r} is no ConfigMap", code="config-invalid", hint="for example configmap:wif-system/issuer"
            )
        return cls(client, namespace, name)

    def read(self, path: str) -> StoredDocument | None:
        """See :class:`~wif.edges.stores.Store`. An entry without content is no document."""
        key = _key(path)
        with self._translated():
            found = self._objects.get(self._name)
            body = _entry(found, key)
            if found is None or not body:
                return None
            return StoredDocument(body=body, tag=_tag(resource_version(found), body))

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:  # noqa: ARG002
        """See :class:`~wif.edges.stores.Store`. A ConfigMap keeps no headers: they are the web server's business."""
        key = _key(path)
        if not body or len(body) > MAX_DOCUMENT_BYTES:
            raise ConfigurationError(
                f"{self.name}: {path} would have {len(body)} bytes, expected 1 to {MAX_DOCUMENT_BYTES}",
                code="document-invalid",
            )
        return self._change(key, body, tag)

    def delete(self, path: str, *, tag: str) -> None:
        """See :class:`~wif.edges.stores.Store`. The ConfigMap itself stays, though it be empty."""
        if tag != ABSENT:
            self._change(_key(path), b"", tag)
        elif self.read(path) is not None:
            raise WriteConflict(f"{self.name}: {path} exists")

    def close(self) -> None:
        """Nothing is held between calls."""

    def __repr__(self) -> str:
        return f"ConfigMapStore({self.name!r})"

    def _change(self, key: str, body: bytes, tag: str) -> str:
        """Put an entry, or take it out (no body), where it still is what the tag says."""
        version, _, expected = tag.partition(":")
        ends = time.monotonic() + WRITE_SECONDS
        problem: UnavailableError = WriteConflict(f"{self.name}: {key} was changed by others before every write")
        is_unsure = False  # whether a write was sent whose answer did not come
        with self._translated():
            for attempt in range(_TRIES):
                try:
                    if version:
                        return _tag(self._patch(key, body, version), body)
                    found = self._objects.get(self._name)
                    there = _entry(found, key)
                    if there == body and (is_unsure or not body):
                        return _tag(resource_version(found) if found else "", body)
                    if _digest(there) != expected:
                        raise WriteConflict(f"{self.name}: {key} {_what_happened(there, expected)}") from None
                    if found is None:
                        return _tag(self._create(key, body), body)
                    version = resource_version(found)
                    continue
                except _Moved:
                    version = ""
                except WriteConflict:
                    raise
                except UnavailableError as error:
                    if not error.retryable:
                        raise
                    version, is_unsure, problem = "", True, error
                if time.monotonic() > ends:
                    break
                _pause(attempt)
            raise problem

    def _patch(self, key: str, body: bytes, version: str) -> str:
        try:
            return resource_version(self._objects.change(self._name, _members(key, body), version=version))
        except WriteConflict as error:
            raise _Moved from error
        except RefusedError as error:
            if error.status == 404:  # the whole ConfigMap has gone
                raise _Moved from error
            if error.status == 422:
                self._refuse_immutable()
            raise

    def _create(self, key: str, body: bytes) -> str:
        members = {name: entries for name, entries in _members(key, body).items() if None not in entries.values()}
        try:
            return resource_version(
                self._objects.create({"metadata": {"name": self._name, "labels": _LABELS}, **members})
            )
        except WriteConflict as error:
            raise _Moved from error

    def _refuse_immutable(self) -> None:
        found = self._objects.get(self._name)
        if found is not None and found.get("immutable") is True:
            raise RefusedError(
                f"{self.name} is immutable, so nothing in it can be changed",
                code="target-refused",
                hint="delete the ConfigMap and make it anew without 'immutable: true'",
            )

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except WriteConflict:
            raise
        except UnavailableError as error:
            if error.status == 401:
                raise RefusedError(
                    f"{self.name}: {error.message}", code="target-refused", hint=error.hint, status=401
                ) from error
            raise UnavailableError(
                f"{self.name}: {error.message}",
                code="target-unavailable",
                hint=error.hint,
                retryable=error.retryable,
                status=error.status,
                cloud_code=error.cloud_code,
            ) from error
        except RefusedError as error:
            if error.code == "target-refused":
                raise
            raise RefusedError(
                f"{self.name}: {error.message}",
                code="target-refused",
                hint=error.hint,
                status=error.status,
                cloud_code=error.cloud_code,
            ) from error


class _Moved(Exception):
    """Another resourceVersion is there than the one written on."""


def _key(path: str) -> str:
    key = path.rpartition("/")[2]
    if not _KEY.fullmatch(key) or key in (".", ".."):
        raise ConfigurationError(
            f"{path!r} gives no name of an entry in a ConfigMap (its last part, of letters, digits, '-', '_', '.')",
            code="config-invalid",
            hint="name another path for the key set with --jwks-uri",
        )
    return key


def _entry(found: Mapping[str, Any] | None, key: str) -> bytes:
    """An entry's content; empty where there is none."""
    if found is None:
        return b""
    text = (found.get("data") or {}).get(key)
    if isinstance(text, str):
        return text.encode()
    try:
        return base64.b64decode((found.get("binaryData") or {}).get(key) or "")
    except (binascii.Error, ValueError, TypeError):
        return b""


def _members(key: str, body: bytes) -> dict[str, dict[str, str | None]]:
    """The merge patch of one entry: text where it is text, and never a name in both members."""
    if not body:
        return {"data": {key: None}, "binaryData": {key: None}}
    try:
        return {"data": {key: body.decode()}, "binaryData": {key: None}}
    except UnicodeDecodeError:
        return {"data": {key: None}, "binaryData": {key: base64.b64encode(body).decode()}}


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest() if body else ""


def _tag(version: str, body: bytes) -> str:
    return f"{version}:{_digest(body)}" if body else ABSENT


def _what_happened(there: bytes, expected: str) -> str:
    return "is not there any more" if not there else "has changed" if expected else "exists already"


def _pause(attempt: int) -> None:
    bound = min(_MAX_PAUSE_SECONDS, _PAUSE_SECONDS * _PAUSE_GROWTH**attempt)
    time.sleep(random.uniform(0.0, bound))  # noqa: S311 - jitter, no secret
