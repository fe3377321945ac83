"""What ``wif issuer`` prints with ``--json``. The schemas stand in ``docs/reference/schemas``."""

from __future__ import annotations

__all__ = ["error_object", "finding_object", "outside_object", "publish_object", "unpublish_object", "verify_object"]

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from wif.errors import WifError

if TYPE_CHECKING:
    from wif.core.issuer_lint import Finding
    from wif.issuer.outside import OutsideReport
    from wif.issuer.report import PublishReport, TargetReport, UnpublishReport
    from wif.issuer.verify import VerifyReport

_LISTS = ("keys", "added", "removed", "foreign", "altered", "lost", "filtered", "drift", "tampering", "warnings")


def publish_object(report: PublishReport) -> Mapping[str, Any]:
    """One run for one issuer."""
    return {
        "name": report.name,
        "issuer": report.issuer,
        "jwks_uri": report.jwks_uri,
        "dry_run": report.dry_run,
        "managed": None
        if report.managed is None
        else {
            "provider": report.managed.provider,
            "discovery_url": report.managed.discovery_url,
            "jwks_uri": report.managed.jwks_uri,
        },
        "keys": list(report.keys),
        "servers": list(report.servers),
        "state": report.state,
        "findings": [finding_object(finding) for finding in report.findings],
        "warnings": list(report.warnings),
        "targets": [_target(target) for target in report.targets],
        "verification": None if report.verification is None else verify_object(report.verification),
        "tampering": report.has_tampering,
        "error": None if report.error is None else error_object(report.error),
        "exit_status": report.exit_status,
    }


def unpublish_object(report: UnpublishReport) -> Mapping[str, Any]:
    """What was taken away, or why it was not."""
    return {
        "issuer": report.issuer,
        "done": report.done,
        "blockers": list(report.blockers),
        "steps": list(report.steps),
        "targets": [_target(target) for target in report.targets],
        "exit_status": report.exit_status,
    }


def verify_object(report: VerifyReport) -> Mapping[str, Any]:
    """What was seen from outside."""
    return {
        "issuer": report.issuer,
        "jwks_uri": report.jwks_uri,
        "keys": list(report.key_ids),
        "missing": list(report.missing),
        "unknown": list(report.unknown),
        "altered": list(report.altered),
        "removed": list(report.removed),
        "max_age_seconds": report.max_age_seconds,
        "age_seconds": report.age_seconds,
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "level": check.level,
                "detail": check.detail,
                "seconds": None if check.seconds is None else round(check.seconds, 3),
            }
            for check in report.checks
        ],
        "ok": report.ok,
        "exit_status": report.exit_status,
    }


def outside_object(report: OutsideReport) -> Mapping[str, Any]:
    """What is seen at the public address, and at the places that have none."""
    return {
        "issuer": report.issuer,
        "public": None if report.public is None else verify_object(report.public),
        "targets": [
            {"name": name, "verification": None, "error": error_object(found)}
            if isinstance(found, WifError)
            else {"name": name, "verification": verify_object(found), "error": None}
            for name, found in report.places.items()
        ],
        "warnings": list(report.warnings),
        "exit_status": report.exit_status,
    }


def finding_object(finding: Finding) -> Mapping[str, Any]:
    """A broken rule."""
    return {
        "rule": finding.rule,
        "level": finding.level,
        "clouds": list(finding.clouds),
        "message": finding.message,
        "hint": finding.hint,
    }


def error_object(error: WifError) -> Mapping[str, Any]:
    """A failure within a report; alone it is what every command prints."""
    known = {
        "code": error.code,
        "clause": error.clause,
        "message": error.message,
        "hint": error.hint,
        "retryable": error.retryable,
        "cloud": error.cloud,
        "cloud_code": error.cloud_code,
        "status": error.status,
    }
    return {name: value for name, value in known.items() if value is not None}


def _target(target: TargetReport) -> Mapping[str, Any]:
    return {
        "name": target.name,
        "outcome": target.outcome,
        **{name: list(getattr(target, name)) for name in _LISTS},
        "diff": target.diff,
        "rounds": target.rounds,
        "error": None if target.error is None else error_object(target.error),
    }
