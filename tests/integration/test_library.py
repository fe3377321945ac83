"""The library in a prepared pod: from the webhooks' variables to credentials, for threads, tasks and all clouds."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

import wif
from wif.emulator import Emulator, Faults, LocalCluster
from wif.emulator.pod import LocalPod

pytestmark = pytest.mark.integration
ARM = "https://management.azure.com/.default"


def test_a_mapping_of_variables_is_enough_proxies_and_authorities_included(wif_pod: LocalPod) -> None:
    assert not any("localhost" in os.environ.get(name, "") for name in ("HTTPS_PROXY", "https_proxy"))
    env = wif.from_env(wif_pod.environment)
    assert env.aws is not None
    assert env.gcp is not None
    assert env.azure is not None
    assert env.aws.caller_identity().arn.startswith("arn:aws:sts::111122223333:assumed-role/app/")
    assert env.gcp.credentials().local_sts
    assert env.azure.credentials(scope=ARM).local_sts


@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_64_threads_and_64_tasks_on_a_cold_credential_make_one_exchange(cloud: str, wif_pod: LocalPod) -> None:
    settings = {"scope": ARM} if cloud == "azure" else {}
    exchanger = getattr(wif.from_env(wif_pod.environment), cloud)
    with ThreadPoolExecutor(64) as pool:
        results = list(pool.map(lambda _: exchanger.credentials(**settings), range(64)))
    assert len(set(map(id, results))) == 1
    exchanger = getattr(wif.from_env(wif_pod.environment), cloud)

    async def main() -> list[object]:
        return list(await asyncio.gather(*(exchanger.acredentials(**settings) for _ in range(64))))

    assert len(set(map(id, asyncio.run(main())))) == 1
    steps = 2 if cloud == "gcp" else 1  # the pod's Google file impersonates a service account
    assert (exchanger.statistics.exchanges, exchanger.statistics.requests) == (steps, steps)


def test_a_token_that_the_kubelet_renews_is_read_anew(wif_pod: LocalPod, wif_cluster: LocalCluster) -> None:
    env = wif.from_env(wif_pod.environment)
    assert env.aws is not None
    first = env.aws.credentials()
    wif_cluster.rotate()
    wif_pod.renew()
    env.aws.invalidate()
    assert env.aws.credentials().access_key_id != first.access_key_id


def test_another_service_account_in_the_same_file_is_refused(wif_pod: LocalPod) -> None:
    env = wif.from_env(wif_pod.environment)
    assert env.azure is not None
    env.azure.credentials(scope=ARM)
    wif_pod.renew(sub="system:serviceaccount:default:other")
    env.azure.invalidate()
    with pytest.raises(wif.SubjectChanged):
        env.azure.credentials(scope=ARM)


@pytest.mark.parametrize("offset_seconds", [-60, 60])
def test_a_wrong_clock_is_survived(offset_seconds: int, wif_pod: LocalPod, wif_faults: Faults) -> None:
    wif_faults.inject(clock_offset_seconds=offset_seconds)
    env = wif.from_env(wif_pod.environment)
    assert env.aws is not None
    assert env.gcp is not None
    assert env.azure is not None
    assert 3500 < env.aws.credentials().lifetime_seconds <= 3600
    assert 3400 < env.gcp.credentials().lifetime_seconds <= 3600
    assert 3400 < env.azure.credentials(scope=ARM).lifetime_seconds <= 3600


def test_an_id_token_can_be_verified_by_anyone(wif_pod: LocalPod, wif_emulator: Emulator) -> None:
    env = wif.from_env(wif_pod.environment)
    assert env.gcp is not None
    token = env.gcp.id_token(audience="https://run.example.com").token
    keys = jwt.PyJWKClient(f"{wif_emulator.url}/oauth2/v3/certs", ssl_context=wif_emulator.authority.client_context())
    claims = jwt.decode(
        token, keys.get_signing_key_from_jwt(token).key, algorithms=["ES256"], audience="https://run.example.com"
    )
    assert claims["email"] == wif_pod.identity.google_service_account
    assert claims["iss"] == "https://accounts.google.invalid"


def test_an_outage_is_bridged_by_the_second_attempt(wif_pod: LocalPod, wif_faults: Faults) -> None:
    wif_faults.inject(status=503, times=1)
    env = wif.from_env(wif_pod.environment)
    assert env.aws is not None
    env.aws.credentials()
    assert env.aws.statistics.requests == 2
