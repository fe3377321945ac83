"""A pod under review in both its forms, and the number that stands for it in the names of volumes."""

from __future__ import annotations

__all__ = ["HASH_CHARACTERS", "PodDocument", "pod_hash"]

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from wif.admission.pod import Metadata, Pod, read_pod

HASH_CHARACTERS = 30
"""Of the pod's hash: a volume's name has at most 63."""


class PodDocument:
    """A pod: what is always read, and its JSON, which is decoded as a whole where that is needed."""

    __slots__ = ("_value", "pod", "raw")

    def __init__(self, raw: bytes | msgspec.Raw) -> None:
        self.pod: Pod = read_pod(raw)
        self.raw = raw
        self._value: dict[str, Any] | None = None

    @property
    def value(self) -> dict[str, Any]:
        """The whole document."""
        if self._value is None:
            self._value = msgspec.json.decode(self.raw)
        return self._value

    def volumes(self) -> dict[str, tuple[int, Mapping[str, Any]]]:
        """The pod's volumes by name, each with its index."""
        volumes = self.value["spec"].get("volumes") or ()
        return {str(volume.get("name", "")): (index, volume) for index, volume in enumerate(volumes)}


def pod_hash(metadata: Metadata | None) -> str:
    """The pod's own: Azure's rule."""
    name, begin = (metadata.name, metadata.generate_name) if metadata is not None else (None, None)
    return hashlib.sha256((name or f"{begin or ''} (prefix)").encode()).hexdigest()[:HASH_CHARACTERS]
