"""The authorities that the API server trusts for a webhook: ``caBundle`` in its registration, kept as they must be."""

from __future__ import annotations

__all__ = ["Registration", "Registrations"]

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wif.errors import ConfigurationError, RefusedError
from wif.serve.certificate_check import certificates_of

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient

_PATHS = {
    "MutatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
    "ValidatingWebhookConfiguration": "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
}
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
"""Becomes part of a URL."""
REQUEST_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """One configuration, as it was read."""

    kind: str
    name: str
    is_there: bool = True
    version: str = ""
    bundles: tuple[tuple[str, ...], ...] = ()
    """Of each of its webhooks: the certificates, as PEM."""

    @property
    def shown(self) -> str:
        """As messages name it."""
        return f"{self.kind} {self.name}"

    def trusts(self, authorities: Sequence[str]) -> bool:
        """Whether each of its webhooks has all of these, and it has webhooks at all."""
        wanted = set(authorities)
        return bool(self.bundles) and all(wanted <= set(bundle) for bundle in self.bundles)

    def has_exactly(self, authorities: Sequence[str]) -> bool:
        """Whether each of its webhooks has these and no other."""
        return all(set(bundle) == set(authorities) for bundle in self.bundles)


class Registrations:
    """The configurations of one webhook. Safe for threads.

    Rights: ``get`` and ``patch`` on each of them, by name.

    Args:
        client: who asks.
        mutating, validating: their names.

    Raises:
        ConfigurationError: config-invalid for what is no name, config-missing where there is none.
    """

    def __init__(self, client: KubeClient, *, mutating: Sequence[str] = (), validating: Sequence[str] = ()) -> None:
        self._client = client
        kinds = tuple(_PATHS)
        self._named = [*((kinds[0], name) for name in mutating), *((kinds[1], name) for name in validating)]
        if not self._named:
            raise ConfigurationError(
                "no webhook configuration is named, and the API server must be told whom to trust",
                code="config-missing",
                hint="name what wif webhook render has made: --mutating-configuration NAME",
            )
        for kind, name in self._named:
            if not _NAME.fullmatch(name):
                raise ConfigurationError(f"{name[:80]!r} is no name of a {kind}", code="config-invalid")

    def read(self) -> tuple[Registration, ...]:
        """All of them, as they are now.

        Raises:
            RefusedError: cluster-refused, the missing right named.
            UnavailableError: cluster-unavailable.
        """
        return tuple(self._read(kind, name) for kind, name in self._named)

    def put(self, registration: Registration, authorities: Sequence[str]) -> None:
        """Have its webhooks trust these authorities and no other; nothing else of it is written.

        Raises:
            WriteConflict: it is no longer what was read.
            RefusedError, UnavailableError: as :meth:`read`.
        """
        bundle = base64.b64encode("".join(authorities).encode()).decode()
        changes: list[dict[str, Any]] = [
            # makes the whole patch conditional on what was read
            {"op": "replace", "path": "/metadata/resourceVersion", "value": registration.version}
        ]
        for index, found in enumerate(registration.bundles):
            if set(found) != set(authorities):
                changes.append({"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": bundle})
        self._client.request_object(
            "PATCH",
            f"{_PATHS[registration.kind]}/{registration.name}",
            changes,
            content_type="application/json-patch+json",
            repeat=False,
            timeout_seconds=REQUEST_SECONDS,
        )

    def _read(self, kind: str, name: str) -> Registration:
        try:
            found = self._client.request_object("GET", f"{_PATHS[kind]}/{name}", timeout_seconds=REQUEST_SECONDS)
        except RefusedError as error:
            if error.status == 404:
                return Registration(kind=kind, name=name, is_there=False)
            raise
        webhooks = found.get("webhooks")
        return Registration(
            kind=kind,
            name=name,
            version=str(found.get("metadata", {}).get("resourceVersion", "")),
            bundles=tuple(_bundle(each) for each in webhooks) if isinstance(webhooks, list) else (),
        )


def _bundle(webhook: Any) -> tuple[str, ...]:
    text = webhook.get("clientConfig", {}).get("caBundle") if isinstance(webhook, dict) else None
    try:
        return certificates_of(base64.b64decode(text or "", validate=True).decode("ascii"))
    except (ValueError, TypeError, binascii.Error):
        return ()
