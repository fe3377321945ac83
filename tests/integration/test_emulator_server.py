"""The running local STS: its listener, its life, cut connections, and the three real SDKs through its proxy."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.integration.emulator_requests import Client, store_for
from tests.unit.emulator.local_sts import CLIENT, GCP_AUDIENCE, ISSUER, ROLE, SERVICE_ACCOUNT, TENANT
from wif.emulator import Authority, Emulator, LocalCluster
from wif.errors import ConfigurationError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with Authority() as authority:
        yield authority


@pytest.fixture(scope="module")
def cluster(authority: Authority) -> Iterator[LocalCluster]:
    with LocalCluster() as cluster:
        cluster.serve(authority)
        yield cluster


@pytest.fixture(scope="module")
def emulator(authority: Authority, cluster: LocalCluster) -> Iterator[Emulator]:
    with Emulator(trust=store_for(cluster.issuer), authority=authority, proxy=True) as emulator:
        yield emulator


@pytest.fixture
def client(emulator: Emulator) -> Client:
    return Client(emulator)


# -- answers --------------------------------------------------------------------------------------------------------


def test_three_exchanges_over_tls(client: Client, cluster: LocalCluster) -> None:
    assert client.all(cluster) == [200, 200, 200]


def test_every_answer_is_marked_and_dated(client: Client, emulator: Emulator) -> None:
    for method, path in (("GET", "/"), ("POST", "/v1/token"), ("GET", "/nothing"), ("PUT", "/")):
        answer = client.http.request(method, emulator.url + path)
        assert answer.headers["x-wif-local-sts"] == "1", path
        assert answer.headers["date"].endswith(" GMT")
        assert "server" not in answer.headers


def test_what_is_not_http_is_marked_too(emulator: Emulator) -> None:
    context = ssl.create_default_context(cafile=str(emulator.ca_file))
    for nonsense in (b"\x00\x01\x02\r\n\r\n", b"GET /\r\n\r\n", b"CONNECT x:443 HTTP/1.1\r\n\r\n"):
        with (
            socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            connection.sendall(nonsense)
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"x-wif-local-sts: 1" in answer.lower()


def test_it_binds_to_loopback_only(emulator: Emulator) -> None:
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        if str(address).startswith("127."):
            continue
        with pytest.raises(OSError, match=r"."):
            socket.create_connection((str(address), emulator.port), timeout=2)


def test_plain_http_is_not_answered(emulator: Emulator) -> None:
    with pytest.raises(urllib3.exceptions.HTTPError):
        urllib3.PoolManager(retries=False, timeout=5.0).request("GET", f"http://localhost:{emulator.port}/")


def test_connections_are_kept(client: Client, cluster: LocalCluster) -> None:
    for _ in range(5):
        assert client.aws(cluster).status == 200
    pool = client.http.connection_from_url(client.emulator.url)
    assert pool.num_connections == 1


# -- life -----------------------------------------------------------------------------------------------------------


def test_several_in_one_process_know_nothing_of_each_other(cluster: LocalCluster, authority: Authority) -> None:
    store = store_for(cluster.issuer)
    with Emulator(trust=store, authority=authority) as one, Emulator(trust=store, authority=authority) as two:
        assert one.port != two.port
        token = Client(one).gcp(cluster).json()["access_token"]
        assert Client(one).form("/v1/introspect", {"token": token}).json()["active"] is True
        assert Client(two).form("/v1/introspect", {"token": token}).json() == {"active": False}


def test_start_stop_start(cluster: LocalCluster) -> None:
    emulator = Emulator(trust=store_for(cluster.issuer))
    before = threading.active_count()
    with pytest.raises(ConfigurationError) as caught:
        _ = emulator.url
    assert caught.value.code == "config-missing"
    for _ in range(2):
        url = emulator.start()
        assert emulator.start() == url
        ca_file = emulator.ca_file
        assert Client(emulator).http.request("GET", f"{url}/{TENANT}/discovery/v2.0/keys").status == 200
        emulator.stop()
        emulator.stop()
        assert not ca_file.exists()
    assert threading.active_count() == before


def test_stopping_does_not_wait_for_idle_clients(cluster: LocalCluster) -> None:
    import time

    emulator = Emulator(trust=store_for(cluster.issuer))
    emulator.start()
    client = Client(emulator)
    client.http.request("GET", f"{emulator.url}/nothing")
    began = time.monotonic()
    emulator.stop()
    assert time.monotonic() - began < 2


def test_a_port_that_is_taken(emulator: Emulator) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Emulator().start(emulator.port)
    assert caught.value.code == "config-invalid"
    assert str(emulator.port) in caught.value.message


def test_trust_is_replaced_while_it_runs(cluster: LocalCluster, authority: Authority) -> None:
    with Emulator(authority=authority) as emulator:
        client = Client(emulator)
        assert client.all(cluster) == [400, 400, 400]
        emulator.trust = store_for(cluster.issuer)
        assert client.all(cluster) == [200, 200, 200]


def test_notes_tell_what_real_clouds_would_refuse(cluster: LocalCluster, authority: Authority) -> None:
    heard: list[str] = []
    with Emulator(
        trust=store_for(cluster.issuer), authority=authority, on_note=lambda note: heard.append(note.text)
    ) as emulator:
        Client(emulator).all(cluster)
        assert emulator.exchanges == 3
        assert emulator.notes.count == len(heard) == 4
    assert heard[0] == f"AWS itself would have refused: the issuer {cluster.issuer} is at a private or loopback address"


def test_a_wrong_clock(cluster: LocalCluster, authority: Authority) -> None:
    import time

    with Emulator(trust=store_for(cluster.issuer), authority=authority, clock=lambda: time.time() + 7200) as emulator:
        assert Client(emulator).all(cluster) == [400, 400, 401]


def test_the_foreground_ends_by_a_signal(tmp_path: Path) -> None:
    code = (
        "from wif.emulator import Emulator\n"
        "emulator = Emulator(proxy=True)\n"
        "emulator.run_forever(on_ready=lambda it: print(it.url, it.ca_file, flush=True))\n"
        "print('ended')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        url, ca_file = process.stdout.readline().split()
        http = urllib3.PoolManager(ca_certs=ca_file, retries=False, timeout=10.0)
        assert http.request("GET", f"{url}/oauth2/v3/certs").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "ended\n"
    assert process.wait(10) == 0
    assert not Path(ca_file).exists()


# -- faults ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["before-answer", "headers", "body"])
def test_cut_connections(emulator: Emulator, cluster: LocalCluster, cut: Any) -> None:
    client = Client(emulator)
    injection = emulator.faults.inject(cloud="aws", cut=cut, times=1)
    with pytest.raises(urllib3.exceptions.HTTPError):
        client.aws(cluster)
    assert injection.taken == 1
    assert client.aws(cluster).status == 200


def test_a_fault_in_place_of_the_answer(emulator: Emulator, cluster: LocalCluster, client: Client) -> None:
    emulator.faults.inject(cloud="azure", operation="token", status=429, headers={"Retry-After": "7"}, times=1)
    answer = client.azure(cluster)
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")


# -- names ------------------------------------------------------------------------------------------------------


def test_real_host_names_through_the_proxy(emulator: Emulator) -> None:
    http = urllib3.ProxyManager(emulator.proxy_url, ca_certs=str(emulator.ca_file), retries=False, timeout=10.0)
    for host in ("sts.eu-central-1.amazonaws.com", "sts.googleapis.com", "login.microsoftonline.com"):
        assert http.request("GET", f"https://{host}/").headers["x-wif-local-sts"] == "1"
    with pytest.raises(urllib3.exceptions.HTTPError):
        http.request("GET", "https://s3.amazonaws.com/")


def test_a_host_of_another_universe(cluster: LocalCluster, authority: Authority) -> None:
    with Emulator(authority=authority, proxy=True, hosts={"sts.Example.goog": "gcp"}) as emulator:
        http = urllib3.ProxyManager(emulator.proxy_url, ca_certs=str(emulator.ca_file), retries=False, timeout=10.0)
        assert http.request("POST", "https://sts.example.goog/v1/token").json()["error"] == "invalid_request"


def test_variables_without_the_proxy(cluster: LocalCluster) -> None:
    with Emulator() as emulator:
        variables = emulator.environment()
        assert variables["AWS_ENDPOINT_URL_STS"] == variables["AZURE_AUTHORITY_HOST"] == emulator.url
        assert "HTTPS_PROXY" not in variables
        with pytest.raises(ConfigurationError):
            _ = emulator.proxy_url


# -- real SDKs, unmodified, in processes of their own ------------------------------------------------------------------

BOTO3 = """
import boto3, json
sts = boto3.client("sts")
caller = sts.get_caller_identity()
second = sts.assume_role(RoleArn="arn:aws:iam::444455556666:role/second", RoleSessionName="again", ExternalId="shop",
                         Tags=[{"Key": "team", "Value": "shop"}])
keys = second["Credentials"]
other = boto3.client("sts", aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
                     aws_session_token=keys["SessionToken"])
print(json.dumps([caller["Arn"], other.get_caller_identity()["Arn"]]))
"""

GOOGLE = """
import google.auth, google.auth.transport.requests, json, time
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
session = google.auth.transport.requests.AuthorizedSession(credentials)
answer = session.get("https://cloudresourcemanager.googleapis.com/v1/projects/123456789012")
for _ in range(100):  # the look-up of the region boundary runs in a thread of its own
    boundary = credentials._rab_manager._data.encoded_locations if hasattr(credentials, "_rab_manager") else "0xA30"
    if boundary: break
    time.sleep(0.05)
print(json.dumps([project, answer.json()["projectId"], boundary]))
"""

AZURE = """
import json, jwt
from azure.identity import WorkloadIdentityCredential
token = WorkloadIdentityCredential().get_token("https://management.azure.com/.default").token
print(json.dumps(jwt.decode(token, options={"verify_signature": False})["appid"]))
"""


def run(script: str, variables: dict[str, str], emulator: Emulator, home: Path) -> Any:
    environment = {"HOME": str(home), "PATH": os.defpath, **emulator.environment(), **variables}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_boto3(emulator: Emulator, cluster: LocalCluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(cluster.mint("default", "app", "sts.amazonaws.com") + "\n")
    variables = {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(token),
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    first, second = run(BOTO3, variables, emulator, tmp_path)
    assert first.startswith("arn:aws:sts::111122223333:assumed-role/app/botocore-session-")
    assert second == "arn:aws:sts::444455556666:assumed-role/second/again"


@pytest.mark.parametrize("impersonates", [False, True])
def test_google_auth(emulator: Emulator, cluster: LocalCluster, tmp_path: Path, impersonates: bool) -> None:
    token = tmp_path / "token"
    token.write_text(cluster.mint("default", "app", GCP_AUDIENCE) + "\n")
    document = {
        "type": "external_account",
        "audience": GCP_AUDIENCE,
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": str(token)},
    }
    if impersonates:
        document["service_account_impersonation_url"] = (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{SERVICE_ACCOUNT}:generateAccessToken"
        )
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(document))
    project, read, boundary = run(GOOGLE, {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}, emulator, tmp_path)
    assert project == read == "shop-project"
    assert boundary == "0xA30"


def test_azure_identity(emulator: Emulator, cluster: LocalCluster, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(cluster.mint("default", "app", "api://AzureADTokenExchange") + "\n")
    variables = {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
    }
    assert run(AZURE, variables, emulator, tmp_path) == CLIENT


def test_msal_discovers_the_authority(emulator: Emulator, tmp_path: Path) -> None:
    """MSAL asks for the openid-configuration first, and for instance discovery where it does not know the host."""
    script = f"""
import json, msal
authority = "https://login.microsoftonline.com/{TENANT}"
application = msal.ConfidentialClientApplication(
    "{CLIENT}", authority=authority, client_credential={{"client_assertion": "x.y.z"}})
print(json.dumps(application.acquire_token_for_client(["https://management.azure.com/.default"])["error_codes"]))
"""
    assert run(script, {}, emulator, tmp_path) == [50027]


def test_the_unit_tests_issuer_is_not_asked_here() -> None:
    assert ISSUER.endswith(".example.com")
