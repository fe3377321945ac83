"""A sidecar's identities: how they are found, what a new configuration keeps, what the clouds' rules refuse."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from wif.config.sidecar import AwsIdentity, AzureIdentity, Cloud, GcpIdentity, SidecarSettings, load_sidecar
from wif.core.flow import Request, Response
from wif.core.hosts import AllowedHosts
from wif.errors import ConfigurationError, TokenError
from wif.serve.sidecar_identities import Identities, identity_problems

ROLE = "arn:aws:iam::111122223333:role/app"
PROVIDER = "projects/1234/locations/global/workloadIdentityPools/pool/providers/main"
EMAIL = "app@project.iam.gserviceaccount.com"
CLIENT = "66666666-AAAA-8888-9999-000000000000"
AWS = {"cloud": "aws", "role_arn": ROLE}
GCP = {"cloud": "gcp", "provider": PROVIDER}
AZURE = {"cloud": "azure", "tenant_id": "example.com", "client_id": CLIENT}
VAULT = "https://vault.azure.net/.default"
MANAGER = "https://management.azure.com/.default"


class Unreachable:
    """A sender that nobody may use: no identity is asked for when it is made."""

    def send(self, request: Request, *, deadline: float, hosts: AllowedHosts) -> Response:
        raise AssertionError(f"a request of {request.operation} by {deadline} to {hosts}")

    def abort(self, thread: int | None = None) -> None:
        raise AssertionError(thread)


def settings(**members: Any) -> SidecarSettings:
    identities = members.pop("identities", {"app": AWS, "reports": GCP, "graph": AZURE})
    return load_sidecar({"identities": identities, "token_file": "/token", "gce_metadata": True, **members})


def made(**members: Any) -> Identities:
    environ = members.pop("environ", {})
    return Identities(settings(**members), environ=environ, transport=lambda _: Unreachable())


def test_each_is_found_by_its_name_and_by_what_its_interface_says() -> None:
    identities = made(
        identities={"app": AWS, "reports": GCP | {"service_account": EMAIL}, "direct": GCP, "graph": AZURE},
        default={"gcp": "direct"},
    )
    assert [each.name for each in identities] == ["app", "reports", "direct", "graph"]
    assert set(identities.aws) == {"app"}
    assert set(identities.gcp) == {"reports", "direct"}
    assert set(identities.azure) == {"graph"}
    assert identities.get("app") is identities.aws["app"]
    assert identities.get("nobody") is None
    assert identities.by_email(EMAIL.upper()) is identities.gcp["reports"]
    assert identities.by_email("none") is None  # direct access has no address at all
    assert identities.by_client_id(CLIENT.lower()) is identities.azure["graph"]
    assert identities.by_client_id(CLIENT) is identities.azure["graph"]
    assert identities.by_client_id("other") is None
    assert identities.default("aws") is identities.aws["app"]
    assert identities.default("gcp") is identities.gcp["direct"]
    assert made(identities={"one": AWS, "two": AWS}, gce_metadata=False).default("aws") is None


def test_everything_of_the_settings_reaches_the_exchangers() -> None:
    asked: list[Cloud] = []

    def transport(cloud: Cloud) -> Unreachable:
        asked.append(cloud)
        return Unreachable()

    role = AWS | {"region": "eu-central-1", "session_name": "me", "duration_seconds": 900, "token_file": "/own"}
    account = GCP | {"service_account": EMAIL, "project": "p", "scopes": ["s"], "universe_domain": "example.com"}
    account |= {"region": "europe-west3"}
    identities = Identities(
        settings(
            identities={"app": role, "reports": account, "graph": AZURE | {"authority_host": "login.example.com"}}
        ),
        environ={"AWS_REGION": "us-east-1"},
        transport=transport,
    )
    aws, gcp, azure = identities.aws["app"], identities.gcp["reports"], identities.azure["graph"]
    assert (aws.exchanger.role_arn, aws.exchanger.region, aws.exchanger.source.origin) == (ROLE, "eu-central-1", "/own")
    assert (gcp.exchanger.service_account, gcp.exchanger.project_id, gcp.exchanger.scopes) == (EMAIL, "p", ("s",))
    assert (gcp.exchanger.universe_domain, gcp.exchanger.source.origin) == ("example.com", "/token")
    assert azure.exchanger.authority == "https://login.example.com"
    assert isinstance(aws.settings, AwsIdentity)
    assert asked == ["aws", "gcp", "azure"]
    assert identities.settings.served == ("app", "reports", "graph")
    assert aws.standing() == (None, 0.0, None, False)


@pytest.mark.parametrize(
    ("authority", "manager"),
    [
        (None, MANAGER),
        ("login.microsoftonline.us", "https://management.usgovcloudapi.net/.default"),
        ("https://login.chinacloudapi.cn/", "https://management.chinacloudapi.cn/.default"),
        ("login.partner.microsoftonline.cn", "https://management.chinacloudapi.cn/.default"),
    ],
)
def test_azure_keeps_a_token_of_its_own_clouds_resource_manager(authority: str | None, manager: str) -> None:
    said = {} if authority is None else {"authority_host": authority}
    assert made(identities={"app": AZURE | said}, gce_metadata=False).azure["app"].scopes == (manager,)
    environ = {} if authority is None else {"AZURE_AUTHORITY_HOST": authority}
    identities = made(identities={"app": AZURE}, gce_metadata=False, environ=environ)
    assert identities.azure["app"].scopes == (manager,)


def test_what_only_an_exchange_shows_reaches_the_exchangers_too() -> None:
    role = AWS | {"duration_seconds": 900, "session_name": "me", "audience": "sts"}
    account = GCP | {"service_account": EMAIL, "lifetime_seconds": 600}
    identities = made(identities={"app": role, "reports": account}, propagation_seconds=120)
    aws, gcp = identities.aws["app"].exchanger, identities.gcp["reports"].exchanger
    assert (aws._web_identity.duration_seconds, aws._web_identity.session_name) == (900, "me")
    assert (aws._audience, gcp._audience) == ("sts", None)
    assert aws._propagation_seconds == 120.0
    assert gcp._lifetime_seconds == 600
    with pytest.raises(ConfigurationError, match=r"identities\.app: allow_hosts= names '\*\.example\.com'"):
        made(allow_hosts=["*.example.com"])


def test_azure_keeps_the_scopes_of_the_settings_and_of_files() -> None:
    files = [
        {"identity": "graph", "kind": "azure-token", "path": "/a", "scope": VAULT},
        {"identity": "graph", "kind": "azure-token", "path": "/b", "scope": "x"},
        {"identity": "graph", "kind": "federated-token", "path": "/c"},
    ]
    identities = made(files=files)
    assert identities.azure["graph"].scopes == (MANAGER, VAULT, "x")
    assert identities.aws["app"].scopes == (None,)
    named = made(identities={"graph": AZURE | {"scopes": [VAULT]}}, gce_metadata=False, files=files)
    assert named.azure["graph"].scopes == (VAULT, "x")


def test_a_new_configuration_keeps_what_it_does_not_change() -> None:
    identities = made()
    before = {each.name: each for each in identities}
    identities.replace(settings(identities={"app": AWS, "graph": AZURE, "more": AWS}, gce_metadata=False))
    assert [each.name for each in identities] == ["app", "graph", "more"]
    assert identities.get("app") is before["app"]
    assert identities.get("graph") is before["graph"]
    with pytest.raises(ConfigurationError, match="closed"):
        before["reports"].exchanger.credentials()
    assert identities.by_email("x") is None


@pytest.mark.parametrize(
    "change",
    [
        {"identities": {"app": AWS | {"region": "eu-west-1"}}},
        {"token_file": "/other"},
        {"allow_hosts": ["sts.example.com"]},
        {"propagation_seconds": 5},
    ],
)
def test_whatever_decides_an_exchange_makes_a_new_exchanger(change: dict[str, Any]) -> None:
    one = {"identities": {"app": AWS}, "gce_metadata": False}
    identities = made(**one)
    before = identities.aws["app"].exchanger
    identities.replace(settings(**(one | change)))
    assert identities.aws["app"].exchanger is not before


def test_a_wrong_configuration_changes_nothing_and_is_told_whole() -> None:
    identities = made()
    before = list(identities)
    wrong = settings(
        identities={"app": AWS | {"role_arn": "x"}, "graph": AZURE | {"tenant_id": "common"}}, gce_metadata=False
    )
    with pytest.raises(ConfigurationError) as caught:
        identities.replace(wrong)
    assert caught.value.code == "config-invalid"
    assert "identities.app: 'x' is not the ARN of a role" in caught.value.message
    assert "identities.graph: the tenant 'common' stands for many" in caught.value.message
    assert "arn:aws:iam::111122223333:role/app" in caught.value.hint
    assert "AZURE_TENANT_ID" in caught.value.hint
    assert list(identities) == before
    assert len(identities.settings.identities) == 3


def test_a_token_file_that_nobody_names_has_its_own_code() -> None:
    one = load_sidecar({"identities": {"app": AWS}})
    with pytest.raises(ConfigurationError, match="no subject token") as caught:
        Identities(one, environ={})
    assert caught.value.code == "config-missing"
    named = Identities(one, environ={"AWS_WEB_IDENTITY_TOKEN_FILE": "/injected"})
    assert named.aws["app"].exchanger.source.origin == "/injected"
    both = load_sidecar({"identities": {"app": AWS, "other": AWS | {"role_arn": "x", "token_file": "/t"}}})
    with pytest.raises(ConfigurationError) as caught:
        Identities(both, environ={})
    assert caught.value.code == "config-invalid"


def test_closing_closes_all() -> None:
    identities = made()
    identities.close()
    with pytest.raises(ConfigurationError, match="closed"):
        identities.aws["app"].exchanger.credentials()
    with pytest.raises(ConfigurationError, match="closed"):
        identities.gcp["reports"].exchanger.credentials()


def test_the_clouds_rules_are_told_all_at_once() -> None:
    wrong = AwsIdentity(role_arn="x", region="nowhere", session_name="?")
    found = identity_problems(wrong, "/token", environ={})
    assert [sentence.split(";")[0] for sentence in found] == [
        "'x' is not the ARN of a role",
        "the session name '?' is not allowed",
        "'nowhere' is not a region of AWS",
    ]
    found = identity_problems(GcpIdentity(provider="x", service_account="y", universe_domain="z"), environ={})
    assert [sentence.split(";")[0] for sentence in found] == [
        "'x' is not the full name of a provider",
        "'y' is not the e-mail address of a service account",
        "'z' is not a universe domain",
        "no subject token: neither token_file nor WIF_TOKEN_FILE is set",
    ]
    assert [
        sentence.split(";")[0]
        for sentence in identity_problems(GcpIdentity(provider=PROVIDER, region="nowhere"), "/t", environ={})
    ] == ["'nowhere' is not a region of Google Cloud"]
    with pytest.raises(ConfigurationError, match="'nowhere' is not a region of Google Cloud"):
        Identities(settings(identities={"reports": GCP | {"region": "nowhere"}}), environ={})
    found = identity_problems(AzureIdentity(tenant_id="?", client_id="?", authority_host="a b"), environ={})
    assert [sentence.split(";")[0] for sentence in found] == [
        "'?' is not a tenant",
        "'?' is not a client id",
        "the authority 'a b' is not a host or an https URL",
        "no subject token: neither token_file nor WIF_TOKEN_FILE nor AZURE_FEDERATED_TOKEN_FILE is set",
    ]


def test_the_clouds_rules_read_the_same_variables_as_the_exchangers() -> None:
    aws = AwsIdentity(role_arn=ROLE)
    assert identity_problems(aws, environ={"WIF_TOKEN_FILE": "/t"}) == ()
    assert identity_problems(aws, environ={"AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}) == ()
    [region] = identity_problems(aws, "/t", environ={"AWS_DEFAULT_REGION": "nowhere"})
    assert region.startswith("'nowhere' is not a region of AWS")
    assert identity_problems(GcpIdentity(provider=PROVIDER, token_file="/t"), environ={}) == ()
    azure = AzureIdentity(tenant_id="t", client_id="c")
    [authority] = identity_problems(azure, "/t", environ={"AZURE_AUTHORITY_HOST": "a b"})
    assert authority.startswith("the authority 'a b'")


def test_a_configuration_tells_the_clouds_rules_together_with_the_rest() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_sidecar({"identities": {"app": AWS | {"role_arn": "x"}}, "imds": 3}, check=identity_problems)
    assert "imds is wrong" in caught.value.message
    assert "identities.app: 'x' is not the ARN of a role" in caught.value.message


def test_who_listens_hears_of_every_exchange_with_its_name() -> None:
    identities = made(identities={"app": AWS}, gce_metadata=False)
    heard: list[tuple[str, object]] = []
    told = threading.Event()
    identities.listen(lambda name, record: heard.append((name, record["outcome"])))
    identities.listen(lambda _name, _record: told.set())
    with pytest.raises(TokenError):
        identities.aws["app"].exchanger.credentials()
    assert told.wait(5)
    assert heard == [("app", "refused")]
