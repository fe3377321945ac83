"""What the webhook would do to a pod, and why not more: one decision as values to show.

The decision is the webhook's own (:func:`wif.admission.mutation.mutate`); nothing is decided here a second time.
"""

from __future__ import annotations

__all__ = [
    "MADE_AT_ADMISSION",
    "AccountState",
    "Explanation",
    "GivenIdentity",
    "LeftOut",
    "SilentDialect",
    "explain",
]

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import msgspec

from wif.admission.accounts import ServiceAccount
from wif.admission.annotation_keys import clouds_given
from wif.admission.changes import Changes, changes, masked
from wif.admission.decision import Decision, Outcome
from wif.admission.dialects import dialects
from wif.admission.documents import PodDocument
from wif.admission.facts import pod_facts
from wif.admission.findings import Finding
from wif.admission.mutation import EffectiveSettings, Readings, accounts_wanted, mutate
from wif.admission.patch import apply_patch
from wif.admission.pod_secret import kept_secret
from wif.admission.record import record_key
from wif.admission.review import pod_review
from wif.admission.workloads import Workload
from wif.config.webhook import WebhookSettings
from wif.errors import ConfigurationError, ProtocolError

MADE_AT_ADMISSION = "(random, made at admission)"
"""In place of a pod's secret."""
_KEPT = "(the pod's own)"
"""In place of a secret that the pod has already."""

AccountState = Literal["known", "unknown", "absent"]
"""``unknown``: nobody said what its annotations are. ``absent``: it was looked for and is not there."""

Source = Literal["ServiceAccount", "platform", "pod", "settings"]
"""Whose word it is. ``pod``: a label of the pod alone, which says no identity: each container brings its own."""


class GivenIdentity(NamedTuple):
    """What the pod becomes in one cloud, and by whose word."""

    cloud: str
    identity: str
    dialect: str
    annotations: tuple[str, ...]
    """Those that say so, or the label; empty where the settings do."""
    source: Source


class LeftOut(NamedTuple):
    """A container that does not get what the others get."""

    container: str
    kind: str
    cloud: str
    dialect: str
    identity: str
    result: str
    """A value of :data:`wif.admission.decision.Result`."""
    reason: str


class SilentDialect(NamedTuple):
    """A dialect that gives this pod nothing."""

    dialect: str
    reason: str
    trigger: str
    """What would make it speak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything there is to say about one pod."""

    workload: Workload
    account_state: AccountState
    allowed: bool
    code: int
    message: str
    identities: tuple[GivenIdentity, ...]
    changes: Changes
    left_out: tuple[LeftOut, ...]
    silent: tuple[SilentDialect, ...]
    findings: tuple[Finding, ...]
    """About the pod: refusals, then warnings, then notes."""
    account_findings: tuple[Finding, ...]
    """What the check of the ServiceAccount's annotations says beyond that."""
    patch: tuple[Mapping[str, Any], ...]
    """RFC 6902; nothing of the pod's own environment is in it but NO_PROXY, where that is completed."""
    before: Mapping[str, Any]
    """The pod with its own values hidden; so is the next."""
    after: Mapping[str, Any]
    record: str
    """The annotation in which the webhook notes what it did."""


def explain(
    workload: Workload,
    accounts: Mapping[tuple[str, str], ServiceAccount | None],
    settings: WebhookSettings,
    platform: EffectiveSettings | None = None,
) -> Explanation:
    """Say what would become of a pod.

    Args:
        accounts: those that are known, by namespace and name; None for one that was looked for and is not there. One
            that is missing here is unknown: the pod is then looked at as if it had no annotations.

    Raises:
        ConfigurationError: config-invalid, where the pod cannot be read.
    """
    key = (workload.namespace, workload.account_name)
    state: AccountState = "unknown" if key not in accounts else "absent" if accounts[key] is None else "known"
    bare = ServiceAccount(*key, "")
    account = accounts.get(key) or bare
    try:
        review = pod_review(msgspec.json.encode(workload.pod), namespace=workload.namespace)
    except (ProtocolError, TypeError) as error:
        reason = error.message if isinstance(error, ProtocolError) else "it has names that are no text"
        raise ConfigurationError(
            f"{workload.origin}: {workload.text} cannot be read: {reason}",
            code="config-invalid",
            hint="correct the manifest; kubectl create --dry-run=server says more",
        ) from error
    known = {wanted: accounts.get(wanted) for wanted in accounts_wanted(review, settings)}
    if state == "unknown" and key in known:
        known[key] = bare
    readings = Readings()
    decision = mutate(
        review, known, settings, platform, readings=readings, new_secret=lambda: MADE_AT_ADMISSION, detailed=True
    )
    document = PodDocument(review.object)
    facts = pod_facts(document.pod, readings.vocabulary(settings))
    secret = kept_secret(readings.plan(account, facts, settings, platform), document)
    if secret is not None:
        workload = workload._replace(pod=msgspec.json.decode(_hidden(msgspec.json.encode(workload.pod), secret)))
        decision = msgspec.structs.replace(decision, patch=_hidden(decision.patch or b"[]", secret))
    effective = (account, settings) if platform is None else platform.effective(account, settings)
    return _explained(_Looked(workload, state, account, *effective), decision)


def _hidden(raw: bytes, secret: str) -> bytes:
    """JSON without the secret."""
    return raw.replace(f'"{secret}"'.encode(), f'"{_KEPT}"'.encode())


class _Looked(NamedTuple):
    """What the decision was about."""

    workload: Workload
    state: AccountState
    own: ServiceAccount
    """As somebody wrote it."""
    account: ServiceAccount
    """With the platform's word."""
    settings: WebhookSettings
    """With the platform's defaults."""


def _explained(looked: _Looked, decision: Decision) -> Explanation:
    pod = looked.workload.pod
    after = apply_patch(pod, decision.patch or b"[]")
    return Explanation(
        workload=looked.workload,
        account_state=looked.state,
        allowed=decision.allowed,
        code=decision.code,
        message=decision.message,
        identities=tuple(_identities(decision, looked)),
        changes=changes(pod, after),
        left_out=tuple(_left_out(decision, looked)),
        silent=tuple(_silent(decision, looked)),
        findings=tuple(sorted(decision.findings, key=lambda found: _LEVELS.index(found.level))),
        account_findings=tuple(_account_findings(decision, looked)),
        patch=tuple(msgspec.json.decode(decision.patch or b"[]")),
        before=masked(pod, pod),
        after=masked(after, pod),
        record=record_key(looked.settings),
    )


_LEVELS = ("deny", "warning", "note")


def _identities(decision: Decision, looked: _Looked) -> Iterator[GivenIdentity]:
    by_part = {(each.cloud, each.identity): each.dialect for each in decision.container_outcomes}
    for cloud, identity in decision.identities:
        dialect = by_part.get((cloud, identity), "")
        names = _sayings(cloud, identity, dialect, looked)
        source: Source = "ServiceAccount" if names else "settings"
        if any(looked.own.annotations.get(name) != looked.account.annotations[name] for name in names):
            source = "platform"
        if not names and dialect == "azure":
            names, source = (f"{looked.settings.azure_prefix}/use",), "pod"
        yield GivenIdentity(cloud, identity, dialect, names, source)


def _sayings(cloud: str, identity: str, dialect: str, looked: _Looked) -> tuple[str, ...]:
    """The annotations that gave an identity: of several of one cloud those that name it."""
    annotations, prefix = looked.account.annotations, f"{_prefix(dialect, looked.settings)}/"
    given = [
        key
        for key, value in annotations.items()
        if key.startswith(prefix) and cloud in clouds_given({key: value}, looked.settings)
    ]
    return tuple([key for key in given if annotations[key] in identity] or given)


def _prefix(dialect: str, settings: WebhookSettings) -> str:
    prefixes = {
        "native": settings.prefix,
        "pfn": settings.gcp_prefix,
        "eks": settings.aws_prefix,
        "azure": settings.azure_prefix,
    }
    return prefixes.get(dialect, settings.prefix)


# -- why not -----------------------------------------------------------------------------------------------------------


def _left_out(decision: Decision, looked: _Looked) -> Iterator[LeftOut]:
    for outcome in decision.container_outcomes:
        reason = _REASONS.get(outcome.result, "")
        if outcome.result == "skipped":
            reason = _skipped_by(outcome, looked)
        if reason:
            yield LeftOut(
                container=outcome.container,
                kind=outcome.kind,
                cloud=outcome.cloud,
                dialect=outcome.dialect,
                identity=outcome.identity,
                result=outcome.result,
                reason=reason,
            )


_REASONS = {
    "left-alone": "it has variables of its own that say who it is",
    "mount-taken": "another volume is mounted where ours would be",
    "volume-absent": "the pod has no such volume, and an ephemeral container cannot bring one",
}


def _skipped_by(outcome: Outcome, looked: _Looked) -> str:
    """The annotation of the pod that left it out; else it is the identity's own list."""
    prefix = f"{_prefix(outcome.dialect, looked.settings)}/"
    annotations = (looked.workload.pod.get("metadata") or {}).get("annotations") or {}
    for name in (f"use.{outcome.container}", "skip-containers"):
        value = annotations.get(prefix + name)
        if value is not None and (name != "skip-containers" or outcome.container in value):
            return f"by {prefix}{name} on the pod"
    return "the identity's list of containers leaves it out, or the pod chose otherwise"


def _silent(decision: Decision, looked: _Looked) -> Iterator[SilentDialect]:
    spoke = {*decision.dialects, *(outcome.dialect for outcome in decision.container_outcomes)}
    for name, _ in dialects(looked.settings):
        if name not in spoke:
            yield SilentDialect(name, _why_silent(name, decision, looked), _trigger(name, looked.settings))


def _why_silent(name: str, decision: Decision, looked: _Looked) -> str:
    if looked.state == "absent":
        return "there is no such ServiceAccount"
    rules = [finding.rule for finding in decision.findings if finding.dialect == name]
    if rules:
        return f"see {', '.join(dict.fromkeys(rules))}"
    prefix = f"{_prefix(name, looked.settings)}/"
    given = [key for key in looked.account.annotations if key.startswith(prefix)]
    if not given:
        return "not known" if looked.state == "unknown" else f"no annotation {prefix}…"
    return f"{', '.join(given)} gives this pod no identity"


def _trigger(name: str, settings: WebhookSettings) -> str:
    prefix = _prefix(name, settings)
    return {
        "native": f"{prefix}/aws.role-arn, {prefix}/gcp.provider or {prefix}/azure.client-id",
        "pfn": f"{prefix}/workload-identity-provider and {prefix}/service-account-email",
        "eks": f"{prefix}/role-arn",
        "azure": f'the label {prefix}/use: "true" on the pod, and {prefix}/client-id',
    }[name]


def _account_findings(decision: Decision, looked: _Looked) -> Iterator[Finding]:
    """What the check at write time says of the ServiceAccount, and the pod's own findings do not: misspelt names."""
    said = {(finding.rule, finding.dialect) for finding in decision.findings}
    for _, dialect in dialects(looked.settings):
        for finding in dialect.check(looked.own.annotations, looked.settings):
            if (finding.rule, finding.dialect) not in said:
                yield finding
