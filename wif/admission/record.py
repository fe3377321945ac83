"""The record on a pod: for which ServiceAccount something was injected. A hint, which anybody can write."""

from __future__ import annotations

__all__ = ["Record", "read_record", "record_key"]

from collections.abc import Mapping

import msgspec

from wif.admission.pod import Pod
from wif.config.webhook import WebhookSettings

RECORD_CHARACTERS_MAX = 16_384
"""A longer one is none of ours."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """The value of the annotation ``PREFIX/injected``."""

    service_account: str = ""
    uid: str = ""
    clouds: Mapping[str, str] = {}
    """The identity by cloud."""
    kept: tuple[str, ...] = ()
    """Annotations of the pod that said before what ours say: not to be taken away again."""

    def is_of(self, name: str, uid: str) -> bool:
        """Whether it is about this ServiceAccount."""
        return (self.service_account, self.uid) == (name, uid)

    def encoded(self) -> str:
        """Compact JSON."""
        return _ENCODE(self).decode()


_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Record).decode


def record_key(settings: WebhookSettings) -> str:
    """The annotation's name."""
    return f"{settings.prefix}/injected"


def read_record(pod: Pod, key: str) -> Record | None:
    """The record that a pod carries; None where it has none, or one that cannot be read."""
    annotations = pod.metadata.annotations if pod.metadata is not None else None
    text = annotations.get(key) if annotations else None
    if text is None or len(text) > RECORD_CHARACTERS_MAX:
        return None
    try:
        record = _DECODE(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return record if record.service_account else None
