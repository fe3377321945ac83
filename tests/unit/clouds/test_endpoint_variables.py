"""The variables that lead programs to a local endpoint, and those that must not be there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.clouds.endpoint_variables import (
    LEADING_ELSEWHERE,
    AwsEndpoint,
    AzureEndpoint,
    Endpoints,
    GcpEndpoint,
    endpoint_variables,
    endpoints_of,
    merged_no_proxy,
    shown,
)
from wif.config.sidecar import AwsIdentity, AzureIdentity, GcpIdentity, Identity, SidecarSettings
from wif.errors import ConfigurationError

URL = "http://127.0.0.1:8787"
HEADER = "0123456789abcdef"
ALL = Endpoints(
    url=URL,
    aws=AwsEndpoint(secret_file="/run/wif/authorization", region="eu-west-1"),
    gcp=GcpEndpoint(project="shop"),
    azure=AzureEndpoint(identity_header=HEADER, imds=True, client_id="client", tenant_id="tenant"),
)
IDENTITIES: dict[str, Identity] = {
    "app": AwsIdentity(role_arn="arn:aws:iam::111122223333:role/app", region="eu-north-1"),
    "reports": GcpIdentity(provider="projects/1/locations/global/workloadIdentityPools/p/providers/k", project="shop"),
    "vault": AzureIdentity(tenant_id="tenant", client_id="client"),
}


def test_all_three_clouds() -> None:
    assert endpoint_variables(ALL, {}).variables == {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{URL}/aws",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/run/wif/authorization",
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "GCE_METADATA_HOST": "127.0.0.1:8787",
        "GCE_METADATA_IP": "127.0.0.1:8787",
        "GCE_METADATA_ROOT": "127.0.0.1:8787",
        "GOOGLE_CLOUD_PROJECT": "shop",
        "IDENTITY_ENDPOINT": f"{URL}/azure/token",
        "IDENTITY_HEADER": HEADER,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": URL,
        "AZURE_CLIENT_ID": "client",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_TOKEN_CREDENTIALS": "prod",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def test_what_is_not_served_sets_nothing() -> None:
    assert set(endpoint_variables(Endpoints(url=URL), {}).variables) == {"NO_PROXY", "no_proxy"}


def test_what_is_not_known_is_left_alone() -> None:
    endpoints = Endpoints(
        url=URL, aws=AwsEndpoint(secret_file="/s"), gcp=GcpEndpoint(), azure=AzureEndpoint(identity_header=HEADER)
    )
    names = set(endpoint_variables(endpoints, {}).variables)
    assert not names & {"AWS_REGION", "GOOGLE_CLOUD_PROJECT", "AZURE_CLIENT_ID", "AZURE_POD_IDENTITY_AUTHORITY_HOST"}


def test_a_role_by_its_name() -> None:
    endpoints = Endpoints(url=URL, aws=AwsEndpoint(secret_file="/s", identity="a.b"))
    assert endpoint_variables(endpoints, {}).variables["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == f"{URL}/aws/a.b"


def test_an_ipv6_listener() -> None:
    endpoints = Endpoints(url="http://[::1]:8787", gcp=GcpEndpoint())
    variables = endpoint_variables(endpoints, {}).variables
    assert variables["GCE_METADATA_HOST"] == "[::1]:8787"
    assert variables["NO_PROXY"] == "127.0.0.1,localhost,::1"


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://127.0.0.1:1/aws", "http://a:1?b=c", ""])
def test_an_address_alone_is_expected(url: str) -> None:
    with pytest.raises(ConfigurationError, match="HOST:PORT"):
        endpoint_variables(Endpoints(url=url), {})


@pytest.mark.parametrize(
    ("environ", "merged"),
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": ""}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "a, b ,,a"}, "a,b,127.0.0.1,localhost"),
        ({"NO_PROXY": "a", "no_proxy": "b,localhost"}, "b,localhost,a,127.0.0.1"),
        ({"no_proxy": "*", "NO_PROXY": "a"}, "*"),
    ],
)
def test_no_proxy_is_merged(environ: dict[str, str], merged: str) -> None:
    assert merged_no_proxy(environ) == merged


@given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1)))
def test_nothing_of_no_proxy_is_lost(names: list[str]) -> None:
    merged = merged_no_proxy({"NO_PROXY": ",".join(names)}).split(",")
    assert set(merged) == {*names, "127.0.0.1", "localhost"}
    assert len(merged) == len(set(merged))


@pytest.mark.parametrize(
    ("cloud", "name"),
    [
        (cloud, name)
        for cloud, names in LEADING_ELSEWHERE.items()
        for name, foreign in names.items()
        if not foreign.is_seen_in_file
    ],
)
def test_everything_that_leads_elsewhere_goes(cloud: str, name: str) -> None:
    wanted = endpoint_variables(ALL, {name: "some-value", "PATH": "/bin"})
    assert list(wanted.absent) == ([] if name in wanted.variables else [name])
    applied = wanted.applied_to({name: "some-value", "PATH": "/bin"})
    assert applied.get(name) == wanted.variables.get(name)
    assert applied["PATH"] == "/bin"
    others = Endpoints(url=URL, aws=ALL.aws if cloud != "aws" else None, gcp=ALL.gcp if cloud != "gcp" else None)
    assert not endpoint_variables(others, {name: "some-value"}).absent, "another cloud's variables are its own business"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NO_GCE_CHECK", "false"),
        ("CLOUDSDK_AUTH_DISABLE_CREDENTIALS", "False"),
        ("GCE_METADATA_MTLS_MODE", "None"),
        ("METADATA_SERVER_DETECTION", "assume-present"),
        ("AZURE_TOKEN_CREDENTIALS", "prod"),
        ("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential"),
    ],
)
def test_values_that_change_nothing_stay(name: str, value: str) -> None:
    assert not endpoint_variables(ALL, {name: value}).absent


def test_what_only_a_file_tells_is_left_to_who_can_read_it() -> None:
    names = {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"}
    assert not endpoint_variables(ALL, dict.fromkeys(names, "/some/file")).absent
    assert {name for name, foreign in LEADING_ELSEWHERE["aws"].items() if foreign.is_seen_in_file} == names


def test_another_app_service_goes_before_the_instance_metadata() -> None:
    environ = {"IDENTITY_ENDPOINT": "http://elsewhere", "IDENTITY_HEADER": "h"}
    wanted = endpoint_variables(Endpoints(url=URL, azure=AzureEndpoint(imds=True)), environ)
    assert set(wanted.absent) == set(environ)
    assert not endpoint_variables(ALL, environ).absent
    assert endpoint_variables(ALL, environ).applied_to(environ)["IDENTITY_HEADER"] == HEADER


def test_the_secret_is_never_shown() -> None:
    wanted = endpoint_variables(ALL, {})
    assert HEADER not in repr(wanted) + repr(ALL)
    assert shown(wanted.variables)["IDENTITY_HEADER"] == "(secret)"
    assert shown(wanted.variables)["AWS_REGION"] == "eu-west-1"


def test_the_endpoints_of_settings() -> None:
    settings = SidecarSettings(identities=IDENTITIES, gce_metadata=True, imds=True, secret_file="/run/s")
    made = endpoints_of(settings, url=f"{URL}/", identity_header=HEADER)
    assert made == Endpoints(
        url=URL,
        aws=AwsEndpoint(secret_file="/run/s", region="eu-north-1"),
        gcp=GcpEndpoint(project="shop"),
        azure=AzureEndpoint(identity_header=HEADER, imds=True, client_id="client", tenant_id="tenant"),
    )
    assert made.clouds == ("aws", "gcp", "azure")


def test_where_the_program_sees_the_secret_and_which_region_it_works_in() -> None:
    settings = SidecarSettings(identities={"app": AwsIdentity(role_arn="arn:aws:iam::111122223333:role/app")})
    made = endpoints_of(settings, url=URL, identity_header=None, secret_file="/elsewhere", region="us-east-2")
    assert made.aws == AwsEndpoint(secret_file="/elsewhere", region="us-east-2")
    assert made.clouds == ("aws",)


def test_interfaces_that_are_off_have_no_endpoint() -> None:
    settings = SidecarSettings(identities=IDENTITIES, aws_container=False, app_service=False)
    assert endpoints_of(settings, url=URL, identity_header=HEADER).clouds == ()
    without_header = SidecarSettings(identities=IDENTITIES, aws_container=False)
    assert endpoints_of(without_header, url=URL, identity_header=None).clouds == ()


def test_several_identities_without_a_default() -> None:
    two: dict[str, Identity] = {"a": IDENTITIES["vault"], "b": AzureIdentity(tenant_id="tenant", client_id="other")}
    made = endpoints_of(SidecarSettings(identities=two), url=URL, identity_header=HEADER)
    assert made.azure == AzureEndpoint(identity_header=HEADER)
