"""The settings of the webhook: the peers' defaults, and what is refused."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.config.webhook import COMPAT, SIDECAR_VARIABLES, WebhookSettings, load_webhook, webhook_schema
from wif.errors import ConfigurationError


def test_nothing_said_gives_the_defaults() -> None:
    assert load_webhook({}) == WebhookSettings()
    assert WebhookSettings().prefixes == (
        "wif.internal/",
        "cloud.google.com/",
        "eks.amazonaws.com/",
        "azure.workload.identity/",
    )


def test_only_the_dialects_that_are_on_have_prefixes() -> None:
    settings = load_webhook({"dialects": ["azure", "pfn"], "gcp_prefix": "gcp.example.com"})
    assert settings.prefixes == ("gcp.example.com/", "azure.workload.identity/")


@pytest.mark.parametrize("peer", COMPAT)
def test_compat_sets_the_peers_defaults_under_what_is_said(peer: str) -> None:
    settings = load_webhook({"compat": peer})
    assert {name: getattr(settings, name) for name in COMPAT[peer]} == COMPAT[peer]
    assert settings.compat == peer
    assert load_webhook({"compat": peer, "max_token_expiration": 700}).max_token_expiration == 700


def test_the_peers_defaults_are_those_of_their_flags() -> None:
    """Each value from the peer's own --help."""
    pfn, eks, azure = (load_webhook({"compat": peer}) for peer in ("pfn", "eks", "azure"))
    assert (pfn.gcp_audience, pfn.gcp_token_expiration, pfn.gcp_mode) == ("sts.googleapis.com", 86400, "gcloud")
    assert (pfn.token_mode, pfn.gcp_region) == (288, None)
    assert (eks.aws_audience, eks.aws_token_expiration, eks.aws_regional_sts) == ("sts.amazonaws.com", 86400, False)
    assert (eks.aws_region, eks.aws_account_id) == (None, None)
    assert (azure.azure_audience, azure.azure_token_expiration) == ("api://AzureADTokenExchange", 3600)
    assert (azure.azure_layout, azure.max_token_expiration) == ("v1.6", 86400)


def test_compat_native_is_the_default() -> None:
    assert load_webhook({"compat": "native"}) == WebhookSettings(compat="native")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"dialect": ["eks"]}, "unknown field `dialect`"),
        ({"compat": 7}, "compat"),
        ({"compat": "gke"}, "compat"),
        ({"dialects": []}, "dialects"),
        ({"prefix": "UPPER"}, "prefix"),
        ({"aws_account_id": "12"}, "aws_account_id"),
        ({"aws_token_mount_path": "relative"}, "aws_token_mount_path"),
        ({"aws_token_expiration": 599}, "aws_token_expiration"),
        ({"gcloud_image": "a\nb"}, "gcloud_image"),
        ({"sidecar_uid": 0}, "sidecar_uid"),
        ({"sidecar_uid": 65534}, "sidecar_uid"),
        ({"sidecar_port": 80}, "sidecar_port"),
        ({"sidecar_address": "0.0.0.0"}, "sidecar_address"),
        ({"sidecar_env": {"A-B": "x"}}, "sidecar_env"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_webhook(values, origin="wif.yaml")
    assert caught.value.code == "config-invalid"
    assert caught.value.message.startswith("wif.yaml: ")
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sidecar_port": 9000, "sidecar_health_port": 9000}, "are both 9000"),
        ({"sidecar_health_port": 8787}, "are both 8787"),
        *(({"sidecar_env": {name: "x"}}, f"sidecar_env sets {name}") for name in sorted(SIDECAR_VARIABLES)),
    ],
)
def test_a_sidecar_that_could_not_work_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_webhook(values)
    assert caught.value.code == "config-conflict"
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ({"ca_data": "x", "ca_config_map": "y"}, "three ways to say the same"),
        ({"ca_config_map": "y", "ca_trust_bundle_signer": "z"}, "three ways to say the same"),
        ({"ca_trust_bundle_labels": {}}, "which is missing"),
        ({"audience": "API://azureadtokenexchange"}, "which is azure_audience"),
    ],
)
def test_a_token_endpoint_that_contradicts_itself_is_refused(endpoint: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_webhook({"azure_token_endpoint": {"annotation_suffix": "x", "audience": "y", **endpoint}})
    assert caught.value.code == "config-conflict"
    assert said in caught.value.message


@pytest.mark.parametrize(
    "endpoint",
    [{}, {"ca_data": "x"}, {"ca_config_map": "y"}, {"ca_trust_bundle_signer": "z", "ca_trust_bundle_labels": {}}],
)
def test_a_token_endpoint(endpoint: dict[str, Any]) -> None:
    settings = load_webhook({"azure_token_endpoint": {"annotation_suffix": "x", "audience": "y", **endpoint}})
    assert settings.azure_token_endpoint is not None
    assert settings.azure_token_endpoint.audience == "y"


def test_the_schema_names_every_setting() -> None:
    (definition,) = [part for part in webhook_schema()["$defs"].values() if part.get("title") == "WebhookSettings"]
    assert set(definition["properties"]) == set(WebhookSettings.__struct_fields__)


def test_two_dialects_have_two_prefixes() -> None:
    same = {"prefix": "id.example.com", "aws_prefix": "id.example.com"}
    with pytest.raises(ConfigurationError, match=r"two dialects have the prefix 'id\.example\.com/'") as caught:
        load_webhook(same)
    assert caught.value.code == "config-conflict"
    assert load_webhook(same | {"dialects": ["native", "pfn"]}).prefixes == ("id.example.com/", "cloud.google.com/")


def _loop() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["limits"] = loop
    return loop


@pytest.mark.parametrize(
    "values",
    [
        {"aws_region": "\ud800"},
        {"\ud800": "x"},
        {"gcloud_resources": {"limits": {None: 1}}},
        {"gcloud_resources": {"limits": "\udfff"}},
        {"gcloud_resources": _loop()},
    ],
)
def test_what_yaml_can_say_and_json_cannot_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_webhook(values)
    assert caught.value.code == "config-invalid"
    assert caught.value.message.isprintable()


def test_the_schema_takes_what_is_read() -> None:
    schema = webhook_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    good: list[dict[str, Any]] = [{}, {"dialects": ["eks"], "token_mode": 288}, {"gcloud_resources": {"limits": {}}}]
    for values in good:
        assert validator.is_valid(values)
        assert isinstance(load_webhook(values), WebhookSettings)
    bad: list[dict[str, Any]] = [{"dialects": []}, {"prefx": "x"}, {"aws_token_expiration": 60}, {"aws_region": "a\nb"}]
    for values in bad:
        assert not validator.is_valid(values)


_MEMBERS = st.sampled_from([*WebhookSettings.__struct_fields__, "unknown"])
_YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.none(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(_MEMBERS, _YAML, max_size=3))
def test_no_section_crashes(values: dict[str, Any]) -> None:
    try:
        assert isinstance(load_webhook(values), WebhookSettings)
    except ConfigurationError as error:
        assert error.code in ("config-invalid", "config-conflict")  # noqa: PT017 - some are read, some are not
