"""Which host names the local STS answers as, and for which cloud.

A list of its own, not the exchange side's: a test must not agree with its own mistake. Hosts by partition and
region patterns are those of botocore's ``partitions.json``; Google's and Microsoft's are the ones that their
SDKs and command lines ask for.
"""

from __future__ import annotations

__all__ = ["Cloud", "cloud_of_host", "is_cloud_host", "region_of_sts_host"]

import re
from functools import lru_cache
from typing import Literal

Cloud = Literal["aws", "gcp", "azure"]

_AWS_REGIONS: dict[str, str] = {
    "amazonaws.com": r"(?:(?:us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d+|us-gov-[a-z]+-\d+)",
    "amazonaws.com.cn": r"cn-[a-z]+-\d+",
    "amazonaws.eu": r"eusc-de-[a-z]+-\d+",
    "c2s.ic.gov": r"us-iso-[a-z]+-\d+",
    "sc2s.sgov.gov": r"us-isob-[a-z]+-\d+",
    "cloud.adc-e.uk": r"eu-isoe-[a-z]+-\d+",
    "csp.hci.ic.gov": r"us-isof-[a-z]+-\d+",
}
_AWS = re.compile(
    "|".join(
        rf"sts(?:-fips)?\.(?P<r{number}>{region})\.{re.escape(suffix)}"
        for number, (suffix, region) in enumerate(_AWS_REGIONS.items())
    ),
    re.ASCII,
)
_AWS_GLOBAL = "sts.amazonaws.com"

_GCP = re.compile(
    r"(?:sts|iamcredentials)\.(?:mtls\.)?googleapis\.com"
    r"|(?:sts|iamcredentials)\.[a-z]+-[a-z]+\d+\.rep\.googleapis\.com"
    r"|cloudresourcemanager\.googleapis\.com|www\.googleapis\.com",
    re.ASCII,
)

_AZURE = frozenset(
    {
        "login.microsoftonline.com",
        "login.microsoft.com",
        "login.windows.net",
        "login.microsoftonline.us",
        "login.partner.microsoftonline.cn",
        "login.chinacloudapi.cn",
        "management.azure.com",
        "management.usgovcloudapi.net",
        "management.chinacloudapi.cn",
    }
)
_AZURE_REGIONAL = re.compile(r"[a-z0-9]+\.login\.(?:microsoft|microsoftonline)\.(?:com|us)", re.ASCII)


@lru_cache(maxsize=512)
def cloud_of_host(host: str) -> Cloud | None:
    """The cloud whose service a lower-case host name is, whole; None for every other name."""
    if host == _AWS_GLOBAL or _AWS.fullmatch(host):
        return "aws"
    if _GCP.fullmatch(host):
        return "gcp"
    if host in _AZURE or _AZURE_REGIONAL.fullmatch(host):
        return "azure"
    return None


def is_cloud_host(host: str) -> bool:
    """True for the names that a certificate may be minted and a proxied connection admitted for."""
    return cloud_of_host(host) is not None


@lru_cache(maxsize=512)
def region_of_sts_host(host: str) -> str | None:
    """The region that AWS' STS host stands for; None for every other host."""
    if host == _AWS_GLOBAL:
        return "us-east-1"
    match = _AWS.fullmatch(host)
    return next(filter(None, match.groups()), None) if match else None
