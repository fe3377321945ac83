"""Plans: what dialects say, put together and kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.pods_under_review import document, new_pod, part, plan_of
from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts
from wif.admission.merging import fit
from wif.admission.readings import CHUNK_BYTES_MAX, PLAN_CHARACTERS_MAX, Plan, Readings, read_plan
from wif.config.webhook import WebhookSettings

SETTINGS = WebhookSettings(azure_tenant_id="00000000-0000-0000-0000-00000000000a")
ROLE = {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/eks"}
GUID = "11111111-2222-3333-4444-555555555555"
NATIVE_ROLE = {"wif.internal/aws.role-arn": "arn:aws:iam::111122223333:role/native"}


def account(annotations: Mapping[str, str], name: str = "app") -> ServiceAccount:
    return ServiceAccount("shop", name, "u", annotations)


def plan(annotations: Mapping[str, str], facts: PodFacts | None = None) -> Plan:
    return read_plan(account(annotations), facts or PodFacts(), SETTINGS, None)


class Platform:
    """Gives every ServiceAccount a role, and the settings a region."""

    def effective(self, account: ServiceAccount, settings: WebhookSettings) -> tuple[ServiceAccount, WebhookSettings]:
        made = ServiceAccount(account.namespace, account.name, account.uid, ROLE)
        return made, WebhookSettings(aws_region="eu-west-1", deny_collisions=True)


def test_an_account_without_annotations_has_an_empty_plan() -> None:
    assert plan({}).parts == ()
    assert plan({}).identities == ()


def test_the_first_dialect_has_a_cloud_and_the_other_is_reported() -> None:
    said = plan({**ROLE, **NATIVE_ROLE})
    assert [each.dialect for each in said.parts] == ["native"]
    (finding,) = [each for each in said.findings if each.rule == "cloud-twice"]
    assert (finding.level, finding.cloud, finding.dialect) == ("warning", "aws", "eks")
    assert "native and eks" in finding.message
    assert said.dialects == ("native",)
    assert said.identities == (("aws", "arn:aws:iam::111122223333:role/native"),)


def test_dialects_of_several_clouds_stand_together() -> None:
    azure = {"azure.workload.identity/client-id": "00000000-0000-0000-0000-00000000000b"}
    facts = PodFacts(labels=(("azure.workload.identity/use", "true"),))
    said = plan({**ROLE, **azure}, facts)
    assert [each.cloud for each in said.parts] == ["aws", "azure"]
    assert not [each for each in said.findings if each.rule == "cloud-twice"]


@pytest.mark.parametrize("said", [{"wif.internal/azure.client-id": GUID, "wif.internal/azure.tenant-id": GUID}, {}])
def test_a_token_beside_a_sidecar_is_reported(said: dict[str, str]) -> None:
    """It is injected: whose pods do not hold tokens has to know that they do."""
    settings = WebhookSettings(sidecar_image="registry.example/wif:1")
    mode = {"wif.internal/mode": "sidecar"}

    def found(annotations: dict[str, str]) -> list[tuple[str, str, str]]:
        made = read_plan(account(annotations), PodFacts(), settings, None)
        return [(each.rule, each.level, each.cloud) for each in made.findings]

    assert found({**ROLE, **said, **mode}) == [("sidecar-beside-tokens", "warning", "aws")]
    assert found({**ROLE, **said}) == []
    assert found({**said, **mode}) == []


def test_a_cloud_that_the_pod_skips_is_not_given_by_another_dialect() -> None:
    facts = PodFacts(annotations=(("wif.internal/use", "aws=none"),))
    said = plan({**ROLE, **NATIVE_ROLE}, facts)
    assert said.parts == ()
    assert [each.rule for each in said.findings if each.rule == "cloud-twice"] == []


def test_the_platform_speaks_before_the_dialects() -> None:
    said = read_plan(account({}), PodFacts(), SETTINGS, Platform())
    assert said.identities == (("aws", ROLE["eks.amazonaws.com/role-arn"]),)
    assert said.collision_level == "deny"
    assert said.account.annotations == {}
    assert "AWS_REGION" in said.env_names


def test_plans_are_kept_by_account_and_facts() -> None:
    readings = Readings()
    facts = PodFacts()
    first = readings.plan(account(ROLE), facts, SETTINGS, None)
    assert readings.plan(account(dict(ROLE)), PodFacts(), SETTINGS, None) is first
    assert readings.plan(account(ROLE), PodFacts(is_windows=True), SETTINGS, None) is not first
    assert readings.plan(account(ROLE, "other"), facts, SETTINGS, None) is not first
    assert len(readings) == 3


def test_a_changed_account_is_read_anew() -> None:
    readings = Readings()
    first = readings.plan(account(ROLE), PodFacts(), SETTINGS, None)
    second = readings.plan(account({}), PodFacts(), SETTINGS, None)
    assert second is not first
    assert second.parts == ()
    assert readings.plan(ServiceAccount("shop", "app", "new", {}), PodFacts(), SETTINGS, None).account.uid == "new"
    assert len(readings) == 1


def test_another_generation_empties_the_store() -> None:
    readings = Readings()
    platform = Platform()
    first = readings.plan(account({}), PodFacts(), SETTINGS, None)
    second = readings.plan(account({}), PodFacts(), SETTINGS, platform)
    assert (first.parts, len(second.parts)) == ((), 1)
    assert readings.plan(account({}), PodFacts(), SETTINGS, platform) is second
    assert readings.plan(account({}), PodFacts(), SETTINGS, Platform()) is not second
    other = WebhookSettings(prefix="identity.example")
    assert readings.vocabulary(other) is readings.vocabulary(other)
    assert len(readings) == 0
    assert readings.vocabulary(SETTINGS).prefixes[0] == "wif.internal/"


def test_the_store_is_bounded_and_keeps_what_is_used() -> None:
    readings = Readings(entries_max=2)
    kept = readings.plan(account(ROLE, "a"), PodFacts(), SETTINGS, None)
    readings.plan(account(ROLE, "b"), PodFacts(), SETTINGS, None)
    assert readings.plan(account(ROLE, "a"), PodFacts(), SETTINGS, None) is kept
    readings.plan(account(ROLE, "c"), PodFacts(), SETTINGS, None)
    assert len(readings) == 2
    assert readings.plan(account(ROLE, "a"), PodFacts(), SETTINGS, None) is kept


def test_large_annotations_are_not_kept() -> None:
    readings = Readings()
    large = account({"wif.internal/x": "x" * PLAN_CHARACTERS_MAX})
    readings.plan(large, PodFacts(), SETTINGS, None)
    facts = PodFacts(labels=(("wif.internal/y", "y" * PLAN_CHARACTERS_MAX),))
    readings.plan(account({}), facts, SETTINGS, None)
    assert len(readings) == 0


def test_pieces_of_a_patch_are_bounded() -> None:
    made = plan_of(part())
    assert made.keep("a", b"x" * CHUNK_BYTES_MAX) == b"x" * CHUNK_BYTES_MAX
    assert made.keep("b", b"x") == b"x"
    assert set(made.chunks) == {"a"}
    many: dict[str, Any] = {"name": "c", "image": "i"}
    pod = new_pod(*({**many, "name": f"c{index}"} for index in range(500)))
    kept = plan_of(part())
    for _ in range(2):
        said = fit(kept, document(pod), None, "wif.internal/injected", new_secret=str, detailed=False)
        assert (said.patch or b"").count(b"/volumeMounts") == 500
    assert sum(map(len, kept.chunks.values())) <= CHUNK_BYTES_MAX
