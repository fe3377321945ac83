"""Google's names: universes and hosts, providers of identity pools, service accounts.

Source: the discovery documents of ``sts.v1``, ``iam.v1`` and ``iamcredentials.v1``.
"""

from __future__ import annotations

__all__ = [
    "CLOUD_PLATFORM_SCOPE",
    "DEFAULT_UNIVERSE",
    "IAM_SCOPE",
    "JWT_TOKEN_TYPE",
    "MAX_LIFETIME_SECONDS",
    "ProviderName",
    "iam_credentials_url",
    "introspect_url",
    "is_google_host",
    "token_url",
    "validate_lifetime",
    "validate_service_account",
]

import re
from dataclasses import dataclass

from wif.clouds.answers import shown
from wif.errors import ConfigurationError

DEFAULT_UNIVERSE = "googleapis.com"
"""The domain of Google's own hosts."""
CLOUD_PLATFORM_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
IAM_SCOPE = "https://www.googleapis.com/auth/iam"
"""What a federated token needs to impersonate a service account, and no more."""
JWT_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:jwt"
"""What the subject token is called unless a credential file says otherwise."""
MAX_LIFETIME_SECONDS = 43_200
"""Of a service account's token, and only where the organisation's policy allows more than an hour."""
_REGION = r"[a-z]+-[a-z]+[0-9]+"


def token_url(region: str | None = None, universe_domain: str = DEFAULT_UNIVERSE) -> str:
    """The token exchange's URL: of a region's own endpoint, or the global one.

    Raises:
        ConfigurationError: config-invalid.
    """
    _check_universe(universe_domain)
    if region is None:
        return f"https://sts.{universe_domain}/v1/token"
    if not re.fullmatch(_REGION, region):
        raise ConfigurationError(
            f"{shown(region)!r} is not a region of Google Cloud",
            code="config-invalid",
            hint="write a region such as europe-west3, or leave it out for the global endpoint",
        )
    return f"https://sts.{region}.rep.{universe_domain}/v1/token"


def introspect_url(token_url: str) -> str:
    """The introspection's URL beside a token exchange's URL."""
    return f"{token_url.rstrip('/').removesuffix('/token')}/introspect"


def iam_credentials_url(universe_domain: str = DEFAULT_UNIVERSE) -> str:
    """The IAM Credentials API's base URL, without a final slash."""
    _check_universe(universe_domain)
    return f"https://iamcredentials.{universe_domain}"


def is_google_host(host: str, universe_domain: str = DEFAULT_UNIVERSE) -> bool:
    """True for the hosts of a universe that may see a token: sts, its regional ones, iamcredentials. Lower case."""
    if host in (f"sts.{universe_domain}", f"iamcredentials.{universe_domain}"):
        return True
    tail = f".rep.{universe_domain}"
    return host.endswith(tail) and re.fullmatch(rf"sts\.{_REGION}", host[: -len(tail)]) is not None


def _check_universe(universe_domain: str) -> None:
    label = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
    if not re.fullmatch(rf"{label}(?:\.{label})+", universe_domain):
        raise ConfigurationError(
            f"{shown(universe_domain)!r} is not a universe domain",
            code="config-invalid",
            hint="write a domain such as googleapis.com",
        )


def validate_service_account(text: str) -> str:
    """A service account's e-mail address or unique id, as it is.

    Both go into a URL's path, so every other character is refused.

    Raises:
        ConfigurationError: config-invalid.
    """
    if not re.fullmatch(r"[0-9]{5,30}|[A-Za-z0-9._-]{1,64}@[A-Za-z0-9.-]{1,253}", text):
        raise ConfigurationError(
            f"{shown(text)!r} is not the e-mail address of a service account",
            code="config-invalid",
            hint="write it as IAM shows it: app@my-project.iam.gserviceaccount.com",
        )
    return text


def validate_lifetime(seconds: int | None) -> int | None:
    """A lifetime of 1 to 43200 seconds, or None, as it is.

    Raises:
        ConfigurationError: config-invalid.
    """
    if seconds is not None and not 1 <= seconds <= MAX_LIFETIME_SECONDS:
        raise ConfigurationError(
            f"a lifetime of {seconds} s is not allowed",
            code="config-invalid",
            hint="ask for 1 to 3600 s, or up to 43200 s where the organisation's policy "
            "constraints/iam.allowServiceAccountCredentialLifetimeExtension names the service account",
        )
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderName:
    """The full name of a provider of a workload or workforce identity pool."""

    project_number: str | None
    """None for a workforce pool."""
    location: str
    pool: str
    provider: str

    @classmethod
    def parse(cls, text: str) -> ProviderName:
        """Read ``projects/N/locations/global/workloadIdentityPools/P/providers/K``, with or without
        ``//iam.googleapis.com/`` or ``https://iam.googleapis.com/`` before it, or a workforce pool's provider.

        Raises:
            ConfigurationError: config-invalid.
        """
        found = re.fullmatch(
            r"(?:(?:https:)?//iam\.googleapis\.com/)?"
            r"(?:projects/(?P<project>[^/]+)/locations/(?P<location>[a-z0-9-]+)/workloadIdentityPools"
            r"|locations/(?P<workforce>[a-z0-9-]+)/workforcePools)"
            r"/(?P<pool>[a-z0-9-]{1,63})/providers/(?P<provider>[a-z0-9-]{1,63})",
            text,
        )
        if found is None:
            raise ConfigurationError(
                f"{shown(text)!r} is not the full name of a provider",
                code="config-invalid",
                hint="write projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER",
            )
        project = found["project"]
        if project is not None and not re.fullmatch(r"[0-9]{1,30}", project):
            raise ConfigurationError(
                f"the provider's name {shown(text)!r} has the project {shown(project)!r}, expected its number",
                code="config-invalid",
                hint="Google takes the project's number here, not its id: gcloud projects describe shows it",
            )
        return cls(
            project_number=project,
            location=found["location"] or found["workforce"],
            pool=found["pool"],
            provider=found["provider"],
        )

    @property
    def pool_name(self) -> str:
        """The pool's full name, without a host."""
        if self.project_number is None:
            return f"locations/{self.location}/workforcePools/{self.pool}"
        return f"projects/{self.project_number}/locations/{self.location}/workloadIdentityPools/{self.pool}"

    @property
    def audience(self) -> str:
        """What the token exchange calls ``audience``; the same in every universe."""
        return f"//iam.googleapis.com/{self.pool_name}/providers/{self.provider}"

    def principal(self, subject: str) -> str:
        """IAM's name for one mapped subject of the pool."""
        return f"principal://iam.googleapis.com/{self.pool_name}/subject/{subject}"
