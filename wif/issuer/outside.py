"""What an issuer looks like from outside, held against its sources, its state and a live token."""

from __future__ import annotations

__all__ = [
    "AUDIENCES_OF_CLOUDS",
    "OutsideReport",
    "expected_keys",
    "look_from_outside",
    "removed_material",
    "verify_issuer",
]

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wif.errors import WifError
from wif.issuer.parallel import each

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.core.issuer_state import State
    from wif.core.public_keys import IssuerKey
    from wif.edges.kube import KubeClient
    from wif.edges.kube_answers import ServiceAccountName
    from wif.issuer.report import TargetReport
    from wif.issuer.rounds import OpenTarget
    from wif.issuer.session import Session
    from wif.issuer.sources import Vouched
    from wif.issuer.verify import VerifyReport

AUDIENCES_OF_CLOUDS = ("sts.amazonaws.com", "api://AzureADTokenExchange")
"""A token for these must open no API server: whoever gets it from a cloud's log could use it there."""

ALL_CLOUDS = ("aws", "azure", "gcp")

_TOKEN_SECONDS = 600
"""The shortest that the TokenRequest API grants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutsideReport:
    """What relying parties find."""

    issuer: str
    public: VerifyReport | None
    """Through the issuer's own address; None where every target takes the key set alone."""
    places: Mapping[str, VerifyReport | WifError]
    """Targets that take the key set alone, by name; an error where one could not be read."""
    warnings: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """3 for drift and tampering, else 1 where a cloud could not use the issuer, else 0."""
        statuses = [self.public.exit_status] if self.public is not None else []
        statuses += [1 if isinstance(found, WifError) else found.exit_status for found in self.places.values()]
        return next((status for status in (3, 1) if status in statuses), 0)


def look_from_outside(
    session: Session, vouched: Vouched, state: State, targets: Sequence[TargetReport]
) -> VerifyReport | None:
    """Verify through the issuer's own address; None where it is not asked for or no target holds a discovery document.

    An address that does not answer yet is what the checks then say, no error.
    """
    readable = [t for t in session.targets if t.store.holds_discovery]
    done = {report.name for report in targets if report.outcome != "failed"}
    if not session.settings.verify or not any(target.name in done for target in readable):
        return None
    from wif.issuer.verify import verify  # noqa: PLC0415  # only where there is an address to look at

    token, audience_refused = _live(session, vouched)
    clouds = sorted({cloud for target in readable for cloud in target.settings.clouds})
    return verify(
        session.issuer,
        expected=expected_keys(vouched, state, clouds),
        known=[*vouched.keys, *(record.key for record in state.keys.values())],
        removed=removed_material(state),
        jwks_uris=(session.jwks_uri, *(uri for uri in state.jwks_uris if uri != session.jwks_uri)),
        clouds=clouds,
        token=token,
        audience_refused=audience_refused,
        ca_file=session.settings.ca_file,
        allow_private=session.settings.allow_private,
        pause_seconds=0.0,
    )


def verify_issuer(
    settings: IssuerSettings, *, name: str = "", kube: KubeClient | None = None, environ: Mapping[str, str] = os.environ
) -> OutsideReport:
    """Look at an issuer that was published some time ago; nothing is written.

    Keys are compared where the settings name a source, or a cluster is at hand; the state is read where it can be.

    Raises:
        WifError: the sources cannot be read, or the settings are wrong.
    """
    from wif.issuer.session import Session  # noqa: PLC0415  # the publisher imports this module
    from wif.issuer.verify import verify  # noqa: PLC0415  # only where there is an address to look at

    compares = _names_a_source(settings, environ)
    warnings: list[str] = []
    with Session(settings, name=name, kube=kube, environ=environ) as session:
        vouched = session.sources.read() if compares else None
        state = _state_of(session, warnings) if compares else None
        token, audience_refused = (None, None) if vouched is None else _live(session, vouched)
        known = [record.key for record in (state.keys.values() if state else ())]
        removed = removed_material(state)
        readers = [target.settings for target in session.targets if target.store.holds_discovery]
        clouds = sorted({cloud for reader in readers for cloud in reader.clouds}) or ALL_CLOUDS

        def wanted(clouds: Collection[str]) -> tuple[IssuerKey, ...] | None:
            return None if vouched is None else expected_keys(vouched, state, clouds)

        public = None
        if readers or not session.targets:
            public = verify(
                session.issuer,
                expected=wanted(clouds),
                known=[*known, *(vouched.keys if vouched else ())],
                removed=removed,
                jwks_uris=(session.jwks_uri, *(state.jwks_uris if state else ())) if compares else (),
                clouds=clouds,
                token=token,
                audience_refused=audience_refused,
                ca_file=settings.ca_file,
                allow_private=settings.allow_private,
                environ=environ,
            )
        places = [target for target in session.targets if not target.store.holds_discovery]
        looked = each(
            lambda target: _verify_place(
                target,
                session.issuer,
                session.jwks_path,
                expected=wanted(target.settings.clouds),
                known=known,
                removed=removed,
                token=token,
            ),
            places,
        )
        return OutsideReport(
            issuer=session.issuer,
            public=public,
            places={place.name: found for place, found in zip(places, looked, strict=True)},
            warnings=(*(vouched.problems if vouched else ()), *warnings),
        )


def expected_keys(vouched: Vouched, state: State | None, clouds: Collection[str]) -> tuple[IssuerKey, ...]:
    """The keys that a place for these clouds must show: vouched for, not removed, and of use to one of them."""
    return tuple(
        key
        for key in vouched.keys
        if not (state is not None and state.is_removed(key)) and set(key.clouds).intersection(clouds)
    )


def _names_a_source(settings: IssuerSettings, environ: Mapping[str, str]) -> bool:
    """Whether keys are compared: an issuer's address alone is enough to look at it."""
    named = settings.public_keys or settings.jwks or settings.api_servers or settings.kubeconfig or settings.context
    if settings.use_kubernetes is not None:
        return settings.use_kubernetes or bool(settings.public_keys or settings.jwks)
    return bool(named) or not settings.issuer or bool(environ.get("KUBERNETES_SERVICE_HOST"))


def _state_of(session: Session, warnings: list[str]) -> State | None:
    try:
        return session.states.read()[0]
    except WifError as error:
        warnings.append(f"the trusted state was not read, so removed keys are not known: {error.message}")
        return None


def _verify_place(
    target: OpenTarget,
    issuer: str,
    jwks_path: str,
    *,
    expected: Collection[IssuerKey] | None,
    known: Collection[IssuerKey],
    removed: Mapping[str, str | None],
    token: str | None,
) -> VerifyReport:
    from wif.issuer.verify import verify_key_set  # noqa: PLC0415  # loaded by now

    found = target.store.read(jwks_path)
    return verify_key_set(
        issuer,
        None if found is None else found.body,
        expected=expected,
        known=known,
        removed=removed,
        clouds=target.settings.clouds,
        token=token,
    )


def removed_material(state: State | None) -> Mapping[str, str | None]:
    """The removed ids with the fingerprints of their keys: another key under such an id is somebody else's."""
    return {key_id: stone.fingerprint for key_id, stone in state.removed.items()} if state is not None else {}


def _live(session: Session, vouched: Vouched) -> tuple[str | None, Callable[[], bool] | None]:
    """A token of the API server, and the question whether it would refuse one for a cloud; None where it gives none."""
    server = next((server for server in vouched.servers if server.issuer == session.issuer), None)
    if server is None:
        return None, None
    from wif.edges.kube import PROBE_AUDIENCE  # noqa: PLC0415  # only with a cluster
    from wif.edges.kube_answers import ServiceAccountName  # noqa: PLC0415  # only with a cluster

    client = server.client
    account = client.service_account() or ServiceAccountName(session.namespace, "default")
    try:
        token = _token(client, account, (PROBE_AUDIENCE,))
    except WifError:
        return None, None  # not allowed, or no such account: the documents are checked without it
    return token, lambda: client.refuses_token(_token(client, account, AUDIENCES_OF_CLOUDS))


def _token(client: KubeClient, account: ServiceAccountName, audiences: tuple[str, ...]) -> str:
    from wif.edges.token_request import TokenRequest  # noqa: PLC0415  # only with a cluster

    request = TokenRequest(
        namespace=account.namespace,
        service_account=account.name,
        audiences=audiences,
        expiration_seconds=_TOKEN_SECONDS,
    )
    return client.request_token(request).token
