"""The native dialect: what a pod of a ServiceAccount with native annotations is given."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping
from configparser import RawConfigParser
from typing import Any

import pytest
from google.auth import identity_pool
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, Reading, dialects
from wif.admission.dialects.native import read
from wif.admission.dialects.native_choices import POD_ANNOTATIONS
from wif.admission.dialects.native_files import role_session_name
from wif.admission.injection import Mount, Part
from wif.config.sidecar import load_sidecar
from wif.config.webhook import WebhookSettings

ROLE = "arn:aws:iam::111122223333:role/app"
READER = "arn:aws:iam::111122223333:role/reader"
PROVIDER = "projects/1/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "app@my-project.iam.gserviceaccount.com"
GUID = "11111111-2222-3333-4444-555555555555"
SETTINGS = WebhookSettings()
AWS = {"aws.role-arn": ROLE}
TWO_ROLES = {"aws.reader.role-arn": READER, "aws.writer.role-arn": ROLE}
GCP = {"gcp.provider": PROVIDER, "gcp.service-account": EMAIL}
AZURE = {"azure.client-id": GUID, "azure.tenant-id": GUID}
ALL = AWS | GCP | AZURE


def reading(
    account: Mapping[str, str],
    pod: Mapping[str, str] | None = None,
    settings: WebhookSettings = SETTINGS,
    *,
    is_windows: bool = False,
    has_fs_group: bool = False,
) -> Reading:
    annotations = {f"wif.internal/{key}": value for key, value in account.items()}
    of_pod = sorted((f"wif.internal/{key}", value) for key, value in (pod or {}).items())
    facts = PodFacts(tuple(of_pod), is_windows=is_windows, has_fs_group=has_fs_group)
    return read(ServiceAccount("team-a", "app", "u-1", annotations), facts, settings)


def parts(account: Mapping[str, str], pod: Mapping[str, str] | None = None, **more: Any) -> tuple[Part, ...]:
    found = reading(account, pod, **more)
    assert not [finding for finding in found.findings if finding.level != "note"]
    return found.parts


def rules(account: Mapping[str, str], pod: Mapping[str, str] | None = None, **more: Any) -> list[tuple[str, str]]:
    found = reading(account, pod, **more)
    assert not found.parts or all(finding.level != "deny" for finding in found.findings)
    return [(finding.rule, finding.level) for finding in found.findings]


def chosen(account: Mapping[str, str], pod: Mapping[str, str] | None = None) -> list[tuple[Any, ...]]:
    found = reading(account, pod)
    return [
        (part.cloud, part.identity.rpartition("/")[2], part.only and sorted(part.only), sorted(part.skip))
        for part in found.parts
    ]


def env(part: Part) -> dict[str, str]:
    assert all(group.variables for group in part.env)
    return {variable.name: variable.value for group in part.env for variable in group.variables}


def content(found: tuple[Part, ...]) -> dict[str, Any]:
    """That of the one volume, which every part says."""
    (volume,) = {json.dumps(volume.content): volume for part in found for volume in part.volumes}.values()
    assert all(part.mounts == (Mount("wif", "/var/run/secrets/wif"),) for part in found)
    assert all(part.annotations == found[0].annotations for part in found)
    return dict(volume.content)


def tokens(found: tuple[Part, ...]) -> dict[str, tuple[str, int]]:
    sources = [
        source["serviceAccountToken"]
        for source in content(found)["projected"]["sources"]
        if len(source) == 1 and "serviceAccountToken" in source
    ]
    return {source["path"]: (source["audience"], source["expirationSeconds"]) for source in sources}


def file(found: tuple[Part, ...], path: str) -> str:
    """The text that the kubelet would write there."""
    (items,) = [s["downwardAPI"]["items"] for s in content(found)["projected"]["sources"] if "downwardAPI" in s]
    (field,) = [item["fieldRef"] for item in items if item["path"] == path]
    assert field["apiVersion"] == "v1"
    key = field["fieldPath"].removeprefix("metadata.annotations['").removesuffix("']")
    return found[0].annotations[key]


# -- files and variables -------------------------------------------------------------------------------------------


def test_three_clouds_in_one_volume() -> None:
    found = parts(ALL)
    assert [(part.dialect, part.cloud, part.identity, part.only, part.skip) for part in found] == [
        ("native", "aws", ROLE, None, frozenset()),
        ("native", "gcp", EMAIL, None, frozenset()),
        ("native", "azure", GUID, None, frozenset()),
    ]
    assert content(found) == {
        "name": "wif",
        "projected": {
            "defaultMode": 0o444,
            "sources": [
                {"serviceAccountToken": {"audience": audience, "expirationSeconds": 3600, "path": f"{cloud}/token"}}
                for cloud, audience in (
                    ("aws", "sts.amazonaws.com"),
                    ("gcp", "sts.googleapis.com"),
                    ("azure", "api://AzureADTokenExchange"),
                )
            ]
            + [
                {
                    "downwardAPI": {
                        "items": [
                            {
                                "path": "gcp/credentials.json",
                                "fieldRef": {
                                    "apiVersion": "v1",
                                    "fieldPath": "metadata.annotations['wif.internal/file.gcp']",
                                },
                            }
                        ]
                    }
                }
            ],
        },
    }
    assert found[0].audiences == ("sts.amazonaws.com", "sts.googleapis.com", "api://AzureADTokenExchange")


def test_aws() -> None:
    (found,) = parts(AWS | {"aws.region": "eu-central-1", "aws.session-name": "me"})
    assert [(group.rule, [tuple(variable) for variable in group.variables]) for group in found.env] == [
        ("absent", [("AWS_STS_REGIONAL_ENDPOINTS", "regional")]),
        ("group", [("AWS_REGION", "eu-central-1"), ("AWS_DEFAULT_REGION", "eu-central-1")]),
        ("group", [("AWS_ROLE_ARN", ROLE), ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/wif/aws/token")]),
        ("absent", [("AWS_ROLE_SESSION_NAME", "me")]),
    ]
    assert found.annotations == {}
    assert not any("downwardAPI" in source for source in content((found,))["projected"]["sources"])


def test_aws_without_a_region_has_no_regional_endpoint_to_ask() -> None:
    assert set(env(parts(AWS)[0])) == {"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_SESSION_NAME"}
    settings = WebhookSettings(aws_region="eu-west-1", aws_regional_sts=False)
    variables = env(parts(AWS, settings=settings)[0])
    assert variables["AWS_REGION"] == variables["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert "AWS_STS_REGIONAL_ENDPOINTS" not in variables


@pytest.mark.parametrize(
    ("namespace", "name", "expected"),
    [
        ("team-a", "app", "team-a.app"),
        ("n" * 63, "a" * 100 + "-the-end", "n" * 31 + "." + "a" * 24 + "-the-end"),
        ("n", "a" * 253, "n." + "a" * 62),
        ("team-a", "a.b", "team-a.a.b"),
    ],
)
def test_a_session_without_a_name_shows_the_service_account(namespace: str, name: str, expected: str) -> None:
    assert role_session_name(ServiceAccount(namespace, name, "u")) == expected
    assert len(expected) <= 64


def test_gcp_by_impersonation() -> None:
    found = parts(GCP | {"gcp.region": "europe-west3"})
    path = "/var/run/secrets/wif/gcp/credentials.json"
    assert [(group.rule, [tuple(variable) for variable in group.variables]) for group in found[0].env] == [
        ("group", [("GOOGLE_APPLICATION_CREDENTIALS", path), ("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", path)]),
        ("group", [("GOOGLE_CLOUD_PROJECT", "my-project"), ("CLOUDSDK_CORE_PROJECT", "my-project")]),
        ("absent", [("CLOUDSDK_COMPUTE_REGION", "europe-west3")]),
    ]
    text = file(found, "gcp/credentials.json")
    assert "\n" not in text
    assert ": " not in text
    assert json.loads(text) == {
        "universe_domain": "googleapis.com",
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{PROVIDER}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.europe-west3.rep.googleapis.com/v1/token",
        "credential_source": {"file": "/var/run/secrets/wif/gcp/token"},
        "service_account_impersonation_url": (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
        ),
    }


def test_gcp_by_direct_access() -> None:
    found = parts(
        {"gcp.provider": PROVIDER, "gcp.project": "other-project"}, settings=WebhookSettings(gcp_region="anywhere")
    )
    document = json.loads(file(found, "gcp/credentials.json"))
    assert "service_account_impersonation_url" not in document
    assert document["token_url"] == "https://sts.googleapis.com/v1/token"  # the setting is gcloud's alone
    assert found[0].identity == (
        "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool"
        "/subject/system:serviceaccount:team-a:app"
    )
    assert env(found[0])["GOOGLE_CLOUD_PROJECT"] == env(found[0])["CLOUDSDK_CORE_PROJECT"] == "other-project"
    assert env(found[0])["CLOUDSDK_COMPUTE_REGION"] == "anywhere"
    assert "GOOGLE_CLOUD_PROJECT" not in env(parts({"gcp.provider": PROVIDER})[0])


@pytest.mark.parametrize("account", [GCP | {"gcp.region": "europe-west3"}, {"gcp.provider": PROVIDER}])
def test_google_auth_reads_the_file(account: Mapping[str, str]) -> None:
    document = json.loads(file(parts(account), "gcp/credentials.json"))
    credentials = identity_pool.Credentials.from_info(document)  # type: ignore[no-untyped-call]  # google-auth
    assert credentials.info["token_url"] == document["token_url"]
    assert credentials.service_account_email == account.get("gcp.service-account")


def test_azure() -> None:
    (found,) = parts(AZURE)
    assert [(group.rule, [tuple(variable) for variable in group.variables]) for group in found.env] == [
        (
            "group",
            [
                ("AZURE_CLIENT_ID", GUID),
                ("AZURE_TENANT_ID", GUID),
                ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/wif/azure/token"),
            ],
        ),
        ("absent", [("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/")]),
    ]


def test_a_token_of_another_audience_stands_beside_the_clouds() -> None:
    account = TWO_ROLES | {
        "aws.other.role-arn": ROLE,
        "aws.other.audience": "x",
        "aws.third.role-arn": ROLE,
        "aws.third.audience": "x",
    }
    found = reading(account, {"use": "aws=third"}).parts
    assert tokens(found) == {"aws/token": ("sts.amazonaws.com", 3600), "aws/other/token": ("x", 3600)}
    assert env(found[0])["AWS_WEB_IDENTITY_TOKEN_FILE"] == "/var/run/secrets/wif/aws/other/token"
    same = parts(AWS | {"aws.audience": "sts.amazonaws.com"})
    assert tokens(same) == {"aws/token": ("sts.amazonaws.com", 3600)}
    of_default = parts(AWS | {"aws.audience": "x"})
    assert tokens(of_default) == {"aws/default/token": ("x", 3600)}
    settings = WebhookSettings(aws_audience="x", gcp_audience="x")
    assert list(tokens(parts(AWS | GCP, settings=settings))) == ["aws/token", "gcp/token"]


def test_several_roles_are_profiles_of_one_file() -> None:
    account = (
        AWS
        | TWO_ROLES
        | {"aws.writer.audience": "x", "aws.writer.region": "eu-west-1", "aws.writer.session-name": "me"}
    )
    found = parts(account)
    config = RawConfigParser()
    config.read_string(file(found, "aws/config"))
    assert {name: dict(config[name]) for name in config.sections()} == {
        "default": {
            "role_arn": ROLE,
            "web_identity_token_file": "/var/run/secrets/wif/aws/token",
            "role_session_name": "team-a.app",
        },
        "profile reader": {
            "role_arn": READER,
            "web_identity_token_file": "/var/run/secrets/wif/aws/token",
            "role_session_name": "team-a.app",
        },
        "profile writer": {
            "role_arn": ROLE,
            "web_identity_token_file": "/var/run/secrets/wif/aws/writer/token",
            "role_session_name": "me",
            "region": "eu-west-1",
        },
    }
    assert env(found[0])["AWS_CONFIG_FILE"] == "/var/run/secrets/wif/aws/config"
    assert env(found[0])["AWS_ROLE_ARN"] == ROLE
    assert "AWS_CONFIG_FILE" not in env(parts(AWS)[0])


def test_several_gcp_identities_have_a_file_each() -> None:
    found = parts(GCP | {"gcp.bq.provider": PROVIDER}, {"use": "gcp=bq"})
    assert "impersonation" in file(found, "gcp/credentials.json")
    assert "impersonation" not in file(found, "gcp/bq/credentials.json")
    assert set(found[0].annotations) == {"wif.internal/file.gcp", "wif.internal/file.gcp.bq"}
    assert env(found[0])["GOOGLE_APPLICATION_CREDENTIALS"] == "/var/run/secrets/wif/gcp/bq/credentials.json"


@pytest.mark.parametrize(
    ("mode", "has_fs_group", "expected"),
    [(None, True, 0o440), (None, False, 0o444), (0o400, True, 0o400), (0, False, 0)],
)
def test_the_mode_lets_a_container_read_that_is_not_root(mode: int | None, has_fs_group: bool, expected: int) -> None:
    found = parts(GCP, settings=WebhookSettings(token_mode=mode), has_fs_group=has_fs_group)
    assert content(found)["projected"]["defaultMode"] == expected


def test_windows_sees_the_same_volume_by_other_paths() -> None:
    unix, windows = parts(ALL | TWO_ROLES), parts(ALL | TWO_ROLES, is_windows=True)
    assert content(unix) == content(windows)
    variables = {
        name: value for part in windows for name, value in env(part).items() if name.endswith(("_FILE", "_CREDENTIALS"))
    }
    assert variables == {
        "AWS_WEB_IDENTITY_TOKEN_FILE": "C:\\var\\run\\secrets\\wif\\aws\\token",
        "AWS_CONFIG_FILE": "C:\\var\\run\\secrets\\wif\\aws\\config",
        "GOOGLE_APPLICATION_CREDENTIALS": "C:\\var\\run\\secrets\\wif\\gcp\\credentials.json",
        "AZURE_FEDERATED_TOKEN_FILE": "C:\\var\\run\\secrets\\wif\\azure\\token",
    }
    document = json.loads(file(windows, "gcp/credentials.json"))
    assert document["credential_source"] == {"file": "C:\\var\\run\\secrets\\wif\\gcp\\token"}
    assert "web_identity_token_file = C:\\var\\run\\secrets\\wif\\aws\\token\n" in file(windows, "aws/config")


def test_nothing_said_is_nothing_given() -> None:
    assert reading({}) == Reading()
    assert reading({}, {"token-expiration": "900", "skip-containers": "a"}) == Reading()


def test_what_is_refused_at_the_account_gives_the_pod_nothing() -> None:
    found = reading(ALL | {"aws.role-arn": "x"})
    assert found.parts == ()
    (finding,) = found.findings
    assert finding.message.startswith("ServiceAccount team-a/app: annotation wif.internal/aws.role-arn is 'x'")


def test_it_is_the_first_of_the_dialects() -> None:
    assert dialects(SETTINGS)[0][0] == "native"
    assert [name for name, _ in dialects(WebhookSettings(dialects=("azure", "native")))] == ["native", "azure"]


# -- the lifetime ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("of_identity", "of_account", "of_pod", "expected", "is_clamped"),
    [
        (None, None, None, 3600, False),
        (None, "900", None, 900, False),
        ("1200", "900", None, 1200, False),
        ("1200", "900", "700", 700, False),
        (None, None, "7200", 7200, False),  # a default is no ceiling
        (None, None, "86401", 86400, True),
        ("1200", None, "7200", 1200, True),
        (None, "1200", "7200", 1200, True),
        ("200000", None, None, 200000, False),
        ("200000", None, "100000", 100000, False),
        ("99999999999", None, None, 2**32, True),
        ("60", None, None, 600, True),
        ("0", None, "60", 600, True),
    ],
)
def test_the_pods_word_counts_below_the_accounts(
    of_identity: str | None, of_account: str | None, of_pod: str | None, expected: int, is_clamped: bool
) -> None:
    said = {"aws.token-expiration": of_identity, "token-expiration": of_account}
    found = reading(
        AWS | {key: value for key, value in said.items() if value is not None},
        {} if of_pod is None else {"token-expiration": of_pod},
    )
    assert tokens(found.parts)["aws/token"][1] == expected
    assert [(finding.rule, finding.level) for finding in found.findings] == [
        ("token-expiration-clamped", "warning")
    ] * is_clamped


def test_a_default_above_the_maximum_gives_way() -> None:
    settings = WebhookSettings(max_token_expiration=1200)
    assert tokens(parts(ALL, settings=settings)) == {
        "aws/token": ("sts.amazonaws.com", 1200),
        "gcp/token": ("sts.googleapis.com", 1200),
        "azure/token": ("api://AzureADTokenExchange", 1200),
    }


def test_identities_that_share_a_token_share_the_shortest_life() -> None:
    account = AWS | TWO_ROLES | {"aws.reader.token-expiration": "900", "aws.writer.token-expiration": "5000"}
    assert tokens(parts(account)) == {"aws/token": ("sts.amazonaws.com", 900)}


def test_the_pods_word_is_reported_once() -> None:
    assert rules(ALL, {"token-expiration": "60"}) == [("token-expiration-clamped", "warning")]
    assert rules(ALL, {"token-expiration": "1h"}) == [("token-expiration-malformed", "deny")]
    assert rules(ALL | {"token-expiration": "1h"}) == [("token-expiration-malformed", "deny")]


# -- choices -----------------------------------------------------------------------------------------------------------

LIMITED = {"aws.reader.containers": "a,b", "aws.writer.containers": "b,c"}


@pytest.mark.parametrize(
    ("account", "pod", "expected"),
    [
        # the only one, whatever its name; the default one; none
        ({"aws.reader.role-arn": READER}, {}, [("aws", "reader", None, [])]),
        (AWS | TWO_ROLES, {}, [("aws", "app", None, [])]),
        (TWO_ROLES, {}, [("aws", "undecided", None, [])]),
        # the pod's word
        (AWS | TWO_ROLES, {"use": "aws=reader"}, [("aws", "reader", None, [])]),
        (AWS | TWO_ROLES, {"use": " aws = reader "}, [("aws", "reader", None, [])]),
        (ALL, {"use": "aws=none,azure=none"}, [("gcp", EMAIL, None, [])]),
        (ALL, {"use": "aws=none,azure=none,gcp=none"}, []),
        (AWS, {"skip-containers": " a, b,,"}, [("aws", "app", None, ["a", "b"])]),
        # one container each
        (AWS | TWO_ROLES, {"use.a": "aws=reader"}, [("aws", "app", None, ["a"]), ("aws", "reader", ["a"], [])]),
        (AWS | TWO_ROLES, {"use.a": "aws=none"}, [("aws", "app", None, ["a"])]),
        (AWS | TWO_ROLES, {"use": "aws=none", "use.a": "aws=reader"}, [("aws", "reader", ["a"], [])]),
        (AWS | TWO_ROLES, {"use": "aws=reader", "use.a": "aws=reader"}, [("aws", "reader", None, [])]),
        (
            AWS | TWO_ROLES,
            {"use.a": "aws=reader", "use.b": "aws=none", "skip-containers": "c"},
            [("aws", "app", None, ["a", "b", "c"]), ("aws", "reader", ["a"], ["c"])],
        ),
        (AWS | TWO_ROLES, {"use.a": "aws=reader", "skip-containers": "a"}, [("aws", "app", None, ["a"])]),
        (AWS | GCP, {"use.a": "gcp=none"}, [("aws", "app", None, []), ("gcp", EMAIL, None, ["a"])]),
        # identities for some containers
        (AWS | {"aws.containers": "a"}, {}, [("aws", "app", ["a"], [])]),
        (AWS | {"aws.containers": "a"}, {"use": "aws=default"}, [("aws", "app", ["a"], [])]),
        (AWS | {"aws.containers": "a"}, {"skip-containers": "a"}, []),
        (
            AWS | {"aws.containers": "a"} | {"aws.reader.role-arn": READER},
            {},
            [("aws", "app", ["a"], []), ("aws", "reader", None, ["a"])],
        ),
        (
            TWO_ROLES | LIMITED,
            {},
            [("aws", "reader", ["a"], []), ("aws", "app", ["c"], []), ("aws", "undecided", ["b"], [])],
        ),
        (TWO_ROLES | LIMITED, {"use.b": "aws=writer"}, [("aws", "reader", ["a"], []), ("aws", "app", ["b", "c"], [])]),
        (TWO_ROLES | LIMITED, {"use": "aws=reader"}, [("aws", "reader", ["a", "b"], [])]),
    ],
)
def test_the_identity_of_a_container(
    account: Mapping[str, str], pod: Mapping[str, str], expected: list[tuple[Any, ...]]
) -> None:
    assert chosen(account, pod) == expected


def test_a_cloud_that_the_pod_does_without_is_not_in_the_volume() -> None:
    found = reading(ALL, {"use": "aws=none"})
    assert list(tokens(found.parts)) == ["gcp/token", "azure/token"]
    assert [(finding.rule, finding.level, finding.cloud) for finding in found.findings] == [
        ("cloud-skipped", "note", "aws")
    ]


def test_a_pod_does_without_a_cloud_that_another_dialect_speaks_of() -> None:
    assert rules({}, {"use": "aws=none"}) == [("cloud-skipped", "note")]


def test_an_undecided_identity_gets_the_files_and_no_half_identity() -> None:
    found = reading(TWO_ROLES | {"gcp.a.provider": PROVIDER, "gcp.b.provider": PROVIDER})
    assert [(part.cloud, part.identity, env(part)) for part in found.parts] == [
        ("aws", "undecided", {"AWS_CONFIG_FILE": "/var/run/secrets/wif/aws/config"}),
        ("gcp", "undecided", {}),
    ]
    assert [(finding.rule, finding.level, finding.cloud) for finding in found.findings] == [
        ("identity-undecided", "warning", "aws"),
        ("identity-undecided", "warning", "gcp"),
    ]
    assert "profile reader" in file(found.parts, "aws/config")
    assert file(found.parts, "gcp/b/credentials.json")


def test_where_containers_are_named_there_may_be_no_others() -> None:
    assert rules(TWO_ROLES, {"use.a": "aws=reader"}) == [("identity-undecided", "note")]
    assert rules(TWO_ROLES | LIMITED) == [("identity-undecided", "warning")]
    assert rules(TWO_ROLES | LIMITED, {"skip-containers": "b"}) == []
    (finding,) = reading(TWO_ROLES | LIMITED).findings
    assert finding.message.endswith("none is the one of the containers b")


@pytest.mark.parametrize(
    "value", ["", "reader", "aws", "aws=", "=reader", "oracle=x", "aws=reader,aws=writer", "aws=reader,", "AWS=reader"]
)
def test_a_choice_that_is_none_is_refused(value: str) -> None:
    for key in ("use", "use.a", "use.\n\x00"):
        found = [finding for finding in reading(TWO_ROLES, {key: value}).findings if finding.rule == "use-malformed"]
        assert [finding.level for finding in found] == ["deny"]
        assert found[0].message.isprintable()


@pytest.mark.parametrize("name", ["other", "default", "x\ny", "Reader"])
def test_a_pod_gets_no_identity_that_its_account_does_not_list(name: str) -> None:
    for key in ("use", "use.a"):
        (finding, *_) = reading(TWO_ROLES, {key: f"aws={name}"}).findings
        assert (finding.rule, finding.level, finding.cloud) == ("identity-unknown-to-account", "deny", "aws")
        assert finding.hint == "it lists reader, writer"
        assert finding.message.isprintable()
    assert rules({}, {"use": "aws=reader"}) == [("identity-unknown-to-account", "deny")]
    assert reading({}, {"use": "aws=reader"}).findings[0].hint == "it lists none of aws"


def test_a_container_gets_no_identity_that_is_kept_for_others() -> None:
    account = AWS | TWO_ROLES | {"aws.reader.containers": "a"}
    assert rules(account, {"use.b": "aws=reader"}) == [("identity-not-for-container", "deny")]
    assert rules(account, {"use.a": "aws=reader"}) == []


def test_a_pod_gives_itself_nothing() -> None:
    found = reading({}, {"aws.role-arn": ROLE, "gcp": "x"})
    assert found.parts == ()
    assert [(finding.rule, finding.level) for finding in found.findings] == [("annotation-of-accounts", "warning")] * 2
    with_role = reading(AWS, {"aws.role-arn": READER, "aws.audience": "x"})
    assert with_role.parts == parts(AWS)


def test_an_unknown_annotation_of_a_pod_is_a_warning() -> None:
    (finding,) = reading(AWS, {"skip-container": "a"}).findings
    assert (finding.rule, finding.level) == ("annotation-unknown", "warning")
    assert finding.hint == "did you mean wif.internal/skip-containers"
    assert finding.message.startswith("the pod: ")
    assert set(POD_ANNOTATIONS) == {"use", "use.CONTAINER", "skip-containers", "token-expiration", "mode"}


def test_annotations_of_other_dialects_are_passed_over() -> None:
    facts = PodFacts((("eks.amazonaws.com/token-expiration", "x"), ("wif.internal/token-expiration", "900")))
    found = read(ServiceAccount("n", "a", "u", {"wif.internal/aws.role-arn": ROLE}), facts, SETTINGS)
    assert tokens(found.parts) == {"aws/token": ("sts.amazonaws.com", 900)}


def test_a_mode_is_one_of_two() -> None:
    assert rules(AWS, {"mode": "files"}) == []
    assert rules(AWS, {"mode": "x"}) == [("mode-malformed", "deny")]


# -- whatever somebody writes ------------------------------------------------------------------------------------------

_KEYS = st.sampled_from(
    [
        f"{cloud}.{name}{field}"
        for cloud in ("aws", "gcp", "azure", "oracle")
        for name in ("", "b.", "default.", "none.", "-.", "..")
        for field in (
            *("role-arn", "provider", "service-account", "direct", "client-id", "tenant-id", "audience", "region"),
            *("session-name", "project", "token-expiration", "containers", "x"),
        )
    ]
    + ["mode", "token-expiration", "use", "use.a", "use.", "skip-containers", "injected", "", "file.gcp"]
)
_VALUES = st.sampled_from(
    [
        *(ROLE, PROVIDER, EMAIL, GUID, "eu-central-1", "europe-west3", "true", "600", "99999999999", "a", "a,b"),
        *("aws=b", "aws=none,gcp=default", "gcp=b", "files", "sidecar", "x'\"\\\n${}", "\ud800", "0" * 5000),
    ]
) | st.text(max_size=20)
_ANNOTATIONS = st.dictionaries(_KEYS | st.text(max_size=10), _VALUES, max_size=12)
_SETTINGS = st.builds(
    WebhookSettings,
    aws_region=st.none() | st.text(min_size=1, max_size=5) | st.just("eu-central-1"),
    gcp_provider=st.none() | st.text(min_size=1, max_size=5) | st.just(PROVIDER),
    azure_tenant_id=st.none() | st.text(min_size=1, max_size=5) | st.just(GUID),
    aws_account_id=st.none() | st.just("111122223333"),
    sidecar_image=st.none() | st.just("registry.example/wif:1"),
    sidecar_gce_metadata=st.booleans(),
)


@given(_ANNOTATIONS, _ANNOTATIONS, _SETTINGS, st.booleans())
def test_no_annotation_crashes(
    account: dict[str, str], pod: dict[str, str], settings: WebhookSettings, is_windows: bool
) -> None:
    found = reading(account, pod, settings, is_windows=is_windows)
    assert all(finding.dialect == "native" for finding in found.findings)
    assert all(finding.message.isprintable() for finding in found.findings)
    if any(finding.level == "deny" for finding in found.findings):
        assert found.parts == ()
    if found.parts and found.parts[0].init_containers:
        (text,) = {text for part in found.parts for text in part.annotations.values()}
        load_sidecar(json.loads(text)["sidecar"])
    elif found.parts:
        content(found.parts)


_HOSTILE = st.text(alphabet=string.printable + "é\u2028\x00\x7f", max_size=30)


@given(_HOSTILE, _HOSTILE, _HOSTILE, _HOSTILE)
def test_a_hostile_value_stays_inside_its_string(session: str, audience: str, project: str, email: str) -> None:
    """What is let through is in the files as it is, and nothing else is."""
    account = AWS | TWO_ROLES | GCP
    changes = {
        "aws.session-name": session,
        "aws.audience": audience,
        "gcp.project": project,
        "gcp.service-account": email,
    }
    for key, value in changes.items():
        found = reading(account | {key: value}).parts
        if not found:
            continue
        document = json.loads(file(found, "gcp/credentials.json"))
        expected = json.loads(file(parts(account), "gcp/credentials.json"))
        url = document.pop("service_account_impersonation_url")
        expected_url = expected.pop("service_account_impersonation_url")
        assert document == expected
        named = value if key == "gcp.service-account" else EMAIL
        assert url == expected_url.replace(EMAIL, named)
        assert not set(named) & set('/?#:"%')
        config = RawConfigParser()
        config.read_string(file(found, "aws/config"))
        assert config.sections() == ["default", "profile reader", "profile writer"]
        assert config["default"]["role_session_name"] == (value if key == "aws.session-name" else "team-a.app")
        assert all(len(config[name]) == 3 for name in config.sections())
