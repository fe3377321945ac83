"""Settings: one name everywhere, a fixed order, and nothing unknown passes in silence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif import config
from wif.config import Settings, from_document, from_variables, merged, unknown_variables
from wif.errors import ConfigurationError


def test_every_field_is_a_setting_and_every_setting_a_field() -> None:
    names = set(Settings._fields) - {"aws", "gcp", "azure"}
    for cloud, kind in (("aws", config.AwsSettings), ("gcp", config.GcpSettings), ("azure", config.AzureSettings)):
        names |= {f"{cloud}.{field}" for field in kind._fields}
    assert names == set(config._KINDS)


def test_flags_win_over_variables_and_these_over_the_file() -> None:
    document = {"aws": {"role_arn": "file", "region": "file", "audience": "file"}, "token_file": "/f"}
    settings = merged(
        {"aws.role_arn": "flag"},
        from_variables({"WIF_AWS_ROLE_ARN": "variable", "WIF_AWS_REGION": "variable", "WIF_TOKEN_FILE": ""}),
        from_document(document, origin="wif.yaml", is_named=False),
    )
    assert (settings.aws.role_arn, settings.aws.region, settings.aws.audience) == ("flag", "variable", "file")
    assert settings.token_file == "/f"
    assert settings.gcp.provider is None


def test_a_value_that_is_endless_when_written_out_is_refused_at_once() -> None:
    endless: list[object] = []
    for _ in range(60):
        endless = [endless, endless]
    for document in ({"token_file": endless}, {"gcp": {"scopes": endless}}):
        with pytest.raises(ConfigurationError, match=" a list, expected "):
            from_document(document, origin="wif.yaml", is_named=True)


def test_lists_and_numbers_are_read_from_words() -> None:
    layer = from_variables({"WIF_GCP_SCOPES": " a  b ", "WIF_AWS_DURATION_SECONDS": "900", "WIF_ALLOW_HOSTS": "h:1"})
    assert layer == {"gcp.scopes": ("a", "b"), "aws.duration_seconds": 900, "allow_hosts": ("h:1",)}
    assert from_document({"gcp": {"scopes": ["a", "b"], "lifetime_seconds": 60}}, origin="f", is_named=True) == {
        "gcp.scopes": ("a", "b"),
        "gcp.lifetime_seconds": 60,
    }


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        {1: "x"},
        {"aws": None},
        {"aws": {"role-arn": "x"}},
        {"unknown": 1},
        {"aws": {"role_arn": 5}},
        {"aws": {"role_arn": ""}},
        {"aws": {"role_arn": "a\0"}},
        {"aws": {"duration_seconds": True}},
        {"aws": {"duration_seconds": "1h"}},
        {"gcp": {"scopes": []}},
        {"gcp": {"scopes": [1]}},
        {"gcp": {"scopes": {"a": 1}}},
        {"aws": {"policy": ["x" * 200]}},
    ],
)
def test_what_the_file_cannot_mean_is_refused(document: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_document(document, origin="wif.yaml", is_named=True)
    assert caught.value.code == "config-invalid"
    assert "wif.yaml" in caught.value.message
    assert len(caught.value.message) < 300


def test_an_empty_file_sets_nothing() -> None:
    assert from_document(None, origin="wif.yaml", is_named=False) == {}


@pytest.mark.parametrize(
    "document",
    [
        {"allow_hosts": ["evil.example"]},
        {"aws": {"endpoint_url": "https://evil.example/"}},
        {"gcp": {"token_url": "https://evil.example/"}},
        {"gcp": {"universe_domain": "evil.example"}},
        {"azure": {"authority_host": "evil.example"}},
    ],
)
def test_a_file_that_merely_lies_there_names_no_hosts(document: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        from_document(document, origin="wif.yaml", is_named=False)
    assert caught.value.code == "host-not-allowed"
    assert from_document(document, origin="wif.yaml", is_named=True)


def test_a_wrong_variable_is_refused_and_an_unknown_one_is_reported() -> None:
    with pytest.raises(ConfigurationError, match="WIF_AWS_DURATION_SECONDS"):
        from_variables({"WIF_AWS_DURATION_SECONDS": "-1"})
    environ = {"WIF_AWS_ROLEARN": "x", "WIF_AWS_REGION": "y", "WIF_OTHER": "z", "WIF_GCP_X": ""}
    assert unknown_variables(environ) == ("WIF_AWS_ROLEARN", "WIF_GCP_X")


def test_a_layer_with_a_name_that_is_none_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        merged({"aws.nothing": "x"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=10,
)


@given(
    JSON
    | st.fixed_dictionaries({"aws": JSON})
    | st.fixed_dictionaries({"gcp": st.fixed_dictionaries({"scopes": JSON})})
)
def test_any_document_is_settings_or_one_clear_error(document: object) -> None:
    try:
        layer = from_document(document, origin="wif.yaml", is_named=True)
    except ConfigurationError:
        return
    assert isinstance(merged(layer), Settings)
