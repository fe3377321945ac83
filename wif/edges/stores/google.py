"""Google's control planes as targets: they take the key set alone, and never fetch it themselves.

``gcp-provider:`` is ``oidc.jwksJson`` of a workload identity pool's provider, ``gke-fleet:`` is
``authority.oidcJwks`` of a fleet membership: both for clusters whose issuer nobody outside can reach.

Neither API has a precondition, so what keeps two publishers apart is one writer: a Lease, or the operator's word. The
Lease is looked at right before the write, the request ends before the Lease could, and what is read back decides.
A paused leader's write may still come late: therefore it is read once more after a while.
"""

from __future__ import annotations

__all__ = ["FleetStore", "GcpProviderStore", "Guard", "google_store"]

import base64
import binascii
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from wif.core.discovery import DISCOVERY_PATH
from wif.core.documents import parse_json
from wif.core.hosts import AllowedHosts
from wif.edges.stores import ABSENT, MAX_DOCUMENT_BYTES, StoredDocument, WriteConflict
from wif.edges.stores.google_api import PACE, Credentials, GoogleApi, Pace, Refusal
from wif.edges.transport import Transport
from wif.errors import ConfigurationError, RefusedError, UnavailableError

if TYPE_CHECKING:
    from wif.edges.stores.credentials import Federated
    from wif.edges.stores.opening import Place, TargetLike

Guard = Callable[[float], bool]
"""Whether this process is the only writer for at least so many seconds from now: a Lease that it holds."""


class _KeySetStore:
    """What both have in common. Subclasses say where the key set is in a resource.

    Args:
        resource: the full resource name.
        credentials: the publisher's identity.
        name: the target's name; by default its scheme and the resource.
        endpoint: in place of Google's own: ``https://…``.
        ca_file: a private authority, for an endpoint that needs it.
        allow_http: permit an endpoint over plain http, on loopback only.
        single_writer: the operator says that nobody else writes there.
        guard: the Lease.
        pace: how long things may take.
        issuer: where given, a resource that trusts another issuer is refused: this issuer's keys would open it.
        environ: for proxies and authorities.
    """

    scheme: ClassVar[str]
    host: ClassVar[str]
    mask: ClassVar[str]
    permissions: ClassVar[tuple[str, str]]
    """To read and to write."""

    is_conditional = False
    holds_discovery = False
    keeps_headers = False

    def __init__(
        self,
        resource: str,
        *,
        credentials: Credentials,
        name: str | None = None,
        endpoint: str | None = None,
        ca_file: str | None = None,
        allow_http: bool = False,
        single_writer: bool = False,
        guard: Guard | None = None,
        pace: Pace = PACE,
        issuer: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self.name = name if name is not None else f"{self.scheme}:{resource}"
        self._resource = resource
        self._single_writer = single_writer
        self._guard = guard
        self._pace = pace
        self._issuer = issuer
        hosts = AllowedHosts(builtin=lambda host: host == self.host)
        if endpoint is not None:
            if endpoint.startswith("http:") and not allow_http:
                raise ConfigurationError(
                    f"{self.name}: the endpoint {endpoint!r} is plain http",
                    code="config-invalid",
                    hint="use https; plain http is for loopback, and only with --allow-http",
                )
            hosts = hosts.with_urls([endpoint], origin=f"the endpoint of {self.name}")
        if ca_file is not None:
            environ = {**environ, "REQUESTS_CA_BUNDLE": ca_file}
        self._transport = Transport("gcp", environ=environ)
        self._api = GoogleApi(
            target=self.name,
            base_url=endpoint or f"https://{self.host}",
            hosts=hosts,
            credentials=credentials,
            transport=self._transport,
            pace=pace,
        )

    # -- the face of a store --------------------------------------------------------------------------------------

    def read(self, path: str) -> StoredDocument | None:
        """See :class:`~wif.edges.stores.Store`. The tag is a digest of the content."""
        if path == DISCOVERY_PATH.removeprefix("/"):
            return None
        body = self._current()
        return None if body is None else StoredDocument(body=body, tag=_tag(body))

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:  # noqa: ARG002
        """See :class:`~wif.edges.stores.Store`.

        Raises:
            ConfigurationError: precondition-missing without a Lease or ``single_writer``.
            UnavailableError: lease-lost.
        """
        if path == DISCOVERY_PATH.removeprefix("/"):
            raise ConfigurationError(f"{self.name} keeps no discovery document", code="config-invalid", hint="")
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ConfigurationError(
                f"{self.name}: the key set would have {len(body)} bytes, expected at most {MAX_DOCUMENT_BYTES}",
                code="document-invalid",
            )
        self._check(body)
        return self._put(body, tag)

    def delete(self, path: str, *, tag: str) -> None:
        """See :class:`~wif.edges.stores.Store`. Google then fetches the issuer's own documents again."""
        if path != DISCOVERY_PATH.removeprefix("/") and self._current() is not None:
            self._put(None, tag)

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    # -- one writer, read back --------------------------------------------------------------------------------------

    def _put(self, body: bytes | None, tag: str) -> str:
        if self._guard is None and not self._single_writer:
            raise ConfigurationError(f"{self.name} has no conditional writes", code="precondition-missing")
        request_id = str(uuid.uuid4())
        ends = time.monotonic() + self._pace.total_seconds
        for attempt in range(1, self._pace.attempts + 1):
            current = self._current()
            if attempt > 1 and _same(current, body):
                return self._settled(body)
            self._require(current, tag)
            self._require_lease()
            try:
                operation = self._patch(body, request_id)
                self._api.wait(operation, self._refusal(1))
            except UnavailableError as error:
                if attempt == self._pace.attempts or time.monotonic() > ends:
                    raise
                self._api.pause(attempt, error)  # whether it was written is not known: the next round reads first
                continue
            if self._read_back(body, tag):
                return self._settled(body)
            request_id = str(uuid.uuid4())  # done, and nothing to see of it: this is to be another request
        raise UnavailableError(
            f"{self.name}: Google says that it is done, but the old key set is still there", code="target-unavailable"
        )

    def _patch(self, body: bytes | None, request_id: str) -> Mapping[str, Any]:
        content = json.dumps(self._wrap(body)).encode()
        return self._api.patch(
            self._resource,
            self.mask,
            content,
            self._refusal(1),
            request_id=request_id if self.scheme == FleetStore.scheme else None,
        )

    def _read_back(self, body: bytes | None, tag: str) -> bool:
        """Whether the new content shows. The old one may show a little longer; any other one is a conflict."""
        for position in range(self._pace.read_backs):
            if position:
                time.sleep(self._pace.read_back_seconds * position)
            current = self._current()
            if _same(current, body):
                return True
            self._require(current, tag)
        return False

    def _settled(self, body: bytes | None) -> str:
        """The tag, once no late write of an earlier leader can come any more."""
        if self._guard is not None:
            time.sleep(self._pace.settle_seconds)
        current = self._current()
        if not _same(current, body):
            raise WriteConflict(f"{self.name}: another writer has replaced the key set just written")
        return ABSENT if current is None else _tag(current)

    def _require(self, current: bytes | None, tag: str) -> None:
        if (ABSENT if current is None else _tag(current)) != tag:
            raise WriteConflict(f"{self.name}: the key set is not the one that was read")

    def _require_lease(self) -> None:
        needed = self._pace.write_seconds + self._pace.margin_seconds
        if self._guard is not None and not self._guard(needed):
            raise UnavailableError(
                f"{self.name}: the Lease is not held for {needed:g} s more, so nothing was written", code="lease-lost"
            )

    # -- the resource -----------------------------------------------------------------------------------------------

    def _current(self) -> bytes | None:
        resource = self._api.get(self._resource, self._refusal(0))
        body, issuer = self._unwrap(resource)
        if self._issuer is not None and issuer != self._issuer:
            self._refuse(
                f"it trusts the issuer {issuer[:256]!r}, expected {self._issuer!r}",
                "name the provider or membership of this cluster; keys of another one would open it",
            )
        if body is not None and len(body) > MAX_DOCUMENT_BYTES:
            self._refuse(f"its key set has {len(body)} bytes, expected at most {MAX_DOCUMENT_BYTES}", "look at it")
        return body

    def _refusal(self, which: int) -> Refusal:
        return Refusal(permission=self.permissions[which], resource=self._resource)

    def _refuse(self, what: str, hint: str) -> NoReturn:
        raise RefusedError(f"{self.name}: {what}", code="target-refused", hint=hint, cloud="gcp")

    def _unwrap(self, resource: Mapping[str, Any]) -> tuple[bytes | None, str]:
        """The key set and the issuer of a resource."""
        raise NotImplementedError

    def _wrap(self, body: bytes | None) -> Mapping[str, Any]:
        """The resource with nothing but a key set; None clears it."""
        raise NotImplementedError

    def _check(self, body: bytes) -> None:
        """Refuse what the API would refuse with less of a reason."""


class GcpProviderStore(_KeySetStore):
    """``gcp-provider:projects/N/locations/global/workloadIdentityPools/P/providers/X``: ``oidc.jwksJson``."""

    scheme = "gcp-provider"
    host = "iam.googleapis.com"
    mask = "oidc.jwksJson"
    permissions = ("iam.workloadIdentityPoolProviders.get", "iam.workloadIdentityPoolProviders.update")

    def _unwrap(self, resource: Mapping[str, Any]) -> tuple[bytes | None, str]:
        if resource.get("state") == "DELETED":
            self._refuse(
                "the provider is deleted",
                "bring it back first: gcloud iam workload-identity-pools providers undelete",
            )
        oidc = resource.get("oidc")
        if not isinstance(oidc, dict):
            self._refuse("the provider is not one for OIDC", "name a provider with an issuer")
        return (_text(oidc, "jwksJson").encode() or None), _text(oidc, "issuerUri")

    def _wrap(self, body: bytes | None) -> Mapping[str, Any]:
        return {"oidc": {"jwksJson": (body or b"").decode()}}

    def _check(self, body: bytes) -> None:
        """Google: "must use following format and include only the following fields"; RSA and EC."""
        try:
            document = parse_json(body)
        except ValueError as error:
            raise ConfigurationError(
                f"{self.name}: the key set is not JSON: {error}", code="document-invalid"
            ) from error
        keys = document.get("keys") if isinstance(document, dict) and document.keys() == {"keys"} else None
        if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
            raise ConfigurationError(
                f"{self.name}: the key set must hold a list 'keys' of one key or more, and nothing else",
                code="document-invalid",
            )
        for key in keys:
            extra = sorted(key.keys() - _MEMBERS)
            if extra or key.get("kty") not in ("RSA", "EC"):
                kid = str(key.get("kid"))[:128]
                what = f"carries {', '.join(extra)[:200]}" if extra else f"has the kty {str(key.get('kty'))[:32]!r}"
                raise ConfigurationError(
                    f"{self.name}: the key {kid!r} {what}, which Google does not accept in jwksJson",
                    code="key-invalid",
                    hint=f"RSA and EC keys with {', '.join(sorted(_MEMBERS))} only",
                )


class FleetStore(_KeySetStore):
    """``gke-fleet:projects/P/locations/L/memberships/M``: ``authority.oidcJwks``."""

    scheme = "gke-fleet"
    host = "gkehub.googleapis.com"
    mask = "authority.oidcJwks"
    permissions = ("gkehub.memberships.get", "gkehub.memberships.update")

    def _unwrap(self, resource: Mapping[str, Any]) -> tuple[bytes | None, str]:
        authority = resource.get("authority")
        issuer = _text(authority, "issuer") if isinstance(authority, dict) else ""
        if not isinstance(authority, dict) or not issuer:
            self._refuse(
                "the membership has no authority.issuer, so its fleet trusts no token of it",
                "set the issuer first: gcloud container fleet memberships register --has-private-issuer",
            )
        encoded = _text(authority, "oidcJwks")
        try:  # JSON of protocol buffers: either alphabet may come
            body = base64.b64decode(encoded.translate(_STANDARD), validate=True)
        except (ValueError, binascii.Error):
            self._refuse("authority.oidcJwks is not base64", "look at what answers at this address")
        return body or None, issuer

    def _wrap(self, body: bytes | None) -> Mapping[str, Any]:
        return {"authority": {"oidcJwks": base64.b64encode(body or b"").decode("ascii")}}


_MEMBERS = frozenset({"kty", "alg", "use", "kid", "n", "e", "x", "y", "crv"})
_STANDARD = str.maketrans("-_", "+/")


def google_store(
    settings: TargetLike,
    place: Place,
    *,
    federated: Federated | None = None,
    guard: Guard | None = None,
    issuer: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> FleetStore | GcpProviderStore:
    """The store of a parsed ``gcp-provider:`` or ``gke-fleet:`` target; nothing is sent yet.

    Args:
        settings: of the target.
        place: its URL, parsed.
        federated: gives the exchanged credential; None: the standard chain of Google.
        guard: the Lease of the publisher, where there is one.
        issuer: the issuer whose keys will be written.
        environ: for proxies and authorities.
    """
    from wif.edges.stores.chains import google_chain  # noqa: PLC0415  # the chain loads much
    from wif.edges.stores.credentials import GOOGLE_SCOPES, Identities  # noqa: PLC0415

    credentials = Identities(
        "gcp",
        target=place.name,
        chain=google_chain(place.name, GOOGLE_SCOPES[place.scheme]),
        federated=federated,
        second_way_in=settings.second_way_in,
    )
    kind = GcpProviderStore if place.scheme == GcpProviderStore.scheme else FleetStore
    return kind(
        place.parts[0],
        credentials=credentials,
        name=place.name,
        endpoint=settings.endpoint,
        ca_file=settings.ca_file,
        allow_http=settings.allow_http,
        single_writer=settings.single_writer,
        guard=guard,
        issuer=issuer,
        environ=environ,
    )


def _text(value: Mapping[str, Any], name: str) -> str:
    member = value.get(name)
    return member if isinstance(member, str) else ""


def _tag(body: bytes) -> str:
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _same(found: bytes | None, wanted: bytes | None) -> bool:
    """Equal bytes, or the same JSON in another rendering: an API may keep the value and not the text."""
    if found is None or wanted is None or found == wanted:
        return found == wanted
    try:
        return bool(parse_json(found) == parse_json(wanted))
    except ValueError:
        return False
