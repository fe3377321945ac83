"""Which hosts may see a subject token: those built in for its cloud, and those that the caller named."""

from __future__ import annotations

__all__ = ["AllowedHosts", "HostPort", "parse_hosts"]

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from wif.errors import ConfigurationError

HostPort = tuple[str, int | None]
"""A lower-case host name and a port; None stands for 443."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def parse_hosts(value: str, *, origin: str) -> tuple[HostPort, ...]:
    """Read a comma or space separated list of ``host``, ``host:port`` or URLs, as in ``WIF_ALLOW_HOSTS``."""
    return tuple(_host_port(item, origin) for item in value.replace(",", " ").split())


def _host_port(item: str, origin: str) -> HostPort:
    parts = _split(item if "://" in item else f"https://{item}", origin)
    host = parts[1]
    if not host or "*" in host or parts[3]:
        raise ConfigurationError(
            f"{origin} names {item!r}, which is not a host name",
            code="config-invalid",
            hint="write whole host names, with a port where it is not 443: sts.example.com:8443; no patterns",
        )
    return host, parts[2]


def _split(url: str, origin: str) -> tuple[str, str, int | None, bool]:
    """(scheme, host, port, has user info) of a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"{origin}: {url!r} is not a URL", code="config-invalid") from None
    scheme = parts.scheme.lower()
    default = 443 if scheme == "https" else 80
    return scheme, (parts.hostname or "").lower(), None if port in (None, default) else port, "@" in parts.netloc


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedHosts:
    """The host rule of one exchanger.

    ``builtin`` says whether a lower-case host name is one of the cloud's own (port 443 only);
    ``named`` are the hosts that the caller named in code, in ``WIF_ALLOW_HOSTS`` or by the cloud's own variable.
    Plain http is for loopback, and only where ``named_http`` has that very host and port.
    """

    builtin: Callable[[str], bool]
    named: frozenset[HostPort] = frozenset()
    named_http: frozenset[HostPort] = frozenset()

    def with_urls(self, urls: Iterable[str], *, origin: str) -> AllowedHosts:
        """The rule with the hosts of URLs that the caller named."""
        named, named_http = set(self.named), set(self.named_http)
        for url in urls:
            scheme, host, port, _ = _split(url, origin)
            (named_http if scheme == "http" else named).add((host, port))
        return AllowedHosts(builtin=self.builtin, named=frozenset(named), named_http=frozenset(named_http))

    def with_hosts(self, hosts: Iterable[HostPort]) -> AllowedHosts:
        """The rule with more hosts, https only."""
        return AllowedHosts(builtin=self.builtin, named=self.named | frozenset(hosts), named_http=self.named_http)

    def check(self, url: str) -> None:
        """Raise ``host-not-allowed`` unless a token may go to this URL."""
        scheme, host, port, has_user_info = _split(url, "the endpoint")
        shown = f"{scheme}://{host}" + (f":{port}" if port else "")
        if has_user_info:
            raise ConfigurationError(f"the endpoint {shown} carries user information", code="host-not-allowed")
        if scheme == "http":
            if host not in _LOOPBACK or (host, port) not in self.named_http:
                raise ConfigurationError(
                    f"{shown} would get the token over plain http",
                    code="host-not-allowed",
                    hint="use https; plain http is for a loopback address that you name yourself",
                )
        elif scheme != "https":
            raise ConfigurationError(f"{shown} is not an https URL", code="host-not-allowed", hint="use https")
        elif (host, port) not in self.named and not (port is None and self.builtin(host)):
            raise ConfigurationError(
                f"{shown} is not a host of this cloud and nobody named it",
                code="host-not-allowed",
                hint=f"if you trust it with this identity, add {host}{f':{port}' if port else ''} to WIF_ALLOW_HOSTS",
            )
