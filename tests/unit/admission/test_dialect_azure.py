"""The dialect of the Azure webhook, by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, Reading, azure
from wif.admission.injection import Part
from wif.config.webhook import AzureTokenEndpoint, WebhookSettings, load_webhook

CLIENT = "11111111-2222-3333-4444-555555555555"
TENANT = "99999999-2222-3333-4444-555555555555"
ASKED = {"azure.workload.identity/client-id": CLIENT}
LABEL = {"azure.workload.identity/use": "true"}
SETTINGS = WebhookSettings(azure_tenant_id=TENANT)
KEY = "azure.workload.identity/service-account-token-expiration"


def read(
    annotations: Mapping[str, str],
    settings: WebhookSettings = SETTINGS,
    *,
    pod: Mapping[str, str] | None = None,
    labels: Mapping[str, str] = LABEL,
    is_windows: bool = False,
) -> Reading:
    account = ServiceAccount("shop", "app", "u-1", annotations)
    facts = PodFacts(tuple(sorted((pod or {}).items())), tuple(sorted(labels.items())), is_windows=is_windows)
    return azure.read(account, facts, settings)


def part(reading: Reading) -> Part:
    (found,) = reading.parts
    return found


def rules(reading: Reading) -> list[tuple[str, str]]:
    return [(finding.rule, finding.level) for finding in reading.findings]


def sources(found: Part) -> Any:
    return found.volumes[0].content["projected"]["sources"]


def test_the_layout_of_today() -> None:
    reading = read(ASKED)
    found = part(reading)
    assert reading.findings == ()
    assert found.volumes[0].content == {
        "name": "azure-workload-identity-reserved-{pod-hash}",
        "projected": {
            "sources": [
                {
                    "serviceAccountToken": {
                        "audience": "api://AzureADTokenExchange",
                        "expirationSeconds": 3600,
                        "path": "token/azure-identity-token",
                    }
                }
            ]
        },
    }
    assert (found.volumes[0].first, found.volumes[0].collision) == (False, "replace")
    assert found.mounts == (
        ("azure-workload-identity-reserved-{pod-hash}", "/var/run/secrets/azure/wi", True, "replace"),
    )
    assert found.env == (
        (
            "absent",
            (
                ("AZURE_CLIENT_ID", CLIENT),
                ("AZURE_TENANT_ID", TENANT),
                ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/wi/token/azure-identity-token"),
                ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
            ),
        ),
    )
    assert (found.dialect, found.cloud, found.identity) == ("azure", "azure", CLIENT)
    assert found.audiences == ("api://AzureADTokenExchange",)


@pytest.mark.parametrize(
    ("layout", "volume", "mount", "file", "collision"),
    [
        (
            "v1.5",
            "azure-identity-token",
            "/var/run/secrets/azure/tokens",
            "/var/run/secrets/azure/tokens/azure-identity-token",
            "keep",
        ),
        (
            "hashed",
            "azure-workload-identity-reserved-{pod-hash}",
            "/var/run/secrets/azure/wi/{pod-hash}",
            "/var/run/secrets/azure/wi/{pod-hash}/token/azure-identity-token",
            "replace",
        ),
    ],
)
def test_the_other_layouts(layout: str, volume: str, mount: str, file: str, collision: str) -> None:
    found = part(read(ASKED, load_webhook({"azure_layout": layout})))
    assert found.mounts == ((volume, mount, True, collision),)
    assert (found.volumes[0].name, found.volumes[0].collision) == (volume, collision)
    assert dict(found.env[0].variables)["AZURE_FEDERATED_TOKEN_FILE"] == file
    assert file == f"{mount}/{sources(found)[0]['serviceAccountToken']['path']}"


@pytest.mark.parametrize("labels", [{}, {"azure.workload.identity/use": "false"}, {"other/use": "true"}])
def test_a_pod_without_the_label_gets_nothing_and_only_explain_says_so(labels: dict[str, str]) -> None:
    reading = read(ASKED, labels=labels)
    assert reading.parts == ()
    assert rules(reading) == [("use-label-missing", "note")]
    assert read({KEY: "broken"}, labels=labels) == Reading()


def test_the_label_is_enough() -> None:
    found = part(read({}))
    assert [variable.name for variable in found.env[0].variables] == [
        "AZURE_TENANT_ID",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_AUTHORITY_HOST",
    ]
    assert found.identity == "the client id of each container"


def test_no_tenant_is_known() -> None:
    names = [variable.name for variable in part(read({}, WebhookSettings())).env[0].variables]
    assert names == ["AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"]


def test_the_account_names_another_tenant() -> None:
    found = part(read({**ASKED, "azure.workload.identity/tenant-id": "contoso.example"}))
    assert dict(found.env[0].variables)["AZURE_TENANT_ID"] == "contoso.example"


def test_an_empty_tenant_is_no_tenant() -> None:
    reading = read({**ASKED, "azure.workload.identity/tenant-id": ""})
    assert "AZURE_TENANT_ID" not in dict(part(reading).env[0].variables)
    assert rules(reading) == [("tenant-id-empty", "warning")]


def test_windows_has_the_same_paths() -> None:
    assert read(ASKED, is_windows=True) == read(ASKED)


@pytest.mark.parametrize(
    ("key", "text", "rule", "expected"),
    [
        ("client-id", "a/b", "client-id-malformed", "expected the application (client) id of the identity, a GUID"),
        ("tenant-id", "a/../b", "tenant-id-malformed", "expected the directory (tenant) id, a GUID or a domain"),
        ("tenant-id", "common", "tenant-id-malformed", "expected the directory (tenant) id, a GUID or a domain"),
        (
            "service-account-token-expiration",
            "100",
            "token-expiration-malformed",
            "expected a whole number of seconds from 3600 to 86400",
        ),
        (
            "service-account-token-expiration",
            "3600s",
            "token-expiration-malformed",
            "expected a whole number of seconds from 3600 to 86400",
        ),
    ],
)
def test_a_malformed_annotation_is_refused_and_named(key: str, text: str, rule: str, expected: str) -> None:
    annotations = {**ASKED, f"azure.workload.identity/{key}": text}
    reading = read(annotations)
    assert reading.parts == ()
    assert rules(reading) == [(rule, "deny")]
    assert reading.findings[0].message == (
        f"ServiceAccount shop/app: annotation azure.workload.identity/{key} is {text!r}, {expected}"
    )
    said = azure.check(annotations, SETTINGS)
    assert [(finding.rule, finding.level) for finding in said] == [(rule, "deny")]


def test_a_pods_lifetime_out_of_bounds_is_refused_in_the_pods_name() -> None:
    reading = read({**ASKED, KEY: "4800"}, pod={KEY: "86401"})
    assert reading.parts == ()
    assert reading.findings[0].message == (
        f"the pod: annotation {KEY} is '86401', expected a whole number of seconds from 3600 to 86400"
    )


@pytest.mark.parametrize(
    ("pod", "account", "seconds", "found"),
    [
        (None, None, 3600, []),
        ("", "", 3600, []),
        (None, "86400", 86400, []),
        ("86400", None, 86400, []),
        ("3600", "4800", 3600, []),
        ("7200", "4800", 4800, [("token-expiration-clamped", "warning")]),
    ],
)
def test_lifetime(pod: str | None, account: str | None, seconds: int, found: list[tuple[str, str]]) -> None:
    reading = read({**ASKED, **({} if account is None else {KEY: account})}, pod={} if pod is None else {KEY: pod})
    assert sources(part(reading))[0]["serviceAccountToken"]["expirationSeconds"] == seconds
    assert rules(reading) == found


@pytest.mark.parametrize(("text", "names"), [(None, set()), ("a; b ;", {"a", "b"}), ("a,b", {"a,b"}), (";", set())])
def test_containers_to_skip(text: str | None, names: set[str]) -> None:
    pod = {} if text is None else {"azure.workload.identity/skip-containers": text}
    assert part(read(ASKED, pod=pod)).skip == names


@pytest.mark.parametrize("value", ["true", "false", ""])
def test_the_proxy_is_not_injected_and_that_is_said(value: str) -> None:
    reading = read(ASKED, pod={"azure.workload.identity/inject-proxy-sidecar": value})
    assert part(reading) == part(read(ASKED))
    assert rules(reading) == [("proxy-unsupported", "warning")]
    assert "azure.workload.identity/inject-proxy-sidecar" in reading.findings[0].message


class TestTokenEndpoint:
    """Identity bindings: the operator's own token endpoint, for pods that ask for it."""

    def asked(self, value: str = "True", **endpoint: Any) -> Part:
        settings = WebhookSettings(
            azure_tenant_id=TENANT,
            azure_token_endpoint=AzureTokenEndpoint(
                annotation_suffix="identity-binding",
                audience="api://AKSIdentityBinding",
                token_proxy="https://kubernetes.default.svc",
                **endpoint,
            ),
        )
        return part(read(ASKED, settings, pod={"azure.workload.identity/use-identity-binding": value}))

    def test_a_config_map_has_the_authorities(self) -> None:
        found = self.asked(sni_name="x.example", ca_config_map="kube-root-ca.crt")
        assert found.audiences == ("api://AKSIdentityBinding",)
        assert sources(found)[0]["serviceAccountToken"]["audience"] == "api://AKSIdentityBinding"
        assert sources(found)[1:] == [
            {
                "configMap": {
                    "name": "kube-root-ca.crt",
                    "items": [{"key": "ca.crt", "path": "ca-cert/ca.crt"}],
                    "optional": False,
                }
            }
        ]
        assert found.env[0].variables[4:] == (
            ("AZURE_KUBERNETES_TOKEN_PROXY", "https://kubernetes.default.svc"),
            ("AZURE_KUBERNETES_SNI_NAME", "x.example"),
            ("AZURE_KUBERNETES_CA_FILE", "/var/run/secrets/azure/wi/ca-cert/ca.crt"),
        )

    @pytest.mark.parametrize("labels", [None, {"matchLabels": {"a": "b"}}])
    def test_a_trust_bundle_has_them(self, labels: dict[str, Any] | None) -> None:
        found = self.asked(ca_trust_bundle_signer="x.example/signer", ca_trust_bundle_labels=labels)
        (bundle,) = sources(found)[1:]
        assert bundle == {
            "clusterTrustBundle": {
                "signerName": "x.example/signer",
                **({} if labels is None else {"labelSelector": labels}),
                "path": "ca-cert/ca.crt",
                "optional": False,
            }
        }

    def test_a_variable_has_them(self) -> None:
        found = self.asked(ca_data="-----BEGIN CERTIFICATE-----")
        assert sources(found)[1:] == []
        assert [variable.name for variable in found.env[0].variables[4:]] == [
            "AZURE_KUBERNETES_TOKEN_PROXY",
            "AZURE_KUBERNETES_CA_DATA",
        ]

    @pytest.mark.parametrize("value", ["1", "", "yes"])
    def test_other_words_do_not_ask(self, value: str) -> None:
        assert self.asked(value) == part(read(ASKED))

    def test_a_pod_that_says_nothing_does_not_ask(self) -> None:
        settings = WebhookSettings(
            azure_tenant_id=TENANT, azure_token_endpoint=AzureTokenEndpoint(annotation_suffix="x", audience="y")
        )
        assert read(ASKED, settings) == read(ASKED)


def test_another_prefix() -> None:
    settings = WebhookSettings(azure_prefix="az.example.com")
    found = part(read({"az.example.com/client-id": CLIENT}, settings, labels={"az.example.com/use": "true"}))
    assert found.identity == CLIENT
    assert read(ASKED, settings) == Reading()


def test_check_reports_what_is_not_read() -> None:
    said = azure.check({**ASKED, "azure.workload.identity/clientid": "x"}, SETTINGS)
    assert [(finding.rule, finding.level) for finding in said] == [("annotation-unknown", "warning")]
    assert azure.check({**ASKED, KEY: ""}, SETTINGS) == []
