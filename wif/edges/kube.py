"""The Kubernetes API server: TokenRequest and the discovery endpoints.

Inside a cluster the mounted token, its CA and the address are enough. A kubeconfig in all its forms (exec plugins,
providers, certificates) is read by the ``kubernetes`` package, which is imported only then: it costs half a second.
"""

from __future__ import annotations

__all__ = ["SERVICE_ACCOUNT_DIRECTORY", "KubeClient"]

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wif.core.flow import Request, Response
from wif.core.hosts import AllowedHosts
from wif.edges.files import read_bounded
from wif.edges.token_request import IssuedToken, TokenRequest
from wif.edges.transport import Transport
from wif.errors import ConfigurationError, TokenError, TransportError, UnavailableError, WifError

if TYPE_CHECKING:
    from urllib3 import PoolManager

SERVICE_ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts a pod's own token, CA and namespace."""

REQUEST_SECONDS = 10.0
"""Wall time of one request; the API server's own admission may take some of it."""

_PAUSE_SECONDS = 0.25
_MAX_PAUSE_SECONDS = 5.0
"""Before the one retry: by default, and where Retry-After asks for more."""

_MAX_TOKEN_BYTES = 1 << 16


class KubeClient:
    """One API server and the way to be known there. Safe for threads.

    Made by :meth:`in_cluster`, :meth:`from_kubeconfig` or :meth:`find`; the constructor takes what these found.

    Args:
        server: the API server's URL.
        transport: how to reach it.
        authorization: gives the value of the header ``Authorization``, or None, anew for each request.
        origin: what messages call it.
    """

    def __init__(
        self, server: str, *, transport: Transport, authorization: Callable[[], str | None], origin: str
    ) -> None:
        self.server = server.rstrip("/")
        self.origin = origin
        self._transport = transport
        self._authorization = authorization
        self._hosts = AllowedHosts(builtin=lambda _: False).with_urls([server], origin=origin)

    @classmethod
    def in_cluster(
        cls, *, environ: Mapping[str, str] = os.environ, directory: str | os.PathLike[str] = SERVICE_ACCOUNT_DIRECTORY
    ) -> KubeClient:
        """The cluster that this pod runs in, as its ServiceAccount. Proxies of the environment are not used.

        Raises:
            ConfigurationError: config-missing where this is no pod of a cluster, or its token is not mounted.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port:
            raise ConfigurationError(
                "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: this is no pod of a cluster",
                code="config-missing",
                hint="name a kubeconfig",
            )
        token, authority = (os.path.join(os.fspath(directory), name) for name in ("token", "ca.crt"))  # noqa: PTH118
        for path in (token, authority):
            if not os.path.exists(path):  # noqa: PTH110
                raise ConfigurationError(
                    f"{path} is not there: the pod's own token is not mounted",
                    code="config-missing",
                    hint="set automountServiceAccountToken: true, or name a kubeconfig",
                )

        def authorization() -> str:
            try:
                text = read_bounded(token, _MAX_TOKEN_BYTES).decode("ascii").strip()
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"{token} cannot be read", code="file-unusable") from error
            return f"Bearer {text}"

        return cls(
            f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
            transport=Transport(environ={"SSL_CERT_FILE": authority}),
            authorization=authorization,
            origin="the cluster of this pod",
        )

    @classmethod
    def from_kubeconfig(cls, path: str | os.PathLike[str] | None = None, context: str | None = None) -> KubeClient:
        """The cluster of a kubeconfig file's context.

        Args:
            path: the file; None is ``KUBECONFIG``, else ``~/.kube/config``.
            context: its name; None is the file's current one.

        Raises:
            ConfigurationError: extra-missing, config-missing, config-invalid.
        """
        try:
            import yaml  # noqa: PLC0415
            from kubernetes import client, config  # noqa: PLC0415  # half a second, and an extra
        except ImportError as error:
            raise ConfigurationError(
                "reading a kubeconfig needs the package kubernetes",
                code="extra-missing",
                hint="pip install 'wif[kubernetes]'; inside a cluster it is not needed",
            ) from error
        named = os.fspath(path) if path is not None else None
        origin = f"the kubeconfig {named or os.environ.get('KUBECONFIG') or '~/.kube/config'}"
        if named is not None and not os.path.exists(named):  # noqa: PTH110
            raise ConfigurationError(f"{origin} is not there", code="config-missing")
        configuration = client.Configuration()
        try:
            # no-untyped-call: the package types a part of itself
            config.load_kube_config(named, context, configuration, persist_config=False)  # type: ignore[no-untyped-call]
        except (
            config.ConfigException,
            yaml.YAMLError,
            OSError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:
            reason = " ".join(str(error).split())[:300] if isinstance(error, config.ConfigException) else "unreadable"
            raise ConfigurationError(f"{origin} cannot be used: {reason}", code="config-invalid") from error
        return cls._from_configuration(configuration, client.ApiClient, origin)

    @classmethod
    def _from_configuration(cls, configuration: Any, api_client: Any, origin: str) -> KubeClient:
        try:
            pools: PoolManager = api_client(configuration).rest_client.pool_manager
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{origin} cannot be used: {error}", code="config-invalid") from error

        def authorization() -> str | None:
            value: str | None = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
            return value

        return cls(
            configuration.host, transport=Transport(pool_manager=pools), authorization=authorization, origin=origin
        )

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

    def request_token(self, request: TokenRequest) -> IssuedToken:
        """Ask for a ServiceAccount's token.

        Raises:
            TokenError: token-request-refused, with the API server's words.
            UnavailableError: cluster-unavailable.
        """
        answer = self._send("POST", request.path, request.body(), "TokenRequest")
        if answer.status not in (200, 201):
            raise _refused(answer, request, self.server)
        return IssuedToken.from_answer(answer.body)

    def get_raw(self, path: str) -> bytes:
        """The body of a GET, e.g. of ``/.well-known/openid-configuration`` or ``/openid/v1/jwks``.

        Raises:
            UnavailableError: cluster-unavailable, also where the API server refuses.
        """
        answer = self._send("GET", path, b"", f"GET {path}")
        if answer.status != 200:
            reason, message = _status(answer)
            raise UnavailableError(
                f"GET {path} at {self.server}: {answer.status} {reason}: {message}",
                code="cluster-unavailable",
                status=answer.status,
                cloud_code=reason,
            )
        return answer.body

    def get(self, path: str) -> Mapping[str, Any]:
        """As :meth:`get_raw`, read as a JSON object."""
        try:
            value = json.loads(self.get_raw(path))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise UnavailableError(
                f"GET {path} at {self.server}: the answer is no JSON object", code="cluster-unavailable"
            )
        return value

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _send(self, method: str, path: str, body: bytes, operation: str) -> Response:
        """Send, and once more after a short pause where the server could not answer just then."""
        try:
            answer = self._send_once(method, path, body, operation)
            if answer.status != 429 and answer.status < 500:
                return answer
            pause = _retry_after(answer)
        except UnavailableError as error:
            if not error.retryable:
                raise
            pause = _PAUSE_SECONDS
        time.sleep(pause)
        return self._send_once(method, path, body, operation)

    def _send_once(self, method: str, path: str, body: bytes, operation: str) -> Response:
        headers = {"accept": "application/json, */*"}  # the JWKS comes as application/jwk-set+json alone
        if body:
            headers["content-type"] = "application/json"
        authorization = self._authorization()
        if authorization:
            headers["authorization"] = authorization
        request = Request(method=method, url=self.server + path, headers=headers, body=body, operation=operation)
        try:
            return self._transport.send(request, deadline=time.monotonic() + REQUEST_SECONDS, hosts=self._hosts)
        except TransportError as error:
            raise UnavailableError(
                f"{self.origin} cannot be asked: {error.message}",
                code="cluster-unavailable",
                hint="check the address and the CA in the kubeconfig, and that the API server is ready",
                retryable=error.retryable,
            ) from error


def _refused(answer: Response, request: TokenRequest, server: str) -> WifError:
    reason, message = _status(answer)
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


def _status(answer: Response) -> tuple[str, str]:
    """Reason and message of Kubernetes' Status object."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or value.get("kind") != "Status":
        return "Unknown", "the answer is no Status object"
    return tuple(
        "".join(c if c.isprintable() else " " for c in str(value.get(name) or default)[:500])
        for name, default in (("reason", "Unknown"), ("message", "no message"))
    )  # type: ignore[return-value]  # two names, two texts


def _retry_after(answer: Response) -> float:
    text = answer.headers.get("retry-after", "")
    return min(_MAX_PAUSE_SECONDS, float(text)) if text.isascii() and text.isdigit() else _PAUSE_SECONDS
