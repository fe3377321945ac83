"""The AWS exchanger: AssumeRoleWithWebIdentity, and further roles with the keys of the one before."""

from __future__ import annotations

__all__ = ["AwsExchanger"]

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from wif.clouds import aws
from wif.core.credentials import AwsCredentials
from wif.core.freshness import LIMITS, Limits
from wif.core.hosts import AllowedHosts
from wif.exchange.clocks import SYSTEM, Clocks
from wif.exchange.exchanger import AttemptContext, Exchanger, RefreshHook, Sender, SourceLike
from wif.exchange.single_flight import Cell, Flight

if TYPE_CHECKING:
    from wif.core.token import UnverifiedToken


class AwsExchanger(Exchanger):
    """Turns a subject token into the keys of an AWS role, and keeps them fresh.

    Args:
        role_arn: the role to assume with the token.
        source: where the subject token comes from; default the file of ``WIF_TOKEN_FILE`` or
            ``AWS_WEB_IDENTITY_TOKEN_FILE``.
        audience: the ``aud`` that the token must have; None leaves it to AWS.
        region: whose endpoint to ask; default ``AWS_REGION``, ``AWS_DEFAULT_REGION``, else the global endpoint.
        session_name: default names the pod: namespace and pod or ServiceAccount. For display only.
        duration_seconds: 900 to 43200; None leaves it to AWS (3600).
        policy, policy_arns: session policies, inline JSON and up to 10 managed ones.
        endpoint_url: an endpoint named by the caller; default ``AWS_ENDPOINT_URL_STS``.
        chain: roles to assume one after the other with the keys of the one before; each lives one hour at most.
        allow_hosts, limits, transport, propagation_seconds, on_refresh, environ: see :class:`Exchanger`.

    Raises:
        ConfigurationError: a value cannot be right. No request is made before :meth:`credentials`.
    """

    cloud = "aws"

    def __init__(
        self,
        role_arn: str,
        *,
        source: SourceLike | None = None,
        audience: str | None = None,
        region: str | None = None,
        session_name: str | None = None,
        duration_seconds: int | None = None,
        policy: str | None = None,
        policy_arns: Sequence[str] = (),
        endpoint_url: str | None = None,
        chain: Sequence[aws.ChainedRole] = (),
        allow_hosts: Iterable[str] = (),
        limits: Limits = LIMITS,
        transport: Sender | None = None,
        propagation_seconds: float = 0.0,
        on_refresh: RefreshHook | None = None,
        environ: Mapping[str, str] | None = None,
        clocks: Clocks = SYSTEM,
    ) -> None:
        variables = os.environ if environ is None else environ
        self.region = region or variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION") or None
        """The region whose endpoint is asked; None for the global one."""
        hosts = AllowedHosts(builtin=aws.is_sts_host)
        named = endpoint_url or _configured_endpoint(variables)
        if named:
            hosts = hosts.with_urls([named], origin="endpoint_url=" if endpoint_url else "AWS_ENDPOINT_URL_STS")
        self._web_identity = aws.WebIdentity(
            role_arn=role_arn,
            session_name=session_name,
            duration_seconds=duration_seconds,
            policy=policy,
            policy_arns=tuple(policy_arns),
            endpoint=named or aws.sts_endpoint(self.region),
            region=self.region,
        )
        super().__init__(
            source=source,
            source_variables=("AWS_WEB_IDENTITY_TOKEN_FILE",),
            audience=audience,
            hosts=hosts,
            allow_hosts=allow_hosts,
            identity=chain[-1].role_arn if chain else role_arn,
            limits=limits,
            transport=transport,
            propagation_seconds=propagation_seconds,
            on_refresh=on_refresh,
            environ=environ,
            clocks=clocks,
        )
        self._final: Cell[AwsCredentials] = self._cell((), lambda: self._new_cell(self._assume_with_token))
        for depth, role in enumerate(chain, 1):
            self._final = self._hop(self._final, role, depth)

    @property
    def role_arn(self) -> str:
        """The role whose keys :meth:`credentials` returns: the last of the chain."""
        return self.identity

    def credentials(self, *, timeout: float | None = None) -> AwsCredentials:
        """The role's keys, from the cache or by an exchange that all callers share.

        Args:
            timeout: seconds that this caller waits; None waits for the exchange's own deadline.
        """
        fresh = self._final.fresh()
        return self._final.get(timeout) if fresh is None else fresh

    async def acredentials(self, *, timeout: float | None = None) -> AwsCredentials:
        """As :meth:`credentials`, for a task."""
        fresh = self._final.fresh()
        return await self._final.aget(timeout) if fresh is None else fresh

    def caller_identity(self, *, timeout: float | None = None) -> aws.CallerIdentity:
        """What AWS calls these keys: GetCallerIdentity."""
        credentials = self.credentials(timeout=timeout)

        def ask(context: AttemptContext, _: UnverifiedToken) -> aws.CallerIdentity:
            return self._drive(
                context,
                aws.get_caller_identity(
                    credentials, endpoint=self._web_identity.endpoint, region=self.region, now=context.now
                ),
            )

        return self._ask(ask, timeout=timeout)

    def _main(self, scope: str | None) -> Cell[AwsCredentials]:  # noqa: ARG002  # keys have no scope
        return self._final

    def _assume_with_token(self, flight: Flight[AwsCredentials]) -> AwsCredentials:
        def attempt(context: AttemptContext, token: UnverifiedToken) -> AwsCredentials:
            return self._drive(context, aws.assume_role_with_web_identity(self._web_identity, token, now=context.now))

        return self._exchange(flight, attempt, operation="AssumeRoleWithWebIdentity", region=self.region)

    def _hop(self, before: Cell[AwsCredentials], role: aws.ChainedRole, depth: int) -> Cell[AwsCredentials]:
        def assume(flight: Flight[AwsCredentials]) -> AwsCredentials:
            keys = before.inline(flight)  # outside the loop: what failed there has been tried again there

            def attempt(context: AttemptContext, token: UnverifiedToken) -> AwsCredentials:
                return self._drive(
                    context,
                    aws.assume_role(
                        role,
                        keys,
                        endpoint=self._web_identity.endpoint,
                        region=self.region,
                        session_name=role.session_name or self._web_identity.session_name or aws.session_name(token),
                        now=context.now,
                    ),
                )

            return self._exchange(flight, attempt, operation="AssumeRole", region=self.region)

        return self._cell(depth, lambda: self._new_cell(assume, what=f" (hop {depth})"))

    def _credential_id(self, credential: Any) -> str:
        key_id: str = credential.access_key_id
        return key_id


def _configured_endpoint(environ: Mapping[str, str]) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    return environ.get("AWS_ENDPOINT_URL_STS") or None
