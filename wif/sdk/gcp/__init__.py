"""google-auth: credentials for any Google client, asked of an exchanger at each use.

The objects hold no token that they would serve again. google-auth's own window (a token counts as expired 225 s
early) does not apply: ``before_request`` asks the exchanger, so a token of 200 s is used for most of its life and not
exchanged anew for each request. ``valid``, ``expired``, ``token_state``, ``token`` and ``expiry`` report on the token
that was last handed out, with its true expiry.

``refresh()`` means two things in google-auth's world: "the service rejected my token" (a 401) and "give me a token".
The token is dropped only for a thread that was given this very token, and at most once a minute
(:mod:`wif.sdk.rejection`); the exchanger's budget holds in any case.

No Regional Access Boundary is looked up: google-auth's own external accounts ask ``allowedLocations`` of
iamcredentials.googleapis.com in the background, always, which needs one more host opened and warns where it is not.

What google-auth and its clients call raises ``google.auth.exceptions.RefreshError`` from the
:class:`~wif.errors.WifError`, with its message and its ``retryable``; what you call (:func:`credentials`, …) raises
the ``WifError`` itself.

A copy, shallow or deep, shares the exchanger. An object built from the environment can be pickled and is built from
the environment of the process that loads it; one with its own exchanger cannot.
"""

from __future__ import annotations

__all__ = [
    "AsyncCredentials",
    "Credentials",
    "IdTokenCredentials",
    "SupportsGoogleTokens",
    "async_credentials",
    "credentials",
    "default",
    "id_token_credentials",
]

from typing import TYPE_CHECKING

from wif.errors import ConfigurationError
from wif.sdk.gcp.access import Credentials
from wif.sdk.gcp.aio import AsyncCredentials
from wif.sdk.gcp.bearer import SupportsGoogleTokens, default_exchanger
from wif.sdk.gcp.identity import IdTokenCredentials

if TYPE_CHECKING:
    from collections.abc import Sequence


def credentials(
    exchanger: SupportsGoogleTokens | None = None,
    scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
) -> Credentials:
    """Credentials for any Google client.

    Args:
        exchanger: of ``wif.gcp()``; None builds one from the environment.
        scopes: None leaves the choice to each client library, then to the exchanger.
        quota_project_id: the project that API calls are billed to; None takes the exchanger's.

    Raises:
        ConfigurationError: the environment describes no GCP identity.
    """
    return Credentials(
        default_exchanger(exchanger),
        scopes=scopes,
        quota_project_id=quota_project_id,
        from_environment=exchanger is None,
    )


def default(
    exchanger: SupportsGoogleTokens | None = None,
    scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
) -> tuple[Credentials, str | None]:
    """Credentials and project, in the form of ``google.auth.default()``; no request looks the project up."""
    made = credentials(exchanger, scopes, quota_project_id)
    return made, made.project_id


def async_credentials(
    exchanger: SupportsGoogleTokens | None = None,
    scopes: Sequence[str] | None = None,
    quota_project_id: str | None = None,
) -> AsyncCredentials:
    """Credentials for ``google.auth.aio.transport.sessions.AsyncAuthorizedSession``; arguments of :func:`credentials`.

    That session takes the synchronous object too, and then asks it in a thread.
    """
    return AsyncCredentials(
        default_exchanger(exchanger),
        scopes=scopes,
        quota_project_id=quota_project_id,
        from_environment=exchanger is None,
    )


def id_token_credentials(
    exchanger: SupportsGoogleTokens | None = None,
    audience: str = "",
    *,
    include_email: bool = True,
    quota_project_id: str | None = None,
) -> IdTokenCredentials:
    """Credentials whose bearer token is an ID token of the service account.

    Args:
        exchanger: of ``wif.gcp(service_account=…)``; None builds one from the environment.
        audience: who shall accept the token: a Cloud Run service's URL, IAP's client id.
        include_email: whether the token carries the service account's e-mail.
        quota_project_id: the project that API calls are billed to; None takes the exchanger's.

    Raises:
        ConfigurationError: no audience; the environment describes no GCP identity; the identity is a direct
            principal, for which Google makes no ID tokens.
    """
    if not audience:
        raise ConfigurationError(
            "an ID token needs an audience",
            code="config-missing",
            cloud="gcp",
            hint="pass audience=, the URL of the service that shall accept it",
        )
    source = default_exchanger(exchanger)
    if source.service_account is None:
        raise ConfigurationError(
            "Google makes ID tokens for service accounts only, and this identity is a direct principal",
            code="config-invalid",
            cloud="gcp",
            hint="name a service account that the principal may impersonate",
        )
    return IdTokenCredentials(
        source,
        audience=audience,
        include_email=include_email,
        quota_project_id=quota_project_id,
        from_environment=exchanger is None,
    )
