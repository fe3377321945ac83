"""Making object stores: what S3, Google Cloud Storage and Azure Blob differ in, checked before any request."""

from __future__ import annotations

__all__ = ["object_store"]

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from wif.clouds.aws_regions import partition_of_region
from wif.edges.files import read_bounded
from wif.edges.stores.chains import aws_chain, azure_chain, google_chain
from wif.edges.stores.credentials import GOOGLE_SCOPES, Chain, Federated, Identities
from wif.edges.stores.objects import LIMITS, Conditions, ObjectStore, StoreLimits
from wif.edges.tls import CA_VARIABLES
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.edges.stores.opening import Place, TargetLike

_PROVIDED_FOR = timedelta(seconds=60)
"""obstore asks its provider before every request where less than four minutes are left, so a credential that has
been refused or renewed is never used again."""

_MAX_CA_BYTES = 1024 * 1024
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Setup(NamedTuple):
    settings: TargetLike
    place: Place
    endpoint: str | None
    environ: Mapping[str, str]


class _Kind(NamedTuple):
    cloud: str
    tag: Literal["e_tag", "version"]
    """What a conditional write names."""
    endpoints: tuple[str, ...]
    """Variables that name another endpoint, strongest first."""
    shows_secret: bool
    """Whether who reads a request can use its secret, so that plain http is for loopback alone."""
    chain: Callable[[Place, Mapping[str, str]], Chain]
    make: Callable[[_Setup, dict[str, Any]], Any]


def object_store(
    settings: TargetLike,
    place: Place,
    *,
    federated: Federated | None = None,
    environ: Mapping[str, str] = os.environ,
    limits: StoreLimits = LIMITS,
) -> ObjectStore:
    """The store of ``s3:``, ``gs:`` or ``az:``; nothing is sent yet.

    Raises:
        ConfigurationError: config-invalid, file-unusable, extra-missing.
    """
    kind = _KINDS[place.scheme]
    endpoint = settings.endpoint or next((environ[name] for name in kind.endpoints if environ.get(name)), None)
    if endpoint is not None:
        _check_endpoint(place.name, endpoint, allow_http=settings.allow_http, shows_secret=kind.shows_secret)
    identities = Identities(
        kind.cloud,
        target=place.name,
        chain=kind.chain(place, environ),
        federated=federated,
        second_way_in=settings.second_way_in,
    )
    try:
        import obstore  # noqa: F401, PLC0415  # an optional extra, and 34 ms
    except ImportError:
        raise ConfigurationError(
            f"{place.name}: obstore is not installed, and object stores need it",
            code="extra-missing",
            hint="pip install 'wif[publish]'",
        ) from None
    options = {
        "client_options": {
            "allow_http": settings.allow_http,
            "connect_timeout": timedelta(seconds=limits.connect_seconds),
            "timeout": timedelta(seconds=limits.request_seconds),
            "user_agent": "wif",
            **_authorities(place.name, settings.ca_file, kind.cloud, environ),
        },
        "retry_config": {
            "max_retries": limits.retries,
            "retry_timeout": timedelta(seconds=limits.retry_seconds),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
        },
        "credential_provider": _provider(identities),
    }
    return ObjectStore(
        kind.make(_Setup(settings, place, endpoint, environ), options),
        name=place.name,
        cloud=kind.cloud,
        tag=kind.tag,
        identities=identities,
        single_writer=settings.single_writer,
        conditions=_conditions(place.scheme, endpoint),
        limits=limits,
    )


_known: dict[tuple[str, str], Conditions] = {}
_MAX_KNOWN = 64


def _conditions(scheme: str, endpoint: str | None) -> Conditions:
    """The clouds keep their conditions; what else speaks like them is tried, once in a process."""
    if endpoint is None:
        return Conditions(proven=True)
    if len(_known) >= _MAX_KNOWN:
        _known.clear()
    return _known.setdefault((scheme, endpoint), Conditions())


def _provider(identities: Identities) -> Callable[[], dict[str, Any]]:
    def provide() -> dict[str, Any]:
        return {**identities.current().secrets, "expires_at": datetime.now(UTC) + _PROVIDED_FOR}

    return provide


def _check_endpoint(name: str, endpoint: str, *, allow_http: bool, shows_secret: bool) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ConfigurationError(
            f"{name}: the endpoint at {parts.hostname or 'no host'} cannot be used: expected https://host[:port][/path]",
            code="config-invalid",
            hint="correct the endpoint of this target, or the variable that names it",
        )
    if parts.scheme == "https":
        return
    if not allow_http:
        raise ConfigurationError(
            f"{name}: the endpoint {endpoint} is plain http, expected https",
            code="config-invalid",
            hint="use https; for a test server on this machine set allow_http",
        )
    if shows_secret and parts.hostname not in _LOOPBACK:
        raise ConfigurationError(
            f"{name}: the endpoint {endpoint} is plain http, and requests of this kind show their secret on the way",
            code="config-invalid",
            hint="use https; plain http is for this machine's own addresses",
        )


def _authorities(name: str, ca_file: str | None, cloud: str, environ: Mapping[str, str]) -> dict[str, bytes]:
    """Trusted besides the system's: the target's own, else what the cloud's SDKs read from the environment."""
    path = ca_file or next((environ[variable] for variable in CA_VARIABLES[cloud] if environ.get(variable)), None)
    if path is None:
        return {}
    try:
        pem = read_bounded(path, _MAX_CA_BYTES)
    except OSError as error:
        raise ConfigurationError(
            f"{name}: the CA file {path} cannot be read: {error.strerror}", code="file-unusable"
        ) from error
    if b"-----BEGIN CERTIFICATE-----" not in pem or len(pem) > _MAX_CA_BYTES:
        raise ConfigurationError(
            f"{name}: the CA file {path} holds no certificates in PEM form, or more than {_MAX_CA_BYTES} bytes",
            code="file-unusable",
        )
    return {"root_certificate": pem}


def _s3(setup: _Setup, options: dict[str, Any]) -> Any:
    from obstore.store import S3Store  # noqa: PLC0415

    bucket, prefix = setup.place.parts
    named = (setup.settings.region, setup.environ.get("AWS_REGION"), setup.environ.get("AWS_DEFAULT_REGION"))
    region = next(filter(None, named), "us-east-1")
    endpoint = setup.endpoint or _s3_endpoint(setup.place.name, region)
    config: Any = {
        "region": region,
        "endpoint": endpoint,
        "aws_endpoint_url_s3": endpoint,  # what AWS_ENDPOINT_URL_S3 sets; it would win over the line before
        "skip_signature": False,
        "disable_bulk_delete": True,
    }
    return S3Store(bucket, prefix=prefix or None, config=config, **options)


def _s3_endpoint(name: str, region: str) -> str:
    partition = partition_of_region(region)  # obstore knows one suffix for all partitions
    if partition is None:
        raise ConfigurationError(
            f"{name}: {region!r} is not a region of AWS",
            code="config-invalid",
            hint="correct the region of this target or AWS_REGION; another store than S3 needs an endpoint too",
        )
    return f"https://s3.{region}.{partition.suffix}"


def _gs(setup: _Setup, options: dict[str, Any]) -> Any:
    from obstore.store import GCSStore  # noqa: PLC0415

    bucket, prefix = setup.place.parts
    config: Any = {"skip_signature": False, "base_url": setup.endpoint or "https://storage.googleapis.com"}
    return GCSStore(bucket, prefix=prefix or None, config=config, **options)


def _az(setup: _Setup, options: dict[str, Any]) -> Any:
    from obstore.store import AzureStore  # noqa: PLC0415

    account, container, prefix = setup.place.parts
    config: Any = {
        "account_name": account,
        "skip_signature": False,
        "use_emulator": False,
        "endpoint": setup.endpoint or f"https://{account}.blob.core.windows.net",
    }
    return AzureStore(container, prefix=prefix or None, config=config, **options)


_KINDS: Mapping[str, _Kind] = {
    "s3": _Kind(
        cloud="aws",
        tag="e_tag",
        endpoints=("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        shows_secret=False,
        chain=lambda place, environ: aws_chain(place.name, environ),
        make=_s3,
    ),
    "gs": _Kind(
        cloud="gcp",
        tag="version",
        endpoints=(),
        shows_secret=True,
        chain=lambda place, _environ: google_chain(place.name, GOOGLE_SCOPES["gs"]),
        make=_gs,
    ),
    "az": _Kind(
        cloud="azure",
        tag="e_tag",
        endpoints=("AZURE_STORAGE_SERVICE_ENDPOINT",),
        shows_secret=True,
        chain=lambda place, environ: azure_chain(place.name, place.parts[0], environ),
        make=_az,
    ),
}
