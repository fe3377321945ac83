"""What Google's credential objects share: whom they ask, what they report, what a refresh means."""

from __future__ import annotations

__all__ = ["Bearer", "BlockingBearer", "SupportsGoogleTokens", "default_exchanger", "read_only", "refresh_failed"]

from abc import abstractmethod
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self

from wif.errors import ConfigurationError, WifError
from wif.sdk.rejection import Rejections
from wif.sdk.requirements import extra_missing, present

try:
    import google.auth.credentials
    import google.auth.exceptions
except ImportError as error:
    raise extra_missing("google-auth", "gcp") from error

if TYPE_CHECKING:
    from wif.core.credentials import AccessToken


class SupportsGoogleTokens(Protocol):
    """What is needed of an exchanger: ``wif.gcp()`` returns one, tests bring their own."""

    @property
    def service_account(self) -> str | None:
        """E-mail of the service account, or None for a direct principal."""
        ...

    @property
    def project_id(self) -> str | None:
        """The project that clients take, or None."""
        ...

    @property
    def quota_project_id(self) -> str | None:
        """The project that API calls are billed to, or None."""
        ...

    @property
    def universe_domain(self) -> str:
        """The domain of Google's universe."""
        ...

    def credentials(self, *, scopes: Sequence[str] | None = None, timeout: float | None = None) -> AccessToken:
        """An access token, from the cache or by an exchange; None takes the exchanger's own scopes. Seconds."""
        ...

    async def acredentials(self, *, scopes: Sequence[str] | None = None, timeout: float | None = None) -> AccessToken:
        """The same for a task."""
        ...

    def id_token(self, *, audience: str, include_email: bool = True, timeout: float | None = None) -> AccessToken:
        """An ID token of the service account. Seconds."""
        ...

    def invalidate(self) -> None:
        """The current tokens were rejected: the next call exchanges anew, within the budget."""
        ...


class Bearer:
    """Whom a credential object asks, and what it reports of the last answer. Mixed into google-auth's classes."""

    def _attach(
        self,
        exchanger: SupportsGoogleTokens,
        *,
        quota_project_id: str | None,
        rejections: Rejections | None,
        from_environment: bool,
    ) -> None:
        """Bind to an exchanger; called by the constructors after google-auth's own."""
        self._exchanger = exchanger
        self._rejections = rejections or Rejections(exchanger.invalidate)
        self._from_environment = from_environment
        self._quota_project_id = quota_project_id or exchanger.quota_project_id

    _last: AccessToken | None = None

    def _served(self, token: AccessToken) -> str:
        self._last = token
        return token.token

    @property
    def exchanger(self) -> SupportsGoogleTokens:
        """Whom these credentials ask."""
        return self._exchanger

    @property
    def universe_domain(self) -> str:
        """The domain of Google's universe."""
        return self._exchanger.universe_domain

    @property
    def project_id(self) -> str | None:
        """The project that clients take, or None where nobody named one."""
        return self._exchanger.project_id

    @property
    def service_account_email(self) -> str | None:
        """The service account, or None for a direct principal."""
        return self._exchanger.service_account

    @property
    def expiry(self) -> datetime | None:
        """When the last token ends: UTC, naive as google-auth's times are; None before the first use."""
        return None if self._last is None else self._last.expires_at.astimezone(UTC).replace(tzinfo=None)

    @expiry.setter
    def expiry(self, value: datetime | None) -> None:
        read_only("expiry", value)

    @property
    def expired(self) -> bool:
        """True when the last token has ended. google-auth's window of 225 s is not counted: a use renews it."""
        return self._last is not None and self._last.expires_at <= datetime.now(UTC)

    @property
    def valid(self) -> bool:
        """True when there was a use, and its token has not ended."""
        return self._last is not None and not self.expired

    @property
    def token_state(self) -> google.auth.credentials.TokenState:
        """FRESH where :attr:`valid`, else INVALID. Never STALE: renewing ahead is the exchanger's work."""
        states = google.auth.credentials.TokenState
        return states.FRESH if self.valid else states.INVALID

    def get_cred_info(self) -> dict[str, str]:
        """What clients add to the text of an authorisation error."""
        info = {"credential_source": "wif", "credential_type": "workload identity federation"}
        email = self._exchanger.service_account
        return info if email is None else info | {"principal": email}

    def __copy__(self) -> Self:
        return self._twin()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._twin()

    def __reduce__(self) -> tuple[Any, ...]:
        if not self._from_environment:
            raise ConfigurationError(
                "credentials with an exchanger of their own cannot be pickled: it is bound to this process' token",
                code="config-invalid",
                cloud="gcp",
                hint="build them from the environment, or make them in the process that uses them",
            )
        return _rebuild, (type(self), self._settings())

    def _twin(self, **changes: Any) -> Self:
        """The same object with other settings: the same exchanger, and the same memory of rejections."""
        make: Any = type(self)
        twin: Self = make(
            self._exchanger,
            **(self._settings() | changes),
            rejections=self._rejections,
            from_environment=self._from_environment,
        )
        return twin

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """The constructor's arguments that describe what is asked for."""


class BlockingBearer(Bearer):
    """What the synchronous objects add."""

    @abstractmethod
    def _ask(self) -> AccessToken:
        """The exchanger's answer of now."""

    def _text(self) -> str:
        try:
            return self._served(self._ask())
        except WifError as error:
            refresh_failed(error)

    def _handed_out(self) -> str:
        text = self._text()
        if self._last is not None:
            self._rejections.used(self._last)
        return text

    @property
    def token(self) -> str | None:
        """The token of now; None before the first use, as everywhere in google-auth."""
        return None if self._last is None else self._handed_out()

    @token.setter
    def token(self, value: str | None) -> None:
        read_only("token", value)

    def refresh(self, request: object = None) -> None:  # noqa: ARG002  # google-auth's; the exchanger has a transport
        """Make sure of a token; drop the last one first if it was handed out, which means it was rejected.

        Args:
            request: not used.

        Raises:
            google.auth.exceptions.RefreshError: from the :class:`~wif.errors.WifError`.
        """
        try:
            current = self._ask()
            if self._rejections.rejected(current):
                current = self._ask()
        except WifError as error:
            refresh_failed(error)
        self._served(current)

    def before_request(
        self,
        request: object,  # noqa: ARG002  # these three are google-auth's
        method: str,  # noqa: ARG002
        url: str,  # noqa: ARG002
        headers: MutableMapping[str, str],
    ) -> None:
        """Put the token of now into a request's headers.

        Raises:
            google.auth.exceptions.RefreshError: from the :class:`~wif.errors.WifError`.
        """
        self.apply(headers)

    def apply(self, headers: MutableMapping[str, str], token: str | None = None) -> None:
        """Put a token, by default the one of now, and the quota project into a request's headers.

        Raises:
            google.auth.exceptions.RefreshError: from the :class:`~wif.errors.WifError`.
        """
        headers["authorization"] = f"Bearer {token or self._handed_out()}"
        if self._quota_project_id:
            headers["x-goog-user-project"] = self._quota_project_id

    def with_quota_project(self, quota_project_id: str | None) -> Self:
        """A copy whose API calls are billed to this project; the same token."""
        return self._twin(quota_project_id=quota_project_id)


def default_exchanger(exchanger: SupportsGoogleTokens | None) -> SupportsGoogleTokens:
    """The exchanger, or the one that the environment describes."""
    if exchanger is not None:
        return exchanger
    from wif.exchange.environment import from_env  # noqa: PLC0415  # loads the transport, if nobody did yet

    return present(from_env().gcp, cloud="gcp", variables="GOOGLE_APPLICATION_CREDENTIALS")


def read_only(name: str, value: object) -> None:
    """Refuse to set what the exchanger says; google-auth's own constructors set it to None."""
    if value is not None:
        raise AttributeError(f"{name} is what the exchanger says and cannot be set")


def refresh_failed(error: WifError) -> NoReturn:
    """Raise what google-auth's callers expect, from the error that says why."""
    raise google.auth.exceptions.RefreshError(  # type: ignore[no-untyped-call]  # google-auth is not annotated
        str(error), retryable=error.retryable
    ) from error


def _rebuild(kind: Any, settings: dict[str, Any]) -> Bearer:
    """Unpickle: the same settings, with an exchanger of this process' environment."""
    made: Bearer = kind(default_exchanger(None), **settings, from_environment=True)
    return made
