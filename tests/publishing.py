"""Keys as PEM files, a place in memory, and settings of an issuer, for tests of the publisher."""

from __future__ import annotations

__all__ = ["ISSUER", "KeyFile", "MemoryPlace", "key_files", "kids_at", "publisher", "settings"]

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wif.config.issuers import IssuerSettings, TargetSettings
from wif.core.public_keys import IssuerKey
from wif.edges.stores import ABSENT, StoredDocument, WriteConflict
from wif.issuer.publish import Publisher

ISSUER = "https://issuer.example.com/cluster"
JWKS, DISCOVERY = "openid/v1/jwks", ".well-known/openid-configuration"


class KeyFile(NamedTuple):
    """A public key as a source of keys."""

    path: str
    key: IssuerKey

    @property
    def kid(self) -> str:
        return self.key.key_id


def key_files(folder: Path, number: int) -> list[KeyFile]:
    """So many new EC keys, each in a file of its own."""
    found = []
    for position in range(number):
        public = ec.generate_private_key(ec.SECP256R1()).public_key()
        path = folder / f"key-{position}.pub"
        path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        found.append(KeyFile(str(path), IssuerKey.from_public_key(public)))
    return found


class MemoryPlace:
    """A target in memory that keeps all of a target's promises; ``on_write`` and ``on_read`` may break them."""

    is_conditional = True
    holds_discovery = True
    keeps_headers = True

    def __init__(self, name: str = "memory:") -> None:
        self.name = name
        self.documents: dict[str, StoredDocument] = {}
        self.writes: list[str] = []
        self.lock = threading.Lock()
        self.on_read: Callable[[str], None] = lambda path: None
        self.on_write: Callable[[str], None] = lambda path: None
        self.after_write: Callable[[str], None] = lambda path: None
        self.closed = 0

    def read(self, path: str) -> StoredDocument | None:
        self.on_read(path)
        with self.lock:
            return self.documents.get(path)

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:
        self.on_write(path)
        with self.lock:
            standing = self.documents.get(path)
            if (ABSENT if standing is None else standing.tag) != tag:
                raise WriteConflict(f"{self.name}: {path} is another one")
            self.put(path, body, content_type, cache_control)
        self.after_write(path)
        return self.documents[path].tag

    def put(self, path: str, body: bytes, content_type: str | None = None, cache_control: str | None = None) -> None:
        """Write past every tag, as an attacker or an old tool does."""
        self.writes.append(path)
        tag = f"{len(self.writes)}-{hashlib.sha256(body).hexdigest()[:8]}"
        self.documents[path] = StoredDocument(
            body=body, tag=tag, content_type=content_type, cache_control=cache_control
        )

    def delete(self, path: str, *, tag: str) -> None:
        with self.lock:
            standing = self.documents.get(path)
            if standing is not None and standing.tag != tag:
                raise WriteConflict(f"{self.name}: {path} is another one")
            self.documents.pop(path, None)

    def close(self) -> None:
        self.closed += 1


def kids_at(body: bytes) -> list[str]:
    """The key ids of a key set, in their order."""
    return [entry["kid"] for entry in json.loads(body)["keys"]]


def settings(keys: Sequence[KeyFile], *targets: str | TargetSettings, state: Path, **changes: Any) -> IssuerSettings:
    """An issuer whose keys come from files; nothing is looked at from outside."""
    members: dict[str, Any] = {
        "issuer": ISSUER,
        "public_keys": tuple(key.path for key in keys),
        "to": tuple(TargetSettings(url=to) if isinstance(to, str) else to for to in targets),
        "state": str(state),
        "verify": False,
    }
    return IssuerSettings(**(members | changes))


def publisher(given: IssuerSettings, places: Sequence[Any] = (), **more: Any) -> Publisher:
    """A publisher; the targets of its settings are these places, in their order."""
    if places:
        left = dict(zip((target.url for target in given.to), places, strict=True))
        more["open_target"] = lambda target, **_: left[target.url]
    return Publisher(given, environ={"HOME": "/nonexistent"}, **more)
