"""The way to a Kubernetes API server and how to be known there: a pod's own, a kubeconfig's, a URL's.

Inside a cluster the mounted token, its CA and the address are enough. A kubeconfig in all its forms (exec plugins,
providers, certificates) is read by the ``kubernetes`` package, which is imported only then: it costs half a second.
"""

from __future__ import annotations

__all__ = [
    "SERVICE_ACCOUNT_DIRECTORY",
    "Access",
    "Reach",
    "address_url",
    "of_kubeconfig",
    "of_pod",
    "of_url",
    "pod_namespace",
]

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from wif.edges.files import read_bounded
from wif.edges.transport import Transport
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from urllib3 import PoolManager

SERVICE_ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where the kubelet mounts a pod's own token, CA and namespace."""

MAX_ANSWER_BYTES = 3 * 1024 * 1024
"""A ConfigMap may hold 1 MiB, in JSON twice as much; the API server itself takes requests of up to 3 MiB."""

_MAX_TOKEN_BYTES = 1 << 16
_MAX_NAMESPACE_BYTES = 253


class Reach(Protocol):
    """Makes the way to a server: same authorities, same kind of proxy and, unless not wanted, same certificate."""

    def __call__(self, url: str, *, server_hostname: str | None, with_certificate: bool) -> Transport:
        """A transport for this URL; ``server_hostname`` is the name that the certificate must have instead."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One API server, and who asks."""

    server: str
    """Its URL, without a slash at the end."""
    reach: Reach
    authorization: Callable[[], str | None]
    """Gives the value of the header ``Authorization``, or None, anew for each request."""
    origin: str
    """What messages call it."""
    server_hostname: str | None = None
    """The name that the certificate must have, where the URL's host is not it."""
    is_verified: bool = True
    """False where the kubeconfig says ``insecure-skip-tls-verify``."""
    namespace: str | None = None
    """The namespace that the kubeconfig's context names, or the pod's own."""

    def transport(self, *, with_certificate: bool = True) -> Transport:
        """A new way to the server."""
        return self.reach(self.server, server_hostname=self.server_hostname, with_certificate=with_certificate)


def of_pod(
    *, environ: Mapping[str, str] = os.environ, directory: str | os.PathLike[str] = SERVICE_ACCOUNT_DIRECTORY
) -> Access:
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

    return Access(
        server=address_url(host, port),
        reach=_reach_by({"SSL_CERT_FILE": authority}),
        authorization=authorization,
        origin="the cluster of this pod",
        namespace=pod_namespace(directory),
    )


def of_url(url: str, *, server_hostname: str | None = None, environ: Mapping[str, str] = os.environ) -> Access:
    """The server of a URL, without credentials; authorities and proxy are those of ``environ``."""
    return Access(
        server=url.rstrip("/"),
        reach=_reach_by(environ),
        authorization=lambda: None,
        origin=f"the API server {url}",
        server_hostname=server_hostname,
    )


def of_kubeconfig(path: str | os.PathLike[str] | None = None, context: str | None = None) -> Access:
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
        namespace = _context_namespace(config, named, context)
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
    return _of_configuration(configuration, client.ApiClient, origin, namespace)


def _of_configuration(configuration: Any, api_client: Any, origin: str, namespace: str | None) -> Access:
    def reach(url: str, *, server_hostname: str | None, with_certificate: bool) -> Transport:
        chosen = copy.deepcopy(configuration)
        chosen.host = url  # decides about the proxy and its exceptions
        if server_hostname is not None:
            chosen.tls_server_name = server_hostname  # and no assert_hostname: OpenSSL itself checks this name
        if not with_certificate:
            chosen.cert_file = chosen.key_file = None
        try:
            pools: PoolManager = api_client(chosen).rest_client.pool_manager
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{origin} cannot be used: {error}", code="config-invalid") from error
        return Transport(pool_manager=pools, max_body_bytes=MAX_ANSWER_BYTES)

    def authorization() -> str | None:
        value: str | None = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return value

    return Access(
        server=configuration.host.rstrip("/"),
        reach=reach,
        authorization=authorization,
        origin=origin,
        is_verified=bool(configuration.verify_ssl),
        namespace=namespace,
    )


def pod_namespace(directory: str | os.PathLike[str] = SERVICE_ACCOUNT_DIRECTORY) -> str | None:
    """The namespace of this pod, as the kubelet mounts it; None where nothing is mounted."""
    try:
        text = read_bounded(os.path.join(os.fspath(directory), "namespace"), _MAX_NAMESPACE_BYTES)  # noqa: PTH118
        return text.decode("ascii").strip() or None
    except (OSError, ValueError):
        return None


def address_url(host: str, port: int | str) -> str:
    """The https URL of a name or an address; IPv6 gets its brackets."""
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _reach_by(environ: Mapping[str, str]) -> Reach:
    def reach(url: str, *, server_hostname: str | None, with_certificate: bool) -> Transport:  # noqa: ARG001
        return Transport(environ=environ, server_hostname=server_hostname, max_body_bytes=MAX_ANSWER_BYTES)

    return reach


def _context_namespace(config: Any, path: str | None, context: str | None) -> str | None:
    contexts, current = config.list_kube_config_contexts(path)
    chosen = current if context is None else next((each for each in contexts if each.get("name") == context), {})
    namespace = chosen.get("context", {}).get("namespace")
    return namespace if isinstance(namespace, str) and namespace else None
