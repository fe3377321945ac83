"""A ConfigMap as a target, and as the place of the trusted state: ``configmap:NAMESPACE/NAME``.

Each document is one entry, named by the last part of its path: ``openid-configuration``, ``jwks``. So a ConfigMap
holds the documents of one issuer. What else is in it is left alone, and a ConfigMap that is there without data (the
chart makes it so: a right to create cannot be limited to a name) holds no documents.

A tag is a digest of the document. Each write reads the ConfigMap, compares the entry with the tag and replaces the
whole object on the resourceVersion that was read, so nothing between the two is lost; where that has moved on, it
compares again. So a change of another entry costs one more try, and only a change of the document itself is a
conflict. As with S3's ETag, a document that went from A to B and back to A counts as unchanged.
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

from wif.edges.kube_objects import Objects, Resource
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

    Rights: ``get`` and ``update`` on this ConfigMap by name; ``create`` only where it is not there yet.

    Args:
        kube: who asks. It is not closed with the store.
        namespace: of the ConfigMap; it must exist.
        name: of the ConfigMap; it is made at the first write where there is none.
        write_seconds: how long one write may be tried.
    """

    is_conditional = True
    holds_discovery = True
    keeps_headers = False

    def __init__(self, kube: KubeClient, namespace: str, name: str, *, write_seconds: float = WRITE_SECONDS) -> None:
        self._objects = Objects(kube, Resource(group="", plural="configmaps", namespace=namespace))
        self._objects.resource.path(name)  # checks the name
        self._name = name
        self._write_seconds = write_seconds
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
            return None if not body else StoredDocument(body=body, tag=_tag(body))

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
        ends = time.monotonic() + self._write_seconds
        problem: UnavailableError = WriteConflict(
            f"{self.name}: {key}: others changed the ConfigMap before every write"
        )
        is_unsure = False  # whether a write was sent whose answer did not come
        with self._translated():
            for attempt in range(_TRIES):
                found = self._objects.get(self._name)
                there = _entry(found, key)
                if there == body and (is_unsure or not body):
                    return _tag(body)
                if _tag(there) != tag:
                    what = "is not there any more" if not there else "has changed" if tag else "exists already"
                    raise WriteConflict(f"{self.name}: {key} {what}")
                try:
                    self._put(found, key, body)
                except WriteConflict:
                    pass  # another resourceVersion than the one read, which may be another entry's
                except UnavailableError as error:
                    if not error.retryable:
                        raise
                    is_unsure, problem = True, error
                else:
                    return _tag(body)
                if time.monotonic() > ends:
                    break
                _pause(attempt)
            raise problem

    def _put(self, found: Mapping[str, Any] | None, key: str, body: bytes) -> None:
        if found is None:
            made = {"metadata": {"name": self._name, "labels": _LABELS}}
            self._objects.create(_with_entry(made, key, body))
            return
        try:
            self._objects.replace(_with_entry(found, key, body))
        except RefusedError as error:
            if error.status == 404:  # the whole ConfigMap has gone
                raise WriteConflict(error.message) from error
            if error.status == 422 and found.get("immutable") is True:
                raise RefusedError(
                    f"{self.name} is immutable, so nothing in it can be changed",
                    code="target-refused",
                    hint="delete the ConfigMap and make it anew without 'immutable: true'",
                ) from error
            raise

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


def _with_entry(found: Mapping[str, Any], key: str, body: bytes) -> dict[str, Any]:
    """The object with this entry in place of the one it has; text where it is text, and never in both members."""
    members: dict[str, dict[str, str]] = {
        member: {name: value for name, value in (found.get(member) or {}).items() if name != key}
        for member in ("data", "binaryData")
    }
    if body:
        try:
            members["data"][key] = body.decode()
        except UnicodeDecodeError:
            members["binaryData"][key] = base64.b64encode(body).decode()
    return {**found, **members}


def _tag(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest() if body else ABSENT


def _pause(attempt: int) -> None:
    bound = min(_MAX_PAUSE_SECONDS, _PAUSE_SECONDS * _PAUSE_GROWTH**attempt)
    time.sleep(random.uniform(0.0, bound))  # noqa: S311 - jitter, no secret
