"""Who the publisher is: a federated identity at each cloud, and the one writer where a place has no conditions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.google_apis import MEMBERSHIP, PROVIDER, GoogleApis
from tests.integration.stores.test_google import FAST
from tests.integration.test_publish import Google
from tests.pod import Pod, running_pod
from tests.publishing import KeyFile, key_files, kids_at, settings
from wif.config.issuers import IssuerSettings, TargetSettings
from wif.core.credentials import AccessToken, AwsCredentials
from wif.edges.kube import KubeClient
from wif.edges.lease import Lease
from wif.edges.stores import Store
from wif.edges.stores.chains import google_chain
from wif.edges.stores.credentials import Identities
from wif.edges.stores.google import FleetStore, GcpProviderStore
from wif.edges.stores.opening import open_store, parse_target
from wif.emulator.apiserver import ApiServer
from wif.emulator.authority import Authority
from wif.errors import ConfigurationError
from wif.issuer.federated import FederatedIdentity, lock_out_warning
from wif.issuer.publish import Publisher
from wif.issuer.session import LEASE_NAME
from wif.issuer.unpublish import Unpublisher

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

ISSUER = "https://oidc.example.com/edge"


@pytest.fixture(scope="module")
def pod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pod]:
    with running_pod(tmp_path_factory.mktemp("pod")) as made:
        yield made


def test_a_pod_publishes_as_its_webhooks_variables_say(pod: Pod) -> None:
    identity = FederatedIdentity(pod.environment)
    try:
        keys = identity("aws")
        assert isinstance(keys, AwsCredentials)
        assert identity("aws") == keys
        assert identity("aws", rejected=True) != keys  # a credential that was refused is not given again
        for cloud in ("gcp", "azure"):
            assert isinstance(identity(cloud), AccessToken)
        issuer = identity.issuer("aws")
        assert issuer is not None
        assert [identity.issuer(cloud) for cloud in ("gcp", "azure")] == [issuer, issuer]
        assert lock_out_warning(TargetSettings(url="gs://bucket/a"), issuer, identity)
    finally:
        identity.close()


def test_without_a_token_to_exchange_the_standard_chains_decide(tmp_path: Path) -> None:
    key_file = tmp_path / "key.json"
    key_file.write_text(json.dumps({"type": "service_account"}))
    environ = {
        "AWS_ROLE_ARN": "arn:aws:iam::111122223333:role/app",
        "AZURE_CLIENT_ID": "a",
        "AZURE_TENANT_ID": "b",
        "AZURE_CLIENT_SECRET": "c",
        "GOOGLE_APPLICATION_CREDENTIALS": str(key_file),
    }
    for variables in (environ, {}, {"GOOGLE_APPLICATION_CREDENTIALS": "/nonexistent"}):
        identity = FederatedIdentity(variables)
        for cloud in ("aws", "gcp", "azure"):
            assert identity(cloud) is None
            assert identity.issuer(cloud) is None
        identity.close()


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as made:
        yield made


@pytest.fixture
def apis(authority: Authority) -> Iterator[GoogleApis]:
    with GoogleApis(authority.server_context()) as made:
        yield made


@pytest.fixture
def keys(tmp_path: Path) -> list[KeyFile]:
    return key_files(tmp_path, 2)


@pytest.fixture
def kube(api_server: ApiServer) -> Iterator[KubeClient]:
    client = KubeClient.from_kubeconfig(api_server.kubeconfig)
    yield client
    client.close()
    api_server.request("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/default/leases/{LEASE_NAME}")


def fast(target: TargetSettings, **more: Any) -> Store:
    """As :func:`open_store`, at a test's pace."""
    place = parse_target(target.url)
    if place.scheme not in ("gcp-provider", "gke-fleet"):
        return open_store(target, **more)
    kind = GcpProviderStore if place.scheme == "gcp-provider" else FleetStore
    chain = google_chain(place.name, ())
    return kind(
        place.parts[0],
        credentials=Identities("gcp", target=place.name, chain=chain, federated=more["federated"]),
        name=place.name,
        endpoint=target.endpoint,
        ca_file=target.ca_file,
        single_writer=target.single_writer,
        guard=more["guard"],
        issuer=more["issuer"],
        environ={},
        pace=FAST,
    )


def given(keys: list[KeyFile], apis: GoogleApis, authority: Authority, folder: Path, **changes: Any) -> IssuerSettings:
    targets = [
        TargetSettings(url=url, endpoint=apis.url, ca_file=str(authority.ca_file), clouds=("gcp",), **changes)
        for url in (f"gcp-provider:{PROVIDER}", f"gke-fleet:{MEMBERSHIP}")
    ]
    return settings(keys, *targets, state=folder / "state" / "issuer.json", issuer=ISSUER, namespace="default")


def test_one_writer_by_a_lease_that_is_given_back(
    keys: list[KeyFile], apis: GoogleApis, authority: Authority, kube: KubeClient, tmp_path: Path
) -> None:
    run = Publisher(
        given(keys[:1], apis, authority, tmp_path), kube=kube, identity=Google(), open_target=fast, environ={}
    )
    report = run.run()
    assert [target.error for target in report.targets] == [None, None]
    assert report.exit_status == 0
    for resource in (PROVIDER, MEMBERSHIP):
        body = apis.key_set(resource)
        assert body is not None
        assert kids_at(body) == [keys[0].kid]
    lease = Lease(kube, "default", LEASE_NAME)
    assert lease.acquire()  # nobody holds it any more
    lease.release()


def test_a_run_waits_for_the_lease_of_another(
    keys: list[KeyFile], apis: GoogleApis, authority: Authority, kube: KubeClient, tmp_path: Path
) -> None:
    other = Lease(kube, "default", LEASE_NAME)
    assert other.acquire()
    released = threading.Timer(2.0, other.release)
    released.start()
    started = time.monotonic()
    run = Publisher(
        given(keys[:1], apis, authority, tmp_path), kube=kube, identity=Google(), open_target=fast, environ={}
    )
    report = run.run()
    released.join()
    assert report.exit_status == 0, [target.error for target in report.targets]
    assert time.monotonic() - started >= 2.0


def test_without_a_lease_and_a_word_nothing_is_written(
    keys: list[KeyFile], apis: GoogleApis, authority: Authority, tmp_path: Path
) -> None:
    report = Publisher(
        given(keys[:1], apis, authority, tmp_path), identity=Google(), open_target=fast, environ={}
    ).run()
    assert report.exit_status == 1
    for target in report.targets:
        assert isinstance(target.error, ConfigurationError)
        assert target.error.code == "precondition-missing"
        assert "--single-writer" in target.error.hint
    assert apis.key_set(PROVIDER) is None
    sure = given(keys[:1], apis, authority, tmp_path, single_writer=True)
    assert Publisher(sure, identity=Google(), open_target=fast, environ={}).run().exit_status == 0
    assert Unpublisher(sure, environ={}).run(confirmed=False).exit_status == 0


def test_a_provider_of_another_issuer_is_left_alone(
    keys: list[KeyFile], apis: GoogleApis, authority: Authority, tmp_path: Path
) -> None:
    apis.resources[PROVIDER]["oidc"]["issuerUri"] = "https://oidc.example.com/other"
    sure = given(keys[:1], apis, authority, tmp_path, single_writer=True)
    report = Publisher(sure, identity=Google(), open_target=fast, environ={}).run()
    assert [target.outcome for target in report.targets] == ["failed", "written"]
    assert report.targets[0].error is not None
    assert report.targets[0].error.code == "target-refused"
    assert apis.key_set(PROVIDER) is None


def test_an_unknown_key_in_a_provider_is_found_and_taken_out(
    keys: list[KeyFile], apis: GoogleApis, authority: Authority, tmp_path: Path
) -> None:
    sure = given(keys[:1], apis, authority, tmp_path, single_writer=True)
    run = Publisher(sure, identity=Google(), open_target=fast, environ={})
    run.run()
    body = json.loads(apis.key_set(PROVIDER) or b"")
    body["keys"].append(dict(keys[1].key.jwk))
    apis.resources[PROVIDER]["oidc"]["jwksJson"] = json.dumps(body)
    report = run.run()
    assert report.exit_status == 3
    assert [target.foreign for target in report.targets] == [(keys[1].kid,), ()]
    assert run.run(restore=True).exit_status == 3
    assert kids_at(apis.key_set(PROVIDER) or b"") == [keys[0].kid]
