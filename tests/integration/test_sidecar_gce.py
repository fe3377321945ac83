"""google-auth on the sidecar's metadata server: a process with variables alone, and every row of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.integration.children import run
from tests.integration.led_pod import ACCOUNT, LedPod, led_pod, pod
from tests.integration.sidecars import SidecarProcess, gcp, led
from wif.clouds.endpoint_variables import Endpoints, GcpEndpoint, endpoint_variables
from wif.clouds.gce_metadata import ROWS, Case
from wif.serve.asked_keys import MAX_KEYS

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_gce")]

OTHER = "other@wif-local.iam.gserviceaccount.com"
"""A service account that does not trust the pod."""
STORAGE = "https://www.googleapis.com/auth/devstorage.read_only"
SERVICE_ACCOUNTS = "/computeMetadata/v1/instance/service-accounts"
LOCATIONS = f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{ACCOUNT}/allowedLocations"

IMPORTS = """
import datetime, json, time
import google.auth, google.auth.compute_engine, google.auth.exceptions, google.oauth2.id_token
from google.auth.transport.requests import AuthorizedSession, Request
steps = []
"""
STEP = """
began, found = time.monotonic(), {}
try:
%s
except google.auth.exceptions.GoogleAuthError as error:
    found |= {"error": type(error).__name__, "text": str(error)}
steps.append(found | {"seconds": time.monotonic() - began})
"""
TOKEN = """
    credentials, project = google.auth.default()
    credentials.refresh(Request())
    found |= {"token": credentials.token, "project": project, "email": credentials.service_account_email}
    found |= {"left": (credentials.expiry - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)).total_seconds()}
    found |= {"universe": credentials.universe_domain, "scopes": credentials.scopes, "valid": credentials.valid}
"""
CALL = f"""
    credentials, project = google.auth.default()
    with AuthorizedSession(credentials) as session:
        found |= {{"status": session.get({LOCATIONS!r}).status_code}}
"""
SCOPED = f"""
    credentials, _ = google.auth.default(scopes=[{STORAGE!r}, "https://www.googleapis.com/auth/cloud-platform"])
    credentials.refresh(Request())
    found |= {{"token": credentials.token}}
"""
NO_SCOPE = """
    credentials, _ = google.auth.default(scopes=["storage"])
    credentials.refresh(Request())
"""
ID_TOKEN = """
    found |= {"token": google.oauth2.id_token.fetch_id_token(Request(), "https://run.example")}
"""
OTHER_ACCOUNT = f"""
    credentials = google.auth.compute_engine.Credentials(service_account_email={OTHER!r})
    credentials.refresh(Request())
    found |= {{"token": credentials.token}}
"""


class Machine:
    """A sidecar, and programs with the variables that lead to it."""

    def __init__(self, pod: LedPod, folder: Path, identities: Mapping[str, Any], **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self._pod = pod
        self.process = SidecarProcess(
            pod, folder, {"identities": identities, "gce_metadata": True, **settings}, "--access-log"
        )

    def variables(self, project: str | None = None) -> dict[str, str]:
        endpoints = Endpoints(url=self.process.url, gcp=GcpEndpoint(project=project))
        return endpoint_variables(endpoints, led(self._pod)).applied_to(led(self._pod))

    def run(self, *programs: str, project: str | None = None) -> list[dict[str, Any]]:
        """Run programs one after the other in one process: how each has ended."""
        text = IMPORTS + "".join(STEP % program for program in programs) + 'print(json.dumps({"steps": steps}))'
        steps: list[dict[str, Any]] = run(self.variables(project), text)["steps"]
        return steps

    def ask(self, path: str, **headers: str) -> tuple[int, str]:
        return self.process.ask(path, {"Metadata-Flavor": "Google", **headers})

    def statuses(self, tail: str) -> list[int]:
        """What requests for paths with this tail were answered with."""
        return [entry["status"] for entry in self.process.whole_log() if str(entry.get("path", "")).endswith(tail)]


@pytest.fixture(scope="module")
def machine(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A service account, ready."""
    machine = Machine(pod, tmp_path_factory.mktemp("machine"), {"app": gcp(pod, project="wif-local")})
    with machine.process:
        machine.process.until_ready()
        yield machine


@pytest.fixture(scope="module")
def refused(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The default is refused by the cloud, another identity is ready."""
    identities = {"refused": gcp(pod, service_account=OTHER), "app": gcp(pod)}
    machine = Machine(pod, tmp_path_factory.mktemp("refused"), identities, default={"gcp": "refused"})
    with machine.process:
        yield machine


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Future[list[dict[str, Any]]]]]:
    """A cloud that is down from the start, and a program that waits for it beside the other tests."""
    with led_pod(tmp_path_factory.mktemp("down")) as pod, ThreadPoolExecutor(1) as pool:
        pod.emulator.faults.inject(cloud="gcp", status=503)
        machine = Machine(pod, tmp_path_factory.mktemp("outage"), {"app": gcp(pod)})
        with machine.process:
            yield machine, pool.submit(machine.run, TOKEN)


@pytest.fixture(scope="module")
def crowded(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Machine, Future[Any]]]:
    """As many kinds of tokens as there are places, and a program that wants one more."""
    machine = Machine(pod, tmp_path_factory.mktemp("crowded"), {"app": gcp(pod)})
    with machine.process, ThreadPoolExecutor(1) as pool:
        for number in range(MAX_KEYS):
            path = f"{SERVICE_ACCOUNTS}/default/identity?audience=https://other-{number}.example"
            assert machine.ask(path)[0] == 200
        yield machine, pool.submit(machine.run, ID_TOKEN, TOKEN)


@pytest.fixture(autouse=True)
def _the_slow_begin_first(outage: object, crowded: object) -> None:
    """The slowest clients start with the first test."""


# -- what works ------------------------------------------------------------------------------------------------------


def test_google_auth_gets_a_token_by_variables_alone(machine: Machine) -> None:
    (found,) = machine.run(TOKEN)
    assert {name: found[name] for name in ("project", "email", "universe", "valid")} == {
        "project": "wif-local",
        "email": ACCOUNT,
        "universe": "googleapis.com",
        "valid": True,
    }
    assert found["scopes"] == ["https://www.googleapis.com/auth/cloud-platform"]
    assert 3500 < found["left"] <= 3600
    status, text = machine.ask(f"{SERVICE_ACCOUNTS}/default/token")
    assert (status, json.loads(text)["access_token"]) == (200, found["token"]), "one token for everybody"


def test_the_token_opens_googles_interfaces(machine: Machine) -> None:
    (found,) = machine.run(CALL, project="wif-local")
    assert found["status"] == 200


def test_other_scopes_are_another_token_and_an_id_token_is_for_its_audience_and_all_are_kept(machine: Machine) -> None:
    usual, scoped, again, identity, identity_again = machine.run(TOKEN, SCOPED, SCOPED, ID_TOKEN, ID_TOKEN)
    assert usual["token"] != scoped["token"] == again["token"]
    assert identity["token"] == identity_again["token"]
    claims = jwt.decode(identity["token"], options={"verify_signature": False})
    assert (claims["aud"], claims["email"]) == ("https://run.example", ACCOUNT)


def test_direct_access_works_and_has_no_id_token(pod: LedPod, tmp_path: Path) -> None:
    machine = Machine(pod, tmp_path, {"direct": gcp(pod, service_account=None)})
    with machine.process:
        found, identity = machine.run(TOKEN, ID_TOKEN)
        assert (found["email"], found["valid"], found["project"]) == ("default", True, None)
        assert identity["error"] == "RefreshError"
        assert "Google makes ID tokens for service accounts only" in identity["text"]
        assert machine.statuses("/identity") == [ROWS["no-id-token"].status]


def test_what_is_valid_is_served_whatever_else_goes_on(machine: Machine, pod: LedPod) -> None:
    before = [each["token"] for each in machine.run(TOKEN, ID_TOKEN)]
    with pod.emulator.faults.inject(cloud="gcp", status=503):
        assert [each["token"] for each in machine.run(TOKEN, ID_TOKEN)] == before


# -- every row of the table ------------------------------------------------------------------------------------------


def test_pending_is_asked_for_again_until_it_is_there(pod: LedPod, tmp_path: Path) -> None:
    with pod.emulator.faults.inject(cloud="gcp", operation="token", delay_seconds=3.2):
        machine = Machine(pod, tmp_path, {"app": gcp(pod)})
        with machine.process:
            assert machine.run(TOKEN)[0]["valid"]
            statuses = machine.statuses("/token")
            assert statuses[-1] == 200
            assert set(statuses[:-1]) == {ROWS["pending"].status}


def test_refused_is_final_and_no_other_identity_is_used(refused: Machine) -> None:
    assert refused.process.ask(f"{SERVICE_ACCOUNTS}/{ACCOUNT}/token", {"Metadata-Flavor": "Google"})[0] == 200
    (found,) = refused.run(TOKEN)
    assert found["error"] == "RefreshError"
    assert "iam.serviceAccounts.getAccessToken" in found["text"], "the cloud's own words"
    assert "token" not in found
    assert refused.statuses("/default/token") == [ROWS["refused"].status], "asked for once"


def test_what_is_not_served_is_final(machine: Machine) -> None:
    account, scope = machine.run(OTHER_ACCOUNT, NO_SCOPE)
    assert [account["error"], scope["error"]] == ["RefreshError", "RefreshError"]
    assert f"no service account {OTHER} is served here" in account["text"]
    assert machine.statuses(f"/{OTHER}/") == [ROWS["unknown-account"].status]
    assert "storage is no scope of Google" in scope["text"]
    assert scope["seconds"] < 2


@pytest.mark.parametrize("path", ["/", f"{SERVICE_ACCOUNTS}/default/token", f"{SERVICE_ACCOUNTS}/default/email"])
@pytest.mark.parametrize("headers", [{}, {"Metadata-Flavor": "google"}, {"Metadata": "true"}])
def test_without_the_header_there_is_nothing(machine: Machine, path: str, headers: dict[str, str]) -> None:
    status, text = machine.process.ask(path, headers)
    assert (status, text) == (ROWS["no-header"].status, "send the header Metadata-Flavor: Google\n")


@pytest.mark.parametrize(
    ("headers", "host"),
    [({"X-Forwarded-For": "10.0.0.1"}, None), ({"Via": "1.1 proxy"}, None), ({}, "evil.example"), ({}, "10.0.0.7:80")],
)
def test_what_was_led_here_gets_nothing(machine: Machine, headers: dict[str, str], host: str | None) -> None:
    status, text = machine.process.ask(
        f"{SERVICE_ACCOUNTS}/default/token", {"Metadata-Flavor": "Google", **headers}, host=host
    )
    assert status == 403
    assert "ya29" not in text


@pytest.mark.parametrize("path", ["/", "/computeMetadata/v1/instance", f"{SERVICE_ACCOUNTS}/x/", "/computeMetadata/v2"])
def test_every_answer_says_whose_it_is(machine: Machine, path: str) -> None:
    machine.ask(path)
    assert machine.process.answered["metadata-flavor"] == "Google"


def test_an_outage_is_asked_for_five_times_and_then_told(outage: tuple[Machine, Future[list[dict[str, Any]]]]) -> None:
    machine, running = outage
    (found,) = running.result(60)
    assert found["error"] == "RefreshError"
    assert "503" in found["text"]
    assert machine.statuses("/default/token") == [ROWS["outage"].status] * 5
    assert found["seconds"] < 40


def test_one_kind_too_many_is_asked_for_again_and_takes_nothing_from_the_others(
    crowded: tuple[Machine, Future[list[dict[str, Any]]]],
) -> None:
    machine, running = crowded
    one_more, default = running.result(60)
    assert one_more["error"] in ("DefaultCredentialsError", "TransportError", "RefreshError")
    assert machine.statuses("/default/identity")[MAX_KEYS:] == [ROWS["too-many"].status] * 5
    assert default["token"].startswith("ya29.")
    status, _ = machine.ask(f"{SERVICE_ACCOUNTS}/default/identity?audience=https://other-7.example")
    assert status == 200


def test_every_row_was_run_or_is_the_state_of_one() -> None:
    rows: set[Case] = {
        "ready",
        "pending",
        "outage",
        "refused",
        "unknown-account",
        "no-id-token",
        "no-header",
        "invalid",
        "too-many",
    }
    assert set(ROWS) == rows
