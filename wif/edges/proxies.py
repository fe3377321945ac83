"""Which proxy a request takes, by the environment's variables, as the standard library and requests read them.

``https_proxy``, then ``all_proxy``, with ``no_proxy``; in either case of letters, the lower case wins. The system's
proxy settings of macOS and Windows are not read: an exchange depends on what the process was given.
"""

from __future__ import annotations

__all__ = ["Proxy", "proxy_for"]

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from wif.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A CONNECT proxy. User and password live in ``authorization`` alone, and are not shown."""

    scheme: str
    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)
    """The value of ``Proxy-Authorization``."""

    @property
    def url(self) -> str:
        """The proxy's address without its user."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def proxy_for(host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """The proxy for an https request to ``host:port``; None where it goes straight there.

    Raises:
        ConfigurationError: config-invalid where the variable holds no http or https URL (SOCKS is not supported).
    """
    settings: dict[str, tuple[str, str]] = {}
    for name, value in environ.items():
        lower = name.lower()
        if lower in ("https_proxy", "all_proxy", "no_proxy") and (name == lower or lower not in settings):
            settings[lower] = (name, value)
    name, value = next((s for key in ("https_proxy", "all_proxy") if (s := settings.get(key, ("", "")))[1]), ("", ""))
    if not value:
        return None
    excepted = settings.get("no_proxy", ("", ""))[1]
    if excepted:
        # attr-defined: typeshed lacks it
        from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # noqa: PLC0415

        literal = f"[{host}]" if ":" in host else host
        if proxy_bypass_environment(f"{literal}:{port}", {"no": excepted}):
            return None
    return _parse(name, value)


def _parse(name: str, value: str) -> Proxy:
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError:
        scheme, host, port = "", None, None
    if scheme not in ("http", "https") or not host:
        # the value is not shown: it may hold a password
        raise ConfigurationError(
            f"{name} is not the URL of an http or https proxy",
            code="config-invalid",
            hint=f"set {name} to http://HOST:PORT; SOCKS proxies are not supported",
        )
    authorization = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode("ascii")
    return Proxy(scheme=scheme, host=host, port=port or (443 if scheme == "https" else 80), authorization=authorization)
