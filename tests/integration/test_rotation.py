"""Rotations against two real API servers of one cluster, whose tokens are exchanged all the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.integration.rotating import CACHE_SECONDS, CLOUDS, Clock, Exchanging, Site, exchange, key_id_of
from tests.integration.slices import ServerCluster, api_servers
from tests.integration.stores.faulty import FaultyProxy
from tests.integration.stores.moto_server import MotoServer
from wif.config.issuers import IssuerSettings, TargetSettings
from wif.core.public_keys import IssuerKey, key_set_bytes, observe_key_set
from wif.core.rotation import Policy
from wif.edges.kube_answers import ServiceAccountName
from wif.emulator.apiserver import missing_assets
from wif.emulator.authority import Authority
from wif.emulator.pod import POD_IDENTITY, trust_documents
from wif.emulator.server import Emulator
from wif.emulator.state import TrustStore
from wif.errors import ConfigurationError, DriftError, WifError
from wif.issuer.publish import Publisher
from wif.issuer.rotate import Rotation
from wif.issuer.rotation_report import RotationReport, UnsafeStep

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("test_rotation")]

SERVED_SECONDS = 3600
"""``max-age`` of an API server's own key set: Kubernetes' word that no key signs before it was served for so long."""
TOKEN_SECONDS = 600
"""``--longest-token-lifetime`` of these operators."""
PUBLISHER = ServiceAccountName("wif-system", "publisher")


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture(scope="module")
def site(authority: Authority) -> Iterator[Site]:
    made = Site(authority)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cluster(site: Site) -> Iterator[ServerCluster]:
    """Two API servers; a test takes their flags as it finds them."""
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with api_servers(2, issuer=site.issuer) as servers:
        first = servers.servers[0]
        first.create_service_account(POD_IDENTITY.namespace, POD_IDENTITY.service_account)
        first.create_namespace(PUBLISHER.namespace)
        first.create_service_account(*PUBLISHER)
        yield servers


@pytest.fixture(scope="module")
def moto_server() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@dataclass
class World:
    """One issuer with two targets, and what operators do with it."""

    site: Site
    cluster: ServerCluster
    authority: Authority
    moto: MotoServer
    folder: Path
    bucket: str
    name: str
    clock: Clock = field(default_factory=Clock)

    @property
    def directory(self) -> Path:
        return self.folder / "site"

    def settings(self, **changes: Any) -> IssuerSettings:
        values: dict[str, Any] = {
            "issuer": self.site.issuer,
            "kubeconfig": str(self.cluster.kubeconfig),
            "to": (
                TargetSettings(url=f"file://{self.directory}"),
                TargetSettings(url=f"s3://{self.bucket}/a", endpoint=self.moto.endpoint, allow_http=True),
            ),
            "state": f"configmap:{PUBLISHER.namespace}/{self.name}",
            "ca_file": str(self.authority.ca_file),
            "cache_seconds": 2,
            "skew_seconds": 1,
            "allow_private": True,
        }
        return IssuerSettings(**(values | changes))

    def rotation(self, *, account: ServiceAccountName = PUBLISHER, **changes: Any) -> Rotation:
        """One machine of the operators: nothing of it is known to another but by the state."""
        environ = {**self.moto.environ, **changes.pop("environ", {})}
        longest = changes.pop("longest", TOKEN_SECONDS)
        policy = Policy(cache_seconds=2, skew_seconds=1, longest_token_seconds=longest)
        settings = self.settings(**changes)
        return Rotation(settings, policy=policy, account=account, environ=environ, clock=self.clock)

    def publisher(self, **changes: Any) -> Publisher:
        return Publisher(self.settings(**changes), environ=self.moto.environ, clock=self.clock)

    def published(self) -> dict[str, list[str]]:
        """The key ids at both targets, read past the publisher."""
        found = {"file": (self.directory / "openid/v1/jwks").read_bytes(), "s3": self._object()}
        return {name: [str(entry.key_id) for entry in observe_key_set(body).entries] for name, body in found.items()}

    def put(self, body: bytes) -> bytes:
        """Change the key set in the bucket by hand; what was there."""
        before = self._object()
        self._s3().put_object(Bucket=self.bucket, Key="a/openid/v1/jwks", Body=body)
        return before

    def _object(self) -> bytes:
        body: bytes = self._s3().get_object(Bucket=self.bucket, Key="a/openid/v1/jwks")["Body"].read()
        return body

    def _s3(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.moto.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.moto.environ["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.moto.environ["AWS_SECRET_ACCESS_KEY"],
        )

    # -- the cluster -------------------------------------------------------------------------------------------------

    @property
    def signing(self) -> str:
        """The id of the key that the first API server signs with, by its flags."""
        return key_id_of(self.cluster.servers[0].flags.signing_key)

    def make_key(self) -> Path:
        """A new pair of keys, of which nobody knows yet."""
        return self.cluster.servers[0].make_key(f"{self.name}-{time.monotonic_ns()}")

    def token(self, cloud: str = "aws", server: int = 0) -> str:
        audience = POD_IDENTITY.audiences[cloud]
        return self.cluster.servers[server].request_token(
            POD_IDENTITY.namespace, POD_IDENTITY.service_account, audience
        )


@pytest.fixture
def world(
    site: Site,
    cluster: ServerCluster,
    authority: Authority,
    moto_server: MotoServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[World]:
    name = f"state-{request.node.name.replace('_', '-')[:40].lower().strip('-')}"
    cluster.servers[0].create(f"/api/v1/namespaces/{PUBLISHER.namespace}/configmaps", {"metadata": {"name": name}})
    made = World(
        site=site,
        cluster=cluster,
        authority=authority,
        moto=moto_server,
        folder=tmp_path,
        bucket=moto_server.bucket(),
        name=name,
    )
    site.directory = made.directory
    yield made
    site.directory = None


@pytest.fixture
def emulator(world: World) -> Iterator[Emulator]:
    trust = TrustStore.from_mapping(trust_documents(world.site.issuer))
    with Emulator(
        trust=trust, authority=world.authority, proxy=True, documents_max_age_seconds=CACHE_SECONDS
    ) as running:
        yield running


def phases(report: RotationReport) -> dict[str, str]:
    return {key.kid: key.phase for key in report.status.keys}


def refused(rotation: Rotation, kid: str | None = None) -> Sequence[str]:
    """The reasons why a key is not retired now."""
    with pytest.raises(UnsafeStep) as caught:
        rotation.retire(kid)
    assert caught.value.code == "unsafe-step"
    return caught.value.reasons


def test_a_whole_rotation_refuses_no_token(world: World, emulator: Emulator) -> None:
    one, two = world.rotation(), world.rotation()
    servers = world.cluster.servers
    old_key, new_key = servers[0].flags.signing_key, world.make_key()
    old, new = world.signing, key_id_of(new_key)

    first = one.advance()
    assert first.exit_status == 0
    assert phases(first) == {old: "signing"}

    with Exchanging(servers, emulator) as client:
        staged = one.stage([str(new_key.with_suffix(".pub"))])
        assert phases(staged) == {old: "signing", new: "verified"}
        assert world.published() == {"file": sorted([old, new]), "s3": sorted([old, new])}
        assert staged.next_step.flags == (
            "--service-account-key-file=OLD.pub",
            "--service-account-key-file=NEW.pub",
            "--service-account-signing-key-file=OLD.key",
        )

        servers[0].reconfigure(key_files=(old_key, new_key))
        assert phases(two.status())[new] == "verified", "one of two API servers is not enough"
        servers[1].reconfigure(key_files=(old_key, new_key))
        waiting = two.advance()
        assert phases(waiting)[new] == "waiting"
        assert "Wait until" in waiting.next_step.text

        world.clock.wait(SERVED_SECONDS + 1)
        assert "--service-account-signing-key-file=NEW.key" in one.status().next_step.flags
        servers[0].reconfigure(signing_key=new_key)
        half = two.advance()
        assert phases(half) == {old: "signing", new: "signing"}
        assert half.status.exposures == ()
        assert any(servers[1].url.rpartition(":")[2] or "sign" in reason for reason in refused(one, old))
        servers[1].reconfigure(signing_key=new_key)
        drained = one.advance()
        assert phases(drained) == {new: "signing", old: "draining"}
        assert any("may live until" in reason for reason in refused(two))

        world.clock.wait(TOKEN_SECONDS + 200)
        _refuse_without_each_piece(world, old)
        retired = two.retire()
        assert retired.exit_status == 0
        assert phases(retired) == {new: "signing", old: "retired"}
        time.sleep(2 * CACHE_SECONDS)
    assert client.failures == []
    assert min(client.done[cloud] for cloud in CLOUDS) > 20
    assert world.published() == {"file": [new], "s3": [new]}

    again = world.publisher().run()
    assert again.exit_status == 0
    assert world.published() == {"file": [new], "s3": [new]}, "the API servers still list it, and it stays away"


def _refuse_without_each_piece(world: World, old: str) -> None:
    """Time is over; now one piece of evidence after the other is missing."""
    token = world.folder / "token"
    token.write_text(_token_of(world, old))
    for rotation, words in (
        (world.rotation(longest=None), "longest"),
        (world.rotation(ca_file=str(world.cluster.servers[0].shared_directory / "ca.crt")), "public address"),
        (world.rotation(account=ServiceAccountName("wif-system", "nobody")), "sign"),
        (world.rotation(environ={"AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}), "own token"),
    ):
        reasons = refused(rotation, old)
        assert any(words in reason for reason in reasons), (words, reasons)

    before = world.put(b"<html>")
    assert any("s3://" in reason for reason in refused(world.rotation(), old))
    world.put(before)

    world.cluster.servers[1].halt()
    reasons = refused(world.rotation(), old)
    world.cluster.servers[1].restart()
    assert any("API server" in reason for reason in reasons), reasons
    assert old in world.published()["file"]


def _token_of(world: World, kid: str) -> str:
    """Text that names a key and an issuer as a token does."""
    import base64
    import json

    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": world.site.issuer, "sub": "system:serviceaccount:a:b", "aud": ["x"], "iat": 1, "exp": 2}
    return f"{part({'alg': 'RS256', 'kid': kid})}.{part(claims)}.c2lnbmF0dXJl"


def test_the_wrong_order_is_found_published_and_told(world: World, emulator: Emulator) -> None:
    rotation = world.rotation()
    assert rotation.advance().exit_status == 0
    server = world.cluster.servers[1]
    before, new_key = server.flags, world.make_key()
    new = key_id_of(new_key)
    variables = emulator.environment()
    server.reconfigure(signing_key=new_key, key_files=(*before.key_files, new_key))
    try:
        assert exchange("azure", world.token("azure", server=1), variables).startswith("key-not-published")

        found = rotation.status()
        assert found.exit_status == 3
        (exposure,) = found.status.exposures
        assert exposure.kid == new
        assert "never published" in exposure.message
        assert new not in world.published()["file"]

        told = world.rotation().advance()
        assert told.exit_status == 3
        (exposure,) = told.status.exposures
        assert exposure.kid == new
        assert exposure.since is not None
        assert exposure.until is not None
        assert exposure.since <= found.looked.observation.at < exposure.until
        assert new in world.published()["file"]
        assert new in world.published()["s3"]
        assert [notice.rule for notice in told.status.notices] == ["servers-disagree"]
        time.sleep(2 * CACHE_SECONDS)
        assert exchange("azure", world.token("azure", server=1), variables) == ""
    finally:
        server.reconfigure(signing_key=before.signing_key, key_files=before.key_files)


def test_a_removed_key_never_comes_back_from_a_slower_publisher(world: World) -> None:
    leaked = world.make_key()
    kid, source = key_id_of(leaked), str(leaked.with_suffix(".pub"))
    vouching = {"public_keys": (source,), "use_kubernetes": True}
    assert world.publisher(**vouching).run().exit_status == 0
    assert kid in world.published()["s3"]
    stop = threading.Event()
    trouble: list[WifError] = []

    def publish_on() -> None:
        while not stop.is_set():
            try:
                world.publisher(**vouching).run()
            except WifError as error:
                trouble.append(error)

    slow = [threading.Thread(target=publish_on) for _ in range(2)]
    for thread in slow:
        thread.start()
    try:
        report = world.rotation().remove(kid, reason="leaked", confirmed=True)
        time.sleep(1.5)
    finally:
        stop.set()
        for thread in slow:
            thread.join(30)
    assert trouble == []
    assert phases(report)[kid] == "removed"
    world.publisher(**vouching).run()
    assert kid not in world.published()["file"] + world.published()["s3"]


def test_a_publisher_that_writes_after_the_removal_undoes_its_own_write(world: World) -> None:
    """The tag that it read still fits: nothing at the target has changed, only the state."""
    assert world.publisher().run().exit_status == 0
    leaked = world.make_key()
    kid = key_id_of(leaked)
    is_held, released = threading.Event(), threading.Event()

    def hold(method: str, _path: str, _number: int) -> None:
        if method == "PUT" and not is_held.is_set():
            is_held.set()
            released.wait(30)

    with FaultyProxy(world.moto.endpoint) as proxy:
        proxy.hook = hold
        slow = world.publisher(
            public_keys=(str(leaked.with_suffix(".pub")),),
            use_kubernetes=True,
            to=(TargetSettings(url=f"s3://{world.bucket}/a", endpoint=proxy.endpoint, allow_http=True),),
        )
        thread = threading.Thread(target=slow.run)
        thread.start()
        assert is_held.wait(30)
        assert phases(world.rotation().remove(kid, reason="leaked", confirmed=True))[kid] == "removed"
        assert kid not in world.published()["s3"]
        released.set()
        thread.join(30)
        assert proxy.count("PUT") >= 2, "what put it there, and what took it out again"
    assert kid not in world.published()["s3"]
    assert kid not in world.published()["file"]


def test_an_emergency_removal_says_what_stays_exposed(world: World, emulator: Emulator) -> None:
    rotation = world.rotation()
    assert rotation.advance().exit_status == 0
    rotation.stage([str(world.make_key().with_suffix(".pub"))])  # the set is not empty afterwards
    kid = world.signing
    only = rotation.remove(kid)
    assert any("12 h" in text for text in only.consequences)
    assert kid in world.published()["file"], "nothing is done before it is confirmed"

    report = rotation.remove(kid, reason="leaked", confirmed=True)
    assert report.consequences
    assert report.exit_status == 3, "API servers sign with a key that clouds refuse"
    assert kid not in world.published()["file"] + world.published()["s3"]
    assert exchange("azure", world.token("azure"), emulator.environment()).startswith("key-not-published")
    with pytest.raises(UnsafeStep):
        rotation.forget(kid)
    assert kid not in phases(rotation.forget(kid, force=True))
    assert kid in phases(rotation.advance())
    assert kid in world.published()["file"]


def test_a_lost_state_is_refused_until_it_is_made_anew(world: World) -> None:
    rotation = world.rotation()
    rotation.advance()
    place = f"/api/v1/namespaces/{PUBLISHER.namespace}/configmaps/{world.name}"
    world.cluster.servers[0].request("DELETE", place)
    for act in (rotation.advance, rotation.retire, lambda: rotation.remove(world.signing, confirmed=True)):
        with pytest.raises(DriftError) as caught:
            act()
        assert caught.value.code == "state-missing"
    lost = rotation.status()
    assert (lost.state_missing, lost.exit_status) == (True, 3)
    rebuilt = world.rotation().status(rebuild=True)
    assert rebuilt.exit_status == 0
    assert phases(rebuilt)[world.signing] == "signing"
    assert rotation.advance().exit_status == 0
    with pytest.raises(ConfigurationError, match="nothing to rebuild"):
        rotation.status(rebuild=True)


def test_a_foreign_key_is_told_and_adopted_only_by_hand(world: World) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa

    rotation = world.rotation()
    rotation.advance()
    foreign = IssuerKey.from_public_key(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key())
    listed = observe_key_set(world.put(b"{}"))
    world.put(key_set_bytes([foreign, *(entry.key for entry in listed.entries if entry.key is not None)]))
    told = rotation.advance()
    assert told.exit_status == 3
    assert any(foreign.key_id in sentence for sentence in told.tampering)
    assert rotation.status().exit_status == 3, "a look alone finds it as well"
    assert foreign.key_id in world.published()["s3"]
    assert foreign.key_id not in world.published()["file"]

    assert rotation.adopt(foreign.key_id).consequences
    adopted = rotation.adopt(foreign.key_id, reason="of the former publisher", confirmed=True)
    assert phases(adopted)[foreign.key_id] == "draining"
    assert foreign.key_id not in world.published()["file"], "it goes to no new place"
    reasons = refused(rotation, foreign.key_id)
    assert reasons


def test_a_staged_key_is_given_up(world: World) -> None:
    rotation = world.rotation()
    rotation.advance()
    new_key = world.make_key()
    new = key_id_of(new_key)
    rotation.stage([str(new_key.with_suffix(".pub"))])
    with pytest.raises(UnsafeStep):
        rotation.abort(world.signing)
    assert phases(rotation.abort(new))[new] == "removed"
    assert new not in world.published()["file"]
    with pytest.raises(UnsafeStep, match="was removed"):
        rotation.stage([str(new_key.with_suffix(".pub"))])
