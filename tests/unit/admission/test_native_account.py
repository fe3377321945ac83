"""The native dialect's annotations on a ServiceAccount: what they say, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from wif.admission.dialects.native import check
from wif.admission.dialects.native_fields import FIELDS, GENERAL
from wif.admission.dialects.native_identities import Account, parse_account
from wif.admission.findings import Finding
from wif.config.webhook import WebhookSettings

ROLE = "arn:aws:iam::111122223333:role/app"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "app@my-project.iam.gserviceaccount.com"
GUID = "11111111-2222-3333-4444-555555555555"
SETTINGS = WebhookSettings()
WHOLE = {
    "aws.role-arn": ROLE,
    "aws.audience": "sts",
    "aws.region": "eu-central-1",
    "aws.session-name": "app",
    "aws.token-expiration": "900",
    "aws.containers": "app, worker",
    "gcp.provider": PROVIDER,
    "gcp.service-account": EMAIL,
    "gcp.direct": "false",
    "gcp.audience": "//iam.googleapis.com/x",
    "gcp.project": "my-project",
    "gcp.region": "europe-west3",
    "gcp.token-expiration": "3600",
    "gcp.containers": "app",
    "azure.client-id": GUID,
    "azure.tenant-id": GUID,
    "azure.audience": "api://x",
    "azure.token-expiration": "7200",
    "azure.containers": "app",
    "mode": "files",
    "token-expiration": "1800",
}


def parsed(annotations: Mapping[str, str], settings: WebhookSettings = SETTINGS) -> Account:
    return parse_account({f"{settings.prefix}/{key}": value for key, value in annotations.items()}, settings)


def found(annotations: Mapping[str, str], settings: WebhookSettings = SETTINGS) -> list[Finding]:
    return list(parsed(annotations, settings).findings)


def rules(annotations: Mapping[str, str], settings: WebhookSettings = SETTINGS) -> list[tuple[str, str]]:
    return [(finding.rule, finding.level) for finding in found(annotations, settings)]


def test_every_annotation_is_read() -> None:
    account = parsed(WHOLE)
    assert set(WHOLE) == {*GENERAL, *(f"{cloud}.{name}" for cloud, fields in FIELDS.items() for name in fields)}
    assert account.findings == ()
    assert account.expiration == 1800
    assert account.identities["aws"]["default"].values == {
        "role-arn": ROLE,
        "audience": "sts",
        "region": "eu-central-1",
        "session-name": "app",
        "token-expiration": 900,
        "containers": {"app", "worker"},
    }
    assert account.identities["gcp"]["default"].values["provider"] == f"//iam.googleapis.com/{PROVIDER}"
    assert account.identities["azure"]["default"].values["client-id"] == GUID


def test_annotations_of_others_are_passed_over() -> None:
    others = {"eks.amazonaws.com/role-arn": "?", "wif.internal.example/aws.role-arn": "?", "wif.internal": "?"}
    assert parse_account(others, SETTINGS) == Account({}, None, (), "ServiceAccount")


def test_the_prefix_is_a_setting() -> None:
    settings = WebhookSettings(prefix="id.example.com")
    assert parsed({"aws.role-arn": ROLE}, settings).identities["aws"]["default"].values == {"role-arn": ROLE}
    assert parse_account({"wif.internal/aws.role-arn": ROLE}, settings).identities == {}


def test_a_cloud_has_several_identities_and_the_default_comes_first() -> None:
    account = parsed(
        {
            "aws.reader.role-arn": ROLE,
            "aws.a-1.role-arn": ROLE,
            "aws.role-arn": ROLE,
            "gcp.region.service-account": EMAIL,  # the name of a field is a name like any other
            "gcp.region.provider": PROVIDER,
        }
    )
    assert account.findings == ()
    assert {cloud: list(names) for cloud, names in account.identities.items()} == {
        "aws": ["default", "a-1", "reader"],
        "gcp": ["region"],
    }


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "x" * 33, "none", "token", "config", "ä", "a\nb"])
def test_an_identity_is_named_by_a_word(name: str) -> None:
    (finding,) = found({f"aws.{name}.role-arn": ROLE})
    assert (finding.rule, finding.level, finding.cloud) == ("identity-name-malformed", "deny", "aws")
    assert finding.message.isprintable()
    assert rules({"aws." + "x" * 32 + ".role-arn": ROLE, "aws.1.role-arn": ROLE}) == []


@pytest.mark.parametrize(
    ("key", "values"),
    [
        (
            "aws.role-arn",
            ["", "app", "arn:aws:iam::1:role/a", "arn:aws:iam::111122223333:user/a", f"{ROLE}\n", f" {ROLE}"],
        ),
        ("aws.audience", ["", "a\n", "x" * 257]),
        ("aws.region", ["", "seattle", "eu-central-1.example.com", "europe-west3"]),
        ("aws.session-name", ["", "a", "a b", "a:b", "x" * 65]),
        ("aws.token-expiration", ["", "1h", "-1", "+600", "6e2", "٣٦٠٠", " 600", "9" * 16]),
        ("aws.containers", ["", "a,", "A", "a b", "-a", "x" * 64]),
        (
            "gcp.provider",
            ["", "pool/provider", PROVIDER.replace("1", "my-project"), f"{PROVIDER}/x", f"{PROVIDER}?a=b"],
        ),
        (
            "gcp.service-account",
            ["", "app", "a/b@p.iam.gserviceaccount.com", "a@p:x", "a@p?x", "a@p#x", 'a"@p', "a@b@c"],
        ),
        ("gcp.direct", ["", "yes", "True", "1"]),
        ("gcp.project", ["", "a", "My-Project", "my project", "a/b", "my-project-"]),
        ("gcp.region", ["", "eu-central-1", "europe-west3.example.com/"]),
        ("azure.client-id", ["", "a/b", "a b", "a?b", "x" * 129]),
        ("azure.tenant-id", ["", "common", "a/b", "..", "x y"]),
        ("mode", ["", "file", "Sidecar"]),
        ("token-expiration", ["", "1h"]),
    ],
)
def test_a_value_that_is_none_is_refused_and_named(key: str, values: list[str]) -> None:
    for value in values:
        (finding,) = found(WHOLE | {key: value})
        assert (finding.rule, finding.level) == (f"{key.rpartition('.')[2]}-malformed", "deny")
        assert finding.message.startswith(f"ServiceAccount: annotation wif.internal/{key} is '")
        assert ", expected " in finding.message
        assert finding.message.isprintable()
        assert key.partition(".")[0] not in parsed(WHOLE | {key: value}).identities


def test_a_long_value_is_shown_short() -> None:
    (finding,) = found({"aws.role-arn": "x" * 5000})
    assert len(finding.message) < 300


@pytest.mark.parametrize("value", ["my-project", "example.com:my-project", "123456"])
def test_a_project_has_three_forms(value: str) -> None:
    assert rules(WHOLE | {"gcp.project": value}) == []


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("aws.role-anr", "did you mean wif.internal/aws.role-arn"),
        ("aws.reader.rolearn", "did you mean wif.internal/aws.reader.role-arn"),
        ("gcp.provder", "did you mean wif.internal/gcp.provider"),
        ("azur.client-id", "did you mean wif.internal/azure.client-id"),
        ("Mode", "did you mean wif.internal/mode"),
        ("token-expirations", "did you mean wif.internal/token-expiration"),
        ("aws.a.b.role-arn", "did you mean wif.internal/aws.role-arn"),
        ("oracle", "the reference lists the annotations"),
        ("x" * 5000, "the reference lists the annotations"),
        ("", "the reference lists the annotations"),
        ("a\nb", "the reference lists the annotations"),
    ],
)
def test_an_unknown_annotation_is_a_warning_with_the_nearest_name(key: str, hint: str) -> None:
    (finding,) = found({key: "x"})
    assert (finding.rule, finding.level, finding.hint) == ("annotation-unknown", "warning", hint)
    assert finding.message.isprintable()
    assert len(finding.message) < 300


def test_fields_without_what_makes_an_identity_are_a_warning() -> None:
    (finding,) = found({"aws.reader.region": "eu-central-1"})
    assert (finding.rule, finding.level, finding.cloud) == ("identity-incomplete", "warning", "aws")
    assert finding.hint == "add wif.internal/aws.reader.role-arn"
    assert rules({"gcp.direct": "false", "gcp.project": "my-project"}) == [("identity-incomplete", "warning")]
    assert parsed({"aws.reader.region": "eu-central-1"}).identities == {}


def test_the_default_identity_may_be_named_but_says_a_thing_once() -> None:
    assert parsed({"aws.default.role-arn": ROLE, "aws.role-arn": ROLE}).findings == ()
    twice = {"aws.default.role-arn": ROLE, "aws.role-arn": ROLE + "2"}
    assert rules(twice) == [("annotation-twice", "deny")]


def test_direct_access_and_a_service_account_contradict_each_other() -> None:
    said = {"gcp.provider": PROVIDER, "gcp.service-account": EMAIL, "gcp.direct": "true"}
    assert rules(said) == [("direct-with-service-account", "deny")]
    assert rules(said | {"gcp.direct": "false"}) == []


def checked(annotations: Mapping[str, str], settings: WebhookSettings) -> list[Finding]:
    return list(check({f"{settings.prefix}/{key}": value for key, value in annotations.items()}, settings))


def test_the_sidecar_needs_an_image() -> None:
    said = {"mode": "sidecar", "aws.role-arn": ROLE}
    (finding,) = checked(said, SETTINGS)
    assert (finding.rule, finding.level) == ("setting-missing", "deny")
    assert "the setting sidecar_image is missing" in finding.message
    assert checked(said, WebhookSettings(sidecar_image="registry.example/wif:1")) == []
    assert checked(said | {"mode": "files"}, SETTINGS) == []


def test_the_sidecar_is_for_identities_of_this_dialect() -> None:
    (finding,) = checked({"mode": "sidecar"}, WebhookSettings(sidecar_image="registry.example/wif:1"))
    assert (finding.rule, finding.level) == ("annotation-without-effect", "warning")


def test_a_sidecar_beside_the_identity_of_another_dialect_is_said() -> None:
    settings = WebhookSettings(sidecar_image="registry.example/wif:1")
    other = {"eks.amazonaws.com/role-arn": ROLE}
    azure = {"wif.internal/azure.client-id": GUID, "wif.internal/azure.tenant-id": GUID}
    for own in (dict[str, str](), azure):
        (finding,) = check({"wif.internal/mode": "sidecar", **own, **other}, settings)
        assert (finding.rule, finding.level, finding.cloud) == ("sidecar-beside-tokens", "warning", "aws")
        assert "wif.internal/aws.role-arn" in finding.hint
        assert not check({"wif.internal/mode": "files", **own, **other}, settings)
    both = {"wif.internal/mode": "sidecar", "wif.internal/aws.role-arn": ROLE, **other}
    assert not check(both, settings)


# -- what the settings add -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{"gcp.service-account": EMAIL}, {"gcp.direct": "true"}, {"gcp.b.direct": "true"}])
def test_the_provider_may_come_from_the_settings(said: Mapping[str, str]) -> None:
    assert rules(said) == [("setting-missing", "deny")]
    settings = WebhookSettings(gcp_provider=PROVIDER)
    (identity,) = parsed(said, settings).identities["gcp"].values()
    assert identity.values["provider"] == f"//iam.googleapis.com/{PROVIDER}"
    other = parsed({"gcp.provider": PROVIDER.replace("1", "2")}, settings).identities["gcp"]["default"]
    assert other.values["provider"].startswith("//iam.googleapis.com/projects/2/")


def test_the_tenant_may_come_from_the_settings() -> None:
    (finding,) = found({"azure.client-id": GUID})
    assert (finding.rule, finding.level) == ("setting-missing", "deny")
    assert finding.hint == "add the annotation wif.internal/azure.tenant-id, or the setting azure_tenant_id"
    settings = WebhookSettings(azure_tenant_id="contoso.example")
    assert parsed({"azure.client-id": GUID}, settings).identities["azure"]["default"].values["tenant-id"] == (
        "contoso.example"
    )


def test_a_malformed_setting_makes_no_half_identity() -> None:
    settings = WebhookSettings(gcp_provider="pool/x", azure_tenant_id="common", aws_region="seattle")
    said = {"gcp.direct": "true", "azure.client-id": GUID, "aws.role-arn": ROLE}
    assert rules(said, settings) == [
        ("setting-malformed", "warning"),
        ("setting-malformed", "deny"),
        ("setting-malformed", "deny"),
    ]
    account = parsed(said, settings)
    assert list(account.identities) == ["aws"]
    assert account.identities["aws"]["default"].values == {"role-arn": ROLE}
    assert "the setting aws_region is 'seattle', expected" in account.findings[0].message


def test_the_region_may_come_from_the_settings() -> None:
    settings = WebhookSettings(aws_region="eu-west-1")
    assert parsed({"aws.role-arn": ROLE}, settings).identities["aws"]["default"].values["region"] == "eu-west-1"
    assert parsed(WHOLE, settings).identities["aws"]["default"].values["region"] == "eu-central-1"


def test_a_role_without_arn_is_one_of_the_settings_account() -> None:
    settings = WebhookSettings(aws_account_id="111122223333", aws_partition="aws-cn")
    values = parsed({"aws.role-arn": "path/app"}, settings).identities["aws"]["default"].values
    assert values["role-arn"] == "arn:aws-cn:iam::111122223333:role/path/app"
    assert parsed({"aws.role-arn": ROLE}, settings).identities["aws"]["default"].values["role-arn"] == ROLE
    for value in ("", "a b", "a:b"):
        assert rules({"aws.role-arn": value}, settings) == [("role-arn-malformed", "deny")]


def test_what_is_found_at_a_pod_is_found_when_it_is_written() -> None:
    annotations = {"wif.internal/aws.role-arn": "x", "wif.internal/foo": "y"}
    assert list(check(annotations, SETTINGS)) == list(parse_account(annotations, SETTINGS).findings)
