"""Access tokens as credentials of google.auth.aio."""

from __future__ import annotations

__all__ = ["AsyncCredentials"]

from collections.abc import MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from wif.errors import WifError
from wif.sdk.gcp.bearer import Bearer, SupportsGoogleTokens, read_only, refresh_failed
from wif.sdk.requirements import extra_missing

try:
    import google.auth.aio.credentials
except ImportError as error:
    raise extra_missing("google-auth", "gcp") from error

if TYPE_CHECKING:
    from wif.sdk.rejection import Rejections


class AsyncCredentials(Bearer, google.auth.aio.credentials.Credentials):
    """Access tokens for ``google.auth.aio``. Make it with :func:`wif.sdk.gcp.async_credentials`.

    The event loop is never blocked: ``token`` reports, ``before_request`` and ``refresh`` await the exchanger.

    Args:
        exchanger: of ``wif.gcp()``.
        scopes: what is asked for; None takes the exchanger's.
        quota_project_id: the project that API calls are billed to; None takes the exchanger's.
        rejections: shared with the object that this one is a copy of.
        from_environment: the exchanger was built from the environment, so another process can do so too.
    """

    def __init__(
        self,
        exchanger: SupportsGoogleTokens,
        *,
        scopes: Sequence[str] | None = None,
        quota_project_id: str | None = None,
        rejections: Rejections | None = None,
        from_environment: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # google-auth is not annotated
        self._attach(
            exchanger, quota_project_id=quota_project_id, rejections=rejections, from_environment=from_environment
        )
        self._scopes = tuple(scopes) if scopes else None

    @property
    def token(self) -> str | None:
        """The token that was last handed out; None before the first use."""
        if self._last is None:
            return None
        self._rejections.used(self._last)
        return self._last.token

    @token.setter
    def token(self, value: str | None) -> None:
        read_only("token", value)

    @property
    def quota_project_id(self) -> str | None:
        """The project that API calls are billed to."""
        return self._quota_project_id

    def with_scopes(self, scopes: Sequence[str] | None) -> Self:
        """A copy that asks for these scopes: one more token of the same exchanger."""
        return self._twin(scopes=scopes)

    async def refresh(self, request: object = None) -> None:  # noqa: ARG002  # google-auth's
        """Make sure of a token; drop one that was handed out, which means a rejection.

        Raises:
            google.auth.exceptions.RefreshError: from the :class:`~wif.errors.WifError`.
        """
        try:
            current = await self._exchanger.acredentials(scopes=self._scopes)
            if self._rejections.rejected(current):
                current = await self._exchanger.acredentials(scopes=self._scopes)
        except WifError as error:
            refresh_failed(error)
        self._served(current)

    async def before_request(
        self,
        request: object,  # noqa: ARG002  # these three are google-auth's
        method: str,  # noqa: ARG002
        url: str,  # noqa: ARG002
        headers: MutableMapping[str, str],
    ) -> None:
        """Put the token of now into a request's headers; errors as for :meth:`refresh`."""
        await self.apply(headers)

    async def apply(self, headers: MutableMapping[str, str], token: str | None = None) -> None:
        """Put a token, by default the one of now, and the quota project into a request's headers."""
        if token is None:
            try:
                current = await self._exchanger.acredentials(scopes=self._scopes)
            except WifError as error:
                refresh_failed(error)
            self._rejections.used(current)
            token = self._served(current)
        headers["authorization"] = f"Bearer {token}"
        if self._quota_project_id:
            headers["x-goog-user-project"] = self._quota_project_id

    def _settings(self) -> dict[str, Any]:
        return {"scopes": self._scopes, "quota_project_id": self._quota_project_id}
