"""ServiceAccounts when they are written: malformed annotations are refused, and the label for the policies is set.

What stood there before is not refused: a controller must be able to take a finalizer off, and whoever corrects one of
two slips may leave the other for later.
"""

from __future__ import annotations

__all__ = ["review_account"]

from collections.abc import Mapping

import msgspec

from wif.admission.annotation_keys import CLOUDS, clouds_given, names_identity
from wif.admission.decision import Decision
from wif.admission.dialects import dialects
from wif.admission.findings import Finding
from wif.admission.patch import Op, add, encode_ops, escape, remove, replace
from wif.admission.platform import Platform
from wif.admission.registration import inject_label
from wif.admission.review import Review
from wif.config.webhook import WebhookSettings
from wif.errors import ProtocolError

_LABELLED = "true"


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    name: str = ""
    annotations: Mapping[str, str] | None = None
    labels: Mapping[str, str] | None = None
    deletion_timestamp: str | None = None


class _Account(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


_DECODE = msgspec.json.Decoder(_Account).decode


def review_account(review: Review, settings: WebhookSettings, platform: Platform | None = None) -> Decision:
    """Decide on the CREATE or UPDATE of a ServiceAccount, and set or remove the label that policies select by.

    Args:
        platform: its defaults count; its annotations do not, for they are not the ServiceAccount's.

    Raises:
        ProtocolError: review-invalid.
    """
    if review.operation not in ("CREATE", "UPDATE"):
        return Decision(allowed=True)
    metadata = _metadata(review.object, "object")
    if metadata.deletion_timestamp is not None:
        return Decision(allowed=True)
    settings = settings if platform is None else platform.settings
    annotations = metadata.annotations or {}
    findings = _findings(annotations, settings)
    if review.operation == "UPDATE":
        stood = _findings(_metadata(review.old_object, "oldObject").annotations or {}, settings)
        findings = [_told_before(finding) if finding in stood else finding for finding in findings]
    refusals = [finding.text for finding in findings if finding.level == "deny"]
    if refusals:
        name = metadata.name or review.name
        message = f"ServiceAccount {review.namespace}/{name} has annotations that are refused: {'; '.join(refusals)}"
        return Decision(allowed=False, code=400, message=message, findings=tuple(findings))
    ops = _label(metadata.labels, inject_label(settings), is_wanted=names_identity(annotations, settings))
    patch = b"[" + encode_ops(ops) + b"]" if ops else None
    return Decision(allowed=True, patch=patch, findings=tuple(findings))


def _metadata(raw: msgspec.Raw, member: str) -> _Metadata:
    try:
        return _DECODE(raw).metadata
    except RecursionError:
        reason = "it is nested too deep"
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = str(error)
    raise ProtocolError(f"the review's {member} is not a ServiceAccount: {reason}", code="review-invalid")


def _findings(annotations: Mapping[str, str], settings: WebhookSettings) -> list[Finding]:
    found: list[Finding] = []
    givers: dict[str, list[str]] = {}
    for name, dialect in dialects(settings):
        found += dialect.check(annotations, settings)
        alone = msgspec.structs.replace(settings, dialects=(name,))
        for cloud in clouds_given(annotations, alone):
            givers.setdefault(cloud, []).append(name)
    for cloud in CLOUDS:
        winner, *others = givers.get(cloud, [""])
        found += [_cloud_twice(cloud, winner, other) for other in others]
    return found


def _cloud_twice(cloud: str, winner: str, other: str) -> Finding:
    message = (
        f"annotations of the dialects {winner} and {other} both give an identity of {cloud}: {winner}'s is injected"
    )
    return Finding("cloud-twice", "warning", message, "keep one of them", other, cloud)


def _told_before(finding: Finding) -> Finding:
    return finding if finding.level != "deny" else finding._replace(level="warning")


def _label(labels: Mapping[str, str] | None, label: str, *, is_wanted: bool) -> list[Op]:
    stands = None if labels is None else labels.get(label)
    path = f"/metadata/labels/{escape(label)}"
    if not is_wanted:
        return [] if stands is None else [remove(path)]
    if stands == _LABELLED:
        return []
    if labels is None:
        return [add("/metadata/labels", {label: _LABELLED})]
    return [add(path, _LABELLED) if stands is None else replace(path, _LABELLED)]
