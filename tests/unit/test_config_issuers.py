"""The issuers of wif.yaml: read strictly, and a slip is named by file, issuer and member."""

from __future__ import annotations

from datetime import date
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.config import ISSUERS, from_document
from wif.config.issuers import IssuerSettings, TargetSettings, issuers_schema, load_issuers
from wif.errors import ConfigurationError

TARGET = {"url": "s3://bucket/production", "region": "eu-central-1"}
ISSUER = {"issuer": "https://oidc.example.com/production", "to": [TARGET]}

FULL_TARGET: dict[str, Any] = {
    "url": "s3://bucket",
    "endpoint": "http://127.0.0.1:5000",
    "region": "eu-central-1",
    "ca_file": "ca.pem",
    "clouds": ["aws"],
    "single_writer": True,
    "second_way_in": "standard-chain",
    "allow_http": True,
}
FULL: dict[str, Any] = {
    "issuer": "https://oidc.example.com/old",
    "former_issuer": True,
    "jwks_uri": "https://oidc.example.com/old/keys",
    "kubeconfig": "/k",
    "context": "c",
    "api_servers": ["https://10.0.0.1:6443"],
    "public_keys": ["sa.pub"],
    "jwks": ["jwks.json"],
    "to": [FULL_TARGET],
    "state": "configmap:wif/state",
    "namespace": "wif",
    "cache_control": "public, max-age=60",
    "cache_seconds": 3600,
    "skew_seconds": 60,
    "longest_token_seconds": 86400,
    "ca_file": "ca.pem",
    "verify": False,
    "allow_private": True,
    "use_kubernetes": True,
}


def load(value: Any, *, is_named: bool = True) -> Any:
    return load_issuers({ISSUERS: {"production": value}}, "wif.yaml", is_named=is_named)["production"]


def refused(document: Any, code: str = "config-invalid", **more: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_issuers(document, "wif.yaml", **more)
    assert caught.value.code == code
    return caught.value.message


def test_the_section_is_left_alone_by_the_other_settings() -> None:
    for section in ({"production": ISSUER}, None, "anything"):
        layer = from_document({"token_file": "/t", ISSUERS: section}, origin="wif.yaml", is_named=False)
        assert layer == {"token_file": "/t"}


def test_no_section_is_no_issuer() -> None:
    documents: list[Any] = [None, {}, {"aws": {}}, {ISSUERS: None}]
    for document in documents:
        assert load_issuers(document, "wif.yaml") == {}


def test_an_issuer_has_the_defaults_of_the_command() -> None:
    assert load({}) == IssuerSettings()
    settings = load(ISSUER)
    assert settings.to == (TargetSettings(url="s3://bucket/production", region="eu-central-1"),)
    assert settings.to[0].clouds == ("aws", "gcp", "azure")
    assert (settings.cache_control, settings.cache_seconds, settings.skew_seconds) == (
        "public, max-age=300",
        86400,
        300,
    )
    assert (settings.use_kubernetes, settings.longest_token_seconds, settings.verify) == (None, None, True)


def test_every_member_can_be_given() -> None:
    settings = load(FULL)
    assert set(FULL) == set(IssuerSettings.__struct_fields__)
    assert set(FULL_TARGET) == set(TargetSettings.__struct_fields__)
    assert settings.api_servers == ("https://10.0.0.1:6443",)
    assert settings.to[0].clouds == ("aws",)


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        load(ISSUER).issuer = "https://other.example.com"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"isuer": "x"}, "wif.yaml has issuers.production that is wrong: Object contains unknown field `isuer`"),
        ({"to": [{}]}, "wif.yaml has issuers.production.to[0] that is wrong: Object missing required field `url`"),
        (
            {"to": [TARGET, {"url": "x", "regio": "y"}]},
            "issuers.production.to[1] that is wrong: Object contains unknown",
        ),
        ({"to": TARGET}, "issuers.production.to that is wrong: Expected `array`, got `object`"),
        ({"to": ["s3://bucket"]}, "issuers.production.to[0] that is wrong: Expected `object`, got `str`"),
        ({"issuer": 5}, "issuers.production.issuer that is wrong"),
        ({"issuer": ""}, "issuers.production.issuer that is wrong"),
        ({"issuer": date(2026, 1, 1)}, "issuers.production.issuer that is wrong"),
        ({"issuer": b"x"}, "issuers.production.issuer that is wrong"),
        ({"issuer": "x" * 2049}, "issuers.production.issuer that is wrong"),
        (
            {"cache_control": "a\r\nx-header: b"},
            "cache_control that is wrong: Expected a text without control characters",
        ),
        ({"cache_control": "a\n"}, "cache_control that is wrong: Expected a text without control characters"),
        ({"state": "a\0"}, "state that is wrong: Expected a text without control characters"),
        ({"issuer": "\ud800"}, "issuers.production with half a surrogate pair in it"),
        ({"cache_seconds": -1}, "issuers.production.cache_seconds that is wrong"),
        ({"cache_seconds": True}, "issuers.production.cache_seconds that is wrong"),
        ({"cache_seconds": "3600"}, "issuers.production.cache_seconds that is wrong"),
        ({"skew_seconds": 10**30}, "issuers.production.skew_seconds that is wrong"),
        ({"verify": "true"}, "issuers.production.verify that is wrong"),
        ({"to": [TARGET | {"clouds": []}]}, "issuers.production.to[0].clouds that is wrong"),
        ({"to": [TARGET | {"clouds": ["oracle"]}]}, "issuers.production.to[0].clouds[0] that is wrong"),
        ({"to": [TARGET, TARGET]}, "issuers.production.to with the target 's3://bucket/production' twice"),
        ({"former_issuer": True}, "former_issuer and without issuer"),
        ({"use_kubernetes": False}, "use_kubernetes: false and without issuer"),
        ([], "wif.yaml has issuers.production that is wrong"),
        (None, "wif.yaml has issuers.production that is wrong"),
    ],
)
def test_a_slip_is_named_by_file_issuer_and_member(value: Any, message: str) -> None:
    assert message in refused({ISSUERS: {"production": value}})


@pytest.mark.parametrize(
    "document", [[], "text", 5, {ISSUERS: []}, {ISSUERS: {}}, {ISSUERS: "x"}, {ISSUERS: {"": {}}}, {ISSUERS: {5: {}}}]
)
def test_what_is_no_section_is_refused(document: Any) -> None:
    assert refused(document).startswith("wif.yaml has ")


@pytest.mark.parametrize("name", ["a/b", "a b", ".a", "a-", "é", "\ud800", "a\n", "x" * 64])
def test_a_name_can_stand_in_a_metric_and_a_path(name: str) -> None:
    message = refused({ISSUERS: {name: ISSUER}})
    assert message.isprintable()
    assert load_issuers({ISSUERS: {"a.B_1-c": ISSUER, "x" * 63: {}}}, "wif.yaml").keys() == {"a.B_1-c", "x" * 63}


@pytest.mark.parametrize("member", ["kubeconfig", "api_servers", "public_keys", "jwks", "ca_file"])
def test_a_file_that_merely_lay_there_says_not_whom_to_trust(member: str) -> None:
    value = {**ISSUER, member: FULL[member]}
    message = refused({ISSUERS: {"production": value}}, "host-not-allowed", is_named=False)
    assert message.startswith(f"wif.yaml was found in the current directory and sets issuers.production.{member},")
    assert load(value)


@pytest.mark.parametrize(("member", "value"), [("endpoint", "https://x"), ("ca_file", "ca.pem"), ("allow_http", True)])
def test_a_file_that_merely_lay_there_names_no_endpoint(member: str, value: Any) -> None:
    document = {ISSUERS: {"production": {"to": [TARGET, {"url": "gs://b", member: value}]}}}
    assert f"production.to[1].{member}," in refused(document, "host-not-allowed", is_named=False)
    assert load(ISSUER, is_named=False) == load(ISSUER)


# -- the schema ----------------------------------------------------------------------------------------------------


def test_the_schema_takes_what_is_read_and_describes_every_member() -> None:
    schema = issuers_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"production": ISSUER, "old": FULL})
    for wrong in ({"a b": ISSUER}, {"a": {"isuer": "x"}}, {"a": {"to": ["x"]}}, {"a": {"cache_control": "a\nb"}}):
        assert not validator.is_valid(wrong)
    for part in schema["$defs"].values():
        assert part["additionalProperties"] is False
        assert all(member["description"] for member in part["properties"].values())


# -- nothing crashes -----------------------------------------------------------------------------------------------

_MEMBERS = st.sampled_from([*FULL, *FULL_TARGET, "unknown"])
_YAML = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=3) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_MEMBERS | st.text(max_size=3) | st.integers(), inner, max_size=4)
        | st.sets(st.text(max_size=3), max_size=2)
    ),
    max_leaves=10,
)


@given(_YAML, st.dictionaries(_MEMBERS, _YAML, max_size=3), st.dictionaries(_MEMBERS, _YAML, max_size=2), st.booleans())
def test_no_document_crashes(value: Any, changes: dict[str, Any], of_target: dict[str, Any], is_named: bool) -> None:
    changed = ISSUER | changes
    for document in (
        *(value, {ISSUERS: value}, {ISSUERS: {"a": value}}, {ISSUERS: {"a": changed}}),
        {ISSUERS: {"a": ISSUER | {"to": [TARGET | of_target]}}},
    ):
        message = said_or_loaded(document, is_named=is_named)
        assert len(message) < 4096


def said_or_loaded(document: Any, *, is_named: bool) -> str:
    try:
        found = load_issuers(document, "wif.yaml", is_named=is_named)
    except ConfigurationError as error:
        return error.message
    assert all(isinstance(settings, IssuerSettings) for settings in found.values())
    return ""


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["to"] = [loop]
    many: list[Any] = []
    for _ in range(40):
        many = [many, many]
    for value in (loop, {"to": many}, many):
        refused({ISSUERS: {"a": value}})
