"""A decision as the API server is told it."""

from __future__ import annotations

import json
from typing import Any

from wif.admission.decision import Decision, encode_decision, warnings_of
from wif.admission.findings import Finding, Level
from wif.admission.review import pod_review

REVIEW = pod_review(b'{"spec": {}}', namespace="shop", uid="u")


def response(decision: Decision) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(encode_decision(REVIEW, decision))["response"]
    return said


def finding(rule: str, level: Level = "warning", message: str = "look", hint: str = "") -> Finding:
    return Finding(rule, level, message, hint)


def test_nothing_to_do() -> None:
    assert response(Decision(allowed=True)) == {"uid": "u", "allowed": True}


def test_what_was_injected_and_found_is_in_the_audit() -> None:
    said = response(
        Decision(
            allowed=True,
            patch=b"[]",
            identities=(("aws", "arn:role"), ("gcp", "app@p")),
            findings=(finding("b"), finding("a", "note"), finding("b", message="again", hint="do")),
        )
    )
    assert said["auditAnnotations"] == {"injected": "aws=arn:role gcp=app@p", "findings": "a b"}
    assert said["warnings"] == ["wif: look", "wif: again: do"]


def test_a_refusal() -> None:
    said = response(
        Decision(allowed=False, code=400, message="bad", patch=b"[]", findings=(finding("x", "deny", "bad"),))
    )
    assert said["status"] == {"code": 400, "message": "bad"}
    assert "patch" not in said
    assert "warnings" not in said


def test_warnings_are_few_short_and_printable() -> None:
    lines = warnings_of([finding("r", message=f"number {i}") for i in range(30)])
    assert len(lines) == 10
    assert lines[0] == "wif: number 0"
    assert lines[-1] == "wif: and 21 more; wif webhook explain shows them"
    assert len(warnings_of([finding("r", message=f"number {i}") for i in range(10)])) == 10
    assert warnings_of([finding("r"), finding("r")]) == ["wif: look"]
    (long,) = warnings_of([finding("r", message="x" * 500)])
    assert len(long) == 200
    assert long.endswith("…")
    (clean,) = warnings_of([finding("r", message="a\nb\x00c\u202ed")])
    assert clean == "wif: a b c d"
