"""The GCP exchanger: token exchange at Google's STS, direct or on behalf of a service account, and ID tokens."""

from __future__ import annotations

__all__ = ["GcpExchanger"]

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from wif.clouds import gcp
from wif.core.audit import fingerprint
from wif.core.credentials import AccessToken
from wif.core.freshness import LIMITS, Limits
from wif.core.hosts import AllowedHosts
from wif.edges.files import read_bounded
from wif.edges.sources import JsonFieldFile, ProjectedFile
from wif.errors import ConfigurationError
from wif.exchange.clocks import SYSTEM, Clocks
from wif.exchange.exchanger import AttemptContext, Exchanger, RefreshHook, Sender, SourceLike
from wif.exchange.single_flight import Cell, Flight

if TYPE_CHECKING:
    from wif.core.token import UnverifiedToken

_MAX_FILE_BYTES = 1 << 20


class GcpExchanger(Exchanger):
    """Turns a subject token into Google access tokens and ID tokens, and keeps them fresh.

    Args:
        provider: ``projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER``, with or without
            ``//iam.googleapis.com/`` in front.
        service_account: e-mail of the service account to act as; None uses the federated principal itself.
        source: where the subject token comes from; default the file of ``WIF_TOKEN_FILE``.
        audience: the ``aud`` that the subject token must have; None leaves it to Google.
        scopes: what :meth:`credentials` asks for by default.
        region: of a regional endpoint, ``sts.REGION.rep.googleapis.com``; None asks the global one.
        universe_domain: another universe's domain names its hosts.
        delegates: service accounts between the principal and ``service_account``.
        lifetime_seconds: of the service account's tokens; None leaves it to Google (3600).
        token_url, impersonation_url: endpoints named by the caller.
        project_id: what clients shall take for the project; default ``GOOGLE_CLOUD_PROJECT``.
        quota_project_id: the project that API calls are billed to.
        user_project: for workforce pools.
        trusts_urls: False takes the URLs and the universe as data, as :meth:`from_file` does: they must be Google's
            own hosts, or allowed by ``WIF_ALLOW_HOSTS`` or ``allow_hosts``.
        allow_hosts, limits, transport, propagation_seconds, on_refresh, environ: see :class:`Exchanger`.

    Raises:
        ConfigurationError: a value cannot be right. No request is made before :meth:`credentials`.
    """

    cloud = "gcp"

    def __init__(
        self,
        provider: str,
        service_account: str | None = None,
        *,
        source: SourceLike | None = None,
        audience: str | None = None,
        scopes: Sequence[str] = (gcp.CLOUD_PLATFORM_SCOPE,),
        region: str | None = None,
        universe_domain: str = gcp.DEFAULT_UNIVERSE,
        delegates: Sequence[str] = (),
        lifetime_seconds: int | None = None,
        token_url: str | None = None,
        impersonation_url: str | None = None,
        project_id: str | None = None,
        quota_project_id: str | None = None,
        user_project: str | None = None,
        subject_token_type: str = gcp.JWT_TOKEN_TYPE,
        allow_hosts: Iterable[str] = (),
        limits: Limits = LIMITS,
        transport: Sender | None = None,
        propagation_seconds: float = 0.0,
        on_refresh: RefreshHook | None = None,
        environ: Mapping[str, str] | None = None,
        clocks: Clocks = SYSTEM,
        trusts_urls: bool = True,
    ) -> None:
        variables = os.environ if environ is None else environ
        self.provider = gcp.ProviderName.parse(provider)
        """The workload identity pool provider."""
        self.service_account = service_account and gcp.validate_service_account(service_account)
        """E-mail of the service account, or None for direct access."""
        self.universe_domain = universe_domain
        """The domain of Google's universe."""
        self.project_id = project_id or variables.get("GOOGLE_CLOUD_PROJECT") or variables.get("GCLOUD_PROJECT") or None
        """The project that clients take, or None where nobody named one."""
        self.quota_project_id = quota_project_id or variables.get("GOOGLE_CLOUD_QUOTA_PROJECT") or None
        """The project that API calls are billed to, or None."""
        self.scopes = tuple(scopes)
        """What :meth:`credentials` asks for by default."""
        self._delegates = tuple(delegates)
        self._lifetime_seconds = gcp.validate_lifetime(lifetime_seconds)
        self._token_url = token_url or gcp.token_url(region, universe_domain=universe_domain)
        self._iam_url = impersonation_url or gcp.iam_credentials_url(universe_domain)
        self._user_project = user_project
        self._subject_token_type = subject_token_type
        universe = universe_domain if trusts_urls else gcp.DEFAULT_UNIVERSE
        hosts = AllowedHosts(builtin=lambda host: gcp.is_google_host(host, universe))
        if trusts_urls:
            hosts = hosts.with_urls([url for url in (token_url, impersonation_url) if url], origin="token_url=")
        super().__init__(
            source=source,
            source_variables=(),
            audience=audience,
            hosts=hosts,
            allow_hosts=allow_hosts,
            identity=service_account or self.provider.audience,
            limits=limits,
            transport=transport,
            propagation_seconds=propagation_seconds,
            on_refresh=on_refresh,
            environ=environ,
            clocks=clocks,
        )
        self._default = self._access(self.scopes)
        self._kept_cells = frozenset(self._cells)

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **settings: Any) -> Self:
        """Read an ``external_account`` file, as gcloud writes them.

        The file is data, not the caller's word: its URLs must be Google's own hosts or stand in ``WIF_ALLOW_HOSTS``
        or ``allow_hosts=``; a file source is read; an executable source runs only where Google's own switch
        ``GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES=1`` allows it; all other sources are refused.

        Args:
            settings: any argument of the constructor; wins over the file.
        """
        name = os.fspath(path)
        document = _read_json(name)
        account = gcp.ExternalAccount.from_mapping(document, origin=name)
        environ = settings.get("environ")
        from_document: dict[str, Any] = {
            "provider": account.audience,
            "service_account": account.service_account,
            "source": _source_of(account, os.environ if environ is None else environ),
            "token_url": account.token_url,
            "impersonation_url": account.impersonation_base_url,
            "lifetime_seconds": account.lifetime_seconds,
            "universe_domain": account.universe_domain,
            "quota_project_id": account.quota_project_id,
            "user_project": account.workforce_pool_user_project,
            "subject_token_type": account.subject_token_type,
        }
        return cls(**(from_document | settings), trusts_urls=False)

    def credentials(self, *, scopes: Sequence[str] | None = None, timeout: float | None = None) -> AccessToken:
        """An access token, from the cache or by an exchange that all callers share.

        Args:
            scopes: default those of the constructor.
            timeout: seconds that this caller waits; None waits for the exchange's own deadline.
        """
        cell = self._default if scopes is None else self._access(tuple(scopes))
        fresh = cell.fresh()
        return cell.get(timeout) if fresh is None else fresh

    async def acredentials(
        self,
        *,
        scopes: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> AccessToken:
        """As :meth:`credentials`, for a task."""
        cell = self._default if scopes is None else self._access(tuple(scopes))
        fresh = cell.fresh()
        return await cell.aget(timeout) if fresh is None else fresh

    def id_token(self, *, audience: str, include_email: bool = True, timeout: float | None = None) -> AccessToken:
        """An ID token of the service account for ``audience``; needs ``service_account``."""
        return self._identity_token(audience, include_email).get(timeout)

    async def aid_token(
        self,
        *,
        audience: str,
        include_email: bool = True,
        timeout: float | None = None,
    ) -> AccessToken:
        """As :meth:`id_token`, for a task."""
        return await self._identity_token(audience, include_email).aget(timeout)

    def federated_token(self, *, timeout: float | None = None) -> AccessToken:
        """The token of Google's STS itself, before any impersonation."""
        cell = self._default if self.service_account is None else self._federated((gcp.IAM_SCOPE,))
        return cell.get(timeout)

    def introspection(self, *, timeout: float | None = None) -> gcp.Introspection:
        """What Google's STS calls the federated token."""
        federated = self.federated_token(timeout=timeout)
        url = gcp.introspect_url(self._token_url)
        return self._ask(
            lambda context, _: self._drive(context, gcp.introspect(federated, url=url, now=context.now)),
            timeout=timeout,
        )

    # -- cells -------------------------------------------------------------------------------------------

    def _main(self, scope: str | None) -> Cell[AccessToken]:
        return self._default if scope is None else self._access((scope,))

    def _access(self, scopes: tuple[str, ...]) -> Cell[AccessToken]:
        if self.service_account is None:
            return self._federated(scopes)
        return self._cell(("access", scopes), lambda: self._new_cell(lambda flight: self._impersonate(flight, scopes)))

    def _federated(self, scopes: tuple[str, ...]) -> Cell[AccessToken]:
        return self._cell(("federated", scopes), lambda: self._new_cell(lambda flight: self._federate(flight, scopes)))

    def _identity_token(self, audience: str, include_email: bool) -> Cell[AccessToken]:
        if self.service_account is None:
            raise ConfigurationError(
                f"{self.identity}: an ID token needs a service account, this identity is a federated principal",
                code="config-missing",
                hint="pass service_account=; Google makes ID tokens for service accounts only",
            )
        return self._cell(
            ("id", audience, include_email),
            lambda: self._new_cell(lambda flight: self._sign_identity(flight, audience, include_email)),
        )

    # -- exchanges ---------------------------------------------------------------------------------------

    def _federate(self, flight: Flight[AccessToken], scopes: tuple[str, ...]) -> AccessToken:
        def attempt(context: AttemptContext, token: UnverifiedToken) -> AccessToken:
            return self._drive(
                context,
                gcp.exchange_token(
                    self.provider,
                    token,
                    scopes=scopes,
                    token_url=self._token_url,
                    subject_token_type=self._subject_token_type,
                    user_project=self._user_project,
                    now=context.now,
                ),
            )

        return self._exchange(flight, attempt, operation="token", scopes=scopes)

    def _impersonate(self, flight: Flight[AccessToken], scopes: tuple[str, ...]) -> AccessToken:
        federated = self._federated((gcp.IAM_SCOPE,)).inline(flight)

        def attempt(context: AttemptContext, token: UnverifiedToken) -> AccessToken:
            return self._drive(
                context,
                gcp.generate_access_token(
                    federated,
                    token,
                    provider=self.provider,
                    service_account=str(self.service_account),
                    scopes=scopes,
                    lifetime_seconds=self._lifetime_seconds,
                    delegates=self._delegates,
                    iam_url=self._iam_url,
                    now=context.now,
                ),
            )

        return self._exchange(flight, attempt, operation="generateAccessToken", scopes=scopes)

    def _sign_identity(self, flight: Flight[AccessToken], audience: str, include_email: bool) -> AccessToken:
        federated = self._federated((gcp.IAM_SCOPE,)).inline(flight)

        def attempt(context: AttemptContext, token: UnverifiedToken) -> AccessToken:
            return self._drive(
                context,
                gcp.generate_id_token(
                    federated,
                    token,
                    provider=self.provider,
                    service_account=str(self.service_account),
                    audience=audience,
                    include_email=include_email,
                    delegates=self._delegates,
                    iam_url=self._iam_url,
                    now=context.now,
                ),
            )

        return self._exchange(flight, attempt, operation="generateIdToken")

    def _credential_id(self, credential: Any) -> str:
        return fingerprint(credential.token)


def _read_json(path: str) -> Mapping[str, Any]:
    try:
        data = read_bounded(path, _MAX_FILE_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the credential file {path} cannot be read: {error}", code="file-unusable") from error
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ConfigurationError(f"the credential file {path} does not hold a JSON object", code="config-invalid")
    return document


def _source_of(account: gcp.ExternalAccount, environ: Mapping[str, str]) -> SourceLike:
    source = account.source
    if isinstance(source, gcp.FileSource):
        return (
            ProjectedFile(source.path) if source.json_field is None else JsonFieldFile(source.path, source.json_field)
        )
    from wif.edges.executable import ExecutableSource  # noqa: PLC0415  # few files name a program

    return ExecutableSource(
        source.command,
        audience=account.audience,
        token_type=account.subject_token_type,
        impersonated_email=account.service_account,
        timeout_seconds=source.timeout_seconds,
        output_file=source.output_file,
        environ=environ,
    )
