"""The two of the peers' recorded answers that are about HTTP: see tests/unit/admission/test_conformance.py."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from tests.webhook_cases import Case, by_name, comparable, different
from wif.admission.accounts import ServiceAccount
from wif.admission.patch import apply_patch
from wif.errors import UnavailableError
from wif.serve.webhook import WebhookApp

DIFFERENT = dict(different())


class Accounts:
    """The ServiceAccounts of a case; a look-up beyond them fails."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def get(self, namespace: str, name: str) -> ServiceAccount | None:
        return self.case.accounts.get((namespace, name))

    async def find(
        self, namespace: str, name: str, *, wait_seconds: float, remember: bool = True
    ) -> ServiceAccount | None:
        raise UnavailableError("boom", code="cluster-unavailable")

    def is_current(self, namespace: str) -> bool:
        return bool(namespace)

    def is_watched(self, namespace: str) -> bool:
        return True


def ask(case: Case, kind: bytes) -> tuple[int, bytes]:
    incoming = [{"type": "http.request", "body": json.dumps(case.review).encode()}]
    sent: list[Any] = []

    async def receive() -> Any:
        return incoming.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mutate",
        "query_string": b"timeout=5s",
        "headers": [(b"content-type", kind)],
    }
    asyncio.run(WebhookApp(case.settings, Accounts(case))(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_a_failed_look_up_is_the_failure_policys_business() -> None:
    case = by_name("pfn S3-get-error")
    status, body = ask(case, b"application/json")
    assert (status, b"boom" in body) == (503, False)
    assert (case.allowed, case.code) == (False, 500)
    assert case.name in DIFFERENT


def test_a_content_type_with_a_charset_is_answered() -> None:
    case = by_name("eks K19-content-type-charset")
    status, body = ask(case, b"application/json; charset=utf-8")
    assert status == 200
    assert (case.allowed, case.code) == (False, 415)
    assert case.name in DIFFERENT
    plain = by_name("eks K1-v1-basic")
    patch = base64.b64decode(json.loads(body)["response"]["patch"])
    after = apply_patch(case.review["request"]["object"], patch)
    assert comparable(after, "default") == comparable(plain.after, "default")
