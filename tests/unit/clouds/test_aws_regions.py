"""AWS' partitions are botocore's, and a host is AWS' only as a whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import botocore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.clouds.aws import is_sts_host, partition_of_region, sts_endpoint
from wif.clouds.aws_regions import PARTITIONS
from wif.errors import ConfigurationError

# Read while pytest collects: a test of the pure half opens no file.
BOTOCORE = json.loads((Path(botocore.__file__).parent / "data" / "partitions.json").read_text())["partitions"]
REGIONS = [
    (partition["id"], region, partition["outputs"]["dnsSuffix"])
    for partition in BOTOCORE
    for region in partition["regions"]
    if not region.endswith("-global")
]


def test_the_partitions_are_those_of_botocore() -> None:
    ours = {(part.name, "^" + part.region.replace("-", r"\-") + "$", part.suffix) for part in PARTITIONS}
    assert ours == {(p["id"], p["regionRegex"], p["outputs"]["dnsSuffix"]) for p in BOTOCORE}


@pytest.mark.parametrize(("name", "region", "suffix"), REGIONS)
def test_every_region_of_botocore_has_its_endpoint(name: str, region: str, suffix: str) -> None:
    partition = partition_of_region(region)
    assert partition is not None
    assert partition.name == name
    assert sts_endpoint(region) == f"https://sts.{region}.{suffix}/"
    assert is_sts_host(f"sts.{region}.{suffix}")
    assert is_sts_host(f"sts-fips.{region}.{suffix}")


@pytest.mark.parametrize("region", [None, "aws-global"])
def test_without_a_region_the_global_endpoint_is_asked(region: str | None) -> None:
    assert sts_endpoint(region) == "https://sts.amazonaws.com/"
    assert is_sts_host("sts.amazonaws.com")


def test_fips_endpoints() -> None:
    assert sts_endpoint("us-east-1", fips=True) == "https://sts-fips.us-east-1.amazonaws.com/"
    assert sts_endpoint("us-gov-west-1", fips=True) == "https://sts.us-gov-west-1.amazonaws.com/"


@pytest.mark.parametrize(
    "region",
    [
        "",
        "us-east-1.evil.example",
        "us-east-1\n",
        "xus-east-1",
        "us-east-1x",
        "US-EAST-1",
        "us-east-\u0661",
        "evil/us-east-1",
        "us",
    ],
)
def test_a_region_matches_as_a_whole_string(region: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        sts_endpoint(region)
    assert caught.value.code == "config-invalid"


@pytest.mark.parametrize(
    "host",
    [
        "sts.amazonaws.com.evil.example",
        "x.execute-api.us-east-1.amazonaws.com",
        "evil.sts.us-east-1.amazonaws.com",
        "evil.us-east-1.amazonaws.com",
        "ec2.us-east-1.amazonaws.com",
        "sts.us-east-1.amazonaws.com.evil.example",
        "sts.us-east-1.amazonaws.com.cn",
        "sts.cn-north-1.amazonaws.com",
        "sts.evil.amazonaws.com",
        "sts.us-east-1.evil.amazonaws.com",
        "stsXus-east-1.amazonaws.com",
        "sts-fips.amazonaws.com",
        "sts.amazonaws.com.cn",
        "sts.us-east-1.",
        "amazonaws.com",
        "",
    ],
)
def test_a_host_that_only_looks_right_is_none(host: str) -> None:
    assert not is_sts_host(host)


@given(st.text(st.sampled_from("ustaewc-1.map znodk/@:"), max_size=60))
def test_an_accepted_host_is_always_under_a_suffix_of_aws(host: str) -> None:
    suffixes = "|".join(re.escape(part.suffix) for part in PARTITIONS)
    assert not is_sts_host(host) or re.fullmatch(rf"sts(-fips)?\.([a-z0-9-]+\.)?({suffixes})", host)
