"""What vouches for an issuer's keys: every API server of the cluster, PEM files, key sets. All of it, united.

API servers in the middle of a rolling restart answer differently, so each is asked by its own address. A server that
does not answer makes the reading incomplete: keys are still added, and nothing may be concluded from a key's absence.
"""

from __future__ import annotations

__all__ = ["ServerReading", "Sources", "Vouched", "read_key_file", "read_source_file"]

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wif.core.documents import parse_json
from wif.core.public_keys import IssuerKey, read_key_set, read_public_keys
from wif.edges.files import read_bounded
from wif.errors import ConfigurationError, ProtocolError, UnavailableError, WifError
from wif.issuer.parallel import each

if TYPE_CHECKING:
    from wif.config.issuers import IssuerSettings
    from wif.edges.kube import KubeClient

MAX_SOURCE_BYTES = 1024 * 1024
"""Of a PEM file or a key set; 100 RSA keys have 45 KB."""

FETCH_SECONDS = 15.0
"""For a key set at a URL, all in all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReading:
    """What one API server says."""

    name: str
    """Its address and port, or its URL."""
    issuer: str
    """The one that it writes into new tokens."""
    keys: tuple[IssuerKey, ...]
    max_age_seconds: int | None
    """Of its key set: Kubernetes' word that no key signs before it was served for so long."""
    client: KubeClient = field(repr=False)
    """To ask this very server more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vouched:
    """All that the sources of one moment vouch for."""

    keys: tuple[IssuerKey, ...]
    """Each once, by id."""
    origins: Mapping[str, str]
    """Key id, and the first source that vouches for it."""
    issuer: str | None = None
    """The API servers' own, where there are any and they agree."""
    servers: tuple[ServerReading, ...] = ()
    servers_complete: bool = True
    """Whether every API server that is known answered."""
    problems: tuple[str, ...] = ()
    """Sentences: servers that did not answer, or answer differently."""


class Sources:
    """The sources of one issuer's settings. ``read`` asks all of them anew.

    Args:
        settings: which they are.
        kube: the cluster, where the caller has a client already.
        environ: where proxy and CA variables are read.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        *,
        kube: KubeClient | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._settings = settings
        self._kube = kube
        self._owns_kube = False
        self._environ = environ
        self._endpoints: dict[str, KubeClient] = {}

    @property
    def uses_cluster(self) -> bool:
        """Whether API servers are asked: said so, or because nothing else is named."""
        settings = self._settings
        if settings.use_kubernetes is not None:
            return settings.use_kubernetes
        if settings.api_servers or settings.kubeconfig or settings.context:
            return True
        return not settings.public_keys and not settings.jwks

    @property
    def kube(self) -> KubeClient | None:
        """The cluster's client; None where no API server is asked.

        Raises:
            ConfigurationError: as :meth:`~wif.edges.kube.KubeClient.find`.
        """
        if self._kube is None and self.uses_cluster:
            from wif.edges.kube import KubeClient  # noqa: PLC0415  # only with a cluster

            settings = self._settings
            try:
                self._kube = KubeClient.find(settings.kubeconfig, context=settings.context)
            except ConfigurationError as error:
                if (
                    settings.kubeconfig
                    or settings.context
                    or not settings.api_servers
                    or error.code != "config-missing"
                ):
                    raise
                self._kube = KubeClient.from_url(settings.api_servers[0], environ=self._environ)  # asked as nobody
            self._owns_kube = True
        return self._kube

    def read(self) -> Vouched:
        """Ask everything.

        Raises:
            ConfigurationError: issuer-mismatch where the API servers write another issuer than the settings',
                issuer-invalid where they serve none, config-missing where there is no key at all, key-private,
                key-invalid, file-unusable.
            ProtocolError: document-invalid where one id names two keys.
            UnavailableError: cluster-unavailable where no API server answers.
        """
        gathered = _Gathered()
        servers: tuple[ServerReading, ...] = ()
        complete = True
        if self.uses_cluster:
            servers, complete = self._read_servers(gathered.problems)
            for server in servers:
                gathered.add(server.keys, f"the API server {server.name}")
        for path in self._settings.public_keys:
            gathered.add(read_key_file(path), path)
        for place in self._settings.jwks:
            body = self._fetch(place) if "://" in place and not place.startswith("file:") else read_source_file(place)
            gathered.add(read_key_set(body, origin=place), place)
        if not gathered.keys:
            raise ConfigurationError(
                "no source vouches for any key", code="config-missing", hint="check what --public-key and --jwks name"
            )
        return Vouched(
            keys=tuple(gathered.keys.values()),
            origins=gathered.origins,
            issuer=self._common_issuer(servers, gathered.problems),
            servers=servers,
            servers_complete=complete,
            problems=tuple(gathered.problems),
        )

    def find_issuer(self) -> str | None:
        """The issuer: the settings' own, else the one that an API server of the cluster names."""
        if self._settings.issuer or not self.uses_cluster:
            return self._settings.issuer
        kube = self.kube
        return None if kube is None else _issuer_of(kube.issuer_documents().discovery, kube.origin)

    def close(self) -> None:
        """Let go of connections."""
        for client in self._endpoints.values():
            client.close()
        self._endpoints.clear()
        if self._owns_kube and self._kube is not None:
            self._kube.close()

    # -- API servers -------------------------------------------------------------------------------------------------

    def _read_servers(self, problems: list[str]) -> tuple[tuple[ServerReading, ...], bool]:
        kube = self.kube
        assert kube is not None  # noqa: S101 - uses_cluster was asked
        if not kube.is_verified:
            raise ConfigurationError(
                f"{kube.origin} does not verify the API server's certificate: whoever sits between could add a key",
                code="config-invalid",
                hint="put the cluster's CA into the kubeconfig in place of insecure-skip-tls-verify",
            )
        clients, complete = self._clients(kube, problems)
        readings = each(_read_server, clients)
        servers = tuple(found for found in readings if isinstance(found, ServerReading))
        failures = [found for found in readings if isinstance(found, WifError)]
        if not servers and kube not in clients and not self._settings.api_servers:
            # The addresses of the slices are the cluster's own: from outside only its front door may be reachable.
            problems.append(
                "no API server answers at its own address, so only the one behind the kubeconfig's address was asked"
            )
            servers, failures, complete = (_read_server(kube),), [], False
        if not servers:
            raise failures[0]
        for failure in failures:
            problems.append(f"an API server was not read: {failure.message}")
        for server in servers[1:]:
            if {key.key_id for key in server.keys} != {key.key_id for key in servers[0].keys}:
                problems.append(f"the API servers {servers[0].name} and {server.name} serve different keys")
        return servers, complete and not failures

    def _clients(self, kube: KubeClient, problems: list[str]) -> tuple[Sequence[KubeClient], bool]:
        """Every API server, and whether these are known to be all."""
        if self._settings.api_servers:
            from wif.edges.kube import KubeClient  # noqa: PLC0415  # only with a cluster

            wanted = {url: url for url in self._settings.api_servers}
            made = {url: KubeClient.from_url(url, credentials_of=kube) for url in wanted if url not in self._endpoints}
        else:
            try:
                endpoints = kube.api_server_endpoints(ready=None)
            except WifError as error:
                problems.append(f"the cluster's API servers could not be listed, so one was asked: {error.message}")
                return [kube], False
            if not endpoints:
                problems.append("the cluster lists no API server in the EndpointSlices of default/kubernetes")
                return [kube], False
            wanted = {f"{endpoint.address} {endpoint.port}": "" for endpoint in endpoints}
            made = {
                name: kube.at(endpoint.address, endpoint.port)
                for name, endpoint in zip(wanted, endpoints, strict=True)
                if name not in self._endpoints
            }
        for name in [name for name in self._endpoints if name not in wanted]:
            self._endpoints.pop(name).close()
        self._endpoints |= made
        return list(self._endpoints.values()), True

    def _common_issuer(self, servers: Sequence[ServerReading], problems: list[str]) -> str | None:
        """The issuer that the servers write, held against the settings'."""
        named = sorted({server.issuer for server in servers})
        if not named:
            return None
        wanted = self._settings.issuer
        if wanted and wanted not in named and not self._settings.former_issuer:
            raise ConfigurationError(
                f"the API servers write the issuer {named[0]!r} into their tokens, expected {wanted!r} (--issuer)",
                code="issuer-mismatch",
                hint="publish the issuer that the cluster writes, byte for byte; for one that it accepts and no longer "
                "(or not yet) writes, as in a migration, pass --former-issuer",
            )
        if len(named) > 1:
            if not wanted:
                raise ConfigurationError(
                    f"the API servers write different issuers: {', '.join(map(repr, named))}",
                    code="issuer-mismatch",
                    hint="say which of them to publish with --issuer",
                )
            problems.append(f"the API servers write different issuers: {', '.join(map(repr, named))}")
            return wanted if wanted in named else None
        return named[0]

    # -- key sets --------------------------------------------------------------------------------------------------

    def _fetch(self, url: str) -> bytes:
        if not url.startswith("https://"):
            raise ConfigurationError(f"the source {url} is not an https URL", code="config-invalid")
        from wif.core.flow import Request  # noqa: PLC0415  # only for a URL
        from wif.core.hosts import AllowedHosts  # noqa: PLC0415  # only for a URL
        from wif.edges.transport import Transport  # noqa: PLC0415  # only for a URL

        environ = dict(self._environ)
        if self._settings.ca_file:
            environ["SSL_CERT_FILE"] = self._settings.ca_file
        transport = Transport(environ=environ)
        try:
            answer = transport.send(
                Request(method="GET", url=url, headers={"accept": "application/jwk-set+json, */*"}, operation="JWKS"),
                deadline=time.monotonic() + FETCH_SECONDS,
                hosts=AllowedHosts(builtin=lambda _: False).with_urls([url], origin="--jwks"),
            )
        finally:
            transport.close()
        if answer.status != 200:
            raise UnavailableError(
                f"the key set {url} was answered with {answer.status}", code="issuer-unreachable", status=answer.status
            )
        return answer.body


class _Gathered:
    """Keys of many sources, each once."""

    def __init__(self) -> None:
        self.keys: dict[str, IssuerKey] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[str] = []

    def add(self, keys: Sequence[IssuerKey], origin: str) -> None:
        for key in keys:
            known = self.keys.setdefault(key.key_id, key)
            self.origins.setdefault(key.key_id, origin)
            if known.fingerprint != key.fingerprint:
                raise ProtocolError(
                    f"{self.origins[key.key_id]} and {origin} name two different keys {key.key_id!r}",
                    code="document-invalid",
                    hint="one of the two is wrong: find out which before anything is published",
                )


def _read_server(client: KubeClient) -> ServerReading:
    documents = client.issuer_documents()
    return ServerReading(
        name=client.server.removeprefix("https://"),
        issuer=_issuer_of(documents.discovery, client.origin),
        keys=read_key_set(documents.jwks, origin=client.origin),
        max_age_seconds=documents.max_age_seconds,
        client=client,
    )


def _issuer_of(body: bytes, origin: str) -> str:
    try:
        document = parse_json(body)
    except ValueError as error:
        raise ProtocolError(
            f"the discovery document of {origin} is not JSON: {error}", code="document-invalid"
        ) from None
    issuer = document.get("issuer") if isinstance(document, dict) else None
    if not isinstance(issuer, str) or not issuer:
        raise ProtocolError(f"the discovery document of {origin} names no issuer", code="document-invalid")
    return issuer


def read_key_file(path: str) -> tuple[IssuerKey, ...]:
    """The keys of a PEM file.

    Raises:
        ConfigurationError: file-unusable, key-private, key-invalid.
    """
    return read_public_keys(read_source_file(path), origin=path)


def read_source_file(path: str) -> bytes:
    """The bytes of a source that is a file.

    Raises:
        ConfigurationError: file-unusable.
    """
    from urllib.parse import unquote, urlsplit  # noqa: PLC0415  # imported long ago where it matters

    named = unquote(urlsplit(path).path) if path.startswith("file:") else path
    try:
        body = read_bounded(named, MAX_SOURCE_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"the source {path} cannot be read: {(error.strerror or type(error).__name__).lower()}",
            code="file-unusable",
        ) from error
    if len(body) > MAX_SOURCE_BYTES:
        raise ConfigurationError(f"the source {path} is larger than 1 MiB", code="file-unusable")
    return body
