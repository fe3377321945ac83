"""The standard chains with the real SDKs: files, programs, token exchanges, a machine's metadata, all on loopback."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.integration.children import run
from wif.edges.stores.chains import aws_chain, azure_chain, google_chain
from wif.emulator.pod import LocalPod
from wif.errors import ConfigurationError, WifError

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

SECRET = "s3cr3t-value"
SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)

AS_PUBLISHER = """
import json
from wif.edges.stores.chains import aws_chain, azure_chain, google_chain
chains = aws_chain("s3://b"), google_chain("gs://b", ["https://www.googleapis.com/auth/devstorage.read_write"])
found = [chain(False) for chain in (*chains, azure_chain("az://account1/c", "account1"))]
print(json.dumps([[one.origin, sorted(one.secrets), one.from_instance, one.expires_at is not None] for one in found]))
"""


AS_MACHINE = f"""
import json
from wif.edges.stores.chains import google_chain
found = google_chain("gs://b", {SCOPES!r})(False)
print(json.dumps({{"origin": found.origin, "from_instance": found.from_instance}}))
"""

AS_STRANGER = """
import json, os
from wif.edges.stores.chains import azure_chain
from wif.errors import WifError
try:
    azure_chain("az://account1/c", "account1")(False)
except WifError as error:
    print(json.dumps({"code": error.code, "message": error.message}))
"""


class Answers:
    """A server that answers every request with one status and one JSON object."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = {}
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                outer.requests.append(self.path)
                body = outer.body if isinstance(outer.body, str) else json.dumps(outer.body)
                self.send_response(outer.status)
                for name, value in {"Content-Type": "application/json", **outer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET  # noqa: N815 - as the base class wants it

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def answers() -> Iterator[Answers]:
    server = Answers()
    yield server
    server.close()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment with no credentials, where every chain ends before the metadata address."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "GCE_", "CLOUDSDK_", "IDENTITY_", "MSI_")):
            monkeypatch.delenv(name)
    values = {
        "HOME": str(tmp_path),
        "PATH": str(tmp_path),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "NO_GCE_CHECK": "true",
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def refused(act: Callable[[], object], code: str) -> WifError:
    with pytest.raises(WifError) as caught:
        act()
    assert caught.value.code == code
    assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
    return caught.value


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (lambda: aws_chain("s3://b", {})(False), "AWS_ACCESS_KEY_ID"),
        (lambda: google_chain("gs://b", SCOPES)(False), "GOOGLE_APPLICATION_CREDENTIALS"),
        (lambda: azure_chain("az://a/c", "a", {})(False), "azure-identity"),
    ],
)
def test_where_there_is_nothing_the_places_looked_at_are_named(chain: Callable[[], object], words: str) -> None:
    assert words in refused(chain, "config-missing").message


class TestAws:
    def test_a_profile(self, alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "credentials").write_text(
            f"[publisher]\naws_access_key_id = AKID\naws_secret_access_key = {SECRET}\n"
        )
        alone.setenv("AWS_PROFILE", "publisher")
        identity = aws_chain("s3://b", os.environ)(False)
        assert identity.origin == "the standard chain of AWS (shared-credentials-file)"
        assert identity.secrets == {"access_key_id": "AKID", "secret_access_key": SECRET}
        assert not identity.from_instance

    def test_a_profile_is_read_anew_after_a_refusal(self, alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "credentials"
        path.write_text("[default]\naws_access_key_id = OLD\naws_secret_access_key = x\n")
        chain = aws_chain("s3://b", {})
        assert chain(False).secrets["access_key_id"] == "OLD"
        path.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = x\n")
        assert chain(False).secrets["access_key_id"] == "OLD"
        assert chain(True).secrets["access_key_id"] == "NEW"

    def test_a_profile_that_is_not_there(self, alone: pytest.MonkeyPatch) -> None:
        alone.setenv("AWS_PROFILE", "nobody")
        assert "ProfileNotFound" in refused(lambda: aws_chain("s3://b", {})(False), "credentials-rejected").message

    def test_a_program_that_fails_is_not_quoted(self, alone: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "config").write_text(f"[default]\ncredential_process = /bin/sh -c 'echo {SECRET} >&2; exit 1'\n")
        refused(lambda: aws_chain("s3://b", {})(False), "credentials-rejected")

    def test_a_container_is_named_as_the_machine(self, alone: pytest.MonkeyPatch, answers: Answers) -> None:
        answers.body = {
            "AccessKeyId": "AKID",
            "SecretAccessKey": SECRET,
            "Token": "t",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        alone.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://{answers.address}/keys")
        identity = aws_chain("s3://b", {})(False)
        assert identity.from_instance
        assert identity.secrets["token"] == "t"


class TestGoogle:
    def service_account(self, folder: Path, token_uri: str) -> str:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = folder / "key.json"
        document = {
            "type": "service_account",
            "project_id": "p",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": "app@p.iam.gserviceaccount.com",
            "token_uri": token_uri,
        }
        path.write_text(json.dumps(document))
        return str(path)

    def test_a_service_accounts_file(self, alone: pytest.MonkeyPatch, tmp_path: Path, answers: Answers) -> None:
        answers.body = {"access_token": SECRET, "expires_in": 3600, "token_type": "Bearer"}
        path = self.service_account(tmp_path, f"http://{answers.address}/token")
        alone.setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
        chain = google_chain("gs://b", SCOPES)
        identity = chain(False)
        assert identity.origin == "the standard chain of GCP (oauth2.service_account)"
        assert identity.secrets == {"token": SECRET}
        assert identity.expires_at is not None
        assert identity.expires_at.tzinfo is not None
        chain(False)
        assert len(answers.requests) == 1
        chain(True)
        assert len(answers.requests) == 2

    def test_a_refusal_is_told_without_its_text(
        self, alone: pytest.MonkeyPatch, tmp_path: Path, answers: Answers
    ) -> None:
        answers.status, answers.body = 400, {"error": "invalid_grant", "error_description": SECRET}
        path = self.service_account(tmp_path, f"http://{answers.address}/token")
        alone.setenv("GOOGLE_APPLICATION_CREDENTIALS", path)
        error = refused(lambda: google_chain("gs://b", SCOPES)(False), "credentials-rejected")
        assert isinstance(error, ConfigurationError)
        assert "RefreshError" in error.message

    def test_the_metadata_server_is_named_as_the_machine(self, answers: Answers, tmp_path: Path) -> None:
        """In a process of its own: google-auth reads the address when it is imported."""
        answers.headers = {"Metadata-Flavor": "Google"}
        answers.body = {
            "access_token": SECRET,
            "expires_in": 3600,
            "email": "vm@p.iam.gserviceaccount.com",
            "scopes": list(SCOPES),
        }
        names = ("GCE_METADATA_HOST", "GCE_METADATA_IP", "GCE_METADATA_ROOT")
        found = run({"HOME": str(tmp_path), **dict.fromkeys(names, answers.address)}, AS_MACHINE)
        assert found["from_instance"]
        assert "compute_engine" in found["origin"]


class TestAzure:
    def test_entras_refusal_is_told_by_its_code(self, wif_pod: LocalPod) -> None:
        found = run(wif_pod.environment, AS_STRANGER, AZURE_CLIENT_ID="00000000-0000-4000-8000-000000000000")
        assert found["code"] == "credentials-rejected"
        assert "AADSTS700016" in found["message"]


def test_a_pod_has_all_three_by_its_webhooks_variables(wif_pod: LocalPod) -> None:
    """Without a federated identity handed in, the SDKs exchange the pod's token by themselves."""
    found: Any = run(wif_pod.environment, AS_PUBLISHER)
    assert found == [
        [
            "the standard chain of AWS (assume-role-with-web-identity)",
            ["access_key_id", "secret_access_key", "token"],
            False,
            False,
        ],
        ["the standard chain of GCP (auth.identity_pool)", ["token"], False, True],
        ["the standard chain of Azure (WorkloadIdentityCredential)", ["token"], False, True],
    ]
