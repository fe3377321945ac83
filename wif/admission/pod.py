"""What is read of a pod: names, paths and the few members that decide; everything else is skipped while decoding.

The patch is made for the raw JSON, so nothing that is not read here can be lost.
"""

from __future__ import annotations

__all__ = [
    "Container",
    "EnvName",
    "EnvSource",
    "Metadata",
    "MountPoint",
    "Pod",
    "PodSpec",
    "VolumeName",
    "one_path",
    "read_pod",
]

import posixpath

import msgspec

from wif.errors import ProtocolError


class EnvName(msgspec.Struct, frozen=True, gc=False):
    """An environment variable, by its name."""

    name: str = ""


class EnvSource(msgspec.Struct, frozen=True, gc=False):
    """Variables from elsewhere; that there are some is all that counts."""


class MountPoint(msgspec.Struct, frozen=True, gc=False):
    """A volume mount: which volume, where."""

    name: str = ""
    path: str = msgspec.field(default="", name="mountPath")


class VolumeName(msgspec.Struct, frozen=True, gc=False):
    """A volume, by its name."""

    name: str = ""


class _User(msgspec.Struct, frozen=True, rename="camel", gc=False):
    run_as_user: int | None = None


class Container(msgspec.Struct, frozen=True, rename="camel"):
    """A container of any of the three lists."""

    name: str = ""
    env: tuple[EnvName, ...] | None = None
    env_from: tuple[EnvSource, ...] | None = None
    volume_mounts: tuple[MountPoint, ...] | None = None
    restart_policy: str | None = None
    """``Always`` makes an init container a native sidecar."""
    security_context: _User | None = None


class _SecurityContext(msgspec.Struct, frozen=True, rename="camel"):
    fs_group: int | None = None
    run_as_user: int | None = None


class _OperatingSystem(msgspec.Struct, frozen=True):
    name: str = ""


class PodSpec(msgspec.Struct, frozen=True, rename="camel"):
    """The members of a pod's ``spec`` that decide."""

    service_account_name: str | None = None
    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None
    ephemeral_containers: tuple[Container, ...] | None = None
    volumes: tuple[VolumeName, ...] | None = None
    node_selector: dict[str, str] | None = None
    os: _OperatingSystem | None = None
    host_network: bool | None = None
    host_pid: bool | None = msgspec.field(default=None, name="hostPID")
    share_process_namespace: bool | None = None
    resources: dict[str, msgspec.Raw] | None = None
    security_context: _SecurityContext | None = None


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The members of a pod's ``metadata`` that decide."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    annotations: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Pod(msgspec.Struct, frozen=True):
    """A pod."""

    spec: PodSpec
    metadata: Metadata | None = None


_DECODE = msgspec.json.Decoder(Pod).decode


def read_pod(raw: bytes | msgspec.Raw) -> Pod:
    """Read a pod.

    Raises:
        ProtocolError: review-invalid: not a pod, or nested too deep.
    """
    try:
        return _DECODE(raw)
    except RecursionError:
        reason = "it is nested too deep"
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = str(error)
    raise ProtocolError(f"the object under review is not a Pod: {reason}", code="review-invalid")


def one_path(path: str) -> str:
    """A mount path as the container runtime reads it: two spellings of one path are one mount point."""
    if path[-1:] == "/" or "//" in path or "/." in path:
        return "/" + posixpath.normpath(path).lstrip("/")
    return path
