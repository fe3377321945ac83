"""What ``wif webhook explain`` prints with ``--json``; the schema stands in ``docs/reference/schemas``."""

from __future__ import annotations

__all__ = ["cluster_object", "comparison_object", "explanation_object"]


from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wif.admission.changes import Changes
    from wif.admission.comparison import Comparison
    from wif.admission.explanation import Explanation
    from wif.admission.findings import Finding
    from wif.cli.webhook_cluster import ClusterFacts


def explanation_object(explanation: Explanation, *, show: str | None) -> dict[str, Any]:
    """One pod."""
    workload = explanation.workload
    return {
        "kind": workload.kind,
        "namespace": workload.namespace,
        "name": workload.name,
        "origin": workload.origin,
        "service_account": workload.account_name,
        "service_account_state": explanation.account_state,
        "allowed": explanation.allowed,
        "refusal": None if explanation.allowed else {"code": explanation.code, "message": explanation.message},
        "identities": [
            {
                "cloud": each.cloud,
                "identity": each.identity,
                "dialect": each.dialect,
                "annotations": list(each.annotations),
                "source": each.source,
            }
            for each in explanation.identities
        ],
        **_changes(explanation.changes),
        "left_out": [each._asdict() for each in explanation.left_out],
        "silent_dialects": [each._asdict() for each in explanation.silent],
        "findings": [_finding(each) for each in explanation.findings],
        "service_account_findings": [_finding(each) for each in explanation.account_findings],
        "patch": list(explanation.patch),
        "pod": dict(explanation.after) if show == "pod" else None,
    }


def _changes(changes: Changes) -> dict[str, Any]:
    return {
        "tokens": [token._asdict() for token in changes.tokens],
        "volumes": [
            {"name": each.name, "new": each.is_new, "files": list(each.files), "mode": each.mode or None}
            for each in changes.volumes
        ],
        "containers": [
            {
                "name": each.name,
                "kind": each.kind,
                "new": each.is_new,
                "variables": [{"name": name, "value": value} for name, value in each.variables],
                "mounts": [{"volume": volume, "path": path} for volume, path in each.mounts],
            }
            for each in changes.containers
        ],
        "annotations": dict(changes.annotations),
        "labels": dict(changes.labels),
        "removed": list(changes.removed),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {name: value or None for name, value in finding._asdict().items()}


def comparison_object(comparison: Comparison) -> dict[str, Any]:
    """A pod that runs, beside one that is created now."""
    return {
        "as_it_should_be": comparison.is_as_it_should_be,
        "things": [{**row._asdict(), "container": row.container or None} for row in comparison.rows],
        "notes": list(comparison.notes),
    }


def cluster_object(facts: ClusterFacts) -> dict[str, Any]:
    """What else is called, in order."""
    return {
        "registrations": [
            {
                "kind": each.kind,
                "name": each.name,
                "part": each.part or None,
                "known_as": each.known_as or None,
                "matches": each.verdict.answer,
                "clause": each.verdict.clause or None,
                "reason": each.verdict.reason,
                "conditions": [condition._asdict() for condition in each.verdict.conditions],
                "details": dict(each.details),
            }
            for each in facts.neighbours
        ],
        "gaps": [gap._asdict() for gap in facts.gaps],
    }
