"""From the URL of ``--to`` to a store: one row per scheme, each of them imported when it is used.

``file:///dir``, ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://account/container/prefix``,
``gcp-provider:projects/…/locations/…/workloadIdentityPools/…/providers/…``,
``gke-fleet:projects/…/locations/…/memberships/…``, ``configmap:namespace/name``.
"""

from __future__ import annotations

__all__ = ["SCHEMES", "Place", "TargetLike", "open_store", "parse_target"]

import os
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import quote, unquote

from wif.edges.stores import Store
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.kube import KubeClient
    from wif.edges.stores.credentials import Federated
    from wif.edges.stores.google import Guard


class TargetLike(Protocol):
    """What a store needs to know of a target's settings; ``wif.config.issuers.TargetSettings`` is one."""

    @property
    def url(self) -> str:
        """What ``--to`` says."""

    @property
    def endpoint(self) -> str | None:
        """Another address than the cloud's own; for Azure with the account, as the cloud's own has it."""

    @property
    def region(self) -> str | None:
        """Of an S3 bucket; else the environment's, else us-east-1."""

    @property
    def ca_file(self) -> str | None:
        """Certificate authorities (PEM) that are trusted besides the system's."""

    @property
    def single_writer(self) -> bool:
        """Whether the caller has said that nobody else writes there."""

    @property
    def second_way_in(self) -> str | None:
        """``standard-chain``: the cloud's standard chain, where the federated credential is refused."""

    @property
    def allow_http(self) -> bool:
        """Whether plain http is allowed."""


class Place(NamedTuple):
    """A parsed URL of ``--to``."""

    scheme: str
    parts: tuple[str, ...]
    """``(path,)``; ``(bucket, prefix)``; ``(account, container, prefix)``; ``(resource name,)``; ``(namespace,
    name)``."""
    name: str
    """The canonical spelling."""


class _Context(NamedTuple):
    settings: TargetLike
    place: Place
    kube: KubeClient | None
    federated: Federated | None
    guard: Guard | None
    issuer: str | None
    environ: Mapping[str, str]


class _Scheme(NamedTuple):
    example: str
    parse: Callable[[str, str], Place]
    open: Callable[[_Context], Store]


def parse_target(url: str) -> Place:
    """Read and canonicalise a URL of ``--to``.

    Raises:
        ConfigurationError: config-invalid, with an example of the right form.
    """
    scheme = url.partition(":")[0]
    row = SCHEMES.get(scheme)
    if row is None:
        known = ", ".join(f"{name}:" for name in SCHEMES)
        raise ConfigurationError(
            f"the target {_shown(url)!r} is of no known kind: expected one of {known}",
            code="config-invalid",
            hint=f"a directory is written as file:///{_shown(url).lstrip('./') or 'srv/issuer'}"
            if ":" not in url
            else f"for example {SCHEMES['s3'].example}",
        )
    return row.parse(scheme, url)


def open_store(
    settings: TargetLike,
    *,
    kube: KubeClient | None = None,
    federated: Federated | None = None,
    guard: Guard | None = None,
    issuer: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Store:
    """The store that a target's settings name; nothing is sent yet.

    Args:
        settings: the target.
        kube: the client of the cluster, for ``configmap:`` alone.
        federated: gives the exchanged credential of a cloud; None: each cloud's standard chain.
        guard: whether the publisher's Lease is held for so many seconds more; for Google's control planes.
        issuer: whose keys will be written; one of Google's resources that trusts another issuer is refused.
        environ: where endpoints, regions and static keys are looked for.

    Raises:
        ConfigurationError: config-invalid, config-missing, extra-missing, file-unusable.
    """
    place = parse_target(settings.url)
    return SCHEMES[place.scheme].open(_Context(settings, place, kube, federated, guard, issuer, environ))


# -- reading URLs ---------------------------------------------------------------------------------------------------

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,220}[A-Za-z0-9]")
_ACCOUNT = re.compile(r"[a-z0-9]{3,24}")
_CONTAINER = re.compile(r"[a-z0-9](-?[a-z0-9]){2,62}|\$web|\$root")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_PROVIDER = re.compile(
    r"projects/[a-z0-9:.-]+/locations/[a-z0-9-]+/workloadIdentityPools/[a-z0-9-]{1,32}/providers/[a-z0-9-]{1,32}"
)
_MEMBERSHIP = re.compile(r"projects/[a-z0-9:.-]+/locations/[a-z0-9-]+/memberships/[a-z0-9-]{1,63}")
_USER = re.compile(r"//[^/]*@")
_NO_PREFIX = re.compile(r"[\x00-\x20\x7f\\?#%]")
_MAX_PREFIX_BYTES = 900
"""An object's name has 1,024 bytes; the documents' own paths need some of them."""


def _directory(scheme: str, url: str) -> Place:
    host, slash, path = url.removeprefix(f"{scheme}:").removeprefix("//").partition("/")
    if not url.startswith(f"{scheme}://") or host not in ("", "localhost") or not slash:
        raise _wrong(scheme, url, "it names no absolute path of this machine")
    if "?" in path or "#" in path or "\0" in unquote(path):
        raise _wrong(scheme, url, "it holds '?', '#' or NUL, which are to be percent-encoded")
    whole = posixpath.normpath("/" + unquote(path))
    if whole == "/":
        raise _wrong(scheme, url, "the root of the file system is no directory to publish to")
    return Place(scheme, (whole,), f"{scheme}://{quote(whole)}")


def _bucket(scheme: str, url: str) -> Place:
    [bucket, *rest] = _segments(scheme, url)
    if not _BUCKET.fullmatch(bucket):
        raise _wrong(scheme, url, "it names no bucket")
    return _object_place(scheme, (bucket,), rest, url)


def _container(scheme: str, url: str) -> Place:
    [account, *rest] = _segments(scheme, url)
    if not _ACCOUNT.fullmatch(account):
        raise _wrong(scheme, url, "it names no storage account (3 to 24 of a-z and 0-9)")
    if not rest or not _CONTAINER.fullmatch(rest[0]):
        raise _wrong(scheme, url, "it names no container of the account")
    return _object_place(scheme, (account, rest[0]), rest[1:], url)


def _segments(scheme: str, url: str) -> list[str]:
    if not url.startswith(f"{scheme}://"):
        raise _wrong(scheme, url, "two slashes follow the colon")
    return url.removeprefix(f"{scheme}://").split("/")


def _object_place(scheme: str, parts: tuple[str, ...], rest: list[str], url: str) -> Place:
    if rest and rest[-1] == "":
        rest = rest[:-1]  # one slash at the end says nothing
    prefix = "/".join(rest)
    if any(segment in ("", ".", "..") for segment in rest):
        raise _wrong(scheme, url, "its prefix has an empty part, '.' or '..'")
    if _NO_PREFIX.search(prefix) or len(prefix.encode(errors="replace")) > _MAX_PREFIX_BYTES:
        raise _wrong(scheme, url, "its prefix is too long or holds a space or one of \\ ? # %: it is written as it is")
    name = "/".join((*parts, *rest))
    return Place(scheme, (*parts, prefix), f"{scheme}://{name}")


def _resource(pattern: re.Pattern[str]) -> Callable[[str, str], Place]:
    def parse(scheme: str, url: str) -> Place:
        resource = url.removeprefix(f"{scheme}:").removeprefix("//").removeprefix("iam.googleapis.com/")
        resource = resource.removeprefix("gkehub.googleapis.com/").strip("/")
        if not pattern.fullmatch(resource):
            raise _wrong(scheme, url, "it is no full resource name")
        return Place(scheme, (resource,), f"{scheme}:{resource}")

    return parse


def _config_map(scheme: str, url: str) -> Place:
    namespace, slash, name = url.removeprefix(f"{scheme}:").removeprefix("//").partition("/")
    if not slash or not _LABEL.fullmatch(namespace) or not _SUBDOMAIN.fullmatch(name):
        raise _wrong(scheme, url, "it is no namespace and name of a ConfigMap")
    return Place(scheme, (namespace, name), f"{scheme}:{namespace}/{name}")


def _wrong(scheme: str, url: str, problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"the target {_shown(url)!r} cannot be used: {problem}",
        code="config-invalid",
        hint=f"for example {SCHEMES[scheme].example}",
    )


def _shown(url: str) -> str:
    """Without what may be a password or a signature, which neither belongs there nor in a message."""
    plain, mark, _ = url.partition("?")
    return _USER.sub("//…@", plain)[:300] + (f"{mark}…" if mark else "")


# -- opening stores ---------------------------------------------------------------------------------------------------


def _open_directory(context: _Context) -> Store:
    from wif.edges.stores.directory import DirectoryStore  # noqa: PLC0415

    return DirectoryStore(context.place.parts[0])


def _open_objects(context: _Context) -> Store:
    from wif.edges.stores.object_kinds import object_store  # noqa: PLC0415

    return object_store(context.settings, context.place, federated=context.federated, environ=context.environ)


def _open_google(context: _Context) -> Store:
    from wif.edges.stores.google import google_store  # noqa: PLC0415

    return google_store(
        context.settings,
        context.place,
        federated=context.federated,
        guard=context.guard,
        issuer=context.issuer,
        environ=context.environ,
    )


def _open_config_map(context: _Context) -> Store:
    if context.kube is None:
        raise ConfigurationError(
            f"{context.place.name} is in a cluster, but no cluster is named",
            code="config-missing",
            hint="pass --kubeconfig, or run it in the cluster",
        )
    from wif.edges.stores.configmap import ConfigMapStore  # noqa: PLC0415

    namespace, name = context.place.parts
    return ConfigMapStore(context.kube, namespace, name)


SCHEMES: Mapping[str, _Scheme] = {
    "file": _Scheme("file:///srv/issuer", _directory, _open_directory),
    "s3": _Scheme("s3://bucket/prefix", _bucket, _open_objects),
    "gs": _Scheme("gs://bucket/prefix", _bucket, _open_objects),
    "az": _Scheme("az://account/container/prefix", _container, _open_objects),
    "gcp-provider": _Scheme(
        "gcp-provider:projects/123456789012/locations/global/workloadIdentityPools/my-pool/providers/on-prem",
        _resource(_PROVIDER),
        _open_google,
    ),
    "gke-fleet": _Scheme(
        "gke-fleet:projects/my-project/locations/global/memberships/on-prem", _resource(_MEMBERSHIP), _open_google
    ),
    "configmap": _Scheme("configmap:wif-system/issuer", _config_map, _open_config_map),
}
"""Every kind of target, by the scheme of its URL."""
