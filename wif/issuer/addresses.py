"""Where the documents of a target can be read, and whether a source of keys is one of these places.

A source vouches for keys. Where it is also written to, whatever an attacker once put there would vouch for itself.
"""

from __future__ import annotations

__all__ = ["check_sources", "document_paths", "public_urls"]

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH, discovery_url
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.config.issuers import TargetSettings

_DEFAULT_PORTS = {"https": 443, "http": 80}


def document_paths(issuer: str, jwks_uri: str) -> tuple[str, str]:
    """Where discovery document and key set stand below a target's prefix, which is the issuer's own root.

    A ``jwks_uri`` outside the issuer leaves the key set at Kubernetes' path: something else brings it there.
    """
    root = issuer.removesuffix("/") + "/"
    jwks = jwks_uri.removeprefix(root) if jwks_uri.startswith(root) else JWKS_PATH
    return DISCOVERY_PATH.removeprefix("/"), jwks.removeprefix("/") or JWKS_PATH.removeprefix("/")


def check_sources(
    jwks: Sequence[str], files: Sequence[str], targets: Sequence[TargetSettings], *, issuer: str, jwks_uri: str
) -> None:
    """Refuse a source of keys that this run, or another of this issuer, writes.

    Args:
        jwks: paths and URLs of key sets; a redirect is refused where it is fetched, so the URL is the place.
        files: paths of PEM files.

    Raises:
        ConfigurationError: source-is-target.
    """
    paths = document_paths(issuer, jwks_uri)
    urls = {_canonical(url): f"the issuer's own {url}" for url in (discovery_url(issuer), jwks_uri)}
    folders: dict[str, str] = {}
    for target in targets:
        if target.url.startswith("file:"):
            folders[os.path.realpath(unquote(urlsplit(target.url).path))] = target.url
        for url in public_urls(target, paths):
            urls.setdefault(_canonical(url), f"the target {target.url}")
    for source in (*jwks, *files):
        if "://" in source and not source.startswith("file:"):
            written = urls.get(_canonical(source)) or _same_text(source, targets)
        else:
            written = _inside(source, folders)
        if written:
            raise ConfigurationError(f"the source {source} is {written}", code="source-is-target")


def public_urls(target: TargetSettings, paths: Sequence[str]) -> Iterator[str]:
    """The addresses at which a store's own HTTP interface shows these documents."""
    parts = urlsplit(target.url)
    reader = _READERS.get(parts.scheme)
    if reader is None:
        return
    root = unquote(parts.path).strip("/")
    roots = list(reader(parts.netloc, root, target.region or ""))
    if target.endpoint:
        roots.append(_join(target.endpoint, parts.netloc, root))
    for base in roots:
        for path in paths:
            yield _join(base, path)


def _s3(bucket: str, prefix: str, region: str) -> Iterator[str]:
    for host in ("s3.amazonaws.com", *([f"s3.{region}.amazonaws.com", f"s3-{region}.amazonaws.com"] if region else [])):
        yield _join(f"https://{bucket}.{host}", prefix)
        yield _join(f"https://{host}", bucket, prefix)


def _gs(bucket: str, prefix: str, _: str) -> Iterator[str]:
    yield _join("https://storage.googleapis.com", bucket, prefix)
    yield _join(f"https://{bucket}.storage.googleapis.com", prefix)
    yield _join("https://storage.cloud.google.com", bucket, prefix)


def _az(account: str, root: str, _: str) -> Iterator[str]:
    yield _join(f"https://{account}.blob.core.windows.net", root)


_READERS: Mapping[str, Callable[[str, str, str], Iterator[str]]] = {"az": _az, "gs": _gs, "s3": _s3}


def _join(base: str, *parts: str) -> str:
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts if part.strip("/"))])


def _canonical(url: str) -> str:
    """One spelling for all of an address: case of the host, default port, escapes, dots, doubled slashes, query."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    host = (parts.hostname or "").lower().rstrip(".")
    shown = "" if port in (None, _DEFAULT_PORTS.get(parts.scheme.lower())) else f":{port}"
    path = posixpath.normpath("/" + unquote(parts.path).lstrip("/"))
    # the scheme is left out: what http and https show at one address is one place
    return f"{host}{shown}{path}"


def _same_text(source: str, targets: Sequence[TargetSettings]) -> str:
    found = next((t.url for t in targets if source == t.url or source.startswith(t.url.rstrip("/") + "/")), "")
    return f"the target {found}" if found else ""


def _inside(source: str, folders: Mapping[str, str]) -> str:
    """The target whose directory holds the file, also through symlinks."""
    path = unquote(urlsplit(source).path) if source.startswith("file:") else source
    real = PurePath(os.path.realpath(path))
    found = next((url for folder, url in folders.items() if real.is_relative_to(folder)), "")
    return f"inside the target {found}" if found else ""
