"""One look at everything that a rotation depends on: every API server, every target, the public address.

What could not be seen is said, never guessed: a key counts as published only where its own material was read. Tokens
are asked for to learn which key signs them and how long they may live; they are for an audience that nobody accepts,
and are dropped as soon as their header is read.
"""

from __future__ import annotations

__all__ = ["PROBE_AUDIENCE", "Looked", "look", "own_token_key_id", "public_jwks_uris"]

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from wif.core.public_keys import IssuerKey, ObservedKeys, observe_key_set
from wif.core.rotation import Observation, ServerObservation
from wif.core.token import read_token
from wif.edges.files import read_bounded
from wif.edges.kube import PROBE_AUDIENCE
from wif.edges.sources import JsonFieldFile, ProjectedFile
from wif.edges.token_request import MIN_EXPIRATION_SECONDS, TokenRequest
from wif.errors import WifError
from wif.issuer.parallel import each

if TYPE_CHECKING:
    from wif.core.issuer_state import State
    from wif.edges.kube_answers import ServiceAccountName
    from wif.issuer.rounds import OpenTarget
    from wif.issuer.sources import ServerReading, Vouched
    from wif.issuer.verify import VerifyReport

TOKEN_VARIABLES = ("WIF_TOKEN_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_FEDERATED_TOKEN_FILE")
"""Where a workload finds the token that it is federated by."""

_MAX_FILE_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """An observation, and what else was seen on the way."""

    observation: Observation
    found: Mapping[str, tuple[IssuerKey, ...]] = field(default_factory=dict)
    """The usable keys at each place that was read: the targets by name, and ``the public address``."""
    problems: tuple[str, ...] = ()
    """Sentences: what could not be seen, and why."""

    def keys_of(self, kid: str) -> tuple[IssuerKey, ...]:
        """The key of this id at each place that shows one."""
        return tuple(key for keys in self.found.values() for key in keys if key.key_id == kid)


def look(
    vouched: Vouched,
    targets: Sequence[OpenTarget],
    jwks_path: str,
    state: State,
    *,
    public: VerifyReport | None,
    public_known: bool,
    account: ServiceAccountName | None,
    clock: Callable[[], datetime],
) -> Looked:
    """Ask the API servers for tokens, read the key set of every target, and put it together.

    Args:
        vouched: read a moment ago; its servers are those that are asked.
        jwks_path: where a target has its key set.
        state: the records, against which material is compared.
        public: what verification through the issuer's URL found.
        public_known: whether there is such an address at all.
        account: whose tokens are asked for; None asks for none, and then nobody knows which key signs.
        clock: the time, asked for when all has been seen: a wait that begins with what was seen ends late, not early.
    """
    wanted = {kid: record.fingerprint for kid, record in state.keys.items()}
    wanted |= {key.key_id: key.fingerprint for key in vouched.keys}
    servers = each(lambda reading: _probe(reading, account), vouched.servers)
    problems = list(vouched.problems)
    observed: list[ServerObservation] = []
    for server in servers:
        if isinstance(server, WifError):  # pragma: no cover - _probe takes its errors for its own words
            problems.append(server.message)
            continue
        observed.append(server[0])
        problems += server[1]
    at_targets: dict[str, frozenset[str] | None] = {}
    found: dict[str, tuple[IssuerKey, ...]] = {}
    for target, keys in zip(targets, each(lambda one: _read_target(one, jwks_path), targets), strict=True):
        if isinstance(keys, WifError):
            at_targets[target.name] = None
            problems.append(f"the target {target.name} could not be read: {keys.message}")
        elif keys.problem is not None:
            at_targets[target.name] = None
            problems.append(f"what stands at the target {target.name} is no key set: {keys.problem}")
        else:
            found[target.name] = tuple(entry.key for entry in keys.entries if entry.key is not None)
            at_targets[target.name] = shown_key_ids(keys, wanted) | _not_for(target, vouched.keys, state)
    seen = _seen_in_public(public) if public_known else None
    if public_known and seen is None:
        problems.append(f"the public address shows no key set: {_first_failure(public)}")
    return Looked(
        observation=Observation(
            at=clock(),
            servers=tuple(observed),
            servers_complete=vouched.servers_complete,
            targets=at_targets,
            public=seen,
            public_known=public_known,
            public_max_age_seconds=public.max_age_seconds if public is not None else None,
        ),
        found=found,
        problems=tuple(dict.fromkeys(problems)),
    )


def public_jwks_uris(desired: str, state: State | None) -> tuple[str, ...]:
    """The addresses of the key set that the discovery document may name: the desired one first."""
    return tuple(dict.fromkeys((desired, *(state.jwks_uris if state is not None else ()))))


# -- API servers -----------------------------------------------------------------------------------------------------


def _probe(reading: ServerReading, account: ServiceAccountName | None) -> tuple[ServerObservation, tuple[str, ...]]:
    """Which key signs at one API server now, and how long it lets a token live."""
    signer, issuer, longest = None, reading.issuer, None
    problems: list[str] = []
    if account is not None:
        try:
            signer, issuer = _live_signer(reading, account)
        except WifError as error:
            problems.append(f"no live token of the API server {reading.name}: {error.message}")
        try:
            longest = reading.client.longest_token_seconds(account.namespace, account.name)
        except WifError as error:
            problems.append(f"the longest token of the API server {reading.name} is not seen: {error.message}")
    return (
        ServerObservation(
            name=reading.name,
            keys=reading.keys,
            signer=signer,
            max_age_seconds=reading.max_age_seconds,
            longest_token_seconds=longest,
            issuer=issuer,
        ),
        tuple(problems),
    )


def _live_signer(reading: ServerReading, account: ServiceAccountName) -> tuple[str | None, str]:
    """``kid`` and ``iss`` of a token that this API server signs now; the token itself goes no further."""
    asked = TokenRequest(
        namespace=account.namespace,
        service_account=account.name,
        audiences=(PROBE_AUDIENCE,),
        expiration_seconds=MIN_EXPIRATION_SECONDS,
    )
    issued = reading.client.request_token(asked)
    read = read_token(issued.token, origin=f"the API server {reading.name}", now=time.time(), check_times=False)
    kid = read.unverified_header.get("kid")
    return (kid if isinstance(kid, str) and kid else None), read.issuer


# -- targets and the public address ----------------------------------------------------------------------------------


def _read_target(target: OpenTarget, jwks_path: str) -> ObservedKeys:
    stored = target.store.read(jwks_path)
    return ObservedKeys(entries=(), problem=None) if stored is None else observe_key_set(stored.body)


def shown_key_ids(keys: ObservedKeys, wanted: Mapping[str, str]) -> frozenset[str]:
    """The ids whose material is what it should be; an id that nobody knows counts as it is.

    Args:
        wanted: fingerprints by key id.
    """
    return frozenset(
        entry.key.key_id
        for entry in keys.entries
        if entry.key is not None and wanted.get(entry.key.key_id, entry.key.fingerprint) == entry.key.fingerprint
    )


def _not_for(target: OpenTarget, vouched: Iterable[IssuerKey], state: State) -> frozenset[str]:
    """The ids that this target never gets, because no cloud that reads it verifies them: nothing waits for those."""
    keys = [*vouched, *(record.key for record in state.keys.values())]
    return frozenset(key.key_id for key in keys if not set(key.clouds) & set(target.settings.clouds))


def _seen_in_public(report: VerifyReport | None) -> frozenset[str] | None:
    """The key ids that a relying party finds; None where it does not get as far as a key set."""
    if report is None or report.jwks_uri is None:
        return None
    names = {check.name: check.ok for check in report.checks}
    if not names.get("keys-readable") or not names.get("jwks-uri"):
        return None  # another jwks_uri than ours leads relying parties to other keys, whatever ours still shows
    return frozenset(report.key_ids) - frozenset(report.altered) - {""}


def _first_failure(report: VerifyReport | None) -> str:
    if report is None:
        return "it was not looked at"
    return next((check.detail for check in report.failed if check.level in ("error", "tampering")), "nothing is there")


# -- this publisher's own token --------------------------------------------------------------------------------------


def own_token_key_id(issuer: str, environ: Mapping[str, str]) -> str | None:
    """The key that signed the token by which this publisher itself is federated; None where it is not, or by others.

    Only the header and ``iss`` of the token are read.
    """
    for source in _own_sources(environ):
        try:
            read = read_token(source.read(), origin=source.origin, now=time.time(), check_times=False)
        except WifError:
            continue  # what cannot be read now opens nothing now either
        kid = read.unverified_header.get("kid")
        if read.issuer == issuer and isinstance(kid, str):
            return kid
    return None


def _own_sources(environ: Mapping[str, str]) -> Iterator[ProjectedFile | JsonFieldFile]:
    """The files that the webhooks' variables and Google's credential file name."""
    for path in dict.fromkeys(environ[name] for name in TOKEN_VARIABLES if environ.get(name)):
        yield ProjectedFile(path)
    try:
        document = json.loads(read_bounded(environ.get("GOOGLE_APPLICATION_CREDENTIALS", ""), _MAX_FILE_BYTES))
        source = document["credential_source"]
        kind = source.get("format", {})
        if kind.get("type", "text") == "json":
            yield JsonFieldFile(source["file"], kind["subject_token_field_name"])
        else:
            yield ProjectedFile(source["file"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return  # no such file, or a credential of another kind
