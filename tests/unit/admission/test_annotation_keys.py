"""Which annotation speaks of which cloud: one table, and the policies' regular expressions say the same."""

from __future__ import annotations

import re

import pytest

from wif.admission.annotation_keys import cloud_of, clouds_given, names_identity
from wif.admission.registration import identity_patterns
from wif.config.webhook import WebhookSettings

SETTINGS = WebhookSettings()
OTHER = WebhookSettings(prefix="a.example", gcp_prefix="b.example", aws_prefix="c.example", azure_prefix="d.example")
EKS = WebhookSettings(dialects=("eks",))


@pytest.mark.parametrize(
    ("key", "settings", "cloud"),
    [
        ("wif.internal/aws.role-arn", SETTINGS, "aws"),
        ("wif.internal/gcp.bq.provider", SETTINGS, "gcp"),
        ("wif.internal/azure.whatever", SETTINGS, "azure"),
        ("wif.internal/aws", SETTINGS, None),
        ("wif.internal/mode", SETTINGS, None),
        ("wif.internal/token-expiration", SETTINGS, None),
        ("wif.internal/oracle.x", SETTINGS, None),
        ("eks.amazonaws.com/audience", SETTINGS, "aws"),
        ("cloud.google.com/anything", SETTINGS, "gcp"),
        ("azure.workload.identity/tenant-id", SETTINGS, "azure"),
        ("example.com/aws.role-arn", SETTINGS, None),
        ("aws.role-arn", SETTINGS, None),
        ("a.example/aws.role-arn", OTHER, "aws"),
        ("b.example/x", OTHER, "gcp"),
        ("c.example/x", OTHER, "aws"),
        ("d.example/x", OTHER, "azure"),
        ("wif.internal/aws.role-arn", OTHER, None),
        ("eks.amazonaws.com/role-arn", EKS, "aws"),
        ("wif.internal/aws.role-arn", EKS, None),
        ("cloud.google.com/audience", EKS, None),
    ],
)
def test_the_cloud_of_an_annotation(key: str, settings: WebhookSettings, cloud: str | None) -> None:
    assert cloud_of(key, settings) == cloud


@pytest.mark.parametrize(
    ("key", "cloud"),
    [
        ("wif.internal/aws.role-arn", "aws"),
        ("wif.internal/aws.reader.role-arn", "aws"),
        ("wif.internal/gcp.provider", "gcp"),
        ("wif.internal/gcp.service-account", "gcp"),
        ("wif.internal/gcp.b.direct", "gcp"),
        ("wif.internal/azure.client-id", "azure"),
        ("eks.amazonaws.com/role-arn", "aws"),
        ("cloud.google.com/workload-identity-provider", "gcp"),
        ("cloud.google.com/service-account-email", "gcp"),
        ("azure.workload.identity/client-id", "azure"),
        ("azure.workload.identity/tenant-id", "azure"),
    ],
)
def test_what_gives_an_identity(key: str, cloud: str) -> None:
    assert clouds_given({key: "x"}, SETTINGS) == {cloud}
    assert clouds_given({key: ""}, SETTINGS) == set()
    assert names_identity({key: ""}, SETTINGS)
    assert any(re.fullmatch(pattern, key) for pattern in identity_patterns(SETTINGS))


@pytest.mark.parametrize(
    "key",
    [
        "wif.internal/aws.region",
        "wif.internal/aws.Reader.role-arn",
        "wif.internal/aws.a.b.role-arn",
        "wif.internal/mode",
        "wifXinternal/aws.role-arn",
        "x.wif.internal/aws.role-arn",
        "eks.amazonaws.com/audience",
        "cloud.google.com/audience",
        "azure.workload.identity/service-account-token-expiration",
        "eks.amazonaws.com/role-arn-x",
        "example.com/role-arn",
    ],
)
def test_what_gives_none(key: str) -> None:
    assert clouds_given({key: "x"}, SETTINGS) == set()
    assert not names_identity({key: "x"}, SETTINGS)
    assert not any(re.fullmatch(pattern, key) for pattern in identity_patterns(SETTINGS))


def test_dialects_that_are_off_give_none() -> None:
    keys = {"wif.internal/aws.role-arn": "x", "azure.workload.identity/client-id": "x"}
    assert clouds_given(keys, EKS) == set()
    assert clouds_given(keys | {"eks.amazonaws.com/role-arn": "x"}, EKS) == {"aws"}
    assert clouds_given(keys, SETTINGS) == {"aws", "azure"}
