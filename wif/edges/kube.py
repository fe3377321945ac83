"""The Kubernetes API server: objects, TokenRequest and the discovery endpoints."""

from __future__ import annotations

__all__ = ["KUBERNETES_NAME", "PROBE_AUDIENCE", "REQUEST_SECONDS", "SERVICE_ACCOUNT_DIRECTORY", "KubeClient"]

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from wif.core.flow import Request, Response
from wif.core.hosts import AllowedHosts
from wif.core.token import read_token
from wif.edges.kube_access import SERVICE_ACCOUNT_DIRECTORY, Access, address_url, of_kubeconfig, of_pod, of_url
from wif.edges.kube_answers import (
    DISCOVERY_PATH,
    ENDPOINT_SLICES_PATH,
    JWKS_PATH,
    ApiServerEndpoint,
    IssuerDocuments,
    ServiceAccountName,
    endpoints_of,
    failure,
    max_age_seconds,
    status_of,
    warnings_of,
)
from wif.edges.token_request import MAX_EXPIRATION_SECONDS, IssuedToken, TokenRequest
from wif.edges.transport import Incoming, Transport
from wif.errors import ConfigurationError, TokenError, TransportError, UnavailableError, WifError

T = TypeVar("T")

REQUEST_SECONDS = 10.0
"""Wall time of one request; the API server's own admission may take some of it."""

_PAUSE_SECONDS = 0.25
_MAX_PAUSE_SECONDS = 5.0
"""Before the one retry: by default, and where Retry-After asks for more."""

_MAX_REFUSAL_BYTES = 65_536

PROBE_AUDIENCE = "urn:wif:probe"
"""An audience that nobody accepts: for tokens that are looked at and dropped."""

KUBERNETES_NAME = "kubernetes.default.svc"
"""The name that every API server's certificate has, whatever address it is dialled by."""


class KubeClient:
    """One API server and the way to be known there. Safe for threads.

    Made by :meth:`in_cluster`, :meth:`from_kubeconfig`, :meth:`find` or :meth:`from_url`; the constructor takes what
    these found. :meth:`at` is the same caller at one API server of the cluster.
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._transport = access.transport()
        self._hosts = AllowedHosts(builtin=lambda _: False).with_urls([access.server], origin=access.origin)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._access.server

    @property
    def origin(self) -> str:
        """What messages call it."""
        return self._access.origin

    @property
    def is_verified(self) -> bool:
        """False where the kubeconfig says ``insecure-skip-tls-verify``.

        Whoever sits between can then answer for the API server, so keys that came this way must not be published.
        """
        return self._access.is_verified

    @property
    def namespace(self) -> str | None:
        """The namespace that the kubeconfig's context names, or the pod's own."""
        return self._access.namespace

    @classmethod
    def in_cluster(
        cls, *, environ: Mapping[str, str] = os.environ, directory: str | os.PathLike[str] = SERVICE_ACCOUNT_DIRECTORY
    ) -> KubeClient:
        """The cluster that this pod runs in, as its ServiceAccount. Proxies of the environment are not used.

        Raises:
            ConfigurationError: config-missing where this is no pod of a cluster, or its token is not mounted.
        """
        return cls(of_pod(environ=environ, directory=directory))

    @classmethod
    def from_kubeconfig(cls, path: str | os.PathLike[str] | None = None, context: str | None = None) -> KubeClient:
        """The cluster of a kubeconfig file's context.

        Args:
            path: the file; None is ``KUBECONFIG``, else ``~/.kube/config``.
            context: its name; None is the file's current one.

        Raises:
            ConfigurationError: extra-missing, config-missing, config-invalid.
        """
        return cls(of_kubeconfig(path, context))

    @classmethod
    def find(cls, kubeconfig: str | os.PathLike[str] | None = None, *, context: str | None = None) -> KubeClient:
        """A named kubeconfig or context; else the cluster of this pod; else the user's own kubeconfig."""
        if kubeconfig is None and context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
            try:
                return cls.in_cluster()
            except ConfigurationError:
                if not os.environ.get("KUBECONFIG"):
                    raise
        return cls.from_kubeconfig(kubeconfig, context)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        credentials_of: KubeClient | None = None,
        server_hostname: str | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> KubeClient:
        """The API server at a URL that the caller names (``--api-server``).

        Args:
            url: https, e.g. ``https://10.0.0.11:6443``; plain http for loopback alone.
            credentials_of: whose credentials, authorities and proxy to use; None asks without credentials, with the
                authorities and the proxy of ``environ``.
            server_hostname: the name that the certificate must have, where the URL's host is not it.

        Raises:
            ConfigurationError: config-invalid where it is no such URL.
        """
        if not url.startswith(("https://", "http://")) or any(c in url for c in "?#@ "):
            raise ConfigurationError(
                "the URL of an API server is not one",  # not shown: it may hold a password
                code="config-invalid",
                hint="write https://HOST:PORT, without user, query or fragment",
            )
        if credentials_of is not None:
            return credentials_of._at(url, server_hostname)
        return cls(of_url(url, server_hostname=server_hostname, environ=environ))

    def at(self, address: str, port: int, *, server_hostname: str = KUBERNETES_NAME) -> KubeClient:
        """The same caller at one API server, dialled by address: its certificate must have the name given."""
        return self._at(address_url(address, port), server_hostname)

    def _at(self, url: str, server_hostname: str | None) -> KubeClient:
        url = url.rstrip("/")
        return KubeClient(
            replace(self._access, server=url, server_hostname=server_hostname, origin=f"the API server {url}")
        )

    # -- the issuer ------------------------------------------------------------------------------------------------

    def request_token(self, request: TokenRequest) -> IssuedToken:
        """Ask for a ServiceAccount's token.

        Raises:
            TokenError: token-request-refused, with the API server's words.
            UnavailableError: cluster-unavailable.
        """
        answer = self._send("POST", request.path, request.body(), operation="TokenRequest")
        if answer.status not in (200, 201):
            raise _refused(answer, request, self.server)
        return IssuedToken.from_answer(answer.body, warnings=warnings_of(answer))

    def longest_token_seconds(self, namespace: str, service_account: str, *, audience: str = PROBE_AUDIENCE) -> int:
        """How long this API server lets a token live; 0 where ``--service-account-max-token-expiration`` is not set.

        It asks for the longest token that can be asked for, with an audience that nobody accepts, and drops it.

        Raises:
            TokenError: token-request-refused.
            UnavailableError: cluster-unavailable.
        """
        asked = TokenRequest(
            namespace=namespace,
            service_account=service_account,
            audiences=(audience,),
            expiration_seconds=MAX_EXPIRATION_SECONDS,
        )
        granted = self.request_token(asked).unverified_lifetime_seconds
        return 0 if granted >= MAX_EXPIRATION_SECONDS else granted

    def accepts_token(self, token: str) -> bool:
        """Whether this API server knows who the bearer of a token is: asked with that token alone, 401 is no.

        No right is needed, neither to review tokens nor for what is asked for: 403 also says that it is known.

        Raises:
            UnavailableError: cluster-unavailable where the answer decides nothing.
        """
        transport = self._access.transport(with_certificate=False)
        try:
            answer = self._send("GET", JWKS_PATH, operation="authentication", bearer=token, transport=transport)
        finally:
            transport.close()
        if answer.status == 401:
            return False
        if answer.status in (200, 403, 404):  # 404: authenticated, but no discovery is served
            return True
        raise failure(answer, method="GET", path=JWKS_PATH, server=self.server)

    def refuses_token(self, token: str) -> bool:
        """The opposite of :meth:`accepts_token`: how it must be for a token of a cloud's audience."""
        return not self.accepts_token(token)

    def service_account(self) -> ServiceAccountName | None:
        """The ServiceAccount that this client is, by its own token; None where it is known otherwise."""
        kind, _, token = (self._access.authorization() or "").partition(" ")
        try:
            read = read_token(token, origin=self.origin, now=time.time(), check_times=False)
        except TokenError:
            return None  # no token, or one of another kind
        return ServiceAccountName.from_subject(read.subject) if kind == "Bearer" else None

    def issuer_documents(self) -> IssuerDocuments:
        """The discovery document and the key set that this API server serves.

        Raises:
            ConfigurationError: issuer-invalid where it serves none.
            RefusedError: cluster-refused, the missing right named.
            UnavailableError: cluster-unavailable.
        """
        answers = []
        for path in (DISCOVERY_PATH, JWKS_PATH):
            answer = self._send("GET", path, operation=f"GET {path}")
            if answer.status == 404:
                raise ConfigurationError(
                    f"{self.origin} serves no {path} (404): the issuer is not a valid https URL",
                    code="issuer-invalid",
                    hint="set --service-account-issuer to an https URL without query and fragment, and restart the "
                    "API server; a server that is no kube-apiserver answers 404 too",
                )
            if answer.status != 200:
                raise failure(answer, method="GET", path=path, server=self.server)
            answers.append(answer)
        return IssuerDocuments(
            discovery=answers[0].body, jwks=answers[1].body, max_age_seconds=max_age_seconds(answers[1])
        )

    def api_server_endpoints(self, *, ready: bool | None = True) -> tuple[ApiServerEndpoint, ...]:
        """Where the cluster's API servers listen, by the EndpointSlices of ``default/kubernetes``; see :meth:`at`.

        Args:
            ready: True for those that are ready, False for those that are not, None for all.

        Raises:
            RefusedError: cluster-refused, the missing right named.
            UnavailableError: cluster-unavailable.
        """
        return endpoints_of(self.request_object("GET", ENDPOINT_SLICES_PATH), ready=ready)

    # -- any request -----------------------------------------------------------------------------------------------

    def get_raw(self, path: str) -> bytes:
        """The body of a GET, e.g. of ``/.well-known/openid-configuration`` or ``/openid/v1/jwks``.

        Raises:
            UnavailableError: cluster-unavailable, also where the API server has no such path.
            RefusedError: cluster-refused, the missing right named.
        """
        answer = self._send("GET", path, operation=f"GET {path}")
        if answer.status == 404:
            reason, message = status_of(answer)
            raise UnavailableError(
                f"GET {path} at {self.server}: 404 {reason}: {message}",
                code="cluster-unavailable",
                status=404,
                cloud_code=reason,
            )
        if answer.status != 200:
            raise failure(answer, method="GET", path=path, server=self.server)
        return answer.body

    def get(self, path: str) -> Mapping[str, Any]:
        """As :meth:`get_raw`, read as a JSON object."""
        return self._object(self.get_raw(path), "GET", path)

    def request_object(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        *,
        content_type: str = "application/json",
        repeat: bool = True,
        timeout_seconds: float = REQUEST_SECONDS,
    ) -> Mapping[str, Any]:
        """Send one request of the API and read the object that it answers.

        Args:
            repeat: once more, after a short pause, where the server was busy or no answer came. A write on a
                resourceVersion may then conflict with itself: False leaves that to the caller.
            timeout_seconds: of each of the two.

        Raises:
            WriteConflict: 409: another resourceVersion stands there, or an object of that name.
            RefusedError: cluster-refused; ``status`` 403 (the hint names the missing right), 404, 413, 422.
            UnavailableError: cluster-unavailable; ``retryable`` where another try may do.
        """
        payload = b"" if body is None else json.dumps(body).encode()
        answer = self._send(
            method,
            path,
            payload,
            operation=f"{method} {path.partition('?')[0]}",
            content_type=content_type,
            repeat=repeat,
            timeout_seconds=timeout_seconds,
        )
        if not 200 <= answer.status < 300:
            raise failure(answer, method=method, path=path, server=self.server)
        return self._object(answer.body, method, path)

    def stream(
        self,
        path: str,
        read: Callable[[Incoming], T],
        *,
        accept: str = "application/json",
        timeout_seconds: float = REQUEST_SECONDS,
        silence_seconds: float = REQUEST_SECONDS,
    ) -> T:
        """Let a function take the answer to a GET as it comes; sent once.

        Args:
            read: see :meth:`wif.edges.transport.Transport.stream`; called for an answer of 200 alone.
            timeout_seconds: of the whole, until ``read`` says otherwise.
            silence_seconds: the longest that nothing comes.

        Raises:
            RefusedError: cluster-refused, the missing right named; ``status`` 410 where a version is too old.
            UnavailableError: cluster-unavailable; its cause is a TransportError ``timeout`` for silence.
        """

        def checked(answer: Incoming) -> T:
            if answer.status == 200:
                return read(answer)
            raise failure(_short(answer), method="GET", path=path, server=self.server)

        headers = {"accept": accept}
        if authorization := self._access.authorization():
            headers["authorization"] = authorization
        request = Request(
            method="GET", url=self.server + path, headers=headers, operation=f"GET {path.partition('?')[0]}"
        )
        try:
            return self._transport.stream(
                request,
                deadline=time.monotonic() + timeout_seconds,
                silence_seconds=silence_seconds,
                hosts=self._hosts,
                read=checked,
            )
        except TransportError as error:
            raise self._unasked(error) from error

    def abort(self, thread: int | None = None) -> None:
        """End requests under way, from another thread: of one thread (``threading.get_ident()``), or all."""
        self._transport.abort(thread)

    def _object(self, body: bytes, method: str, path: str) -> Mapping[str, Any]:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise UnavailableError(
                f"{method} {path} at {self.server}: the answer is no JSON object", code="cluster-unavailable"
            )
        return value

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        operation: str,
        content_type: str = "application/json",
        repeat: bool = True,
        timeout_seconds: float = REQUEST_SECONDS,
        bearer: str | None = None,
        transport: Transport | None = None,
    ) -> Response:
        """Send, and once more after a short pause where the server could not answer just then."""
        headers = {"accept": "application/json, */*"}  # the JWKS comes as application/jwk-set+json alone
        if body:
            headers["content-type"] = content_type
        request = Request(method=method, url=self.server + path, headers=headers, body=body, operation=operation)

        def once() -> Response:
            return self._send_once(request, bearer, timeout_seconds, transport or self._transport)

        try:
            answer = once()
            if not repeat or (answer.status != 429 and answer.status < 500):
                return answer
            pause = _retry_after(answer)
        except UnavailableError as error:
            if not repeat or not error.retryable:
                raise
            pause = _PAUSE_SECONDS
        time.sleep(pause)
        return once()

    def _send_once(
        self, request: Request, bearer: str | None, timeout_seconds: float, transport: Transport
    ) -> Response:
        authorization = self._access.authorization() if bearer is None else f"Bearer {bearer}"
        if authorization:
            request = replace(request, headers={**request.headers, "authorization": authorization})
        try:
            return transport.send(request, deadline=time.monotonic() + timeout_seconds, hosts=self._hosts)
        except TransportError as error:
            raise self._unasked(error) from error

    def _unasked(self, error: TransportError) -> UnavailableError:
        return UnavailableError(
            f"{self.origin} cannot be asked: {error.message}",
            code="cluster-unavailable",
            hint="check the address and the CA in the kubeconfig, and that the API server is ready",
            retryable=error.retryable,
        )


def _refused(answer: Response, request: TokenRequest, server: str) -> WifError:
    reason, message = status_of(answer)
    whose = f"{request.namespace}/{request.service_account}"
    what = f"TokenRequest for {whose} at {server}: {answer.status} {reason}: {message}"
    if answer.status == 429 or answer.status >= 500:
        return UnavailableError(
            what, code="cluster-unavailable", status=answer.status, cloud_code=reason, retryable=True
        )
    hint = {
        401: "check the credentials of the kubeconfig or the pod's own token: the API server does not know this caller",
        403: f"grant this caller the verb create on the resource serviceaccounts/token named "
        f"{request.service_account!r} in the namespace {request.namespace!r} (a Role and a RoleBinding)",
        404: "create the namespace, the ServiceAccount and the bound object first, and check their names for a slip",
    }.get(answer.status, "correct what the API server names")
    return TokenError(
        what, code="token-request-refused", hint=hint, status=answer.status, cloud_code=reason, retryable=False
    )


def _short(answer: Incoming) -> Response:
    """The answer with what fits of its body: a refusal is a small object."""
    body = b""
    for chunk in answer.chunks():
        body += chunk
        if len(body) > _MAX_REFUSAL_BYTES:
            break
    return Response(status=answer.status, headers=answer.headers, body=body)


def _retry_after(answer: Response) -> float:
    text = answer.headers.get("retry-after", "")
    return min(_MAX_PAUSE_SECONDS, float(text)) if text.isascii() and text.isdigit() else _PAUSE_SECONDS
