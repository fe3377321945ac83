"""Tests of that program against the local STS: no account, no network, and the refusals are real."""

from __future__ import annotations

import inventory

from wif.emulator import Faults, LocalCluster
from wif.emulator.pod import LocalPod


def test_the_account(wif_environment: LocalPod) -> None:
    assert inventory.account_id() == wif_environment.identity.account_id


def test_an_outage_of_the_token_service_is_survived(wif_environment: LocalPod, wif_faults: Faults) -> None:
    wif_faults.inject(cloud="azure", status=503, times=1)
    assert inventory.management_token()


def test_a_pod_of_another_namespace_gets_nothing(wif_environment: LocalPod, wif_cluster: LocalCluster) -> None:
    audience = wif_environment.identity.audiences["azure"]
    stranger = wif_cluster.mint("other", "app", audience)
    wif_environment.tokens["azure"].write_text(stranger)
    assert inventory.management_token() is None
