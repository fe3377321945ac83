"""azure-identity on the sidecar's App Service endpoint and IMDS: variables alone, and every row of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.integration.children import run
from tests.integration.led_pod import CLIENT, LedPod, led_pod, pod
from tests.integration.sidecars import IDENTITY_HEADER, SidecarProcess, azure, led
from wif.clouds.azure_managed_identity import APP_SERVICE_PATH, IMDS_PATH, ROWS, Case, Interface
from wif.clouds.endpoint_variables import AzureEndpoint, Endpoints, endpoint_variables
from wif.serve.asked_keys import MAX_KEYS

__all__ = ["pod"]  # fixtures

pytestmark = [pytest.mark.integration, pytest.mark.one_python, pytest.mark.xdist_group("sidecar_azure")]

OTHER = "77777777-7777-8888-9999-000000000000"
"""An application that the directory does not know."""
APP: Interface = "app-service"
IMDS: Interface = "imds"
BOTH: tuple[Interface, ...] = (APP, IMDS)
PATHS = {APP: APP_SERVICE_PATH, IMDS: IMDS_PATH}
HEADERS = {APP: {"X-IDENTITY-HEADER": IDENTITY_HEADER}, IMDS: {"Metadata": "true"}}
VERSIONS = {APP: "2019-08-01", IMDS: "2018-02-01"}
RETRIES = {APP: 3, IMDS: 2}
"""How often azure-identity asks again: as it does by itself, and as a program may have it, for IMDS' 5 take 24 s."""
ARM = "https://management.azure.com"

IMPORTS = """
import asyncio, json, time
from azure.core.exceptions import AzureError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential, aio
steps = []
"""
STEP = """
began, found = time.monotonic(), {}
try:
%s
except AzureError as error:
    found |= {"error": type(error).__name__, "text": str(error)}
steps.append(found | {"seconds": time.monotonic() - began})
"""
DEFAULT = f"""
    token = DefaultAzureCredential().get_token({ARM!r} + "/.default")
    found |= {{"token": token.token, "left": token.expires_on - time.time()}}
"""
MANAGED = f"""
    token = ManagedIdentityCredential(%s).get_token({ARM!r} + "/.default")
    found |= {{"token": token.token, "left": token.expires_on - time.time()}}
"""
OUTAGE = {APP: DEFAULT, IMDS: MANAGED % f"retry_total={RETRIES[IMDS]}, retry_status={RETRIES[IMDS]}"}
ASYNC = """
    async def ask():
        async with aio.DefaultAzureCredential() as credential:
            return (await credential.get_token("https://vault.azure.net//.default")).token
    found |= {"token": asyncio.run(ask())}
"""
CALL = f"""
    from azure.core import PipelineClient
    from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
    from azure.core.rest import HttpRequest
    policy = BearerTokenCredentialPolicy(DefaultAzureCredential(), {ARM!r} + "/.default")
    with PipelineClient({ARM!r}, policies=[policy]) as client:
        answer = client.send_request(HttpRequest("GET", {ARM!r} + "/subscriptions?api-version=2022-12-01"))
        found |= {{"status": answer.status_code}}
"""


class Machine:
    """A sidecar, and programs with the variables that lead to it."""

    def __init__(self, pod: LedPod, folder: Path, identities: Mapping[str, Any], **settings: Any) -> None:
        folder.mkdir(exist_ok=True)
        self._pod = pod
        self._seen: dict[Interface, int] = {}
        self.process = SidecarProcess(
            pod,
            folder,
            {"identities": identities, "imds": True, **settings},
            "--access-log",
            environment={"IDENTITY_HEADER": IDENTITY_HEADER},
        )

    def variables(self, interface: Interface, **azure: Any) -> dict[str, str]:
        """The variables for one of the two interfaces; both together are App Service's to every SDK."""
        header = IDENTITY_HEADER if interface == APP else None
        endpoint = AzureEndpoint(**{"identity_header": header, "imds": interface == IMDS, **azure})
        made = endpoint_variables(Endpoints(url=self.process.url, azure=endpoint), led(self._pod))
        return {**made.applied_to(led(self._pod)), "AZURE_TOKEN_CREDENTIALS": "prod"}

    def run(self, interface: Interface, *programs: str, **changes: str | None) -> list[dict[str, Any]]:
        """Run programs one after the other in one process: how each has ended."""
        text = IMPORTS + "".join(STEP % program for program in programs) + 'print(json.dumps({"steps": steps}))'
        steps: list[dict[str, Any]] = run(self.variables(interface), text, **changes)["steps"]
        return steps

    def ask(self, interface: Interface, query: str, **headers: str) -> tuple[int, dict[str, Any]]:
        path = f"{PATHS[interface]}?api-version={VERSIONS[interface]}&{query}"
        status, text = self.process.ask(path, {**HEADERS[interface], **headers})
        document: dict[str, Any] = json.loads(text)
        return status, document

    def statuses(self, interface: Interface) -> list[int]:
        """What this interface's requests were answered with, since the last call."""
        found = [entry["status"] for entry in self.process.whole_log() if entry.get("path") == PATHS[interface]]
        begin, self._seen[interface] = self._seen.get(interface, 0), len(found)
        return found[begin:]


def claims(token: str) -> dict[str, Any]:
    found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return found


@pytest.fixture(scope="module")
def machine(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One application, ready."""
    machine = Machine(pod, tmp_path_factory.mktemp("machine"), {"app": azure(pod)})
    with machine.process:
        machine.process.until_ready()
        yield machine


@pytest.fixture(scope="module")
def refused(pod: LedPod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The default is refused by the cloud, another identity is ready."""
    identities = {"refused": azure(pod, client_id=OTHER), "app": azure(pod)}
    machine = Machine(pod, tmp_path_factory.mktemp("refused"), identities, default={"azure": "refused"})
    with machine.process:
        yield machine


Outage = tuple[Machine, Mapping[Interface, Future[list[dict[str, Any]]]]]


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """A cloud that is down from the start, and programs that wait for it beside the other tests."""
    with led_pod(tmp_path_factory.mktemp("down")) as pod, ThreadPoolExecutor(2) as pool:
        pod.emulator.faults.inject(cloud="azure", status=503)
        machine = Machine(pod, tmp_path_factory.mktemp("outage"), {"app": azure(pod)})
        with machine.process:
            yield machine, {interface: pool.submit(machine.run, interface, OUTAGE[interface]) for interface in BOTH}


@pytest.fixture(autouse=True)
def _outage_begins_first(outage: Outage) -> None:
    """The slowest clients start with the first test."""


@pytest.fixture(scope="module")
def log_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a developer's own log-in: an ``az`` that hands out somebody else's token."""
    folder = tmp_path_factory.mktemp("az")
    program = folder / "az"
    answer = {"accessToken": "somebody-elses", "expiresOn": "2099-01-01 00:00:00.000000", "expires_on": 4070908800}
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    program.chmod(0o755)
    return folder


# -- what works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", BOTH)
def test_azure_identity_gets_a_token_by_variables_alone(machine: Machine, interface: Interface) -> None:
    found = machine.run(interface, DEFAULT, MANAGED % "")
    for each in found:
        assert 3500 < each["left"] <= 3600, each
        assert claims(each["token"])["appid"] == CLIENT
    assert found[0]["token"] == found[1]["token"] == machine.ask(interface, f"resource={ARM}")[1]["access_token"]


@pytest.mark.parametrize("interface", BOTH)
def test_the_token_opens_azures_interfaces_also_for_the_asynchronous_client_and_a_resource_with_a_slash(
    machine: Machine, interface: Interface
) -> None:
    called, vault = machine.run(interface, CALL, ASYNC)
    assert called.get("status") == 200, called
    assert claims(vault["token"])["aud"] == "https://vault.azure.net/"


@pytest.mark.parametrize("interface", BOTH)
def test_the_client_id_chooses_the_identity(refused: Machine, interface: Interface) -> None:
    chosen = refused.run(interface, MANAGED % f"client_id={CLIENT!r}", DEFAULT, AZURE_CLIENT_ID=CLIENT)
    assert [claims(each["token"])["appid"] for each in chosen] == [CLIENT, CLIENT]


@pytest.mark.parametrize("interface", BOTH)
def test_the_answer_is_the_interfaces(machine: Machine, interface: Interface) -> None:
    status, document = machine.ask(interface, f"resource={ARM}&client_id={CLIENT.upper()}")
    times = {APP: ["expires_on"], IMDS: ["expires_in", "expires_on", "ext_expires_in", "not_before"]}[interface]
    assert status == 200
    assert sorted(document) == sorted(["access_token", "client_id", "resource", "token_type", *times])
    assert all(document[name].isdecimal() for name in times), "numbers are text"
    assert (document["client_id"], document["resource"], document["token_type"]) == (CLIENT, ARM, "Bearer")


def test_nodes_slash_javas_probe_and_what_is_no_token(machine: Machine) -> None:
    query = f"?api-version=2018-02-01&resource={ARM}"
    assert machine.process.ask(f"{IMDS_PATH}/{query}", {"Metadata": "true"})[0] == 200
    assert machine.process.ask(f"{IMDS_PATH}{query}")[0] == ROWS["no-header"].status == 400
    assert machine.process.ask("/metadata/instance?api-version=2021-02-01", {"Metadata": "true"})[0] == 404


@pytest.mark.parametrize("interface", BOTH)
def test_what_is_valid_is_served_whatever_else_goes_on(machine: Machine, pod: LedPod, interface: Interface) -> None:
    before = machine.ask(interface, f"resource={ARM}")[1]["access_token"]
    with pod.emulator.faults.inject(cloud="azure", status=503):
        assert machine.run(interface, DEFAULT)[0]["token"] == before


# -- every row of the table ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [{"delay_seconds": 2.0}, {"status": 503, "times": 3}], ids=["slow", "outage-that-ends"]
)
def test_pending_waits_for_the_first_exchange(pod: LedPod, tmp_path: Path, fault: dict[str, Any]) -> None:
    with pod.emulator.faults.inject(cloud="azure", **fault), ThreadPoolExecutor(2) as pool:
        machine = Machine(pod, tmp_path, {"app": azure(pod)})
        with machine.process:
            found = list(pool.map(lambda interface: machine.run(interface, DEFAULT), BOTH))
            assert [claims(each["token"])["appid"] for (each,) in found] == [CLIENT, CLIENT]
            assert [machine.statuses(interface) for interface in BOTH] == [[200], [200]]


@pytest.mark.parametrize("interface", BOTH)
def test_refused_is_final_and_no_other_identity_is_used(refused: Machine, interface: Interface, log_in: Path) -> None:
    refused.statuses(interface)
    found = refused.run(interface, DEFAULT, MANAGED % "", PATH=f"{log_in}:/bin:/usr/bin")
    assert [each["error"] for each in found] == ["ClientAuthenticationError", "CredentialUnavailableError"]
    assert all("AADSTS700016" in each["text"] for each in found), "the cloud's own words"
    assert all(each["seconds"] < 2 for each in found)
    assert refused.statuses(interface) == [ROWS["refused"].status] * 2, "each asked once"


@pytest.mark.parametrize("interface", BOTH)
def test_without_its_variable_a_chain_goes_on_to_a_developers_log_in(
    refused: Machine, interface: Interface, log_in: Path
) -> None:
    """What azure-identity does with every error of a managed identity; so the variable is set beside the others."""
    found = refused.run(interface, DEFAULT, PATH=f"{log_in}:/bin:/usr/bin", AZURE_TOKEN_CREDENTIALS=None)
    assert found[0]["token"] == "somebody-elses"


@pytest.mark.parametrize("interface", BOTH)
def test_an_identity_that_is_not_served_is_final(machine: Machine, interface: Interface) -> None:
    machine.statuses(interface)
    asked = {
        "client_id='88888888-7777-8888-9999-000000000000'": "no identity with this client_id is served here",
        "identity_config={'object_id': 'x'}": "object_id names no identity here: send client_id",
        "identity_config={'resource_id': 'x'}": "_res_id names no identity here: send client_id",
    }
    found = machine.run(interface, *(MANAGED % arguments for arguments in asked))
    assert [each["error"] for each in found] == ["CredentialUnavailableError"] * 3
    assert all(words in each["text"] for words, each in zip(asked.values(), found, strict=True)), found
    assert machine.statuses(interface) == [ROWS["unknown-identity"].status] * 3


def test_a_wrong_secret_is_final(machine: Machine) -> None:
    machine.statuses(APP)
    (found,) = machine.run(APP, DEFAULT, IDENTITY_HEADER="another")
    assert found["error"] == "ClientAuthenticationError"
    assert "X-IDENTITY-HEADER is not what the sidecar's variable IDENTITY_HEADER says" in found["text"]
    assert machine.statuses(APP) == [ROWS["wrong-secret"].status]
    assert "another" not in json.dumps(machine.process.log)


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize("headers", [{}, {"secret": IDENTITY_HEADER}, {"X-IDENTITY-HEADER": ""}])
def test_without_the_header_there_is_nothing(machine: Machine, interface: Interface, headers: dict[str, str]) -> None:
    path = f"{PATHS[interface]}?api-version={VERSIONS[interface]}&resource={ARM}"
    assert machine.process.ask(path, headers)[0] == ROWS["wrong-secret" if interface == APP else "no-header"].status


@pytest.mark.parametrize("interface", BOTH)
@pytest.mark.parametrize(
    ("headers", "host"), [({"X-Forwarded-For": "10.0.0.1"}, None), ({"Via": "1.1 proxy"}, None), ({}, "evil.example")]
)
def test_what_was_led_here_gets_nothing(
    machine: Machine, interface: Interface, headers: dict[str, str], host: str | None
) -> None:
    path = f"{PATHS[interface]}?api-version={VERSIONS[interface]}&resource={ARM}"
    status, text = machine.process.ask(path, {**HEADERS[interface], **headers}, host=host)
    assert status == 403
    assert "eyJ" not in text


@pytest.mark.parametrize("interface", BOTH)
def test_what_is_not_understood_is_final(machine: Machine, interface: Interface) -> None:
    status, document = machine.ask(interface, "resource=")
    assert status == ROWS["invalid"].status
    assert "resource must name what the token is for" in json.dumps(document)


@pytest.mark.parametrize("interface", BOTH)
def test_an_outage_is_asked_for_again_and_then_told(outage: Outage, interface: Interface) -> None:
    machine, running = outage
    (found,) = running[interface].result(60)
    assert found["error"] == {APP: "ClientAuthenticationError", IMDS: "CredentialUnavailableError"}[interface]
    assert "503" in found["text"]
    assert machine.statuses(interface) == [ROWS["outage"].status] * (1 + RETRIES[interface])
    assert found["seconds"] < 30


@pytest.mark.parametrize("interface", BOTH)
def test_one_resource_too_many_is_asked_for_again_and_takes_nothing_from_the_others(
    pod: LedPod, tmp_path: Path, interface: Interface
) -> None:
    """Resources that the directory does not know take places as well."""
    machine = Machine(pod, tmp_path, {"app": azure(pod)})
    with machine.process:
        for number in range(MAX_KEYS):
            assert machine.ask(interface, f"resource=api://other-{number}")[0] == ROWS["refused"].status
        assert machine.statuses(interface) == [ROWS["refused"].status] * MAX_KEYS
        vault = (MANAGED % "retry_total=2, retry_status=2, retry_backoff_factor=0.1").replace(
            ARM, "https://vault.azure.net"
        )
        one_more, _ = machine.run(interface, vault, DEFAULT)
        assert "429" in one_more["text"] or "more than 32 resources" in one_more["text"]
        assert machine.statuses(interface) == [ROWS["too-many"].status] * 3 + [200]


def test_every_row_has_a_test_above() -> None:
    rows: set[Case] = {
        "ready",
        "pending",
        "outage",
        "refused",
        "unknown-identity",
        "wrong-secret",
        "no-header",
        "invalid",
        "too-many",
    }
    assert set(ROWS) == rows
