"""The platform's ConfigMap: what is read, what is refused, and who wins."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.admission.accounts import ServiceAccount
from wif.admission.platform import FIXED_SETTINGS, Platform, PlatformEntry, read_platform
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError

SETTINGS = WebhookSettings()
TEAM = "arn:aws:iam::111122223333:role/team"
OWN = "arn:aws:iam::111122223333:role/own"
NATIVE = "wif.internal/aws.role-arn"
EKS = "eks.amazonaws.com/role-arn"
ENTRY: dict[str, Any] = {"namespace": "team-a", "serviceAccount": "app", "annotations": {NATIVE: TEAM}}


def platform(*entries: Mapping[str, Any], settings: WebhookSettings = SETTINGS, **document: Any) -> Platform:
    text = json.dumps({"serviceAccounts": list(entries), **document})
    return read_platform({"config.yaml": text}, settings)


def of_eks(rows: Mapping[str, Any], settings: WebhookSettings = SETTINGS) -> Platform:
    return read_platform({"config": json.dumps(rows)}, settings)


def effective(
    found: Platform, own: Mapping[str, str] | None = None, *, namespace: str = "team-a", name: str = "app"
) -> Mapping[str, str]:
    account, settings = found.effective(ServiceAccount(namespace, name, "u-1", own or {}), SETTINGS)
    assert (account.namespace, account.name, account.uid) == (namespace, name, "u-1")
    assert settings is found.settings
    return account.annotations


def refused(data: Mapping[str, str], settings: WebhookSettings = SETTINGS) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_platform(data, settings)
    assert caught.value.code == "config-invalid"
    assert caught.value.hint
    assert caught.value.message.startswith("the platform's ConfigMap: ")
    return caught.value.message


# -- reading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [{}, {"config.yaml": ""}, {"config.yaml": "{}"}, {"config.yaml": "# nothing"}])
def test_nothing_said_changes_nothing(data: Mapping[str, str]) -> None:
    found = read_platform(data, SETTINGS)
    account = ServiceAccount("n", "a", "u", {EKS: OWN})
    assert found.effective(account, SETTINGS) == (account, SETTINGS)
    assert found.entries == ()


def test_yaml_with_defaults_and_entries() -> None:
    found = read_platform(
        {
            "config.yaml": """
            defaults:
              azure_tenant_id: contoso.example
              aws_regional_sts: false
              token_mode: 0o440
            serviceAccounts:
              - namespace: team-*
                serviceAccount: "*"
                enforce: true
                annotations:
                  wif.internal/aws.role-arn: arn:aws:iam::111122223333:role/team
            """.replace("0o440", "288")
        },
        WebhookSettings(aws_region="eu-central-1", aws_regional_sts=True),
    )
    assert found.entries == (PlatformEntry("team-*", "*", True, {NATIVE: TEAM}),)
    assert found.settings == WebhookSettings(
        aws_region="eu-central-1", azure_tenant_id="contoso.example", aws_regional_sts=False, token_mode=0o440
    )


def test_defaults_stand_over_those_of_a_compatible_start() -> None:
    settings = WebhookSettings(compat="eks", aws_token_expiration=1200)
    assert platform(settings=settings).settings == settings
    assert platform(settings=settings, defaults={"aws_token_expiration": 900}).settings.aws_token_expiration == 900


@pytest.mark.parametrize("name", FIXED_SETTINGS)
def test_defaults_do_not_change_what_is_watched_and_registered(name: str) -> None:
    text = json.dumps({"defaults": {name: "eks" if name == "compat" else "x"}})
    assert f"config.yaml: $.defaults sets {name}" in refused({"config.yaml": text})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "config.yaml: Expected `object`, got `array`"),
        ("text", "config.yaml: Expected `object`"),
        ({"default": {}}, "config.yaml: Object contains unknown field `default`"),
        ({"defaults": []}, "config.yaml: Expected `object`, got `array` - at `$.defaults`"),
        ({"defaults": {"aws_regio": "x"}}, "config.yaml: $.defaults: Object contains unknown field `aws_regio`"),
        ({"defaults": {"aws_region": 5}}, "$.defaults: Expected `str | null`, got `int` - at `$.aws_region`"),
        ({"defaults": {"aws_token_expiration": 60}}, "$.defaults: Expected `int` >= 600 - at `$.aws_token_expiration`"),
        ({"serviceAccounts": {}}, "Expected `array`, got `object` - at `$.serviceAccounts`"),
        ({"serviceAccounts": [{}]}, "missing required field `namespace` - at `$.serviceAccounts[0]`"),
        (
            {"serviceAccounts": [ENTRY, ENTRY | {"enforced": True}]},
            "unknown field `enforced` - at `$.serviceAccounts[1]`",
        ),
        ({"serviceAccounts": [ENTRY | {"enforce": "yes"}]}, "got `str` - at `$.serviceAccounts[0].enforce`"),
        ({"serviceAccounts": [ENTRY | {"annotations": {}}]}, "at `$.serviceAccounts[0].annotations`"),
        ({"serviceAccounts": [ENTRY | {"annotations": {NATIVE: 5}}]}, "at `$.serviceAccounts[0].annotations[...]`"),
        ({"serviceAccounts": [ENTRY | {"annotations": {NATIVE: ""}}]}, "at `$.serviceAccounts[0].annotations[...]`"),
        ({"serviceAccounts": [ENTRY | {"namespace": "team?"}]}, "at `$.serviceAccounts[0].namespace`"),
        ({"serviceAccounts": [ENTRY | {"namespace": ""}]}, "at `$.serviceAccounts[0].namespace`"),
        ({"serviceAccounts": [ENTRY | {"serviceAccount": "app-*"}]}, "at `$.serviceAccounts[0].serviceAccount`"),
        (
            {"serviceAccounts": [ENTRY, ENTRY | {"annotations": {"example.com/role-arn": "x"}}]},
            "$.serviceAccounts[1]: annotation 'example.com/role-arn' is of no dialect that is on",
        ),
        (
            {"serviceAccounts": [ENTRY | {"annotations": {NATIVE: "x"}}]},
            "$.serviceAccounts[0]: ServiceAccount: annotation wif.internal/aws.role-arn is 'x', expected the ARN",
        ),
        (
            {"serviceAccounts": [ENTRY | {"annotations": {"wif.internal/aws.rolearn": TEAM}}]},
            "$.serviceAccounts[0]: ServiceAccount: annotation wif.internal/aws.rolearn is unknown",
        ),
        (
            {"serviceAccounts": [ENTRY | {"annotations": {"wif.internal/mode": "sidecar"}}]},
            "$.serviceAccounts[0]: ServiceAccount: wif.internal/mode is sidecar, and the setting",
        ),
    ],
)
def test_a_slip_is_named_by_key_and_member(document: Any, message: str) -> None:
    assert message in refused({"config.yaml": json.dumps(document)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "config.yaml cannot be read"),
        ("serviceAccounts: &a []\ndefaults: *a", "config.yaml cannot be read: it has an alias"),
        ("defaults: {aws_region: a, aws_region: b}", "'aws_region' is there twice"),
        ("1: 2", "config.yaml: "),
        ("defaults: {1: 2}", "config.yaml: "),
        ("defaults: {aws_region: 2001-01-01}", "$.defaults: Expected `str | null`, got `date"),
        ("defaults: {gcloud_resources: {limits: {~: 1}}}", "config.yaml: $.defaults: "),
        ("serviceAccounts: !!set {a}", "config.yaml: "),
        ('defaults: {aws_region: "\\ud800"}', "it has half a surrogate pair"),
    ],
)
def test_yaml_that_is_not_plain_is_refused(text: str, message: str) -> None:
    assert message in refused({"config.yaml": text})


def test_one_key_and_no_other() -> None:
    for data in ({"config.yml": "{}"}, {"config.yaml": "{}", "config": "{}"}, {"config.yaml": "{}", "x" * 5000: ""}):
        assert "it has the keys " in refused(data)
        assert len(refused(data)) < 300


def test_equal_content_is_an_equal_platform() -> None:
    assert platform(ENTRY) == platform(ENTRY)
    assert hash(platform(ENTRY)) == hash(platform(ENTRY))
    others = [platform(), platform(ENTRY, settings=WebhookSettings(aws_region="x")), of_eks({})]
    assert len({found.generation for found in (platform(ENTRY), *others)}) == 4
    assert all(found != platform(ENTRY) for found in others)


# -- which entry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("team-a", ["team-a"], ["team-ab", "xteam-a", "team-"]),
        ("*", ["a", "team-a"], []),
        ("team-*", ["team-", "team-a", "team-a-b"], ["team", "xteam-a"]),
        ("*-a", ["-a", "team-a", "a-a-a"], ["team-ab", "a"]),
        ("a*b*c", ["abc", "aXbXc", "abbcc", "abcbc"], ["ac", "acb", "abcd", "xabc"]),
        ("a*a", ["aa", "aba"], ["a"]),
        ("a*ba*a", ["abaa", "abaxa"], ["aba", "abab"]),
        ("a**b", ["ab", "axb"], ["a"]),
        ("*a*", ["a", "bab"], ["b"]),
        ("team.a", [], []),
    ],
)
def test_a_star_stands_for_any_letters(pattern: str, fitting: list[str], others: list[str]) -> None:
    if pattern == "team.a":
        assert "namespace" in refused(
            {"config.yaml": json.dumps({"serviceAccounts": [ENTRY | {"namespace": pattern}]})}
        )
        return
    found = platform(ENTRY | {"namespace": pattern})
    assert [namespace for namespace in fitting if found.entry_for(namespace, "app") is None] == []
    assert [namespace for namespace in others if found.entry_for(namespace, "app") is not None] == []
    assert found.entry_for((fitting or ["a"])[0], "other") is None


def test_a_hostile_pattern_is_quick() -> None:
    found = platform(ENTRY | {"namespace": "*a" * 31})
    assert found.entry_for("a" * 62 + "b", "app") is None


def test_the_first_entry_that_fits_counts() -> None:
    rows = [("team-a", "app"), ("team-*", "app"), ("team-a", "*"), ("team-a", "other"), ("*", "*"), ("team-b", "x")]
    entries = [
        {"namespace": namespace, "serviceAccount": name, "annotations": {NATIVE: f"{TEAM}{number}"}}
        for number, (namespace, name) in enumerate(rows)
    ]
    found = platform(*entries, *entries)
    for namespace, name, number in (
        *(("team-a", "app", 0), ("team-b", "app", 1), ("team-a", "y", 2), ("team-a", "other", 2)),
        *(("team-b", "x", 4), ("x", "x", 4)),
    ):
        assert effective(found, namespace=namespace, name=name) == {NATIVE: f"{TEAM}{number}"}


@given(
    st.lists(st.tuples(st.text("ab*", min_size=1, max_size=4), st.sampled_from(["a", "b", "*"])), max_size=6),
    st.text("ab", min_size=1, max_size=4),
    st.sampled_from(["a", "b"]),
)
def test_the_index_finds_what_a_search_would(rows: list[tuple[str, str]], namespace: str, name: str) -> None:
    found = platform(*(ENTRY | {"namespace": pattern, "serviceAccount": of} for pattern, of in rows))

    def fits(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return fits(pattern[1:], text) or (bool(text) and fits(pattern, text[1:]))
        return text[:1] == pattern[0] and fits(pattern[1:], text[1:])

    expected = next(
        (entry for entry in found.entries if fits(entry.namespace, namespace) and entry.service_account in ("*", name)),
        None,
    )
    assert found.entry_for(namespace, name) is expected


# -- who wins --------------------------------------------------------------------------------------------------------

ENFORCED = ENTRY | {"enforce": True}


@pytest.mark.parametrize(
    ("entry", "own", "expected"),
    [
        # without enforce, a cloud of which the account says nothing is filled
        (ENTRY, {}, {NATIVE: TEAM}),
        (ENTRY, {"cloud.google.com/audience": "x"}, {"cloud.google.com/audience": "x", NATIVE: TEAM}),
        (ENTRY, {NATIVE: OWN}, {NATIVE: OWN}),
        (ENTRY, {EKS: OWN}, {EKS: OWN}),
        (ENTRY, {"wif.internal/aws.reader.role-arn": OWN}, {"wif.internal/aws.reader.role-arn": OWN}),
        (ENTRY, {EKS: ""}, {EKS: "", NATIVE: TEAM}),
        (ENTRY, {NATIVE: ""}, {NATIVE: TEAM}),
        (ENTRY, {"wif.internal/aws.region": "eu-west-1"}, {"wif.internal/aws.region": "eu-west-1", NATIVE: TEAM}),
        # with it, whatever the account says of the cloud is gone, in every dialect
        (ENFORCED, {}, {NATIVE: TEAM}),
        (ENFORCED, {NATIVE: OWN, EKS: OWN, "eks.amazonaws.com/audience": "x"}, {NATIVE: TEAM}),
        (ENFORCED, {"wif.internal/aws.reader.role-arn": OWN, "wif.internal/aws.region": "x"}, {NATIVE: TEAM}),
        (
            ENFORCED,
            {"azure.workload.identity/client-id": "x", "wif.internal/token-expiration": "900"},
            {"azure.workload.identity/client-id": "x", "wif.internal/token-expiration": "900", NATIVE: TEAM},
        ),
        # what is about no cloud goes by its key
        (
            ENTRY | {"annotations": {"wif.internal/token-expiration": "900"}},
            {NATIVE: OWN},
            {NATIVE: OWN, "wif.internal/token-expiration": "900"},
        ),
        (
            ENTRY | {"annotations": {"wif.internal/token-expiration": "900"}},
            {"wif.internal/token-expiration": "700"},
            {"wif.internal/token-expiration": "700"},
        ),
        (
            ENFORCED | {"annotations": {"wif.internal/token-expiration": "900"}},
            {NATIVE: OWN, "wif.internal/token-expiration": "700"},
            {NATIVE: OWN, "wif.internal/token-expiration": "900"},
        ),
    ],
)
def test_the_account_wins_but_where_the_platform_enforces(
    entry: Mapping[str, Any], own: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    assert effective(platform(entry), own) == expected


def test_an_enforced_entry_may_speak_another_dialect() -> None:
    entry = ENFORCED | {"annotations": {EKS: TEAM, "azure.workload.identity/client-id": "1"}}
    own = {NATIVE: OWN, "wif.internal/azure.client-id": "2", "wif.internal/gcp.direct": "true"}
    assert effective(platform(entry), own) == {
        EKS: TEAM,
        "azure.workload.identity/client-id": "1",
        "wif.internal/gcp.direct": "true",
    }


# -- the EKS webhook's map ---------------------------------------------------------------------------------------------


def test_the_map_of_the_eks_webhook_is_taken_over() -> None:
    found = of_eks(
        {
            "*/app": {"RoleARN": TEAM},
            "team-*/app": {"RoleARN": TEAM + "3"},
            "team-a/app": {
                "RoleARN": OWN,
                "Audience": "x",
                "UseRegionalSTS": False,
                "TokenExpiration": 1200,
            },
            "shop/app": {"RoleARN": OWN, "UseRegionalSTS": True, "TokenExpiration": 0, "Audience": ""},
        }
    )
    assert effective(found) == {
        EKS: OWN,
        "eks.amazonaws.com/audience": "x",
        "eks.amazonaws.com/sts-regional-endpoints": "false",
        "eks.amazonaws.com/token-expiration": "1200",
    }
    assert effective(found, namespace="shop") == {EKS: OWN, "eks.amazonaws.com/sts-regional-endpoints": "true"}
    assert effective(found, namespace="team-b") == {EKS: TEAM + "3"}
    assert effective(found, namespace="x") == {EKS: TEAM}
    assert effective(found, namespace="x", name="other") == {}
    assert effective(found, {EKS: "mine"}) == {EKS: "mine"}  # the annotation wins, as there
    assert found.settings == SETTINGS


def test_the_prefix_of_the_map_is_the_settings() -> None:
    settings = WebhookSettings(aws_prefix="id.example.com")
    (entry,) = of_eks({"n/a": {"RoleARN": TEAM}}, settings).entries
    assert entry == PlatformEntry("n", "a", False, {"id.example.com/role-arn": TEAM})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"app": {"RoleARN": TEAM}}, "config: the key 'app': "),
        ({"/app": {"RoleARN": TEAM}}, "config: the key '/app': "),
        ({"n/": {"RoleARN": TEAM}}, "config: the key 'n/': "),
        ({"n/a/b": {"RoleARN": TEAM}}, "config: the key 'n/a/b': "),
        ({"n/a": {}}, "config: Object missing required field `RoleARN`"),
        ({"n/a": {"RoleARN": ""}}, "config: Expected `str` of length >= 1"),
        ({"n/a": {"RoleArn": TEAM}}, "config: Object contains unknown field `RoleArn`"),
        ({"n/a": {"RoleARN": TEAM, "TokenExpiration": "5"}}, "config: Expected `int`, got `str`"),
        ({"n/a": TEAM}, "config: Expected `object`, got `str`"),
        ([], "config: Expected `object`, got `array`"),
    ],
)
def test_a_slip_in_the_map_is_refused_and_crashes_nothing(rows: Any, message: str) -> None:
    assert message in refused({"config": json.dumps(rows)})


def test_text_that_is_no_json_is_refused() -> None:
    assert "config: JSON is malformed" in refused({"config": "{]"})
    assert "config: " in refused({"config": '{"n/a": {"RoleARN": ' + "[" * 100_000})


def test_the_map_needs_its_dialect() -> None:
    assert "that is off" in refused({"config": "{}"}, WebhookSettings(dialects=("native",)))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "defaults",
                    "serviceAccounts",
                    "namespace",
                    "serviceAccount",
                    "annotations",
                    "n/a",
                    "RoleARN",
                    "aws_region",
                    NATIVE,
                ]
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(_JSON, st.sampled_from(["config", "config.yaml"]))
def test_no_content_crashes(value: Any, key: str) -> None:
    try:
        read_platform({key: json.dumps(value)}, SETTINGS)
    except ConfigurationError as error:
        assert error.code == "config-invalid"  # noqa: PT017 - most contents are refused, some are not
