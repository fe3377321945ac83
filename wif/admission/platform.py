"""The platform's ConfigMap: defaults of the whole cluster, and annotations for ServiceAccounts by namespace and name.

Its key ``config.yaml``::

    defaults:
      azure_tenant_id: 11111111-2222-3333-4444-555555555555
    serviceAccounts:
      - namespace: team-*
        serviceAccount: "*"
        enforce: true
        annotations:
          wif.internal/aws.role-arn: arn:aws:iam::111122223333:role/team

or ``config``: the JSON map of the EKS webhook, unchanged. The first entry that fits a ServiceAccount counts.
"""

from __future__ import annotations

__all__ = ["FIXED_SETTINGS", "Platform", "PlatformEntry", "read_platform"]

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from wif.admission.accounts import ServiceAccount
from wif.admission.annotation_keys import cloud_of, clouds_given
from wif.admission.dialects import dialects
from wif.admission.dialects.native_fields import quoted
from wif.config.webhook import WebhookSettings, load_webhook
from wif.errors import ConfigurationError

FIXED_SETTINGS = ("compat", "dialects", "prefix", "gcp_prefix", "aws_prefix", "azure_prefix")
"""Settings that no defaults of the platform change: what is watched, cached and registered follows from them."""

_KEYS = ("config.yaml", "config")
_ORIGIN = "the platform's ConfigMap"

_Text = Annotated[str, Meta(min_length=1, max_length=4096)]
_Namespace = Annotated[str, Meta(pattern=r"^[a-z0-9*]([a-z0-9*-]*[a-z0-9*])?$", max_length=63)]
_Name = Annotated[str, Meta(pattern=r"^(\*|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)$", max_length=253)]


class _Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    namespace: _Namespace
    service_account: _Name
    enforce: bool = False
    annotations: Annotated[dict[str, _Text], Meta(min_length=1)]


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    defaults: dict[str, Any] = {}
    service_accounts: tuple[_Entry, ...] = ()


class _EksEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    role_arn: _Text = msgspec.field(name="RoleARN")
    audience: str = msgspec.field(name="Audience", default="")
    use_regional_sts: bool | None = msgspec.field(name="UseRegionalSTS", default=None)
    token_expiration: int = msgspec.field(name="TokenExpiration", default=0)


class PlatformEntry(NamedTuple):
    """What the platform says of some ServiceAccounts."""

    namespace: str
    """As it is, or with ``*`` for any letters."""
    service_account: str
    """As it is, or ``*`` for every one."""
    enforce: bool
    """It stands in place of what the ServiceAccount says of the same clouds; else it fills what that leaves out."""
    annotations: Mapping[str, str]


class _Pattern(NamedTuple):
    number: int
    fits: Callable[[str], bool]
    entry: PlatformEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """A ConfigMap that was read. Two are equal where its content and the settings below it were."""

    generation: str
    """Another one wherever a reading may be another one: a key for caches."""
    settings: WebhookSettings = field(compare=False)
    """With the platform's defaults."""
    entries: tuple[PlatformEntry, ...] = field(compare=False)
    _exact: Mapping[tuple[str, str], int] = field(compare=False, repr=False)
    """The first entry without ``*`` for a namespace and a name."""
    _patterns: tuple[_Pattern, ...] = field(compare=False, repr=False)

    def effective(self, account: ServiceAccount, settings: WebhookSettings) -> tuple[ServiceAccount, WebhookSettings]:
        """A ServiceAccount and settings as the platform wants them.

        Args:
            settings: those that the ConfigMap was read with; the platform's defaults are put over them.
        """
        entry = self.entry_for(account.namespace, account.name)
        if entry is None:
            return account, self.settings
        merged = _merged(account.annotations, entry, settings)
        return ServiceAccount(account.namespace, account.name, account.uid, merged), self.settings

    def entry_for(self, namespace: str, name: str) -> PlatformEntry | None:
        """The first entry that fits."""
        number = self._exact.get((namespace, name), len(self.entries))
        for pattern in self._patterns:
            if pattern.number > number:
                break
            if pattern.entry.service_account in ("*", name) and pattern.fits(namespace):
                return pattern.entry
        return self.entries[number] if number < len(self.entries) else None


def read_platform(data: Mapping[str, str], settings: WebhookSettings) -> Platform:
    """Read a ConfigMap's ``data``.

    Raises:
        ConfigurationError: config-invalid, naming key and member; config-conflict.
    """
    strange = sorted(set(data) - set(_KEYS))
    if strange or len(data) > 1:
        raise _invalid(
            f"it has the keys {', '.join(sorted(data))[:200]!r}", f"expected one of {' and '.join(_KEYS)}, and no other"
        )
    document = _Document()
    if "config.yaml" in data:
        document = _document(data["config.yaml"])
    effective = _with_defaults(settings, document.defaults)
    entries = [
        PlatformEntry(entry.namespace, entry.service_account, entry.enforce, entry.annotations)
        for entry in document.service_accounts
    ]
    for number, entry in enumerate(entries):
        _check(entry, effective, f"config.yaml: $.serviceAccounts[{number}]")
    if "config" in data:
        entries = _eks_entries(data["config"], settings)
    content = msgspec.json.encode((sorted(data.items()), effective))
    exact: dict[tuple[str, str], int] = {}
    patterns = []
    for number, entry in enumerate(entries):
        if "*" in entry.namespace or entry.service_account == "*":
            patterns.append(_Pattern(number, _fitter(entry.namespace), entry))
        else:
            exact.setdefault((entry.namespace, entry.service_account), number)
    return Platform(
        generation=hashlib.sha256(content).hexdigest()[:16],
        settings=effective,
        entries=tuple(entries),
        _exact=exact,
        _patterns=tuple(patterns),
    )


def _merged(own: Mapping[str, str], entry: PlatformEntry, settings: WebhookSettings) -> dict[str, str]:
    """Whoever speaks of a cloud speaks of it alone; what is about no cloud goes by its key."""
    if entry.enforce:
        spoken = {cloud_of(key, settings) for key in entry.annotations} - {None}
        kept = {key: value for key, value in own.items() if cloud_of(key, settings) not in spoken}
        return {**kept, **entry.annotations}
    given = clouds_given(own, settings)
    filling = {key: value for key, value in entry.annotations.items() if cloud_of(key, settings) not in given}
    general = {key: value for key, value in own.items() if cloud_of(key, settings) is None}
    return {**own, **filling, **general}


# -- reading ---------------------------------------------------------------------------------------------------------


def _invalid(what: str, hint: str = "") -> ConfigurationError:
    hint = hint or "correct it; what was read before stays in force"
    return ConfigurationError(f"{_ORIGIN}: {what}", code="config-invalid", hint=hint)


def _document(text: str) -> _Document:
    from wif.admission.strict_yaml import load_yaml  # noqa: PLC0415 - only where there is such a ConfigMap

    value = load_yaml(text, f"{_ORIGIN}: config.yaml")
    try:
        return msgspec.convert({} if value is None else value, _Document)
    except msgspec.ValidationError as error:
        raise _invalid(f"config.yaml: {error}") from error


def _with_defaults(settings: WebhookSettings, defaults: Mapping[str, Any]) -> WebhookSettings:
    fixed = [name for name in FIXED_SETTINGS if name in defaults]
    if fixed:
        raise _invalid(
            f"config.yaml: $.defaults sets {', '.join(fixed)}",
            "the webhook's own settings alone say this: flags or wif.yaml",
        )
    return load_webhook({**msgspec.to_builtins(settings), **defaults}, origin=f"{_ORIGIN}: config.yaml: $.defaults")


def _check(entry: PlatformEntry, settings: WebhookSettings, where: str) -> None:
    """What would refuse every pod, or do nothing, is found when it is written."""
    for key in entry.annotations:
        if not key.startswith(settings.prefixes):
            raise _invalid(
                f"{where}: annotation {quoted(key)} is of no dialect that is on",
                f"they begin {', '.join(settings.prefixes)}",
            )
    for _, dialect in dialects(settings):
        for finding in dialect.check(entry.annotations, settings):
            if finding.level == "deny" or finding.rule == "annotation-unknown":
                raise _invalid(f"{where}: {finding.message}", finding.hint)


def _eks_entries(text: str, settings: WebhookSettings) -> list[PlatformEntry]:
    """The JSON map of the EKS webhook: names are looked up before patterns, whatever their order."""
    if "eks" not in settings.dialects:
        raise _invalid("it has the key config, which is for the dialect eks, and that is off", "use config.yaml")
    try:
        rows = msgspec.json.decode(text, type=dict[str, _EksEntry])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _invalid(f"config: {error}") from error
    entries = []
    for key, row in rows.items():
        namespace, _, name = key.partition("/")
        annotations = {
            "role-arn": row.role_arn,
            "audience": row.audience,
            "sts-regional-endpoints": "" if row.use_regional_sts is None else str(row.use_regional_sts).lower(),
            "token-expiration": str(row.token_expiration) if row.token_expiration else "",
        }
        said = {f"{settings.aws_prefix}/{key}": value for key, value in annotations.items() if value}
        try:
            entry = msgspec.convert({"namespace": namespace, "serviceAccount": name, "annotations": said}, _Entry)
        except msgspec.ValidationError as error:
            hint = "write NAMESPACE/SERVICEACCOUNT; the namespace may have * in it"
            raise _invalid(f"config: the key {quoted(key)}: {error}", hint) from error
        entries.append(PlatformEntry(entry.namespace, entry.service_account, False, entry.annotations))
        _check(entries[-1], settings, f"config: {quoted(key)}")
    return sorted(entries, key=lambda entry: ("*" in entry.namespace, entry.namespace == "*"))


def _fitter(pattern: str) -> Callable[[str], bool]:
    """Whether a namespace fits; ``*`` stands for any letters, also for none."""
    first, *others = pattern.split("*")
    if not others:
        return pattern.__eq__
    *middle, last = others

    def fits(namespace: str) -> bool:
        if not namespace.startswith(first) or not namespace.endswith(last):
            return False
        place, end = len(first), len(namespace) - len(last)
        for part in middle:
            found = namespace.find(part, place, end)
            if found < 0:
                return False
            place = found + len(part)
        return place <= end

    return fits
