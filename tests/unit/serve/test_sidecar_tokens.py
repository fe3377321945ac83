"""Google's and Azure's local endpoints over several identities, in front of prepared clouds."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.exchange.canned import NOW, Answer, Canned, entra_error, entra_token, form, google_token, subject_token
from wif.clouds import azure_managed_identity, gce_metadata
from wif.clouds.endpoint_answers import Answer as Answered
from wif.config.sidecar import SidecarSettings, load_sidecar
from wif.core.freshness import Limits
from wif.exchange.clocks import Clocks
from wif.serve.asked_keys import MAX_KEYS
from wif.serve.sidecar import Endpoint
from wif.serve.sidecar_azure import AppService, Imds
from wif.serve.sidecar_gce import GceMetadata
from wif.serve.sidecar_identities import Identities

POOL = "projects/42/locations/global/workloadIdentityPools/p/providers/k"
APP, JOB = "app@shop.iam.gserviceaccount.com", "job@shop.iam.gserviceaccount.com"
TENANT = "99999999-2222-3333-4444-555555555555"
FIRST, SECOND = "11111111-2222-3333-4444-555555555555", "22222222-2222-3333-4444-AAAAAAAAAAAA"
GCP: Mapping[str, Any] = {"cloud": "gcp", "provider": POOL, "project": "shop"}
AZURE: Mapping[str, Any] = {"cloud": "azure", "tenant_id": TENANT}
TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
VAULT = "resource=https://vault.azure.net"
STANDING = Clocks(steady=lambda: 0.0, wall=lambda: NOW, monotonic=time.monotonic)


class Clouds:
    """Prepared clouds, and identities in front of them."""

    def __init__(self, folder: Path, answers: Mapping[str, Sequence[Answer]]) -> None:
        self.sender = Canned(answers)
        self.token_file = folder / "token"
        self.token_file.write_text(subject_token())

    def settings(self, identities: Mapping[str, Any], default: Mapping[str, str] | None = None) -> SidecarSettings:
        return load_sidecar(
            {
                "identities": identities,
                "default": default or {},
                "token_file": str(self.token_file),
                "gce_metadata": any(each["cloud"] == "gcp" for each in identities.values()),
            }
        )

    def identities(
        self, identities: Mapping[str, Any], default: Mapping[str, str] | None = None, clocks: Clocks = STANDING
    ) -> Identities:
        return Identities(
            self.settings(identities, default),
            environ={},
            limits=Limits(attempts=1),
            clocks=clocks,
            transport=lambda _: self.sender,
        )


def get(endpoint: Endpoint, path: str, query: str = "", **headers: str) -> Answered:
    scope = {
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    return asyncio.run(endpoint.handle(scope))


def google(endpoint: Endpoint, path: str = TOKEN, query: str = "") -> Answered:
    return get(endpoint, path, query, metadata_flavor="Google")


def entra(endpoint: Endpoint, query: str = VAULT) -> Answered:
    if isinstance(endpoint, Imds):
        return get(endpoint, azure_managed_identity.IMDS_PATH, f"api-version=2018-02-01&{query}", metadata="true")
    return get(
        endpoint, azure_managed_identity.APP_SERVICE_PATH, f"api-version=2019-08-01&{query}", x_identity_header="s"
    )


# -- Google ----------------------------------------------------------------------------------------------------------


def test_googles_token_is_the_accounts_and_is_exchanged_once(tmp_path: Path) -> None:
    clouds = Clouds(tmp_path, {"token": [google_token()]})
    endpoint = GceMetadata(clouds.identities({"direct": GCP}))
    for _ in range(3):
        answer = google(endpoint)
        assert (answer.status, json.loads(answer.body)["access_token"]) == (200, "ya29.federated-1")
    assert len(clouds.sender.requests) == 1


def test_the_machine_is_the_default_identitys(tmp_path: Path) -> None:
    clouds = Clouds(tmp_path, {})
    identities = clouds.identities(
        {
            "a": {**GCP, "service_account": APP, "project": "a-project"},
            "b": {**GCP, "service_account": JOB, "project": "b-project"},
        },
        {"gcp": "b"},
    )
    endpoint = GceMetadata(identities)
    assert google(endpoint, "/computeMetadata/v1/project/project-id").body == b"b-project"
    assert google(endpoint, "/computeMetadata/v1/project/numeric-project-id").body == b"42"
    assert google(endpoint, "/computeMetadata/v1/instance/service-accounts/default/email").body == JOB.encode()
    assert google(endpoint, f"/computeMetadata/v1/instance/service-accounts/{APP}/aliases").body == b""
    identities.replace(clouds.settings({"a": {**GCP, "service_account": APP, "project": "a-project"}}))
    assert google(endpoint, "/computeMetadata/v1/project/project-id").body == b"a-project"
    assert google(endpoint, f"/computeMetadata/v1/instance/service-accounts/{JOB}/token").status == 404


def test_without_an_identity_of_googles_there_is_a_machine_without_accounts(tmp_path: Path) -> None:
    endpoint = GceMetadata(Clouds(tmp_path, {}).identities({"azure": {**AZURE, "client_id": FIRST}}))
    assert google(endpoint, "/computeMetadata/v1/instance/service-accounts/").body == b""
    assert google(endpoint).status == 404


def test_scopes_without_end_are_bounded_and_the_default_is_served_all_the_same(tmp_path: Path) -> None:
    clouds = Clouds(tmp_path, {"token": [google_token()]})
    endpoint = GceMetadata(clouds.identities({"direct": GCP}))
    statuses = [
        google(endpoint, query=f"scopes=https://www.googleapis.com/auth/{number}").status for number in range(40)
    ]
    assert statuses == [200] * MAX_KEYS + [gce_metadata.ROWS["too-many"].status] * (40 - MAX_KEYS)
    assert google(endpoint).status == 200
    assert len(clouds.sender.requests) == MAX_KEYS + 1


# -- Azure -----------------------------------------------------------------------------------------------------------


def endpoints(identities: Identities) -> tuple[Endpoint, Endpoint]:
    return AppService(identities, secret="s"), Imds(identities)


def two(clouds: Clouds, default: Mapping[str, str] | None = None) -> Identities:
    return clouds.identities(
        {"first": {**AZURE, "client_id": FIRST}, "second": {**AZURE, "client_id": SECOND}}, default
    )


def asked_for(clouds: Clouds) -> list[str]:
    """The client ids that the cloud was asked for."""
    return [form(request)["client_id"] for request in clouds.sender.requests]


@pytest.mark.parametrize("which", [0, 1])
def test_the_client_id_decides_whose_token_it_is(tmp_path: Path, which: int) -> None:
    clouds = Clouds(tmp_path, {"token": [entra_token()]})
    endpoint = endpoints(two(clouds, {"azure": "first"}))[which]
    answer = entra(endpoint, f"{VAULT}&client_id={SECOND.lower()}")
    assert answer.status == 200
    assert json.loads(answer.body)["client_id"] == SECOND
    assert asked_for(clouds) == [SECOND]
    assert json.loads(entra(endpoint).body)["client_id"] == FIRST
    assert asked_for(clouds) == [SECOND, FIRST]


@pytest.mark.parametrize("which", [0, 1])
def test_whom_nobody_knows_gets_no_other_identity(tmp_path: Path, which: int) -> None:
    clouds = Clouds(tmp_path, {})
    endpoint = endpoints(two(clouds, {"azure": "first"}))[which]
    answer = entra(endpoint, f"{VAULT}&client_id=33333333-2222-3333-4444-555555555555")
    assert answer.status == azure_managed_identity.ROWS["unknown-identity"].status
    assert "no identity with this client_id is served here" in answer.body.decode()
    assert clouds.sender.requests == []


@pytest.mark.parametrize("which", [0, 1])
def test_without_a_default_nobody_is_meant(tmp_path: Path, which: int) -> None:
    answer = entra(endpoints(Clouds(tmp_path, {}).identities({"direct": GCP}))[which])
    assert answer.status == azure_managed_identity.ROWS["unknown-identity"].status
    assert "no identity is the default here: send client_id" in answer.body.decode()


@pytest.mark.parametrize("which", [0, 1])
def test_a_refusal_says_what_the_cloud_said_and_is_not_asked_for_again(tmp_path: Path, which: int) -> None:
    clouds = Clouds(tmp_path, {"token": [entra_error(700016)]})
    endpoint = endpoints(clouds.identities({"first": {**AZURE, "client_id": FIRST}}))[which]
    for _ in range(3):
        answer = entra(endpoint)
        assert answer.status == azure_managed_identity.ROWS["refused"].status
        assert "AADSTS700016" in answer.body.decode()
    assert len(clouds.sender.requests) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_resources_without_end_are_bounded_and_what_is_kept_is_served_all_the_same(tmp_path: Path, which: int) -> None:
    clouds = Clouds(tmp_path, {"token": [entra_token()]})
    endpoint = endpoints(clouds.identities({"first": {**AZURE, "client_id": FIRST}}))[which]
    statuses = [entra(endpoint, f"resource=api://{number}").status for number in range(40)]
    assert statuses == [200] * MAX_KEYS + [azure_managed_identity.ROWS["too-many"].status] * (40 - MAX_KEYS)
    assert entra(endpoint, "resource=https://management.azure.com").status == 200


# -- all of them -----------------------------------------------------------------------------------------------------


def test_where_the_clock_was_half_an_hour_fast_when_the_token_came_nobody_is_told_more_than_is_left(
    tmp_path: Path,
) -> None:
    steady, wall = [0.0], [NOW]
    clouds = Clouds(tmp_path, {"token": [google_token(life_seconds=3600), entra_token(life_seconds=3600)]})
    identities = clouds.identities(
        {"google": GCP, "entra": {**AZURE, "client_id": FIRST}},
        clocks=Clocks(steady=lambda: steady[0], wall=lambda: wall[0], monotonic=time.monotonic),
    )
    metadata, (app_service, imds) = GceMetadata(identities), endpoints(identities)
    google(metadata)
    entra(app_service)  # imds is asked for the first time when the clock is right
    steady[0], wall[0] = 2700.0, NOW - 1800.0 + 2700.0
    assert json.loads(google(metadata).body)["expires_in"] == 900
    assert json.loads(entra(imds).body)["expires_in"] == "900"
    assert {json.loads(entra(each).body)["expires_on"] for each in (app_service, imds)} == {str(int(wall[0]) + 900)}
    assert len(clouds.sender.requests) == 2
