"""The dialect of the EKS webhook, by itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from wif.admission.accounts import ServiceAccount
from wif.admission.dialects import PodFacts, Reading, eks
from wif.admission.injection import Part
from wif.config.webhook import ContainerCredentials, WebhookSettings, load_webhook

ROLE = "arn:aws:iam::111122223333:role/s3-reader"
ASKED = {"eks.amazonaws.com/role-arn": ROLE}
SETTINGS = WebhookSettings()
AGENT = WebhookSettings(aws_container_credentials=ContainerCredentials(identities=(("shop", "app"),)))


def read(
    annotations: Mapping[str, str],
    settings: WebhookSettings = SETTINGS,
    *,
    pod: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    is_windows: bool = False,
) -> Reading:
    account = ServiceAccount("shop", "app", "u-1", annotations)
    facts = PodFacts(tuple(sorted((pod or {}).items())), tuple(sorted((labels or {}).items())), is_windows=is_windows)
    return eks.read(account, facts, settings)


def part(reading: Reading) -> Part:
    (found,) = reading.parts
    return found


def rules(reading: Reading) -> list[tuple[str, str]]:
    return [(finding.rule, finding.level) for finding in reading.findings]


def token(found: Part) -> dict[str, object]:
    source = found.volumes[0].content["projected"]["sources"][0]["serviceAccountToken"]
    assert isinstance(source, dict)
    return source


def test_a_role() -> None:
    reading = read(ASKED)
    found = part(reading)
    assert reading.findings == ()
    assert found.volumes[0].content == {
        "name": "aws-iam-token",
        "projected": {
            "sources": [
                {
                    "serviceAccountToken": {
                        "audience": "sts.amazonaws.com",
                        "expirationSeconds": 3600,
                        "path": "token",
                    }
                }
            ]
        },
    }
    assert (found.volumes[0].first, found.volumes[0].collision) == (True, "keep")
    assert found.mounts == (("aws-iam-token", "/var/run/secrets/eks.amazonaws.com/serviceaccount", True, "keep"),)
    assert [(group.rule, group.variables) for group in found.env] == [
        ("absent", (("AWS_STS_REGIONAL_ENDPOINTS", "regional"),)),
        (
            "group",
            (
                ("AWS_ROLE_ARN", ROLE),
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/secrets/eks.amazonaws.com/serviceaccount/token"),
            ),
        ),
    ]
    assert (found.dialect, found.cloud, found.identity) == ("eks", "aws", ROLE)
    assert (found.audiences, found.labels, found.skip) == (("sts.amazonaws.com",), {}, frozenset())


def test_a_container_that_has_an_identity_a_region_and_the_endpoints_is_left_alone() -> None:
    assert part(read(ASKED)).left_alone == (
        frozenset({"AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"}),
        frozenset({"AWS_REGION", "AWS_DEFAULT_REGION"}),
        frozenset({"AWS_STS_REGIONAL_ENDPOINTS"}),
    )


def test_the_region_comes_after_the_endpoints_and_before_the_role() -> None:
    found = part(read(ASKED, WebhookSettings(aws_region="cn-north-1")))
    assert found.env[1] == ("group", (("AWS_DEFAULT_REGION", "cn-north-1"), ("AWS_REGION", "cn-north-1")))
    assert len(found.env) == 3


@pytest.mark.parametrize("text", ["false", "0", "F"])
def test_the_account_switches_regional_endpoints_off(text: str) -> None:
    found = part(read({**ASKED, "eks.amazonaws.com/sts-regional-endpoints": text}))
    assert [group.variables[0].name for group in found.env] == ["AWS_ROLE_ARN"]


def test_the_account_switches_regional_endpoints_on() -> None:
    settings = load_webhook({"compat": "eks"})
    assert len(part(read(ASKED, settings)).env) == 1
    assert len(part(read({**ASKED, "eks.amazonaws.com/sts-regional-endpoints": "TRUE"}, settings)).env) == 2


def test_compat_has_the_peers_day_and_no_ceiling() -> None:
    settings = load_webhook({"compat": "eks"})
    assert token(part(read(ASKED, settings)))["expirationSeconds"] == 86400
    long = read({**ASKED, "eks.amazonaws.com/token-expiration": "999999"}, settings)
    assert token(part(long))["expirationSeconds"] == 999999
    assert long.findings == ()


def test_windows_has_the_path_of_its_drive_in_the_variable_alone() -> None:
    found = part(read(ASKED, is_windows=True))
    assert found.env[-1].variables[1].value == r"C:\var\run\secrets\eks.amazonaws.com\serviceaccount\token"
    assert found.mounts[0].path == "/var/run/secrets/eks.amazonaws.com/serviceaccount"


@pytest.mark.parametrize("annotations", [{}, {"eks.amazonaws.com/role-arn": ""}, {"other/role-arn": ROLE}])
def test_nothing_without_a_role(annotations: dict[str, str]) -> None:
    assert read(annotations).parts == ()


def test_the_rest_without_a_role_has_no_effect() -> None:
    assert rules(read({"eks.amazonaws.com/audience": "x"})) == [("annotation-without-effect", "warning")]
    assert rules(read({})) == []


def test_what_is_malformed_beside_no_role_is_said_once() -> None:
    assert rules(read({"eks.amazonaws.com/token-expiration": "x"})) == [("token-expiration-malformed", "warning")]


def test_a_malformed_role_is_injected_with_a_warning() -> None:
    reading = read({"eks.amazonaws.com/role-arn": "not-an-arn"})
    assert part(reading).identity == "not-an-arn"
    assert rules(reading) == [("role-arn-malformed", "warning")]
    assert reading.findings[0].text == (
        "ServiceAccount shop/app: annotation eks.amazonaws.com/role-arn is 'not-an-arn', "
        "expected arn:aws:iam::111122223333:role/NAME: AWS will refuse it"
    )


@pytest.mark.parametrize("role", ["$(DATABASE_PASSWORD)", "arn:aws:iam::1\n", "x" * 2049])
def test_a_role_that_would_show_another_variable_is_refused(role: str) -> None:
    reading = read({"eks.amazonaws.com/role-arn": role})
    assert reading.parts == ()
    assert rules(reading) == [("role-arn-harmful", "deny")]


def test_a_bare_name_is_a_role_of_the_operators_account() -> None:
    settings = WebhookSettings(aws_account_id="111122223333", aws_partition="aws-cn")
    assert part(read({"eks.amazonaws.com/role-arn": "s3-reader"}, settings)).identity == (
        "arn:aws-cn:iam::111122223333:role/s3-reader"
    )
    assert part(read(ASKED, settings)).identity == ROLE


def test_the_accounts_audience() -> None:
    found = part(read({**ASKED, "eks.amazonaws.com/audience": "aud"}))
    assert (token(found)["audience"], found.audiences) == ("aud", ("aud",))


@pytest.mark.parametrize(
    ("key", "text", "rule"),
    [
        ("audience", "", "audience-malformed"),
        ("audience", "a\x00b", "audience-malformed"),
        ("token-expiration", "1h", "token-expiration-malformed"),
        ("sts-regional-endpoints", "yes", "sts-regional-malformed"),
    ],
)
def test_a_malformed_value_is_left_out_of_account(key: str, text: str, rule: str) -> None:
    reading = read({**ASKED, f"eks.amazonaws.com/{key}": text})
    assert rules(reading) == [(rule, "warning")]
    assert part(reading) == part(read(ASKED))
    assert reading.findings[0].message.startswith(f"ServiceAccount shop/app: annotation eks.amazonaws.com/{key}")


@pytest.mark.parametrize(
    ("pod", "account", "seconds", "found"),
    [
        ("900", None, 900, []),
        ("0", None, 600, [("token-expiration-clamped", "warning")]),
        ("7200", "1800", 1800, [("token-expiration-clamped", "warning")]),
        ("zzz", "1800", 1800, [("token-expiration-malformed", "warning")]),
        (None, "10", 600, [("token-expiration-clamped", "warning")]),
    ],
)
def test_lifetime(pod: str | None, account: str | None, seconds: int, found: list[tuple[str, str]]) -> None:
    key = "eks.amazonaws.com/token-expiration"
    reading = read({**ASKED, **({key: account} if account else {})}, pod={key: pod} if pod else {})
    assert token(part(reading))["expirationSeconds"] == seconds
    assert rules(reading) == found


@pytest.mark.parametrize(
    ("text", "names", "is_odd"),
    [
        ("a", {"a"}, False),
        ("a,c", {"a", "c"}, False),
        ('"a",c', {"a", "c"}, False),
        ("a, c", {"a", " c"}, True),  # the peer does not trim either
        ('a"b', set(), True),
        ('"a"b', set(), True),
        ('"a""b",c', {'a"b', "c"}, True),
        ("", set(), False),
    ],
)
def test_containers_to_skip(text: str, names: set[str], is_odd: bool) -> None:
    reading = read(ASKED, pod={"eks.amazonaws.com/skip-containers": text})
    assert part(reading).skip == names
    assert rules(reading) == ([("skip-containers-malformed", "warning")] if is_odd else [])


@pytest.mark.parametrize("value", ["", "true", "false"])
def test_the_skip_label_is_honoured_whatever_it_says(value: str) -> None:
    labels = {"eks.amazonaws.com/skip-pod-identity-webhook": value}
    for settings, given in ((SETTINGS, ASKED), (AGENT, {})):
        reading = read(given, settings, labels=labels)
        assert reading.parts == ()
        assert rules(reading) == [("skip-label", "note")]


def test_another_prefix() -> None:
    settings = WebhookSettings(aws_prefix="iam.example.com")
    reading = read(
        {"iam.example.com/role-arn": ROLE},
        settings,
        pod={"iam.example.com/skip-containers": "a", "eks.amazonaws.com/skip-containers": "b"},
    )
    assert part(reading).skip == {"a"}
    assert read(ASKED, settings) == Reading()


class TestContainerCredentials:
    """EKS Pod Identity: the agent is asked, whatever role the account names."""

    def test_they_win_over_a_role(self) -> None:
        found = part(read(ASKED, AGENT))
        assert found.identity == "pod identity association of shop/app"
        assert found.audiences == ("pods.eks.amazonaws.com",)
        assert found.labels == {"eks.amazonaws.com/pod-identity": "enabled"}
        assert found.volumes[0].name == "eks-pod-identity-token"
        assert found.volumes[0].first
        assert found.env[-1] == (
            "group",
            (
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
                (
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                    "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token",
                ),
            ),
        )
        assert found.left_alone[0] == {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"}

    def test_they_need_no_annotation(self) -> None:
        assert part(read({}, AGENT)).labels

    def test_only_the_pair_that_is_named(self) -> None:
        settings = WebhookSettings(
            aws_container_credentials=ContainerCredentials(identities=(("shop", "other"), ("*", "app")))
        )
        assert read({}, settings) == Reading()
        assert rules(read({"eks.amazonaws.com/audience": "x"}, settings)) == []

    def test_a_day_is_made_shorter_the_same_way_each_time(self) -> None:
        settings = load_webhook({"compat": "eks", "aws_container_credentials": {"identities": [["shop", "app"]]}})
        assert token(part(read({}, settings)))["expirationSeconds"] == 79200
        said = {"eks.amazonaws.com/token-expiration": "86400"}
        assert token(part(read(said, settings)))["expirationSeconds"] == 79200
        said = {"eks.amazonaws.com/token-expiration": "86399"}
        assert token(part(read(said, settings)))["expirationSeconds"] == 86399

    def test_a_role_that_would_show_a_variable_is_refused_here_too(self) -> None:
        assert rules(read({"eks.amazonaws.com/role-arn": "$(X)"}, AGENT)) == [("role-arn-harmful", "deny")]


@pytest.mark.parametrize(
    ("annotations", "found"),
    [
        (ASKED, []),
        ({}, []),
        ({"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}, [("role-arn-malformed", "warning")]),
        ({"eks.amazonaws.com/role-arn": "$(X)"}, [("role-arn-harmful", "deny")]),
        ({**ASKED, "eks.amazonaws.com/audience": "x" * 257}, [("audience-malformed", "warning")]),
        ({**ASKED, "eks.amazonaws.com/rolearn": "x"}, [("annotation-unknown", "warning")]),
        ({"eks.amazonaws.com/role-arn": ""}, [("annotation-without-effect", "warning")]),
    ],
)
def test_check(annotations: dict[str, str], found: list[tuple[str, str]]) -> None:
    said = eks.check(annotations, SETTINGS)
    assert [(finding.rule, finding.level) for finding in said] == found
    assert all(finding.message.startswith("ServiceAccount: ") for finding in said)


def test_check_does_not_miss_a_role_where_the_agent_gives_some() -> None:
    assert eks.check({"eks.amazonaws.com/audience": "x"}, AGENT) == []
