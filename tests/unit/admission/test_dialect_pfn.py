"""The dialect of PFN's webhook for GCP, by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, Reading, pfn
from wif.admission.injection import EnvGroup, Part
from wif.config.webhook import WebhookSettings, load_webhook

PROVIDER = "projects/123456789/locations/global/workloadIdentityPools/pool/providers/cluster"
EMAIL = "app@my-project.iam.gserviceaccount.com"
ASKED = {"cloud.google.com/workload-identity-provider": PROVIDER, "cloud.google.com/service-account-email": EMAIL}
SETTINGS = WebhookSettings()
PEER = load_webhook({"compat": "pfn"})


def read(
    annotations: Mapping[str, str],
    settings: WebhookSettings = SETTINGS,
    *,
    pod: Mapping[str, str] | None = None,
    has_fs_group: bool = False,
) -> Reading:
    account = ServiceAccount("shop", "app", "u-1", annotations)
    return pfn.read(account, PodFacts(tuple(sorted((pod or {}).items())), has_fs_group=has_fs_group), settings)


def part(reading: Reading) -> Part:
    (found,) = reading.parts
    return found


def rules(reading: Reading) -> list[tuple[str, str]]:
    return [(finding.rule, finding.level) for finding in reading.findings]


def changed(**values: str | None) -> dict[str, str]:
    """The annotations with others; None takes one away."""
    given = {**ASKED, **{f"cloud.google.com/{name.replace('_', '-')}": text for name, text in values.items()}}
    return {key: text for key, text in given.items() if text is not None}


def test_direct_mode() -> None:
    reading = read(ASKED)
    found = part(reading)
    assert reading.findings == ()
    assert [volume.content for volume in found.volumes] == [
        {
            "name": "gcp-iam-token",
            "projected": {
                "defaultMode": 0o444,
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": "sts.googleapis.com",
                            "expirationSeconds": 3600,
                            "path": "token",
                        }
                    }
                ],
            },
        },
        {
            "name": "external-credential-config",
            "downwardAPI": {
                "defaultMode": 0o444,
                "items": [
                    {
                        "path": "federation.json",
                        "fieldRef": {
                            "apiVersion": "v1",
                            "fieldPath": "metadata.annotations['cloud.google.com/external-credentials-json']",
                        },
                    }
                ],
            },
        },
    ]
    assert found.mounts == (
        ("gcp-iam-token", "/var/run/secrets/sts.googleapis.com/serviceaccount", True, "replace"),
        ("external-credential-config", "/var/run/secrets/workload-identity", True, "replace"),
    )
    assert {volume.collision for volume in found.volumes} == {"replace"}
    assert found.init_containers == ()
    assert (found.dialect, found.cloud, found.identity) == ("pfn", "gcp", EMAIL)
    assert found.audiences == ("sts.googleapis.com",)


def test_the_credential_file_is_one_line_of_json() -> None:
    text = part(read(ASKED)).annotations["cloud.google.com/external-credentials-json"]
    assert json.loads(text) == {
        "type": "external_account",
        "audience": f"//iam.googleapis.com/{PROVIDER}",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "service_account_impersonation_url": (
            f"https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{EMAIL}:generateAccessToken"
        ),
        "credential_source": {
            "file": "/var/run/secrets/sts.googleapis.com/serviceaccount/token",
            "format": {"type": "text"},
        },
    }
    assert " " not in text


def test_the_pod_says_what_it_was_given() -> None:
    written = dict(part(read(changed(audience="aud", token_expiration="7200"))).annotations)
    del written["cloud.google.com/external-credentials-json"]
    assert written == {
        **ASKED,
        "cloud.google.com/audience": "aud",
        "cloud.google.com/token-expiration": "7200",
    }
    assert "cloud.google.com/external-credentials-json" not in part(read(ASKED, PEER)).annotations


def test_the_gcloud_command_finds_the_file_too() -> None:
    path = "/var/run/secrets/workload-identity/federation.json"
    assert part(read(ASKED)).env == (
        EnvGroup(
            "replace",
            (("GOOGLE_APPLICATION_CREDENTIALS", path), ("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", path)),  # type: ignore[arg-type] # equal to Variables
        ),
        EnvGroup("absent", (("CLOUDSDK_CORE_PROJECT", "my-project"),)),  # type: ignore[arg-type] # as above
    )


def test_compat_sets_what_the_peer_sets_even_to_nothing() -> None:
    env = part(read(changed(service_account_email="1234567890"), PEER)).env
    assert env[1] == ("absent", (("CLOUDSDK_COMPUTE_REGION", ""), ("CLOUDSDK_CORE_PROJECT", "")))
    direct = part(read(changed(injection_mode="direct"), PEER)).env
    assert [variable.name for variable in direct[0].variables] == ["GOOGLE_APPLICATION_CREDENTIALS"]


def test_the_region_is_the_operators() -> None:
    settings = WebhookSettings(gcp_region="asia-northeast1")
    assert part(read(ASKED, settings)).env[1].variables[0] == ("CLOUDSDK_COMPUTE_REGION", "asia-northeast1")


@pytest.mark.parametrize(
    ("email", "project"),
    [
        (EMAIL, "my-project"),
        ("app@demo.iam.gserviceaccount.com", "demo"),  # too short for Google; the peer reads it
        ("app@my-project.example.com.iam.gserviceaccount.com", "example.com:my-project"),
        ("1-compute@developer.gserviceaccount.com", None),
        ("app@my-project.iam.googleapis.com", None),
    ],
)
def test_the_project_is_the_one_of_the_email(email: str, project: str | None) -> None:
    names = dict(part(read(changed(service_account_email=email))).env[1].variables)
    assert names == ({} if project is None else {"CLOUDSDK_CORE_PROJECT": project})


def test_gcloud_mode() -> None:
    found = part(read(changed(gcloud_run_as_user="1000"), PEER))
    assert [volume.content for volume in found.volumes][1] == {"name": "gcloud-config", "emptyDir": {}}
    assert found.volumes[0].content["projected"]["defaultMode"] == 0o440
    assert found.mounts[1] == ("gcloud-config", "/var/run/secrets/gcloud/config", False, "replace")
    assert found.env[0] == (
        "replace",
        (
            ("GOOGLE_APPLICATION_CREDENTIALS", "/var/run/secrets/gcloud/config/federation.json"),
            ("CLOUDSDK_CONFIG", "/var/run/secrets/gcloud/config"),
        ),
    )
    (setup,) = found.init_containers
    assert setup.content == {
        "name": "gcloud-setup",
        "image": "gcr.io/google.com/cloudsdktool/google-cloud-cli:stable",
        "command": [
            "sh",
            "-c",
            "gcloud iam workload-identity-pools create-cred-config \\\n"
            "  $(GCP_WORKLOAD_IDENTITY_PROVIDER) \\\n"
            "  --service-account=$(GCP_SERVICE_ACCOUNT) \\\n"
            "  --output-file=$(CLOUDSDK_CONFIG)/federation.json \\\n"
            "  --credential-source-file=/var/run/secrets/sts.googleapis.com/serviceaccount/token\n"
            "gcloud auth login --cred-file=$(CLOUDSDK_CONFIG)/federation.json\n",
        ],
        "env": [
            {"name": "GCP_WORKLOAD_IDENTITY_PROVIDER", "value": PROVIDER},
            {"name": "GCP_SERVICE_ACCOUNT", "value": EMAIL},
            {"name": "CLOUDSDK_CONFIG", "value": "/var/run/secrets/gcloud/config"},
            {"name": "CLOUDSDK_CORE_PROJECT", "value": "my-project"},
        ],
        "volumeMounts": [
            {
                "name": "gcp-iam-token",
                "mountPath": "/var/run/secrets/sts.googleapis.com/serviceaccount",
                "readOnly": True,
            },
            {"name": "gcloud-config", "mountPath": "/var/run/secrets/gcloud/config"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "runAsUser": 1000,
        },
    }


def test_image_and_resources_of_the_init_container_are_the_operators() -> None:
    settings = WebhookSettings(
        gcp_mode="gcloud", gcloud_image="r.example/cli:1", gcloud_resources={"requests": {"cpu": "1"}}
    )
    content = part(read(changed(service_account_email="1234567890"), settings)).init_containers[0].content
    assert (content["image"], content["resources"]) == ("r.example/cli:1", {"requests": {"cpu": "1"}})
    assert "runAsUser" not in content["securityContext"]
    assert [row["name"] for row in content["env"]][-1] == "CLOUDSDK_CONFIG"


@pytest.mark.parametrize(
    ("mode", "default", "is_direct"),
    [("direct", "gcloud", True), ("DIRECT", "gcloud", True), ("gcloud", "direct", False), (None, "gcloud", False)],
)
def test_the_account_chooses_the_mode(mode: str | None, default: str, is_direct: bool) -> None:
    found = part(read(changed(injection_mode=mode), load_webhook({"gcp_mode": default})))
    assert (not found.init_containers) is is_direct


@pytest.mark.parametrize(
    ("mode", "has_fs_group", "found"), [(None, False, 0o444), (None, True, 0o440), (0o400, True, 0o400)]
)
def test_a_container_that_is_not_root_can_read_the_files(mode: int | None, has_fs_group: bool, found: int) -> None:
    for volume in part(read(ASKED, WebhookSettings(token_mode=mode), has_fs_group=has_fs_group)).volumes:
        (content,) = [volume.content[kind] for kind in volume.content if kind != "name"]
        assert content["defaultMode"] == found


@pytest.mark.parametrize(("text", "names"), [(None, set()), ("a, b ,,c", {"a", "b", "c"})])
def test_containers_to_skip(text: str | None, names: set[str]) -> None:
    pod = {} if text is None else {"cloud.google.com/skip-containers": text}
    assert part(read(ASKED, PEER, pod=pod)).skip == names
    assert part(read(ASKED, pod=pod)).skip == names | {"gcloud-setup"}


@pytest.mark.parametrize(
    ("pod", "account", "seconds", "found"),
    [
        (None, None, 3600, []),
        ("60", None, 3600, [("token-expiration-clamped", "warning")]),
        ("-1", None, 3600, [("token-expiration-clamped", "warning")]),
        ("3601", "10000", 3601, []),
        ("20000", "10000", 10000, [("token-expiration-clamped", "warning")]),
        (None, "0", 3600, [("token-expiration-clamped", "warning")]),
        (None, "999999", 999999, []),
    ],
)
def test_lifetime(pod: str | None, account: str | None, seconds: int, found: list[tuple[str, str]]) -> None:
    reading = read(
        changed(token_expiration=account), pod={} if pod is None else {"cloud.google.com/token-expiration": pod}
    )
    token = part(reading).volumes[0].content["projected"]["sources"][0]["serviceAccountToken"]
    assert token["expirationSeconds"] == seconds
    assert rules(reading) == found


def test_a_pods_malformed_lifetime_is_refused() -> None:
    reading = read(ASKED, pod={"cloud.google.com/token-expiration": "not-integer"})
    assert reading.parts == ()
    assert rules(reading) == [("token-expiration-malformed", "deny")]
    assert reading.findings[0].message == (
        "the pod: annotation cloud.google.com/token-expiration is 'not-integer', expected a whole number of seconds"
    )


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("workload_identity_provider", "malformed", "provider-malformed"),
        ("workload_identity_provider", f"//iam.googleapis.com/{PROVIDER}", "provider-malformed"),
        ("workload_identity_provider", f"{PROVIDER}?x=1", "provider-malformed"),
        ("workload_identity_provider", f"{PROVIDER};id", "provider-malformed"),
        ("workload_identity_provider", PROVIDER.replace("pool/", "$(id)/"), "provider-malformed"),
        ("workload_identity_provider", f"{PROVIDER}\n", "provider-malformed"),
        ("workload_identity_provider", f"{PROVIDER}{'x' * 512}", "provider-malformed"),
        ("service_account_email", "", "email-malformed"),
        ("service_account_email", "app/../x@p.iam.gserviceaccount.com", "email-malformed"),
        ("service_account_email", "app@p.iam.gserviceaccount.com?x", "email-malformed"),
        ("service_account_email", "app@p.iam.gserviceaccount.com#x", "email-malformed"),
        ("service_account_email", 'app"@p.iam.gserviceaccount.com', "email-malformed"),
        ("service_account_email", "app@p.iam.gserviceaccount.com:x", "email-malformed"),
        ("service_account_email", "app;id@p.iam.gserviceaccount.com", "email-malformed"),
        ("audience", "", "audience-malformed"),
        ("audience", "a\tb", "audience-malformed"),
        ("token_expiration", "not integer", "token-expiration-malformed"),
        ("gcloud_run_as_user", "root", "run-as-user-malformed"),
        ("gcloud_run_as_user", "-1", "run-as-user-malformed"),
        ("gcloud_run_as_user", "2147483648", "run-as-user-malformed"),
        ("injection_mode", "not-valid", "injection-mode-malformed"),
        ("injection_mode", "", "injection-mode-malformed"),
    ],
)
def test_a_malformed_annotation_is_refused_and_named(name: str, text: str, rule: str) -> None:
    annotations = changed(**{name: text})
    reading = read(annotations)
    assert reading.parts == ()
    assert rules(reading) == [(rule, "deny")]
    key = f"cloud.google.com/{name.replace('_', '-')}"
    assert reading.findings[0].message.startswith(f"ServiceAccount shop/app: annotation {key} is ")
    assert [(finding.rule, finding.level) for finding in pfn.check(annotations, SETTINGS)] == [(rule, "deny")]


@pytest.mark.parametrize("missing", ["service-account-email", "workload-identity-provider"])
def test_half_an_identity_is_refused_with_the_name_of_what_is_missing(missing: str) -> None:
    key = f"cloud.google.com/{missing}"
    (other,) = (name for name in ASKED if name != key)
    reading = read({other: ASKED[other]})
    assert reading.parts == ()
    assert rules(reading) == [("identity-partial", "deny")]
    assert reading.findings[0].message == (
        f"ServiceAccount shop/app: annotation {key} is missing beside {other}, expected both"
    )
    assert "wif.internal/gcp.provider" in reading.findings[0].hint


def test_a_provider_that_google_cannot_have_is_a_warning() -> None:
    provider = PROVIDER.replace("123456789", "{PROJECT_NUMBER}")
    reading = read(changed(workload_identity_provider=provider))
    assert rules(reading) == [("provider-unknown", "warning")]
    assert part(reading).annotations["cloud.google.com/workload-identity-provider"] == provider


@pytest.mark.parametrize("before", ["", "//iam.googleapis.com/", "https://iam.googleapis.com/"])
def test_the_operators_provider_is_for_accounts_that_name_none(before: str) -> None:
    settings = WebhookSettings(gcp_provider=before + PROVIDER)
    reading = read(changed(workload_identity_provider=None), settings)
    assert part(reading).annotations["cloud.google.com/workload-identity-provider"] == PROVIDER
    other = PROVIDER.replace("cluster", "other")
    reading = read(changed(workload_identity_provider=other), settings)
    assert part(reading).annotations["cloud.google.com/workload-identity-provider"] == other


def test_the_rest_without_a_pair_has_no_effect() -> None:
    reading = read({"cloud.google.com/token-expiration": "x"})
    assert rules(reading) == [("annotation-without-effect", "warning")]
    assert read({"cloud.google.com/neg": "x"}) == Reading()


def test_another_prefix() -> None:
    settings = WebhookSettings(gcp_prefix="gcp.example.com")
    given = {key.replace("cloud.google.com", "gcp.example.com"): text for key, text in ASKED.items()}
    found = part(read(given, settings))
    assert "gcp.example.com/external-credentials-json" in found.annotations
    item = found.volumes[1].content["downwardAPI"]["items"][0]
    assert item["fieldRef"]["fieldPath"] == "metadata.annotations['gcp.example.com/external-credentials-json']"
    assert read(ASKED, settings) == Reading()


def test_check_reports_what_is_not_read() -> None:
    said = pfn.check({**ASKED, "cloud.google.com/skip-containers": "a"}, SETTINGS)
    assert [(finding.rule, finding.level) for finding in said] == [("annotation-unknown", "warning")]
    assert pfn.check(ASKED, SETTINGS) == []
