"""AWS' partitions, regions and the hosts of its Security Token Service.

Source: botocore's ``partitions.json`` (``regionRegex``, ``dnsSuffix``) and the STS service's endpoint rules.
"""

from __future__ import annotations

__all__ = [
    "GLOBAL_ENDPOINT",
    "GLOBAL_REGION",
    "PARTITIONS",
    "Partition",
    "is_sts_host",
    "partition_of_region",
    "sts_endpoint",
]

import re
from typing import NamedTuple

from wif.clouds.answers import shown
from wif.errors import ConfigurationError

GLOBAL_ENDPOINT = "https://sts.amazonaws.com/"
"""Only the partition ``aws`` has a host without a region."""

GLOBAL_REGION = "us-east-1"
"""The region that signatures for the global endpoint name."""


class Partition(NamedTuple):
    """A family of regions with one DNS suffix."""

    name: str
    region: str
    """Regular expression that a region matches as a whole."""
    suffix: str


PARTITIONS = (
    Partition("aws", r"(us|eu|ap|sa|ca|me|af|il|mx)-\w+-\d+", "amazonaws.com"),
    Partition("aws-cn", r"cn-\w+-\d+", "amazonaws.com.cn"),
    Partition("aws-eusc", r"eusc-(de)-\w+-\d+", "amazonaws.eu"),
    Partition("aws-iso", r"us-iso-\w+-\d+", "c2s.ic.gov"),
    Partition("aws-iso-b", r"us-isob-\w+-\d+", "sc2s.sgov.gov"),
    Partition("aws-iso-e", r"eu-isoe-\w+-\d+", "cloud.adc-e.uk"),
    Partition("aws-iso-f", r"us-isof-\w+-\d+", "csp.hci.ic.gov"),
    Partition("aws-us-gov", r"us-gov-\w+-\d+", "amazonaws.com"),
)
"""botocore's partitions.json: ``regionRegex`` and ``dnsSuffix``."""


def partition_of_region(region: str) -> Partition | None:
    """The partition whose pattern the region matches as a whole string; None where there is none."""
    return next((part for part in PARTITIONS if re.fullmatch(part.region, region, re.ASCII)), None)


def sts_endpoint(region: str | None, *, fips: bool = False) -> str:
    """The STS endpoint of a region, with a final slash; the global one for None and ``aws-global``.

    Raises:
        ConfigurationError: config-invalid, where the region is none of any partition.
    """
    if region in (None, "aws-global"):
        return GLOBAL_ENDPOINT
    partition = partition_of_region(str(region))
    if partition is None:
        raise ConfigurationError(
            f"{shown(str(region))!r} is not a region of AWS",
            code="config-invalid",
            hint="set AWS_REGION or region= to a region such as eu-central-1",
        )
    # GovCloud's plain STS hosts are its FIPS hosts.
    name = "sts-fips" if fips and partition.name != "aws-us-gov" else "sts"
    return f"https://{name}.{region}.{partition.suffix}/"


def is_sts_host(host: str) -> bool:
    """True for the STS hosts of all partitions, written in lower case."""
    if host == "sts.amazonaws.com":
        return True
    name, _, rest = host.partition(".")
    region, _, suffix = rest.partition(".")
    partition = partition_of_region(region)
    return name in ("sts", "sts-fips") and partition is not None and suffix == partition.suffix
