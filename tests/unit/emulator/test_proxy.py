"""The proxy's rules without a network: which names are admitted, and what a program's environment is set to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.emulator.proxy import Proxy, admitted, environment, shell_block
from wif.errors import ConfigurationError

CLOUD_HOSTS = [
    "sts.amazonaws.com",
    "sts.eu-west-1.amazonaws.com",
    "sts.us-gov-west-1.amazonaws.com",
    "sts.cn-north-1.amazonaws.com.cn",
    "sts.eusc-de-east-1.amazonaws.eu",
    "sts.us-iso-east-1.c2s.ic.gov",
    "sts.us-isob-east-1.sc2s.sgov.gov",
    "sts.eu-isoe-west-1.cloud.adc-e.uk",
    "sts.us-isof-south-1.csp.hci.ic.gov",
    "sts.googleapis.com",
    "sts.europe-west1.rep.googleapis.com",
    "iamcredentials.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
]

LOOKALIKES = [
    "",
    ".",
    "amazonaws.com",
    "sts.amazonaws.com.evil.example",
    "evil-sts.amazonaws.com",
    "x.sts.amazonaws.com",
    "sts.amazonaws.com.",
    "sts-amazonaws.com",
    "stsxamazonaws.com",
    "sts.amazonaws.com\n",
    "sts.amazonaws.com\x00.evil.example",
    "sts.eu-west-1.amazonaws.com.cn",
    "sts.cn-north-1.amazonaws.com",
    "sts.evil.eu-west-1.amazonaws.com",
    "x.execute-api.us-east-1.amazonaws.com",
    "s3.amazonaws.com",
    "sts.googleapis.com.evil.example",
    "sts.evil.rep.googleapis.com",
    "storage.googleapis.com",
    "login.microsoftonline.com.evil.example",
    "loginxmicrosoftonline.com",
    "evil.example",
    "169.254.169.254",
    "sts.amazonaws.com@evil.example",
    "sts.\u0435u-west-1.amazonaws.com",
]


@pytest.mark.parametrize("host", CLOUD_HOSTS)
def test_the_clouds_hosts_are_admitted_in_any_case(host: str) -> None:
    assert admitted(host)
    assert admitted(host.upper())


@pytest.mark.parametrize("host", LOOKALIKES)
def test_hosts_that_only_look_right_are_not(host: str) -> None:
    assert not admitted(host)


@given(st.sampled_from(CLOUD_HOSTS), st.text(min_size=1, max_size=8))
def test_nothing_may_follow_a_clouds_host(host: str, tail: str) -> None:
    assert not admitted(host + tail)


@given(st.text(min_size=1, max_size=8).filter(lambda head: not head.lower().startswith(("sts", "iamcredentials"))))
def test_nothing_may_stand_before_a_clouds_domain(head: str) -> None:
    assert not admitted(f"{head}.amazonaws.com")


def test_the_address_is_there_only_after_start() -> None:
    with pytest.raises(ConfigurationError, match="has not been started"):
        _ = Proxy(target=("127.0.0.1", 1)).url
    Proxy(target=("127.0.0.1", 1)).stop()


CA = Path("/run/user/1000/ca dir/ca.pem")


def test_the_block_is_the_documented_one() -> None:
    block = environment("http://127.0.0.1:3128", CA, {})
    assert list(block.variables.items()) == [
        ("HTTPS_PROXY", "http://127.0.0.1:3128"),
        ("https_proxy", "http://127.0.0.1:3128"),
        ("NO_PROXY", "localhost,127.0.0.1"),
        ("no_proxy", "localhost,127.0.0.1"),
        ("REQUESTS_CA_BUNDLE", str(CA)),
        ("CURL_CA_BUNDLE", str(CA)),
        ("AWS_CA_BUNDLE", str(CA)),
        ("SSL_CERT_FILE", str(CA)),
        ("NODE_EXTRA_CA_CERTS", str(CA)),
        ("CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE", str(CA)),
    ]
    assert block.warnings == ()


@pytest.mark.parametrize(
    "entry",
    [
        "*",
        ".amazonaws.com",
        "amazonaws.com",
        "*.amazonaws.com",
        "sts.eu-west-1.amazonaws.com",
        "STS.AMAZONAWS.COM:443",
        "com",
        ".googleapis.com",
        "login.microsoftonline.com",
        ".cn",
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_a_no_proxy_that_covers_a_cloud_is_warned_of(name: str, entry: str) -> None:
    block = environment("http://127.0.0.1:1", CA, {name: f"10.0.0.0/8, {entry},.svc"})
    assert len(block.warnings) == 1
    assert block.warnings[0].startswith(f"{name} names {entry}:")
    assert block.variables[name] == "localhost,127.0.0.1"


@pytest.mark.parametrize(
    "value", ["", ",", " , ", "localhost,127.0.0.1,.svc,.cluster.local", "amazonaws.com.example", "."]
)
def test_other_no_proxies_are_not(value: str) -> None:
    assert environment("http://127.0.0.1:1", CA, {"NO_PROXY": value}).warnings == ()


def test_the_shell_reads_the_block_back() -> None:
    variables = environment("http://127.0.0.1:3128", Path('/tmp/it\'s a "$HOME" dir/ca.pem'), {}).variables
    script = shell_block(variables) + "env -0"
    printed = subprocess.run(["/bin/sh", "-c", script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
    seen = dict(line.split("=", 1) for line in printed.stdout.decode().split("\0") if "=" in line)
    assert {name: seen[name] for name in variables} == variables
