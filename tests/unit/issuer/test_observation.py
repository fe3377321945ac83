"""One look at everything: what counts as seen, what does not, and which of this publisher's own tokens is told."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from wif.config.issuers import TargetSettings
from wif.core.issuer_state import KeyRecord, State
from wif.core.public_keys import IssuerKey, key_set_bytes
from wif.edges.kube_answers import ServiceAccountName
from wif.edges.stores import StoredDocument
from wif.edges.token_request import IssuedToken, TokenRequest
from wif.errors import TokenError, UnavailableError
from wif.issuer.checks import Check
from wif.issuer.observation import PROBE_AUDIENCE, look, own_token_key_id, public_jwks_uris
from wif.issuer.rounds import OpenTarget
from wif.issuer.sources import ServerReading, Vouched
from wif.issuer.verify import VerifyReport

ISSUER = "https://oidc.example.com"
PATH = "openid/v1/jwks"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ACCOUNT = ServiceAccountName("wif-system", "publisher")


def rsa_key(kid: str | None = None) -> IssuerKey:
    return IssuerKey.from_public_key(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), kid)


OLD, NEW, FOREIGN = rsa_key(), rsa_key(), rsa_key()
CURVE = IssuerKey.from_public_key(ec.generate_private_key(ec.SECP256R1()).public_key())


def token(kid: str | None, *, issuer: str = ISSUER) -> str:
    def part(value: Mapping[str, Any]) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": issuer, "sub": "system:serviceaccount:a:b", "aud": ["x"], "iat": 1, "exp": 601}
    return f"{part({'alg': 'RS256'} | ({'kid': kid} if kid else {}))}.{part(claims)}.c2ln"


@dataclass
class Server:
    """An API server's client, as far as it is asked here."""

    signer: str | None = OLD.key_id
    longest: int = 86_400
    refuses: bool = False
    asked: list[TokenRequest] = field(default_factory=list)

    def request_token(self, request: TokenRequest) -> IssuedToken:
        self.asked.append(request)
        if self.refuses:
            raise TokenError("no such right", code="token-request-refused")
        return IssuedToken(token=token(self.signer), expires_at=NOW)

    def longest_token_seconds(self, namespace: str, service_account: str) -> int:
        if self.refuses:
            raise TokenError("no such right", code="token-request-refused")
        return self.longest


@dataclass
class Place:
    """A store that holds one key set."""

    body: bytes | None
    name: str = "file:///srv/issuer"
    broken: bool = False
    reads: int = 0
    is_conditional = True
    holds_discovery = True
    keeps_headers = False

    def read(self, path: str) -> StoredDocument | None:
        assert path == PATH
        self.reads += 1
        if self.broken:
            raise UnavailableError("it is down", code="target-unavailable")
        return None if self.body is None else StoredDocument(body=self.body, tag="1")

    def write(self, path: str, body: bytes, *, tag: str, content_type: str, cache_control: str) -> str:
        raise AssertionError("a look writes nothing")

    def delete(self, path: str, *, tag: str) -> None:
        raise AssertionError("a look writes nothing")

    def close(self) -> None:
        pass


def reading(server: Server, *keys: IssuerKey, name: str = "10.0.0.11:6443") -> ServerReading:
    return ServerReading(name=name, issuer=ISSUER, keys=keys, max_age_seconds=3600, client=server)  # type: ignore[arg-type]


def vouched(*keys: IssuerKey, servers: Sequence[ServerReading] = (), complete: bool = True) -> Vouched:
    origins = {key.key_id: "a test" for key in keys}
    return Vouched(keys=keys, origins=origins, servers=tuple(servers), servers_complete=complete)


def target(store: Place, **settings: Any) -> OpenTarget:
    return OpenTarget(settings=TargetSettings(url=store.name, **settings), store=store)


def state(*keys: IssuerKey) -> State:
    records = {
        key.key_id: KeyRecord(jwk=key.jwk, fingerprint=key.fingerprint, origin="a test", added_at=NOW) for key in keys
    }
    return replace(State.new(ISSUER), keys=records)


def seen(
    said: Vouched,
    *stores: Place,
    known: State | None = None,
    public: VerifyReport | None = None,
    public_known: bool = False,
    account: ServiceAccountName | None = ACCOUNT,
    **settings: Any,
) -> Any:
    return look(
        said,
        [target(store, **settings) for store in stores],
        PATH,
        known or State.new(ISSUER),
        public=public,
        public_known=public_known,
        account=account,
        clock=lambda: NOW,
    )


# -- API servers ----------------------------------------------------------------------------------------------------


def test_each_server_is_asked_for_its_signer_with_an_audience_that_nobody_accepts() -> None:
    servers = [Server(), Server(signer=NEW.key_id, longest=0)]
    readings = [reading(server, OLD, name=f"10.0.0.{n}:6443") for n, server in enumerate(servers)]
    found = seen(vouched(OLD, servers=readings))
    assert [(one.signer, one.longest_token_seconds, one.issuer) for one in found.observation.servers] == [
        (OLD.key_id, 86_400, ISSUER),
        (NEW.key_id, 0, ISSUER),
    ]
    asked = servers[0].asked[0]
    assert (asked.audiences, asked.expiration_seconds) == ((PROBE_AUDIENCE,), 600)
    assert (asked.namespace, asked.service_account) == ACCOUNT
    assert found.problems == ()


def test_a_server_that_gives_no_token_has_no_known_signer() -> None:
    found = seen(vouched(OLD, servers=[reading(Server(refuses=True), OLD)]))
    (server,) = found.observation.servers
    assert (server.signer, server.longest_token_seconds, server.issuer) == (None, None, ISSUER)
    assert len(found.problems) == 2
    assert "no live token of the API server 10.0.0.11:6443" in found.problems[0]


def test_without_an_account_nobody_is_asked() -> None:
    server = Server()
    found = seen(vouched(OLD, servers=[reading(server, OLD)]), account=None)
    assert found.observation.servers[0].signer is None
    assert server.asked == []


def test_a_token_without_kid_names_no_signer() -> None:
    assert seen(vouched(OLD, servers=[reading(Server(signer=None), OLD)])).observation.servers[0].signer is None


def test_servers_that_did_not_answer_are_missed() -> None:
    assert not seen(vouched(OLD, servers=[reading(Server(), OLD)], complete=False)).observation.servers_complete


def test_the_time_is_taken_when_all_has_been_seen() -> None:
    server, store = Server(), Place(None)
    found = look(
        vouched(OLD, servers=[reading(server, OLD)]),
        [target(store)],
        PATH,
        State.new(ISSUER),
        public=None,
        public_known=False,
        account=ACCOUNT,
        clock=lambda: NOW + timedelta(seconds=len(server.asked) + store.reads),
    )
    assert found.observation.at == NOW + timedelta(seconds=2)


# -- targets ----------------------------------------------------------------------------------------------------------


def test_what_a_target_shows() -> None:
    found = seen(vouched(OLD, NEW), Place(key_set_bytes([OLD, FOREIGN])))
    assert found.observation.targets == {"file:///srv/issuer": {OLD.key_id, FOREIGN.key_id}}
    assert found.keys_of(FOREIGN.key_id) == (FOREIGN,)
    assert found.keys_of(NEW.key_id) == ()


@pytest.mark.parametrize("known", [State.new(ISSUER), state(OLD)])
def test_a_key_with_other_material_is_not_there(known: State) -> None:
    altered = IssuerKey.from_jwk({**FOREIGN.jwk, "kid": OLD.key_id})
    said = vouched(NEW) if known.keys else vouched(OLD)
    found = seen(said, Place(key_set_bytes([altered])), known=known)
    assert found.observation.targets == {"file:///srv/issuer": frozenset()}


def test_an_empty_target_shows_nothing_and_was_read() -> None:
    found = seen(vouched(OLD), Place(None))
    assert found.observation.targets == {"file:///srv/issuer": frozenset()}
    assert found.problems == ()


@pytest.mark.parametrize("place", [Place(b"", broken=True), Place(b"<html>"), Place(b'{"keys": 1}')])
def test_what_cannot_be_read_is_not_seen_and_said(place: Place) -> None:
    found = seen(vouched(OLD), place)
    assert found.observation.targets == {"file:///srv/issuer": None}
    assert "file:///srv/issuer" in found.problems[0]


def test_nothing_waits_for_a_key_that_a_target_never_gets() -> None:
    found = seen(vouched(OLD, CURVE), Place(key_set_bytes([OLD])), clouds=("azure",))
    assert found.observation.targets["file:///srv/issuer"] == {OLD.key_id, CURVE.key_id}
    found = seen(vouched(OLD, CURVE), Place(key_set_bytes([OLD])), clouds=("azure", "aws"))
    assert found.observation.targets["file:///srv/issuer"] == {OLD.key_id}


# -- the public address -----------------------------------------------------------------------------------------------


def report(**changes: Any) -> VerifyReport:
    whole = VerifyReport(
        issuer=ISSUER,
        checks=(Check(name="jwks-uri", ok=True, detail=""), Check(name="keys-readable", ok=True, detail="")),
        jwks_uri=f"{ISSUER}/{PATH}",
        key_ids=(OLD.key_id, NEW.key_id, ""),
        max_age_seconds=300,
    )
    return replace(whole, **changes)


def test_what_the_public_address_shows() -> None:
    found = seen(vouched(OLD), public=report(altered=(NEW.key_id,)), public_known=True).observation
    assert found.public == {OLD.key_id}
    assert found.public_max_age_seconds == 300


@pytest.mark.parametrize(
    "public",
    [
        None,
        report(jwks_uri=None, checks=(Check(name="discovery", ok=False, detail="status 404"),)),
        report(checks=(Check(name="jwks-uri", ok=True, detail=""), Check(name="jwks", ok=False, detail="status 500"))),
        report(
            checks=(
                Check(name="jwks-uri", ok=False, level="tampering", detail="names another"),
                Check(name="keys-readable", ok=True, detail=""),
            )
        ),
    ],
)
def test_a_relying_party_that_does_not_get_there_sees_nothing(public: VerifyReport | None) -> None:
    found = seen(vouched(OLD), public=public, public_known=True)
    assert found.observation.public is None
    assert found.problems[-1].startswith("the public address shows no key set")


def test_where_there_is_no_public_address_none_is_missed() -> None:
    found = seen(vouched(OLD), public=None, public_known=False)
    assert (found.observation.public, found.observation.public_known, found.problems) == (None, False, ())


def test_the_desired_address_of_the_key_set_comes_first() -> None:
    known = replace(State.new(ISSUER), jwks_uris=("https://a", "https://b"))
    assert public_jwks_uris("https://b", known) == ("https://b", "https://a")
    assert public_jwks_uris("https://b", None) == ("https://b",)


# -- this publisher's own token --------------------------------------------------------------------------------------


def test_the_key_of_the_token_that_federates_this_publisher(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(token("k1"))
    (tmp_path / "other").write_text(token("k2", issuer="https://other.example.com"))
    (tmp_path / "broken").write_text("no token")
    variable = "AWS_WEB_IDENTITY_TOKEN_FILE"
    assert own_token_key_id(ISSUER, {variable: str(path)}) == "k1"
    assert own_token_key_id(ISSUER, {variable: str(tmp_path / "other")}) is None
    assert own_token_key_id(ISSUER, {variable: str(tmp_path / "broken")}) is None
    assert own_token_key_id(ISSUER, {variable: str(tmp_path / "absent")}) is None
    assert own_token_key_id(ISSUER, {"WIF_TOKEN_FILE": str(tmp_path / "other"), variable: str(path)}) == "k1"
    assert own_token_key_id(ISSUER, {}) is None


@pytest.mark.parametrize(
    ("source", "kid"),
    [
        ({"file": "token"}, "k1"),
        ({"file": "token", "format": {"type": "text"}}, "k1"),
        ({"file": "json", "format": {"type": "json", "subject_token_field_name": "t"}}, "k1"),
        ({"file": "json"}, None),
        ({"file": "json", "format": {"type": "json"}}, None),
        ({"url": "https://x"}, None),
        ([], None),
    ],
)
def test_the_token_of_a_google_credential_file(tmp_path: Path, source: Any, kid: str | None) -> None:
    (tmp_path / "token").write_text(token("k1"))
    (tmp_path / "json").write_text(json.dumps({"t": token("k1")}))
    if isinstance(source, dict) and "file" in source:
        source = source | {"file": str(tmp_path / source["file"])}
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps({"type": "external_account", "credential_source": source}))
    assert own_token_key_id(ISSUER, {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}) == kid
    path.write_text("{")
    assert own_token_key_id(ISSUER, {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}) is None
