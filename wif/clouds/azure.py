"""Microsoft Entra ID at run time: authorities, tenants and the token request with a federated client assertion.

Source: Microsoft identity platform, OAuth 2.0 client credentials flow, "access token request with a federated
credential" (RFC 7523 section 2.2).
"""

from __future__ import annotations

__all__ = [
    "AUTHORITY_HOSTS",
    "DEFAULT_AUTHORITY",
    "PROPAGATION_CODES",
    "authority_url",
    "expected_audience",
    "is_authority_host",
    "request_token",
    "validate_client_id",
    "validate_tenant_id",
]

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from wif.clouds.answers import (
    MAX_LIFE_SECONDS,
    Asked,
    header_safe,
    is_local_sts,
    json_object,
    left_seconds,
    malformed,
    number,
    refusal,
    shown,
    text_member,
    utc,
)
from wif.core.credentials import AccessToken
from wif.core.flow import Flow, Request, Response
from wif.core.token import UnverifiedToken
from wif.errors import ConfigurationError, WifError

AUTHORITY_HOSTS: Mapping[str, str] = {
    "login.microsoftonline.com": "api://AzureADTokenExchange",
    "login.microsoftonline.us": "api://AzureADTokenExchangeUSGov",
    "login.partner.microsoftonline.cn": "api://AzureADTokenExchangeChina",
    "login.chinacloudapi.cn": "api://AzureADTokenExchangeChina",
    "login.microsoft.com": "api://AzureADTokenExchange",
    "login.windows.net": "api://AzureADTokenExchange",
    "login.sovcloud-identity.fr": "api://AzureADTokenExchange",
    "login.sovcloud-identity.de": "api://AzureADTokenExchange",
    "login.sovcloud-identity.sg": "api://AzureADTokenExchange",
}
"""Entra's token hosts of the public and the sovereign clouds, and the audience that each recommends for tokens."""

DEFAULT_AUTHORITY = "https://login.microsoftonline.com"

PROPAGATION_CODES = frozenset(
    f"AADSTS{number}" for number in (70021, 700211, 700212, 700213, 7002131, 7002137, 7002138)
)
"""Refusals that a federated credential made minutes ago also gives, until Entra has spread it."""


def is_authority_host(host: str) -> bool:
    """True for Entra's own hosts, written in lower case."""
    return host in AUTHORITY_HOSTS


def expected_audience(authority: str) -> str:
    """The audience that an authority recommends for federated tokens."""
    return AUTHORITY_HOSTS.get(
        (urlsplit(authority).hostname or "").lower(), AUTHORITY_HOSTS["login.microsoftonline.com"]
    )


def authority_url(host_or_url: str | None) -> str:
    """The authority as a URL without a final slash; the public cloud for None or nothing.

    Raises:
        ConfigurationError: config-invalid.
    """
    value = (host_or_url or "").strip()
    if not value:
        return DEFAULT_AUTHORITY
    url = value if "://" in value else f"https://{value}"
    try:
        parts = urlsplit(url)
        _ = parts.port
        usable = (
            parts.scheme in ("https", "http")
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and not parts.query
            and not parts.fragment
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            f"the authority {shown(value)!r} is not a host or an https URL",
            code="config-invalid",
            hint="set AZURE_AUTHORITY_HOST to https://login.microsoftonline.com/ or the host of your cloud",
        )
    return url.rstrip("/")


def validate_tenant_id(tenant_id: str) -> str:
    """The tenant as it is, where it is a GUID or a domain name.

    Raises:
        ConfigurationError: config-invalid.
    """
    if not re.fullmatch(r"(?!\.)(?!.*\.\.)[A-Za-z0-9.-]{1,253}(?<!\.)", tenant_id, re.ASCII):
        raise ConfigurationError(
            f"{shown(tenant_id)!r} is not a tenant",
            code="config-invalid",
            hint="set AZURE_TENANT_ID to the directory (tenant) id, a GUID, or a verified domain",
        )
    if tenant_id.lower() in ("common", "organizations", "consumers"):
        raise ConfigurationError(
            f"the tenant {tenant_id!r} stands for many, a workload belongs to one",
            code="config-invalid",
            hint="set AZURE_TENANT_ID to the directory (tenant) id of the application",
        )
    return tenant_id


def validate_client_id(client_id: str) -> str:
    """The client id as it is, where it can be one.

    Raises:
        ConfigurationError: config-invalid.
    """
    if not re.fullmatch(r"[A-Za-z0-9._~-]{1,128}", client_id, re.ASCII):
        raise ConfigurationError(
            f"{shown(client_id)!r} is not a client id",
            code="config-invalid",
            hint="set AZURE_CLIENT_ID to the application (client) id, a GUID",
        )
    return client_id


def request_token(
    token: UnverifiedToken,
    *,
    tenant_id: str,
    client_id: str,
    authority: str,
    scope: str,
    claims: str | None = None,
    now: float,
) -> Flow[AccessToken]:
    """Exchange a subject token for an access token of an application or managed identity. One request.

    Args:
        authority: as :func:`authority_url` gives it.
        scope: ``<resource>/.default``; passed on as it is.
        claims: the JSON of a claims challenge.
    """
    validate_tenant_id(tenant_id)
    validate_client_id(client_id)
    if not header_safe(scope):
        raise ConfigurationError(
            f"{shown(scope)!r} is not a scope",
            code="config-invalid",
            hint="pass one scope of the form <resource>/.default, such as https://management.azure.com/.default",
        )
    if claims is not None and not claims.isascii():
        raise ConfigurationError(
            "the claims are not the JSON of a claims challenge",
            code="config-invalid",
            hint="pass the challenge's claims decoded from base64, as azure-core does",
        )
    form = {
        "client_assertion": token.raw,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_id": client_id,
        "grant_type": "client_credentials",
        "scope": scope,
    }
    if claims is not None:
        form["claims"] = claims
    asked = Asked(
        cloud="azure",
        name="Microsoft Entra",
        operation="token",
        identity=f"the client {client_id} of the tenant {tenant_id}",
        now=now,
        token=token,
        secrets=(token.raw,),
        facts={
            "client": client_id,
            "tenant": tenant_id,
            "authority": shown(authority),
            "scope": shown(scope),
            "expected_audience": expected_audience(authority),
        },
    )
    response = yield Request(
        method="POST",
        url=f"{authority.rstrip('/')}/{tenant_id}/oauth2/v2.0/token",
        headers={"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
        body=urlencode(form).encode("ascii"),
        operation=asked.operation,
    )
    answer = json_object(response)
    if response.status != 200:
        raise _refused(asked, response, answer or {})
    if answer is None:
        raise malformed(asked, response, "something that is not a JSON object")
    return _access_token(asked, response, answer, (scope,))


def _access_token(asked: Asked, response: Response, answer: Mapping[str, Any], scopes: tuple[str, ...]) -> AccessToken:
    value = text_member(answer, "access_token")
    if not header_safe(value):
        raise malformed(asked, response, "a JSON object without a usable access_token")
    left = number(answer.get("expires_in"))
    end = number(answer.get("expires_on"))
    if left is None and end is not None and end < 1e11:
        left = left_seconds(asked, response, utc(end))
    if not left or left > MAX_LIFE_SECONDS:
        raise malformed(asked, response, "a token without a usable expires_in")
    return AccessToken(
        token=value,
        expires_at=utc(asked.now + left),
        lifetime_seconds=left,
        scopes=scopes,
        refresh_in_seconds=number(answer.get("refresh_in")),
        local_sts=is_local_sts(response),
    )


def _refused(asked: Asked, response: Response, answer: Mapping[str, Any]) -> WifError:
    from wif.clouds.azure_errors import ROWS  # noqa: PLC0415  # only a refusal needs the table

    text = text_member(answer, "error_description")
    found = re.match(r"\s*(AADSTS[0-9]{1,10})\b:?\s*", text, re.ASCII)
    codes = answer.get("error_codes")
    if found:
        code = found[1]
    elif isinstance(codes, list) and codes and isinstance(codes[0], int) and 0 < codes[0] < 10**10:
        code = f"AADSTS{codes[0]}"
    else:
        code = text_member(answer, "error")
    return refusal(
        asked, response, cloud_code=code, text=_sentence(text[found.end() if found else 0 :], answer), rows=ROWS
    )


def _sentence(text: str, answer: Mapping[str, Any]) -> str:
    """Entra's text without its tail of ids, but with the correlation id: Microsoft's support asks for it."""
    said = re.split(r"\s*Trace ID:", text, maxsplit=1)[0]
    correlation = text_member(answer, "correlation_id")
    known = re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", correlation)
    return f"{said} [correlation id {correlation}]" if known else said
