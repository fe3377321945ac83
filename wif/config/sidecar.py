"""The section ``sidecar`` of ``wif.yaml``: which identities are kept, and how programs get at their credentials.

::

    sidecar:
      identities:
        app:
          cloud: aws
          role_arn: arn:aws:iam::111122223333:role/app
        reports:
          cloud: gcp
          provider: projects/1234/locations/global/workloadIdentityPools/cluster/providers/main
      gce_metadata: true

Read strictly: an unknown member is an error. Everything that is wrong is reported at once, because who corrects a
pod's settings pays for each attempt with a restart.
"""

from __future__ import annotations

__all__ = [
    "CLOUDS",
    "AfterRefresh",
    "AwsIdentity",
    "AzureIdentity",
    "Cloud",
    "FileOutput",
    "GcpIdentity",
    "Identity",
    "IdentityCheck",
    "SidecarSettings",
    "load_sidecar",
    "sidecar_schema",
]

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from wif.config.sidecar_rules import contradictions
from wif.config.strict_reading import Problems, Reader, shown
from wif.errors import ConfigurationError

# No control character: what is in here comes into headers, paths and terminals. To Python ``$`` is also the place
# before a last line feed, so each pattern says that none follows.
_TEXT = r"^(?![\s\S]*[\x00-\x1f\x7f])"
_PATH = r"^/[^\x00-\x1f\x7f]+$(?!\n)"
_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$(?!\n)"
_LISTEN = r"^(localhost|127(\.[0-9]{1,3}){3}|\[::1\]):[0-9]{1,5}$(?!\n)"
_HEALTH_ADDRESS = r"^([A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$(?!\n)"
_HOST = r"^[^\s\x00-\x1f\x7f]+$(?!\n)"

_WORDS: Mapping[str, str] = {
    _TEXT: "a text without control characters",
    _PATH: "an absolute path",
    _NAME: "letters, digits, '.', '_' or '-', a letter or digit first and last",
    _LISTEN: "a loopback address and a port: 127.0.0.1:8787 or [::1]:8787",
    _HEALTH_ADDRESS: "HOST:PORT, or :PORT for every address",
    _HOST: "a host name",
}

_Text = Annotated[str, Meta(min_length=1, max_length=2048, pattern=_TEXT)]
_Path = Annotated[str, Meta(max_length=1024, pattern=_PATH)]
_Name = Annotated[str, Meta(max_length=63, pattern=_NAME)]
"""Of an identity: it is a part of a URL's path."""
_Listen = Annotated[str, Meta(max_length=64, pattern=_LISTEN)]
_HealthAddress = Annotated[str, Meta(max_length=320, pattern=_HEALTH_ADDRESS)]
_Host = Annotated[str, Meta(max_length=320, pattern=_HOST)]
_Seconds = Annotated[int, Meta(ge=1, le=43_200)]

Cloud = Literal["aws", "gcp", "azure"]
CLOUDS: tuple[Cloud, ...] = ("aws", "gcp", "azure")
"""In the order of documents and messages."""


class AwsIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="cloud", tag="aws"):
    """A role that is assumed with the subject token."""

    cloud: ClassVar[Cloud] = "aws"
    role_arn: _Text
    """The role."""
    region: _Text | None = None
    """Whose STS is asked; default ``AWS_REGION``, ``AWS_DEFAULT_REGION``, else the global endpoint."""
    session_name: _Text | None = None
    """As CloudTrail shows it; default namespace and pod of the token."""
    duration_seconds: Annotated[int, Meta(ge=900, le=43_200)] | None = None
    """Of the session, 900 to 43200; default what AWS gives, an hour."""
    token_file: _Path | None = None
    """The subject token, an absolute path; default the section's, then ``WIF_TOKEN_FILE``, then
    ``AWS_WEB_IDENTITY_TOKEN_FILE``."""
    audience: _Text | None = None
    """What the token's ``aud`` must be; without it the cloud decides."""


class GcpIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="cloud", tag="gcp"):
    """A principal of a workload identity pool, or a service account that it acts as."""

    cloud: ClassVar[Cloud] = "gcp"
    provider: _Text
    """``projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER``."""
    service_account: _Text | None = None
    """E-mail; without it access is direct, which has neither e-mail nor ID tokens."""
    project: _Text | None = None
    """The project's id, as the metadata server tells it; default ``GOOGLE_CLOUD_PROJECT``."""
    scopes: Annotated[tuple[_Text, ...], Meta(min_length=1)] = ("https://www.googleapis.com/auth/cloud-platform",)
    """Of tokens that are asked for without any."""
    lifetime_seconds: _Seconds | None = None
    """Of the service account's tokens; default what Google gives, an hour."""
    region: _Text | None = None
    """Of the token service's regional endpoint; default the global one."""
    universe_domain: _Text = "googleapis.com"
    """Google's own, or another universe's."""
    token_file: _Path | None = None
    """The subject token, an absolute path; default the section's, then ``WIF_TOKEN_FILE``."""
    audience: _Text | None = None
    """What the token's ``aud`` must be; without it the cloud decides."""

    @property
    def project_number(self) -> str | None:
        """The number of the pool's project, as the provider's name has it."""
        found = re.search(r"(?:^|/)projects/([0-9]{1,30})/", self.provider)
        return found and found[1]


class AzureIdentity(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="cloud", tag="azure"
):
    """An application or a user-assigned managed identity."""

    cloud: ClassVar[Cloud] = "azure"
    tenant_id: _Text
    """Of the directory."""
    client_id: _Text
    """Of the application or the managed identity; by it requests name the identity."""
    authority_host: _Text | None = None
    """Default ``AZURE_AUTHORITY_HOST``, else the public cloud."""
    scopes: tuple[_Text, ...] = ()
    """Tokens that are kept fresh before anybody asks, ``RESOURCE/.default``; default the authority's Azure Resource
    Manager."""
    token_file: _Path | None = None
    """The subject token, an absolute path; default the section's, then ``WIF_TOKEN_FILE``, then
    ``AZURE_FEDERATED_TOKEN_FILE``."""
    audience: _Text | None = None
    """What the token's ``aud`` must be; without it the cloud decides."""


Identity = AwsIdentity | GcpIdentity | AzureIdentity
_IDENTITIES: Mapping[str, type[AwsIdentity] | type[GcpIdentity] | type[AzureIdentity]] = {
    "aws": AwsIdentity,
    "gcp": GcpIdentity,
    "azure": AzureIdentity,
}


class AfterRefresh(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens when a file has been written anew: a command is run, or a process gets a signal."""

    command: tuple[_Text, ...] = ()
    """Program and arguments; no shell reads them."""
    signal: Literal["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH", "CONT"] | None = None
    """In place of a command: ``HUP``, ``INT``, ``QUIT``, ``TERM``, ``USR1``, ``USR2``, ``WINCH`` or ``CONT``."""
    process: _Text | None = None
    """Name of the processes that get the signal; seen only where the pod shares its process namespace. With
    ``pid_file`` the name that its process must have."""
    pid_file: _Path | None = None
    """File with the number of the process that gets the signal."""


class FileOutput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file for programs that only read files; rewritten before what it holds expires."""

    identity: _Name
    """The name of one of the identities."""
    kind: Literal["aws-credentials", "gcp-access-token", "azure-token", "federated-token"]
    """What is written: ``aws-credentials``, ``gcp-access-token``, ``azure-token``, or ``federated-token``, the subject
    token itself."""
    path: _Path
    """Absolute. Only ``aws-credentials`` may share a file, with a profile each."""
    mode: Annotated[int, Meta(ge=0o400, le=0o666)] = 0o600
    """In octal digits, ``0640`` or ``"0640"``: where another user's programs read it by their group."""
    scope: _Text | None = None
    """Of ``azure-token``: ``RESOURCE/.default``."""
    profile: _Text = "default"
    """Of ``aws-credentials``: the section of the file."""
    after: AfterRefresh | None = None
    """What happens when it has been written: a command, or a signal."""


class SidecarSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that ``wif sidecar serve`` and ``wif run`` are told."""

    identities: Annotated[Mapping[_Name, Identity], Meta(min_length=1)]
    """Name and fields of each. Nowhere named, those of the webhooks' variables."""
    default: Mapping[Cloud, _Name] = {}
    """By cloud, the identity used by requests that name none; a cloud's only identity is its default."""
    token_file: _Path | None = None
    """The subject token of identities that name none, an absolute path."""
    allow_hosts: tuple[_Host, ...] = ()
    """Hosts that may get subject tokens besides the clouds' own."""
    propagation_seconds: Annotated[int, Meta(ge=0, le=3600)] = 0
    """How long refusals that a trust just made may give are tried again within one exchange."""
    listen: Annotated[tuple[_Listen, ...], Meta(min_length=1, max_length=4)] = ("127.0.0.1:8787",)
    """Where credentials are served: loopback only."""
    health_address: _HealthAddress = ":8788"
    """Where ``/healthz``, ``/readyz`` and ``/metrics`` are; without a host every address."""
    aws_container: bool | None = None
    """AWS' container credentials; default where there is a role."""
    app_service: bool | None = None
    """Azure App Service's endpoint; default where there is an Azure identity."""
    gce_metadata: bool = False
    """Google's metadata server: it asks for no secret, every process of the pod may read it."""
    imds: bool = False
    """Azure's instance metadata: it asks for no secret, every process of the pod may read it."""
    secret_file: _Path = "/var/run/wif-sidecar/authorization"
    """Where the secret for AWS' container credentials is written."""
    secret_mode: Literal[0o440, 0o444] = 0o440
    """In octal digits: ``0440``, or ``0444`` for a pod without fsGroup."""
    files: tuple[FileOutput, ...] = ()
    """What is written for programs that only read files."""
    force_host_network: bool = False
    """Serve although the loopback address is the whole node's."""

    def of_cloud(self, cloud: Cloud) -> Mapping[str, Identity]:
        """The identities of one cloud."""
        return {name: identity for name, identity in self.identities.items() if identity.cloud == cloud}

    def default_name(self, cloud: Cloud) -> str | None:
        """The default identity of a cloud: the one named, or the only one."""
        named = self.default.get(cloud)
        if named is not None:
            return named
        only = tuple(self.of_cloud(cloud))
        return only[0] if len(only) == 1 else None

    @property
    def serves_aws_container(self) -> bool:
        """Whether AWS' container credentials are served."""
        return self._serves("aws") if self.aws_container is None else self.aws_container

    @property
    def serves_app_service(self) -> bool:
        """Whether Azure App Service's endpoint is served."""
        return self._serves("azure") if self.app_service is None else self.app_service

    @property
    def served(self) -> tuple[str, ...]:
        """The identities that some interface serves or some file holds: these make the sidecar ready."""
        clouds = {
            "aws": self.serves_aws_container,
            "gcp": self.gce_metadata,
            "azure": self.serves_app_service or self.imds,
        }
        in_files = {file.identity for file in self.files}
        return tuple(name for name, each in self.identities.items() if clouds[each.cloud] or name in in_files)

    def _serves(self, cloud: Cloud) -> bool:
        return any(identity.cloud == cloud for identity in self.identities.values())


IdentityCheck = Callable[[Identity, str | None], Iterable[str]]
"""Gets an identity and the section's ``token_file``; returns sentences about what the cloud's own rules have against
it. The rules stand above this module."""


def load_sidecar(
    values: object,
    *,
    origin: str = "the section sidecar",
    check: IdentityCheck = lambda *_: (),
    unread: Mapping[str, str] = {},
) -> SidecarSettings:
    """Read settings.

    Args:
        values: what the section holds.
        origin: for messages.
        check: the clouds' rules for an identity, so that what they say is reported together with the rest.
        unread: what is wrong with what does not stand in ``values``, by the member that it would have been; reported
            together with the rest as well.

    Raises:
        ConfigurationError: config-invalid; one, with everything that is wrong.
    """
    problems = Problems(_WORDS)
    problems.found += unread.values()
    draft = _Draft(problems)
    readers: dict[str, Reader] = {
        "identities": draft.read_identities,
        "default": draft.read_default,
        "files": draft.read_files,
        "secret_mode": draft.read_secret_mode,
    }
    knows_identities = True
    if "identities" in unread and isinstance(values, dict) and "identities" not in values:
        knows_identities = False
        values, readers["identities"] = {"identities": None, **values}, lambda *_: None
    right = problems.members(SidecarSettings, values, "", readers)
    if right is not None:
        settings = SidecarSettings(**({"identities": {}} | right))
        token_file = values.get("token_file") if isinstance(values, dict) else None
        for name, identity in settings.identities.items():
            for sentence in check(identity, token_file if isinstance(token_file, str) else None):
                problems.add(f"identities.{name}:", sentence)
        if knows_identities:
            for place, what in contradictions(settings, draft.clouds, draft.files):
                problems.add(place, what)
        if not problems.found:
            return settings
    error = ConfigurationError(f"{origin}: {problems}", code="config-invalid", hint=_HINT)
    if several := problems.lines():
        error.several = (f"{origin}: {several[0]}", *several[1:])
    raise error


_HINT = "correct it; every setting is in docs/reference/sidecar.md, below Settings"


class _Draft:
    """Reads the members that are read in parts."""

    def __init__(self, problems: Problems) -> None:
        self.clouds: dict[str, str | None] = {}
        """Of every name that is given, also where the identity is wrong: what refers to it is not wrong for that."""
        self.files: list[tuple[str, Mapping[str, Any]]] = []
        """Place and right members of every file, for the same reason."""
        self._problems = problems

    def read_identities(self, values: object, place: str) -> Mapping[str, Identity]:
        given = self._problems.names(values, place) or {}
        if values == {}:
            self._problems.add(place, "is empty: a sidecar without an identity has nothing to do")
        right = {}
        for name, value in given.items():
            where = f"{place}.{shown(name)[1:-1]}"
            self._problems.value(_Name, name, f"{place}: the name {shown(name)}")
            identity = self._identity(name, value, where)
            if identity is not None:
                right[name] = identity
        return right

    def _identity(self, name: str, value: object, place: str) -> Identity | None:
        self.clouds[name] = None
        members = self._problems.names(value, place)
        if members is None:
            return None
        cloud = members.get("cloud")
        if not isinstance(cloud, str) or cloud not in _IDENTITIES:
            said = f"is {shown(cloud)}" if "cloud" in members else "is missing"
            self._problems.add(f"{place}.cloud", f"{said}, expected aws, gcp or azure")
            return None
        self.clouds[name] = cloud
        rest = {member: each for member, each in members.items() if member != "cloud"}
        return self._problems.struct(_IDENTITIES[cloud], rest, place)

    def read_default(self, values: object, place: str) -> Mapping[Cloud, str]:
        right: dict[Cloud, str] = {}
        for name, value in (self._problems.names(values, place) or {}).items():
            cloud = next((each for each in CLOUDS if each == name), None)
            if cloud is None:
                self._problems.add(f"{place}.{shown(name)[1:-1]}", "is not known, expected aws, gcp or azure")
            elif (read := self._problems.value(_Name, value, f"{place}.{cloud}")) is not None:
                right[cloud] = read
        return right

    def read_files(self, values: object, place: str) -> tuple[FileOutput, ...]:
        if not isinstance(values, list | tuple):
            self._problems.add(place, f"is {shown(values)}, expected a list")
            return ()
        readers: dict[str, Reader] = {"after": self._read_after, "mode": self._read_mode}
        read = []
        for position, value in enumerate(values):
            where, before = f"{place}[{position}]", len(self._problems.found)
            right = self._problems.members(FileOutput, value, where, readers) or {}
            self.files.append((where, right))
            if len(self._problems.found) == before:
                read.append(FileOutput(**right))
        return tuple(read)

    def read_secret_mode(self, value: object, place: str) -> int | None:
        return self._mode(value, place, _is_secret_mode, "expected 0440 or 0444, in octal digits")

    def _read_mode(self, value: object, place: str) -> int | None:
        return self._mode(value, place, _is_file_mode, _FILE_MODE)

    def _mode(self, value: object, place: str, is_right: Callable[[int], bool], expected: str) -> int | None:
        """A mode as YAML reads it, ``0440``, or as a text of octal digits, since JSON has no such numbers."""
        number = value if type(value) is int else None
        if number is not None and is_right(number):
            return number
        digits = str(number) if number is not None else value if isinstance(value, str) else ""
        read = int(digits.removeprefix("0o"), 8) if _OCTAL.fullmatch(digits) else 0
        if is_right(read) and number is None:
            return read
        if is_right(read):
            self._problems.add(place, f'is {digits} without its leading zero: write 0{digits} or "0{digits}"')
        else:
            said = f"0{number:o}" if number is not None and 0 <= number <= 0o777 else shown(value)
            self._problems.add(place, f"is {said}, {expected}")
        return None

    def _read_after(self, value: object, place: str) -> AfterRefresh | None:
        if value is None:
            return None
        after = self._problems.struct(AfterRefresh, value, place)
        if after is None:
            return None
        has_receiver = after.process is not None or after.pid_file is not None
        if bool(after.command) == (after.signal is not None):
            self._problems.add(place, "must have either command or signal")
        elif has_receiver != (after.signal is not None):
            self._problems.add(place, "must have process or pid_file or both with a signal, and none without")
        else:
            return after
        return None


_OCTAL = re.compile(r"(0o?)?[0-7]{3}")
_SECRET_MODE_TEXT = r"^(0o?)?44[04]$(?!\n)"
_FILE_MODE_TEXT = r"^(0o?)?[46][046][04]$(?!\n)"
_FILE_MODE = "expected one that its owner reads, nobody executes and not everybody writes, in octal digits: 0640"


def _is_secret_mode(mode: int) -> bool:
    return mode in (0o440, 0o444)


def _is_file_mode(mode: int) -> bool:
    """Who may write a file that he may not read, does not exist: 400 in decimal would be such a mode."""
    return bool(mode & 0o400) and not mode & ~0o666 and not mode & 0o002 and mode & 0o060 != 0o020


def sidecar_schema() -> Mapping[str, Any]:
    """The JSON Schema of the section."""
    schema = msgspec.json.schema(SidecarSettings)
    right = [mode for mode in range(0o1000) if _is_file_mode(mode)]
    _set_mode(schema["$defs"]["SidecarSettings"], "secret_mode", _SECRET_MODE_TEXT, [0o440, 0o444])
    _set_mode(schema["$defs"]["FileOutput"], "mode", _FILE_MODE_TEXT, right)
    return schema


def _set_mode(struct: dict[str, Any], name: str, text: str, numbers: list[int]) -> None:
    """Both forms of a mode, and the default as it is written; a schema has no octal numbers."""
    default = struct["properties"][name]["default"]
    names = ", ".join(f"0{number:o}" for number in numbers)
    struct["properties"][name] = {
        "anyOf": [
            {"description": "Octal digits.", "type": "string", "pattern": text, "examples": [f"0{default:o}"]},
            {"description": f"As YAML reads {names}.", "enum": numbers},
        ],
        "default": f"0{default:o}",
    }
