"""From an AdmissionReview and the ServiceAccounts that it needs to a decision."""

from __future__ import annotations

__all__ = ["Decision", "EffectiveSettings", "Outcome", "Readings", "accounts_wanted", "encode_decision", "mutate"]

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from wif.admission.accounts import ServiceAccount
from wif.admission.decision import Decision, Outcome, encode_decision
from wif.admission.documents import PodDocument
from wif.admission.facts import pod_facts
from wif.admission.findings import Finding
from wif.admission.merging import Fitted, fit, fit_ephemeral
from wif.admission.patch import Op, apply_patch, encode_ops
from wif.admission.pod import Pod, read_pod
from wif.admission.readings import EffectiveSettings, Plan, Readings
from wif.admission.record import Record, read_record, record_key
from wif.admission.review import NOTHING, Review
from wif.admission.undoing import undo
from wif.config.webhook import WebhookSettings

MIRROR = "kubernetes.io/config.mirror"
"""The annotation of a pod that a kubelet made from a file; such a pod cannot have secrets, and is left as it is."""

MESSAGE_CHARACTERS_MAX = 4000
"""Of a refusal; the API server sends it back as it is."""

_UNTOUCHED = Decision(allowed=True)

Accounts = Mapping[tuple[str, str], ServiceAccount | None]


def accounts_wanted(review: Review, settings: WebhookSettings) -> tuple[tuple[str, str], ...]:
    """Namespace and name of the ServiceAccounts that :func:`mutate` needs.

    The pod's own first, then the one that an earlier call recorded, where it is another: a hint, worth no wait.
    Empty where there is nothing to do (mirror pods, other operations) and where the object cannot be read.
    """
    document = review.document
    if document is None or not _is_asked(review, document.pod):
        return ()
    own = _own_account(review, document.pod)
    record = read_record(document.pod, record_key(settings))
    if record is None or record.service_account == own[1] or review.sub_resource:
        return (own,)
    return own, (own[0], record.service_account)


def mutate(
    review: Review,
    accounts: Accounts,
    settings: WebhookSettings,
    platform: EffectiveSettings | None = None,
    *,
    readings: Readings,
    new_secret: Callable[[], str],
    detailed: bool = False,
) -> Decision:
    """Decide about a pod.

    Args:
        accounts: those of :func:`accounts_wanted`, None for one that is nowhere.
        new_secret: makes a random text of letters that are safe in URLs, for pods that get one: this half of the
            package has no randomness.
        detailed: gives also the outcome of every part in every container.
    """
    document = review.document
    if document is None:
        return _without_pod(review)
    if not _is_asked(review, document.pod):
        return _UNTOUCHED
    own = _own_account(review, document.pod)
    account = accounts.get(own)
    if account is None:
        return _missing_account(own, review, document.pod, settings)
    generation = _Generation(settings, platform, readings)
    if review.sub_resource:
        plan = generation.plan(account, document.pod)
        fitted = fit_ephemeral(plan, document, _old_names(review), detailed=detailed)
        return _allowed(plan, fitted, _softened((*plan.findings, *fitted.findings)), fitted.patch)
    key = record_key(settings)
    record = read_record(document.pod, key)
    if record is None or record.is_of(account.name, account.uid):
        plan = generation.plan(account, document.pod)
        return _decided(plan, fit(plan, document, record, key, new_secret=new_secret, detailed=detailed))
    findings: tuple[Finding, ...] = ()
    undone: Sequence[Op] = ()
    recorded = accounts.get((own[0], record.service_account))
    if recorded is None or recorded.uid != record.uid:
        findings = (_record_stale(record),)
    else:
        undone = undo(generation.plan(recorded, document.pod), document, record, key)
        document = PodDocument(msgspec.json.encode(apply_patch(document.value, undone)))
    plan = generation.plan(account, document.pod)
    fitted = fit(plan, document, None, key, new_secret=new_secret, detailed=detailed)
    return _decided(plan, fitted, findings, encode_ops(undone))


class _Generation(NamedTuple):
    settings: WebhookSettings
    platform: EffectiveSettings | None
    readings: Readings

    def plan(self, account: ServiceAccount, pod: Pod) -> Plan:
        facts = pod_facts(pod, self.readings.vocabulary(self.settings))
        return self.readings.plan(account, facts, self.settings, self.platform)


def _is_asked(review: Review, pod: Pod) -> bool:
    if review.sub_resource:
        return review.sub_resource == "ephemeralcontainers" and review.operation == "UPDATE"
    if review.operation != "CREATE":
        return False
    annotations = pod.metadata.annotations if pod.metadata is not None else None
    return not annotations or MIRROR not in annotations


def _own_account(review: Review, pod: Pod) -> tuple[str, str]:
    namespace = review.namespace or (pod.metadata.namespace if pod.metadata is not None else None)
    return namespace or "default", pod.spec.service_account_name or "default"


def _old_names(review: Review) -> frozenset[str]:
    """Ephemeral containers that were there before: they cannot be changed any more."""
    if review.old_object == NOTHING:
        return frozenset()
    return frozenset(container.name for container in read_pod(review.old_object).spec.ephemeral_containers or ())


def _decided(plan: Plan, fitted: Fitted, findings: tuple[Finding, ...] = (), undone: bytes = b"") -> Decision:
    findings = (*findings, *plan.findings, *fitted.findings)
    denied = [finding for finding in findings if finding.level == "deny"]
    if denied:
        return _refused("; ".join(dict.fromkeys(finding.text for finding in denied)), findings)
    patch = fitted.patch
    if undone:
        patch = b"[%b]" % undone if patch is None else b"[%b,%b" % (undone, patch[1:])
    return _allowed(plan, fitted, findings, patch)


def _allowed(plan: Plan, fitted: Fitted, findings: tuple[Finding, ...], patch: bytes | None) -> Decision:
    is_whole = fitted.active == plan.all_parts
    parts = [plan.parts[index] for index in fitted.active]
    return Decision(
        allowed=True,
        patch=patch,
        findings=findings,
        identities=plan.identities if is_whole else tuple(dict.fromkeys((p.cloud, p.identity) for p in parts)),
        dialects=plan.dialects if is_whole else tuple(dict.fromkeys(p.dialect for p in parts)),
        container_outcomes=fitted.outcomes,
    )


def _softened(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """The pod runs: who looks into it is not held up by an annotation that has become wrong since."""
    return tuple(each._replace(level="warning") if each.level == "deny" else each for each in findings)


def _refused(message: str, findings: tuple[Finding, ...] = ()) -> Decision:
    return Decision(allowed=False, code=400, message=message[:MESSAGE_CHARACTERS_MAX], findings=findings)


def _without_pod(review: Review) -> Decision:
    if review.problem:
        return _refused(review.problem, (Finding("review-invalid", "deny", review.problem),))
    if review.kind.kind == "Pod":
        return _UNTOUCHED  # a deletion has no object
    message = f"expected a Pod under review, got {review.kind.kind[:80]!r}"
    return _refused(message, (Finding("review-invalid", "deny", message, "register the webhook for pods alone"),))


def _missing_account(own: tuple[str, str], review: Review, pod: Pod, settings: WebhookSettings) -> Decision:
    if review.sub_resource:
        return _UNTOUCHED
    labels = pod.metadata.labels if pod.metadata is not None else None
    is_azure = "azure" in settings.dialects and (labels or {}).get(f"{settings.azure_prefix}/use") == "true"
    finding = Finding(
        "account-missing",
        "deny" if is_azure else "warning",
        f"ServiceAccount {own[0]}/{own[1]} is not found, so nothing is injected",
        "create it before its pods",
        "azure" if is_azure else "",
        "azure" if is_azure else "",
    )
    return _refused(finding.text, (finding,)) if is_azure else Decision(allowed=True, findings=(finding,))


def _record_stale(record: Record) -> Finding:
    return Finding(
        "record-stale",
        "warning",
        f"the pod says that it was injected for ServiceAccount {record.service_account[:253]!r}, which is not "
        "there (any more); what may have been injected then is left as it is",
        "remove the annotation from a copied pod",
    )
