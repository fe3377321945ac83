# ruff: noqa: F811  # fixtures of another folder are arguments here
"""One run from a real API server to a directory, S3, Azure Blob and GCS; three clouds then accept tokens by each."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.rotating import CLOUDS, exchange
from tests.integration.slices import ServerCluster, api_servers
from tests.integration.stores.azurite import ACCOUNT, KEY, Azurite
from tests.integration.stores.conftest import azurite, gcs, moto_server  # noqa: F401
from tests.integration.stores.faulty import Fault, FaultyProxy
from tests.integration.stores.gcs import TOKEN, GcsServer
from tests.integration.stores.moto_server import MotoServer
from tests.publishing import DISCOVERY, JWKS, key_files, kids_at
from wif.config.issuers import IssuerSettings, TargetSettings
from wif.core.credentials import AccessToken
from wif.emulator.apiserver import missing_assets
from wif.emulator.authority import Authority
from wif.emulator.pod import POD_IDENTITY, trust_documents
from wif.emulator.publication import Document, Publication
from wif.emulator.server import Emulator
from wif.emulator.state import TrustStore
from wif.errors import ConfigurationError, UnavailableError
from wif.issuer.federated import lock_out_warning
from wif.issuer.outside import verify_issuer
from wif.issuer.publish import Publisher
from wif.issuer.report import PublishReport
from wif.issuer.unpublish import Unpublisher

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("test_publish")]


class Google:
    """The identity that the fake of GCS knows; the other clouds take their standard chains."""

    def __call__(self, cloud: str, *, rejected: bool = False) -> AccessToken | None:
        expires_at = datetime.now(UTC) + timedelta(hours=1)
        return AccessToken(token=TOKEN, expires_at=expires_at, lifetime_seconds=3600.0) if cloud == "gcp" else None

    def issuer(self, cloud: str) -> str | None:
        return None

    def close(self) -> None:
        """Nothing is held."""


class Place(NamedTuple):
    """A target, and how a web server in front of it reads a document without any credential of the publisher."""

    target: TargetSettings
    read: Callable[[str], tuple[bytes, Mapping[str, str]] | None]
    tamper: Callable[[str, bytes], object]


class Internet:
    """The public addresses: each place below its own name, and the issuer, which leads to one of the places."""

    def __init__(self, authority: Authority) -> None:
        self.places: dict[str, Place] = {}
        self.issuer_is = "directory"
        self._publication = Publication(authority.server_context(), self._find)
        self.url = self._publication.url
        self.issuer = f"{self.url}/issuer"

    def _find(self, path: str) -> Document | None:
        name, _, rest = path.lstrip("/").partition("/")
        place = self.places.get(self.issuer_is if name == "issuer" else name)
        found = place.read(rest) if place is not None else None
        if found is None:
            return None
        body, headers = found
        return Document(
            operation=rest,
            body=body,
            content_type=headers.get("content-type", "application/json"),
            cache_control=headers.get("cache-control", "public, max-age=300"),
        )

    def stop(self) -> None:
        self._publication.stop()


def by_http(base: str) -> Callable[[str], tuple[bytes, Mapping[str, str]] | None]:
    """Read as anybody on the Internet does."""

    def read(path: str) -> tuple[bytes, Mapping[str, str]] | None:
        try:
            with urllib.request.urlopen(f"{base}/{path}", timeout=10) as answer:
                return answer.read(), {name.lower(): value for name, value in answer.headers.items()}
        except urllib.error.HTTPError as error:
            error.close()
            return None

    return read


def directory_place(folder: Path) -> Place:
    def read(path: str) -> tuple[bytes, Mapping[str, str]] | None:
        file = folder / path
        kind = "application/jwk-set+json" if path.endswith("jwks") else "application/json"
        return (file.read_bytes(), {"content-type": kind}) if file.is_file() else None

    return Place(TargetSettings(url=f"file://{folder}"), read, lambda path, body: (folder / path).write_bytes(body))


def s3_place(server: MotoServer, endpoint: str | None = None) -> Place:
    import boto3

    bucket = server.bucket()
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=server.environ["AWS_SECRET_ACCESS_KEY"],
    )
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
    client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    read = by_http(f"{server.endpoint}/{bucket}/clusters/a")
    target = TargetSettings(
        url=f"s3://{bucket}/clusters/a", endpoint=endpoint or server.endpoint, region="us-east-1", allow_http=True
    )
    return Place(target, read, lambda path, body: client.put_object(Bucket=bucket, Key=f"clusters/a/{path}", Body=body))


def azure_place(server: Azurite) -> Place:
    container = server.container()
    read = by_http(f"{server.endpoint}/{container}/clusters/a")
    target = TargetSettings(url=f"az://{ACCOUNT}/{container}/clusters/a", endpoint=server.endpoint, allow_http=True)
    return Place(target, read, lambda path, body: None)


def gcs_place(server: GcsServer) -> Place:
    bucket = server.bucket()

    def read(path: str) -> tuple[bytes, Mapping[str, str]] | None:
        found = server.buckets[bucket].get(f"clusters/a/{path}")
        return (
            (found.body, {"content-type": found.content_type, "cache-control": found.cache_control or ""})
            if found
            else None
        )

    target = TargetSettings(url=f"gs://{bucket}/clusters/a", endpoint=server.endpoint, allow_http=True)

    def tamper(path: str, body: bytes) -> None:
        server.put(bucket, f"clusters/a/{path}", body, {"content-type": "application/json"})

    return Place(target, read, tamper)


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture(scope="module")
def internet(authority: Authority) -> Iterator[Internet]:
    made = Internet(authority)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def cluster(internet: Internet) -> Iterator[ServerCluster]:
    problem = missing_assets()
    if problem:
        pytest.skip(f"no real API server: {problem}")
    with api_servers(2, issuer=internet.issuer) as made:
        first = made.servers[0]
        first.create_service_account(POD_IDENTITY.namespace, POD_IDENTITY.service_account)
        first.create_service_account(POD_IDENTITY.namespace, "default")
        yield made


@pytest.fixture(autouse=True)
def clean_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody's own cloud is written to by mistake."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def environ(moto_server: MotoServer) -> Mapping[str, str]:
    return {**moto_server.environ, "AZURE_STORAGE_KEY": KEY, "HOME": "/nonexistent"}


@pytest.fixture
def places(
    internet: Internet,
    tmp_path: Path,
    moto_server: MotoServer,
    gcs: GcsServer,
) -> dict[str, Place]:
    made = {
        "directory": directory_place(tmp_path / "out"),
        "s3": s3_place(moto_server),
        "gcs": gcs_place(gcs),
    }
    internet.places = made
    internet.issuer_is = "directory"
    return made


def issuer_settings(cluster: ServerCluster, places: Mapping[str, Place], authority: Authority, **changes: Any) -> Any:
    members: dict[str, Any] = {
        "kubeconfig": str(cluster.kubeconfig),
        "namespace": "default",
        "state": "configmap:default/wif-issuer-state",
        "to": tuple(place.target for place in places.values()),
        "ca_file": str(authority.ca_file),
        "allow_private": True,
    }
    return IssuerSettings(**(members | changes))


@pytest.fixture
def state(cluster: ServerCluster) -> Iterator[None]:
    """The state is made empty, as the chart makes it, and is gone afterwards."""
    server = cluster.servers[0]
    path = "/api/v1/namespaces/default/configmaps"
    server.create(path, {"metadata": {"name": "wif-issuer-state"}})
    yield
    server.request("DELETE", f"{path}/wif-issuer-state")


def failed(report: PublishReport) -> list[str]:
    assert report.verification is not None
    return [f"{check.name}: {check.detail}" for check in report.verification.failed if check.level != "warning"]


@pytest.mark.usefixtures("state")
def test_one_run_to_four_places_and_three_clouds_accept_tokens_by_each(
    cluster: ServerCluster,
    internet: Internet,
    places: dict[str, Place],
    authority: Authority,
    environ: Mapping[str, str],
    azurite: Azurite,
) -> None:
    places["azure"] = azure_place(azurite)
    report = Publisher(issuer_settings(cluster, places, authority), identity=Google(), environ=environ).run()
    assert report.exit_status == 0, report
    assert report.issuer == internet.issuer  # nobody named it: the API servers did
    assert sorted(report.servers) == sorted(f"{address}:6443" for address in cluster.addresses)
    assert [target.outcome for target in report.targets] == ["written"] * 4
    assert failed(report) == []
    names = {check.name for check in report.verification.checks if check.ok} if report.verification else set()
    assert {"discovery", "jwks", "keys-expected", "keys-unknown", "token-signature", "token-issuer"} <= names
    for name, place in places.items():
        for path, kind in ((JWKS, "application/jwk-set+json"), (DISCOVERY, "application/json")):
            found = place.read(path)
            assert found is not None
            assert found[1]["content-type"] == kind
            assert name == "directory" or found[1]["cache-control"] == "public, max-age=300"
            assert found[0] == places["directory"].read(path)[0]  # type: ignore[index]  # written above
        trust = TrustStore.from_mapping(trust_documents(internet.issuer))
        source = {internet.issuer: f"{internet.url}/{name}"}
        with Emulator(trust=trust, authority=authority, issuer_documents=source, proxy=True) as emulator:
            for cloud in CLOUDS:
                for server in cluster.servers:
                    token = server.request_token(
                        POD_IDENTITY.namespace, POD_IDENTITY.service_account, POD_IDENTITY.audiences[cloud]
                    )
                    assert exchange(cloud, token, emulator.environment()) == ""
    again = Publisher(issuer_settings(cluster, places, authority), identity=Google(), environ=environ).run()
    assert [target.outcome for target in again.targets] == ["unchanged"] * 4
    assert verify_issuer(issuer_settings(cluster, {}, authority), environ=environ).exit_status == 0


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("name", ["directory", "s3", "gcs"])
def test_an_attackers_key_is_found_at_each_place_and_behind_the_public_address(
    name: str,
    cluster: ServerCluster,
    internet: Internet,
    places: dict[str, Place],
    authority: Authority,
    environ: Mapping[str, str],
    tmp_path: Path,
) -> None:
    run = Publisher(issuer_settings(cluster, places, authority), identity=Google(), environ=environ)
    run.run()
    internet.issuer_is = name
    [attacker] = key_files(tmp_path, 1)
    document = json.loads(places[name].read(JWKS)[0])  # type: ignore[index]  # written above
    document["keys"].append(dict(attacker.key.jwk))
    places[name].tamper(JWKS, json.dumps(document).encode())

    outside = verify_issuer(issuer_settings(cluster, {}, authority), environ=environ)
    assert outside.exit_status == 3
    assert outside.public is not None
    assert outside.public.unknown == (attacker.kid,)

    report = run.run()
    assert report.exit_status == 3
    assert {target.name: target.foreign for target in report.targets if target.foreign} == {
        places[name].target.url: (attacker.kid,)
    }
    for other, place in places.items():
        assert (attacker.kid in kids_at(place.read(JWKS)[0])) == (other == name)  # type: ignore[index]
    assert run.run(restore=True).exit_status == 3
    assert attacker.kid not in kids_at(places[name].read(JWKS)[0])  # type: ignore[index]
    assert run.run().exit_status == 0


@pytest.mark.usefixtures("state")
def test_a_changed_jwks_uri_is_left_reported_and_restored(
    cluster: ServerCluster,
    internet: Internet,
    places: dict[str, Place],
    authority: Authority,
    environ: Mapping[str, str],
) -> None:
    run = Publisher(issuer_settings(cluster, places, authority), identity=Google(), environ=environ)
    run.run()
    document = json.loads(places["s3"].read(DISCOVERY)[0])  # type: ignore[index]  # written above
    document["jwks_uri"] = "https://attacker.example.com/jwks"
    places["s3"].tamper(DISCOVERY, json.dumps(document).encode())
    internet.issuer_is = "s3"
    report = run.run()
    assert report.exit_status == 3
    assert report.verification is not None
    assert report.verification.has_tampering
    assert b"attacker" in places["s3"].read(DISCOVERY)[0]  # type: ignore[index]
    assert run.run(restore=True).exit_status == 3
    assert run.run().exit_status == 0


@pytest.mark.usefixtures("state")
def test_a_server_that_does_not_answer_takes_no_key_away(
    cluster: ServerCluster, places: dict[str, Place], authority: Authority, environ: Mapping[str, str]
) -> None:
    """Two servers with different keys, one of them down: what it published stays, and the reading says so."""
    second = cluster.servers[1]
    own = second.make_key("second")
    before = second.flags.key_files
    one = {"directory": places["directory"]}
    run = Publisher(issuer_settings(cluster, one, authority), environ=environ)
    try:
        second.reconfigure(key_files=(*before, own.with_suffix(".pub")))
        report = run.run()
        assert any("serve different keys" in warning for warning in report.warnings)
        assert len(report.keys) == 2
        second.halt()
        report = run.run()
        assert any("was not read" in warning for warning in report.warnings)
        assert len(report.keys) == 1
        found = places["directory"].read(JWKS)
        assert found is not None
        assert len(kids_at(found[0])) == 2
        assert report.exit_status == 0
    finally:
        second.reconfigure(key_files=before)


def test_the_issuer_must_be_the_one_that_the_servers_write(
    cluster: ServerCluster, places: dict[str, Place], authority: Authority, environ: Mapping[str, str], tmp_path: Path
) -> None:
    one = {"directory": places["directory"]}
    other = "https://other.example.com/a"
    changes: dict[str, Any] = {"issuer": other, "state": str(tmp_path / "state.json"), "verify": False}
    with pytest.raises(ConfigurationError) as caught:
        Publisher(issuer_settings(cluster, one, authority, **changes), environ=environ).run()
    assert caught.value.code == "issuer-mismatch"
    assert other in caught.value.message
    assert cluster.servers[0].issuer in caught.value.message
    report = Publisher(issuer_settings(cluster, one, authority, former_issuer=True, **changes), environ=environ).run()
    assert report.exit_status == 0
    assert report.issuer == other


def test_named_servers_and_none_that_answers(
    cluster: ServerCluster, places: dict[str, Place], authority: Authority, environ: Mapping[str, str], tmp_path: Path
) -> None:
    one = {"directory": places["directory"]}
    changes: dict[str, Any] = {"state": str(tmp_path / "state.json"), "verify": False}
    urls = tuple(server.url for server in cluster.servers)
    named = issuer_settings(cluster, one, authority, api_servers=urls, **changes)
    report = Publisher(named, environ=environ).run()
    assert sorted(report.servers) == sorted(url.removeprefix("https://") for url in urls)
    dead = issuer_settings(
        cluster, one, authority, api_servers=("https://127.0.0.1:1",), issuer=report.issuer, **changes
    )
    with pytest.raises(UnavailableError) as caught:
        Publisher(dead, environ=environ).run()
    assert caught.value.code == "cluster-unavailable"


@pytest.mark.usefixtures("state")
def test_an_issuer_that_is_still_written_is_not_unpublished(
    cluster: ServerCluster, places: dict[str, Place], authority: Authority, environ: Mapping[str, str]
) -> None:
    one = {"directory": places["directory"]}
    given = issuer_settings(cluster, one, authority)
    Publisher(given, environ=environ).run()
    report = Unpublisher(given, environ=environ).run(confirmed=True)
    assert not report.done
    assert report.exit_status == 1
    assert any("writes this issuer into every new token" in blocker for blocker in report.blockers)
    assert places["directory"].read(DISCOVERY) is not None


@pytest.mark.usefixtures("state")
def test_faults_of_one_place_are_reported_and_the_others_done(
    cluster: ServerCluster,
    places: dict[str, Place],
    authority: Authority,
    environ: Mapping[str, str],
    moto_server: MotoServer,
) -> None:
    with FaultyProxy(moto_server.endpoint) as proxy:
        broken = {**places, "s3": s3_place(moto_server, endpoint=proxy.endpoint)}
        run = Publisher(issuer_settings(cluster, broken, authority, verify=False), identity=Google(), environ=environ)
        for fault in (Fault("answer", 503, "SlowDown"), Fault("cut-request"), Fault("answer", 403, "ExpiredToken")):
            proxy.always("PUT", fault)
            report = run.run()
            assert report.exit_status == 1
            outcomes = {target.name.partition(":")[0]: target.outcome for target in report.targets}
            assert outcomes.pop("s3") == "failed"
            assert "failed" not in outcomes.values()
        proxy.hook = lambda method, path, number: None
        proxy.once("PUT", Fault("lose-answer"))
        assert run.run().exit_status == 0


def test_who_publishes_by_its_own_issuer_is_warned() -> None:
    class Own(Google):
        def issuer(self, cloud: str) -> str | None:
            return "https://issuer.example.com" if cloud == "aws" else None

    s3, gs = TargetSettings(url="s3://bucket/a"), TargetSettings(url="gs://bucket/a")
    assert "second way in" in lock_out_warning(s3, "https://issuer.example.com", Own())
    assert lock_out_warning(s3, "https://other.example.com", Own()) == ""
    assert lock_out_warning(gs, "https://issuer.example.com", Own()) == ""
    named = TargetSettings(url="s3://bucket/a", second_way_in="the administrator's login")
    assert lock_out_warning(named, "https://issuer.example.com", Own()) == ""
