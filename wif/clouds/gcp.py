"""Google Cloud at run time: token exchange, impersonation of a service account, ID tokens, introspection.

Source: the discovery documents of ``sts.v1`` and ``iamcredentials.v1``; RFC 8693; RFC 7662.
"""

from __future__ import annotations

__all__ = [
    "CLOUD_PLATFORM_SCOPE",
    "DEFAULT_UNIVERSE",
    "IAM_SCOPE",
    "JWT_TOKEN_TYPE",
    "ExecutableSource",
    "ExternalAccount",
    "FileSource",
    "Introspection",
    "ProviderName",
    "exchange_token",
    "generate_access_token",
    "generate_id_token",
    "iam_credentials_url",
    "introspect",
    "introspect_url",
    "is_google_host",
    "token_url",
    "validate_lifetime",
    "validate_service_account",
]

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

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
    when,
)
from wif.clouds.gcp_files import ExecutableSource, ExternalAccount, FileSource
from wif.clouds.gcp_names import (
    CLOUD_PLATFORM_SCOPE,
    DEFAULT_UNIVERSE,
    IAM_SCOPE,
    JWT_TOKEN_TYPE,
    ProviderName,
    iam_credentials_url,
    introspect_url,
    is_google_host,
    token_url,
    validate_lifetime,
    validate_service_account,
)
from wif.core.credentials import AccessToken
from wif.core.flow import Flow, Request, Response
from wif.core.freshness import LEEWAY_SECONDS
from wif.core.token import UnverifiedToken, read_token
from wif.errors import ConfigurationError, TokenError, WifError


class Introspection(NamedTuple):
    """What Google says about a federated token (RFC 7662)."""

    active: bool
    username: str
    """The principal."""
    client_id: str = ""
    scope: str = ""
    local_sts: bool = False


def exchange_token(
    provider: ProviderName,
    token: UnverifiedToken,
    *,
    scopes: tuple[str, ...],
    token_url: str,
    now: float,
    user_project: str | None = None,
    subject_token_type: str = JWT_TOKEN_TYPE,
) -> Flow[AccessToken]:
    """Exchange a subject token for a federated access token. One request.

    Args:
        user_project: the project that a workforce identity's calls are charged to.
    """
    _check_scopes(scopes)
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": provider.audience,
        "scope": " ".join(scopes),
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token": token.raw,
        "subject_token_type": subject_token_type,
    }
    if user_project is not None:
        form["options"] = quote(json.dumps({"userProject": user_project}))
    asked = Asked(
        cloud="gcp",
        name="Google",
        operation="token",
        identity=f"the provider {provider.audience}",
        now=now,
        token=token,
        secrets=(token.raw,),
        facts={"provider": provider.audience, "principal": provider.principal(shown(token.subject))},
    )
    response = yield _post(token_url, {}, urlencode(form).encode("ascii"), asked.operation)
    answer = _success(asked, response)
    value = _bearer(asked, response, answer, "access_token")
    left = number(answer.get("expires_in"))
    if not left and answer.get("expires_in") in (None, 0) and token.expires_at - now <= 2 + LEEWAY_SECONDS:
        raise TokenError(
            f"the subject token of {token.origin} is at its end: Google gave a token without expires_in, "
            "as it does in the last two seconds",
            code="token-expired",
            retryable=True,
            cloud="gcp",
            status=response.status,
        )
    if not left or left > MAX_LIFE_SECONDS:
        raise malformed(asked, response, "a token without a usable expires_in")
    return AccessToken(
        token=value,
        expires_at=utc(now + left),
        lifetime_seconds=left,
        scopes=scopes,
        local_sts=is_local_sts(response),
    )


def generate_access_token(
    federated: AccessToken,
    token: UnverifiedToken | None = None,
    *,
    service_account: str,
    scopes: tuple[str, ...],
    lifetime_seconds: int | None = None,
    delegates: tuple[str, ...] = (),
    iam_url: str,
    provider: ProviderName | None = None,
    now: float,
) -> Flow[AccessToken]:
    """Become a service account with a federated token. One request.

    Args:
        token, provider: what the federated token was made of, for messages.
        delegates: service accounts between the federated identity and the last one, in order.
        iam_url: as :func:`iam_credentials_url` gives it.
    """
    _check_scopes(scopes)
    body: dict[str, object] = {"scope": list(scopes)}
    if delegates:
        body["delegates"] = [_resource(delegate) for delegate in delegates]
    if validate_lifetime(lifetime_seconds) is not None:
        body["lifetime"] = f"{lifetime_seconds}s"
    asked = _asked_as("generateAccessToken", service_account, federated, provider=provider, token=token, now=now)
    response = yield _impersonate(iam_url, service_account, federated, body, asked.operation)
    answer = _success(asked, response)
    value = _bearer(asked, response, answer, "accessToken")
    end = when(answer.get("expireTime"))
    if end is None:
        raise malformed(asked, response, "a token without a usable expireTime")
    return AccessToken(
        token=value,
        expires_at=end,
        lifetime_seconds=left_seconds(asked, response, end),
        scopes=scopes,
        local_sts=is_local_sts(response),
    )


def generate_id_token(
    federated: AccessToken,
    token: UnverifiedToken | None = None,
    *,
    service_account: str,
    audience: str,
    include_email: bool = True,
    delegates: tuple[str, ...] = (),
    iam_url: str,
    provider: ProviderName | None = None,
    now: float,
) -> Flow[AccessToken]:
    """Obtain an ID token of a service account for ``audience``. One request."""
    if not audience.strip():
        raise ConfigurationError(
            f"an ID token of {shown(service_account)} is asked for without an audience",
            code="config-missing",
            hint="pass audience=, usually the URL of the service that will check the token",
        )
    body: dict[str, object] = {"audience": audience, "includeEmail": include_email}
    if delegates:
        body["delegates"] = [_resource(delegate) for delegate in delegates]
    asked = _asked_as("generateIdToken", service_account, federated, provider=provider, token=token, now=now)
    response = yield _impersonate(iam_url, service_account, federated, body, asked.operation)
    answer = _success(asked, response)
    value = _bearer(asked, response, answer, "token")
    try:
        issued = read_token(value, origin=asked.operation, now=now, check_times=False)
    except TokenError:
        raise malformed(asked, response, "an ID token that is not a JWT with iss, sub, aud and exp") from None
    if not 0 < issued.expires_at < 1e11:
        raise malformed(asked, response, "an ID token without a usable exp")
    end = utc(issued.expires_at)
    return AccessToken(
        token=value,
        expires_at=end,
        lifetime_seconds=left_seconds(asked, response, end),
        local_sts=is_local_sts(response),
    )


def introspect(federated: AccessToken, *, url: str, now: float = 0.0) -> Flow[Introspection]:
    """Ask Google whose federated token this is.

    Where Google does not answer that, the refusal says so by its status (400, 401, 404).
    """
    asked = Asked(
        cloud="gcp",
        name="Google",
        operation="introspect",
        identity="the federated token",
        now=now,
        secrets=(federated.token,),
    )
    form = {"token": federated.token, "token_type_hint": "urn:ietf:params:oauth:token-type:access_token"}
    response = yield _post(url, {}, urlencode(form).encode("ascii"), asked.operation)
    answer = _success(asked, response)
    active = answer.get("active")
    if not isinstance(active, bool):
        raise malformed(asked, response, "a JSON object without active")
    return Introspection(
        active=active,
        username=shown(text_member(answer, "username")),
        client_id=shown(text_member(answer, "client_id")),
        scope=shown(text_member(answer, "scope")),
        local_sts=is_local_sts(response),
    )


def _check_scopes(scopes: tuple[str, ...]) -> None:
    for scope in scopes:
        if not header_safe(scope):
            raise ConfigurationError(
                f"{shown(scope)!r} is not a scope",
                code="config-invalid",
                hint="pass scopes as separate texts, such as https://www.googleapis.com/auth/cloud-platform",
            )
    if not scopes:
        raise ConfigurationError(
            "a token is asked for without a scope",
            code="config-missing",
            hint="pass scopes=, usually https://www.googleapis.com/auth/cloud-platform",
        )


def _asked_as(
    operation: str,
    service_account: str,
    federated: AccessToken,
    *,
    provider: ProviderName | None,
    token: UnverifiedToken | None,
    now: float,
) -> Asked:
    validate_service_account(service_account)
    facts = {"service_account": service_account}
    if provider is not None:
        facts["principal"] = provider.principal(shown(token.subject) if token is not None else "SUBJECT")
    return Asked(
        cloud="gcp",
        name="Google",
        operation=operation,
        identity=f"the service account {service_account}",
        now=now,
        token=token,
        secrets=(federated.token, *((token.raw,) if token is not None else ())),
        facts=facts,
    )


def _resource(delegate: str) -> str:
    return (
        f"projects/-/serviceAccounts/{validate_service_account(delegate.removeprefix('projects/-/serviceAccounts/'))}"
    )


def _impersonate(
    iam_url: str, service_account: str, federated: AccessToken, body: Mapping[str, object], operation: str
) -> Request:
    return Request(
        method="POST",
        url=f"{iam_url.rstrip('/')}/v1/projects/-/serviceAccounts/{service_account}:{operation}",
        headers={
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Authorization": f"Bearer {federated.token}",
        },
        body=json.dumps(body).encode("ascii"),
        operation=operation,
    )


def _post(url: str, headers: Mapping[str, str], body: bytes, operation: str) -> Request:
    every = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json", **headers}
    return Request(method="POST", url=url, headers=every, body=body, operation=operation)


def _success(asked: Asked, response: Response) -> Mapping[str, Any]:
    answer = json_object(response)
    if response.status != 200:
        raise _refused(asked, response, answer or {})
    if answer is None:
        raise malformed(asked, response, "something that is not a JSON object")
    return answer


def _bearer(asked: Asked, response: Response, answer: Mapping[str, Any], name: str) -> str:
    value = text_member(answer, name)
    if not header_safe(value):
        raise malformed(asked, response, f"a JSON object without a usable {name}")
    return value


def _refused(asked: Asked, response: Response, answer: Mapping[str, Any]) -> WifError:
    from wif.clouds.gcp_errors import ROWS  # noqa: PLC0415  # only a refusal needs the table

    error = answer.get("error")
    if isinstance(error, dict):  # the shape of Google's APIs
        code, text = text_member(error, "status"), text_member(error, "message")
    else:  # RFC 6749 section 5.2
        code, text = text_member(answer, "error"), text_member(answer, "error_description")
    return refusal(asked, response, cloud_code=code, text=text, rows=ROWS)
