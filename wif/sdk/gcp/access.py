"""Access tokens as google-auth's credentials."""

from __future__ import annotations

__all__ = ["Credentials"]

from collections.abc import Sequence
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


class Credentials(BlockingBearer, google.auth.credentials.CredentialsWithQuotaProject, google.auth.credentials.Scoped):
    """Access tokens for any Google client. Make it with :func:`wif.sdk.gcp.credentials`.

    Args:
        exchanger: of ``wif.gcp()``.
        scopes: what the user asks for; None leaves it to the client library, then to the exchanger.
        default_scopes: what a client library asks for where the user did not.
        quota_project_id: the project that API calls are billed to; None takes the exchanger's.
        rejections: shared with the object that this one is a copy of.
        from_environment: the exchanger was built from the environment, so another process can do so too.
    """

    def __init__(
        self,
        exchanger: SupportsGoogleTokens,
        *,
        scopes: Sequence[str] | None = None,
        default_scopes: Sequence[str] | None = None,
        quota_project_id: str | None = None,
        rejections: Rejections | None = None,
        from_environment: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is not annotated
        self._attach(
            exchanger, quota_project_id=quota_project_id, rejections=rejections, from_environment=from_environment
        )
        self._scopes = tuple(scopes) if scopes else None
        self._default_scopes = tuple(default_scopes) if default_scopes else None

    @property
    def requires_scopes(self) -> bool:
        """True while nobody chose scopes, so each client library asks for its own.

        Where nobody does at all, the exchanger's own scopes are taken.
        """
        return not (self._scopes or self._default_scopes)

    def with_scopes(self, scopes: Sequence[str] | None, default_scopes: Sequence[str] | None = None) -> Self:
        """A copy that asks for these scopes: one more token of the same exchanger."""
        return self._twin(scopes=scopes, default_scopes=default_scopes)

    def _ask(self) -> AccessToken:
        return self._exchanger.credentials(scopes=self._scopes or self._default_scopes)

    def _settings(self) -> dict[str, Any]:
        return {
            "scopes": self._scopes,
            "default_scopes": self._default_scopes,
            "quota_project_id": self._quota_project_id,
        }
