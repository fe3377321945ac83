"""What contradicts itself in the section ``sidecar`` of ``wif.yaml``, where each member is right by itself."""

from __future__ import annotations

__all__ = ["contradictions"]

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wif.config.sidecar import Cloud, Identity, SidecarSettings

Clouds = Mapping[str, str | None]
"""The cloud of every name that is given, None where the settings of that name do not say it."""


def contradictions(
    settings: SidecarSettings, clouds: Clouds, files: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[tuple[str, str]]:
    """Place and sentence of everything that is wrong.

    Args:
        settings: what could be read; a member that is wrong has its default.
        clouds: of all names, also of those whose identity is wrong: what refers to it is not wrong for that.
        files: place and right members of each.
    """
    yield from _wrong_defaults(settings, clouds)
    yield from _wrong_interfaces(settings, clouds)
    for place, file in files:
        yield from ((place, what) for what in _wrong_file(file, clouds))
    yield from _wrong_paths([file for _, file in files], settings.secret_file)
    yield from _wrong_addresses(settings)


def _wrong_defaults(settings: SidecarSettings, clouds: Clouds) -> Iterator[tuple[str, str]]:
    for cloud, name in settings.default.items():
        if name not in clouds:
            yield f"default.{cloud}", f"is {name!r}, which is none of the identities"
        elif clouds[name] not in (None, cloud):
            yield f"default.{cloud}", f"is {name!r}, which is an identity of {clouds[name]}"
    asks_without_name: Mapping[Cloud, str | None] = {
        "gcp": ("gce_metadata" if settings.gce_metadata else None),
        "azure": ("imds" if settings.imds else "app_service" if settings.serves_app_service else None),
    }
    for cloud, interface in asks_without_name.items():
        names = [name for name, of in clouds.items() if of == cloud]
        if interface is not None and len(names) > 1 and cloud not in settings.default:
            listed = ", ".join(sorted(names))
            yield f"default.{cloud}", f"is missing: a request of {interface} may name nobody, and there are {listed}"


def _wrong_interfaces(settings: SidecarSettings, clouds: Clouds) -> Iterator[tuple[str, str]]:
    there = set(clouds.values())
    on: Mapping[str, tuple[bool | None, Cloud]] = {
        "aws_container": (settings.aws_container, "aws"),
        "app_service": (settings.app_service, "azure"),
        "gce_metadata": (settings.gce_metadata, "gcp"),
        "imds": (settings.imds, "azure"),
    }
    for name, (is_on, cloud) in on.items():
        if is_on and not there & {cloud, None}:
            yield name, f"is on, but no identity is of {cloud}"
    if settings.identities and not settings.served and len(settings.identities) == len(clouds):
        what = (
            "are there, but nobody gets anything of them: switch an interface on (gce_metadata for gcp) or name files"
        )
        yield "identities", what
    if settings.gce_metadata:
        yield from _twice("identities", "the service account", _values(settings.of_cloud("gcp"), "service_account"))
    if settings.serves_app_service or settings.imds:
        yield from _twice("identities", "the client id", _values(settings.of_cloud("azure"), "client_id"))


def _values(identities: Mapping[str, Identity], member: str) -> Iterator[str]:
    """Of a member that is compared without regard to case."""
    return (value.lower() for each in identities.values() if (value := getattr(each, member)) is not None)


_KIND_CLOUD: Mapping[str, str | None] = {
    "aws-credentials": "aws",
    "gcp-access-token": "gcp",
    "azure-token": "azure",
    "federated-token": None,
}


_SHARED = "aws-credentials"
_PROFILE = re.compile(r"[A-Za-z0-9_.@/+=-]{1,128}")


def _wrong_file(file: Mapping[str, Any], clouds: Clouds) -> Iterator[str]:
    name, kind = file.get("identity"), file.get("kind")
    if name is not None and name not in clouds:
        yield f"has the identity {name!r}, which is none of the identities"
    elif kind is not None and name is not None:
        cloud, wanted = clouds[name], _KIND_CLOUD[kind]
        if cloud is not None and wanted not in (None, cloud):
            yield f"has the identity {name!r}, which is of {cloud}, and {kind} is for {wanted}"
    if kind is not None and ("scope" in file) != (kind == "azure-token"):
        yield "must have a scope where it is of the kind azure-token, RESOURCE/.default, and only there"
    if not _PROFILE.fullmatch(file.get("profile", "default")):
        yield "has a profile with other characters than letters, digits and _.@/+=-"


def _wrong_paths(files: Sequence[Mapping[str, Any]], secret_file: str) -> Iterator[tuple[str, str]]:
    """Only AWS' shared credentials have room for several identities in one file: each in a profile of its own."""
    by_path: dict[str, list[Mapping[str, Any]]] = {}
    for file in files:
        by_path.setdefault(file.get("path", ""), []).append(file)
    for path, sharing in by_path.items():
        if path and path == secret_file:
            yield "files:", f"the path {path!r} is that of secret_file"
        if not path or len(sharing) == 1:
            continue
        if any(file.get("kind", _SHARED) != _SHARED for file in sharing):
            yield "files:", f"the path {path!r} is there {len(sharing)} times; only {_SHARED} may share a file"
            continue
        profiles = (file.get("profile", "default") for file in sharing)
        yield from _twice("files", f"of {path!r} the profile", profiles)
        if len({file.get("mode", 0o600) for file in sharing}) > 1:
            yield "files:", f"the path {path!r} has several modes"


def _wrong_addresses(settings: SidecarSettings) -> Iterator[tuple[str, str]]:
    listen = (("listen", each) for each in settings.listen)
    for place, address in (*listen, ("health_address", settings.health_address)):
        host, _, port = address.rpartition(":")
        numbers = host.split(".")
        is_ipv4 = all(part.isdigit() for part in numbers)
        if int(port) > 65_535 or (is_ipv4 and any(int(part) > 255 for part in numbers)):
            yield place, f"is {address!r}, which is no address"
    taken = [address for address in settings.listen if not _takes_any(address)]
    yield from _twice("listen", "the address", taken)
    port = settings.health_address.rpartition(":")[2]
    if any(int(address.rpartition(":")[2]) == int(port) for address in taken):
        yield "health_address", f"has the port {port}, which listen has: health is not served where credentials are"


def _takes_any(address: str) -> bool:
    return int(address.rpartition(":")[2]) == 0


def _twice(place: str, what: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"{place}:", f"{what} {value!r} is there {count} times"
