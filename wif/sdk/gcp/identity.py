"""ID tokens of a service account as google-auth's credentials."""

from __future__ import annotations

__all__ = ["IdTokenCredentials"]

from typing import TYPE_CHECKING, Any, Self

from wif.sdk.gcp.bearer import BlockingBearer, SupportsGoogleTokens
from wif.sdk.requirements import extra_missing

try:
    import google.auth.credentials
except ImportError as error:
    raise extra_missing("google-auth", "gcp") from error

if TYPE_CHECKING:
    from wif.core.credentials import AccessToken
    from wif.sdk.rejection import Rejections


class IdTokenCredentials(BlockingBearer, google.auth.credentials.CredentialsWithQuotaProject):
    """ID tokens for Cloud Run, IAP and the like. Make it with :func:`wif.sdk.gcp.id_token_credentials`.

    Args:
        exchanger: of ``wif.gcp(service_account=…)``.
        audience: who shall accept the token: the service's URL, IAP's client id.
        include_email: whether the token carries the service account's e-mail.
        quota_project_id: the project that API calls are billed to; None takes the exchanger's.
        rejections: shared with the object that this one is a copy of.
        from_environment: the exchanger was built from the environment, so another process can do so too.
    """

    def __init__(
        self,
        exchanger: SupportsGoogleTokens,
        *,
        audience: str,
        include_email: bool = True,
        quota_project_id: str | None = None,
        rejections: Rejections | None = None,
        from_environment: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is not annotated
        self._attach(
            exchanger, quota_project_id=quota_project_id, rejections=rejections, from_environment=from_environment
        )
        self._audience = audience
        self._include_email = include_email

    @property
    def target_audience(self) -> str:
        """Who shall accept the token."""
        return self._audience

    def with_target_audience(self, target_audience: str) -> Self:
        """A copy for another audience: one more token of the same exchanger."""
        return self._twin(audience=target_audience)

    def _ask(self) -> AccessToken:
        return self._exchanger.id_token(audience=self._audience, include_email=self._include_email)

    def _settings(self) -> dict[str, Any]:
        return {
            "audience": self._audience,
            "include_email": self._include_email,
            "quota_project_id": self._quota_project_id,
        }
