"""The webhook's application: which requests are reviews, what is waited for, what is told, counted and written down."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.reviews import EKS, ROLE, patch_of, pod, review
from wif.admission.accounts import ServiceAccount
from wif.config.webhook import WebhookSettings
from wif.errors import UnavailableError
from wif.serve.webhook import LONGEST_SECONDS, MAX_BUFFERED_BYTES, Told, WebhookApp
from wif.serve.webhook_events import notices_of

UID = "11111111-2222-3333-4444-555555555555"


class Accounts:
    """A cluster's ServiceAccounts: those that are seen, and those that a live read brings."""

    def __init__(
        self, *seen: ServiceAccount, later: Sequence[ServiceAccount] = (), namespaces: Sequence[str] = ()
    ) -> None:
        self.seen = {(each.namespace, each.name): each for each in seen}
        self.later = {(each.namespace, each.name): each for each in later}
        self.namespaces = namespaces
        self.asked: list[tuple[str, str, float, bool]] = []
        self.error: Exception | None = None
        self.takes_seconds = 0.0

    def get(self, namespace: str, name: str) -> ServiceAccount | None:
        return self.seen.get((namespace, name))

    async def find(
        self, namespace: str, name: str, *, wait_seconds: float, remember: bool = True
    ) -> ServiceAccount | None:
        self.asked.append((namespace, name, wait_seconds, remember))
        await asyncio.sleep(self.takes_seconds)
        if self.error is not None:
            raise self.error
        return self.later.get((namespace, name))

    def is_current(self, namespace: str) -> bool:
        return bool(namespace)

    def is_watched(self, namespace: str) -> bool:
        return not self.namespaces or namespace in self.namespaces


APP = ServiceAccount("shop", "app", UID, EKS)
BROKEN = ServiceAccount("shop", "app", UID, {"cloud.google.com/workload-identity-provider": "nonsense"})


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        self.messages = messages
        self.status: int = messages[0]["status"] if messages else 0
        self.headers = dict(messages[0]["headers"]) if messages else {}
        self.body: bytes = b"".join(each.get("body", b"") for each in messages[1:])


def ask(
    app: WebhookApp,
    body: bytes | Sequence[bytes] = b"",
    *,
    path: str = "/mutate",
    method: str = "POST",
    kind: bytes | None = b"application/json",
    query: bytes = b"timeout=5s",
    leaves: bool = False,
) -> Answer:
    parts = [body] if isinstance(body, bytes) else list(body)
    incoming: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": leaves or position < len(parts) - 1}
        for position, part in enumerate(parts)
    ]
    incoming.append({"type": "http.disconnect"})
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), *([(b"content-type", kind)] if kind is not None else [])]
    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": headers}
    asyncio.run(app(scope, receive, send))
    return Answer(sent)


def app_of(accounts: Accounts, *, told: list[Told] | None = None, wait_seconds: float = 1.0) -> WebhookApp:
    return WebhookApp(
        WebhookSettings(), accounts, wait_seconds=wait_seconds, tell=None if told is None else told.append
    )


def response(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.body)["response"]
    return found


# -- what is answered -----------------------------------------------------------------------------------------------


def test_a_pod_is_injected_into_without_a_wait() -> None:
    accounts = Accounts(APP)
    app = app_of(accounts)
    answer = ask(app, review(pod()))
    assert response(answer)["uid"] == "u-1"
    assert any(each["path"].startswith("/spec/volumes") for each in patch_of(answer.body))
    assert accounts.asked == []
    assert app.counts.reviews == {("mutate", "injected", "eks"): 1}
    assert sum(app.counts.buckets) == 1
    assert 0 < app.counts.seconds < 5
    assert answer.headers[b"content-type"] == b"application/json"
    assert int(answer.headers[b"content-length"]) == len(answer.body)


def test_an_account_without_annotations_changes_nothing() -> None:
    app = app_of(Accounts(ServiceAccount("shop", "app", UID)))
    assert patch_of(ask(app, review(pod())).body) == []
    assert app.counts.reviews == {("mutate", "unchanged", ""): 1}


def test_a_body_in_pieces_is_one_review() -> None:
    whole = review(pod())
    app = app_of(Accounts(APP))
    assert patch_of(ask(app, [whole[:10], b"", whole[10:99], whole[99:]]).body)
    assert app._buffered_bytes == 0


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ({"path": "/"}, 404),
        ({"path": "/mutate/"}, 404),
        ({"path": "/healthz"}, 404),
        ({"method": "GET"}, 405),
        ({"method": "PUT", "path": "/validate"}, 405),
        ({"kind": None}, 415),
        ({"kind": b"text/plain"}, 415),
        ({"kind": b"application/jsonp"}, 415),
    ],
    ids=str,
)
def test_what_is_no_review_by_its_request(words: dict[str, Any], status: int) -> None:
    app = app_of(Accounts(APP))
    answer = ask(app, review(pod()), **words)
    assert answer.status == status
    assert answer.headers.get(b"allow") == (b"POST" if status == 405 else None)
    assert app.counts.refused == {status: 1}


@pytest.mark.parametrize(
    "kind", [b"application/json", b"application/json; charset=utf-8", b"Application/JSON ;charset=utf-8"]
)
def test_a_content_type_may_have_parameters(kind: bytes) -> None:
    assert ask(app_of(Accounts(APP)), review(pod()), kind=kind).status == 200


BAD = {
    "empty": b"",
    "no json": b"{",
    "an array": b"[]",
    "null": b"null",
    "not utf-8": b'{"kind":"\xff"}',
    "another kind": b'{"apiVersion":"admission.k8s.io/v1","kind":"Pod","request":{"uid":"u"}}',
    "another version": review(pod(), version="admission.k8s.io/v2"),
    "no version": b'{"kind":"AdmissionReview","request":{"uid":"u"}}',
    "no request": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
    "no uid": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}',
    "uid is a number": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":1}}',
    "deep": b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","x":' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/mutate", "/validate"])
def test_a_bad_review_is_answered_with_one_that_is_well_formed(name: str, path: str) -> None:
    app = app_of(Accounts(APP))
    answer = ask(app, BAD[name], path=path)
    assert answer.status == 400
    read = json.loads(answer.body)
    assert (read["apiVersion"], read["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert read["response"]["allowed"] is False
    assert read["response"]["status"]["code"] == 400
    assert app.counts.refused == {400: 1}


ODD_PODS: dict[str, Any] = {
    "null": None,
    "a text": "pod",
    "a number": 7,
    "an array": [],
    "no spec": {"metadata": {"name": "p"}},
    "spec is null": {"metadata": {"name": "p"}, "spec": None},
    "containers are none": {"metadata": {}, "spec": {"serviceAccountName": "app", "containers": 5}},
    "annotations are none": {"metadata": {"annotations": [1]}, "spec": {"serviceAccountName": "app"}},
    "deep": {"metadata": {"annotations": json.loads("[" * 900 + "]" * 900)}, "spec": {"serviceAccountName": "app"}},
}


@pytest.mark.parametrize("name", ODD_PODS)
def test_an_object_that_is_no_pod_never_ends_in_a_crash(name: str) -> None:
    app = app_of(Accounts(APP))
    answer = ask(app, review(ODD_PODS[name]))
    assert answer.status in (200, 400)
    read = json.loads(answer.body)["response"]
    assert isinstance(read["allowed"], bool)
    assert not patch_of(answer.body) or read["allowed"]


def test_other_operations_are_let_through() -> None:
    app = app_of(Accounts(APP))
    answer = ask(app, review(None, operation="DELETE"))
    assert (response(answer)["allowed"], patch_of(answer.body)) == (True, [])
    assert response(ask(app, review(pod()), path="/validate")) == {"uid": "u-1", "allowed": True}


def test_what_is_no_pod_is_refused_in_words() -> None:
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "s3cret"}}
    found = response(ask(app_of(Accounts(APP)), review(made, resource="configmaps", kind="ConfigMap")))
    assert found["allowed"] is False
    assert "ConfigMap" in found["status"]["message"]
    assert "s3cret" not in json.dumps(found)


def test_the_version_of_the_question_is_that_of_the_answer() -> None:
    answer = ask(app_of(Accounts(APP)), review(pod(), version="admission.k8s.io/v1beta1"))
    assert json.loads(answer.body)["apiVersion"] == "admission.k8s.io/v1beta1"


# -- ServiceAccounts -------------------------------------------------------------------------------------------------


def account_object(**annotations: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "annotations": annotations}}


def test_a_malformed_service_account_is_refused_by_the_validating_path_alone() -> None:
    made = review(account_object(**BROKEN.annotations), resource="serviceaccounts", kind="ServiceAccount")
    app = app_of(Accounts())
    assert response(ask(app, made))["allowed"] is True
    refused = response(ask(app, made, path="/validate"))
    assert refused["allowed"] is False
    assert "workload-identity-provider" in refused["status"]["message"]
    assert app.counts.reviews[("validate", "denied", "")] == 1


def test_the_label_is_set_by_the_mutating_path_alone() -> None:
    made = review(account_object(**EKS), resource="serviceaccounts", kind="ServiceAccount")
    app = app_of(Accounts())
    assert "wif.internal" in json.dumps(patch_of(ask(app, made).body))
    assert patch_of(ask(app, made, path="/validate").body) == []


# -- an account that is not seen yet ---------------------------------------------------------------------------------


def test_an_account_that_comes_soon_is_waited_for() -> None:
    accounts = Accounts(later=[APP])
    app = app_of(accounts, wait_seconds=0.7)
    assert patch_of(ask(app, review(pod())).body)
    assert accounts.asked == [("shop", "app", 0.7, True)]
    assert app.counts.missing == 0


def test_a_dry_run_leaves_no_trace() -> None:
    accounts, told = Accounts(later=[BROKEN]), []  # type: tuple[Accounts, list[Told]]
    app = app_of(accounts, told=told)
    response(ask(app, review(pod(), dry_run=True)))
    assert accounts.asked == [("shop", "app", 1.0, False)]
    assert app.counts.reviews == {("mutate", "dry-run", ""): 1}
    assert app.counts.findings == {}
    assert told == []
    accounts.later = {}
    response(ask(app, review(pod(), dry_run=True)))
    assert app.counts.missing == 0


def test_an_account_that_is_nowhere_is_a_warning() -> None:
    app = app_of(Accounts())
    found = response(ask(app, review(pod())))
    assert found["allowed"] is True
    assert any("app" in each for each in found["warnings"])
    assert app.counts.missing == 1
    assert app.counts.findings == {("account-missing", "warning"): 1}


@pytest.mark.parametrize(("query", "longest"), [(b"timeout=2s", 1.0), (b"timeout=1s", 0.1), (b"timeout=30s", 3.5)])
def test_the_api_servers_own_deadline_is_kept(query: bytes, longest: float) -> None:
    accounts = Accounts(later=[APP])
    ask(app_of(accounts, wait_seconds=3.0), review(pod()), query=query)
    assert accounts.asked[0][2] == pytest.approx(min(3.0, longest / 2))
    assert longest <= LONGEST_SECONDS


@pytest.mark.parametrize(
    "spoil",
    [
        lambda accounts: setattr(accounts, "takes_seconds", 5.0),
        lambda accounts: setattr(accounts, "error", UnavailableError("s3cret", code="cluster-unavailable")),
    ],
    ids=["too slow", "the API server is away"],
)
def test_what_cannot_be_known_is_left_to_the_failure_policy(spoil: Any) -> None:
    accounts = Accounts(later=[APP])
    spoil(accounts)
    app = app_of(accounts)
    answer = ask(app, review(pod()), query=b"timeout=1s")
    assert answer.status == 503
    assert b"s3cret" not in answer.body
    assert app.counts.refused == {503: 1}
    assert app.counts.reviews == {}


def test_a_defect_is_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    accounts = Accounts()
    accounts.error = LookupError("s3cret")
    with caplog.at_level(logging.INFO):
        answer = ask(app_of(accounts), review(pod()))
    assert answer.status == 500
    assert b"Traceback" not in answer.body
    assert b"s3cret" not in answer.body
    assert "LookupError" in caplog.text
    assert "s3cret" not in caplog.text


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_is_not_answered() -> None:
    app = app_of(Accounts(APP))
    assert ask(app, [b"{", b"x"], leaves=True).messages == []
    assert ask(app, []).messages == []
    assert app._buffered_bytes == 0


def test_bodies_in_pieces_have_a_bound_together() -> None:
    app = app_of(Accounts(APP))
    part = b"x" * (MAX_BUFFERED_BYTES // 4)
    assert ask(app, [part] * 5).status == 503
    assert app._buffered_bytes == 0


# -- tenants ---------------------------------------------------------------------------------------------------------


def test_another_tenants_pod_is_let_through_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Told] = []
    accounts = Accounts(ServiceAccount("other", "app", UID, BROKEN.annotations), namespaces=["shop"])
    app = app_of(accounts, told=told)
    with caplog.at_level(logging.DEBUG):
        answer = ask(app, review(pod(), namespace="other"))
    assert response(answer) == {"uid": "u-1", "allowed": True}
    assert (accounts.asked, told) == ([], [])
    assert app.counts.reviews == {("mutate", "foreign", ""): 1}
    assert "other" not in caplog.text


# -- audit and Events ------------------------------------------------------------------------------------------------


def audited(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    found = []
    for record in caplog.records:
        if record.name == "wif.audit":
            fields: dict[str, Any] = record.__dict__["wif"]
            assert json.loads(record.getMessage()) == fields
            found.append(fields)
    return found


def test_each_injection_is_one_audit_record(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(Accounts(APP, ServiceAccount("shop", "plain", UID)))
    with caplog.at_level(logging.INFO, "wif.audit"):
        ask(app, review(pod()))
        ask(app, review(pod(account="plain")))
    assert audited(caplog) == [
        {
            "event": "admission",
            "outcome": "injected",
            "resource": "pods",
            "operation": "CREATE",
            "namespace": "shop",
            "review": "u-1",
            "service_account": "app",
            "service_account_uid": UID,
            "identities": f"aws={ROLE}",
            "dialects": "eks",
        }
    ]


def test_each_denial_is_one_too_and_a_dry_run_says_so(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(Accounts(BROKEN))
    with caplog.at_level(logging.INFO, "wif.audit"):
        answer = response(ask(app, review(pod(), dry_run=True)))
    [record] = audited(caplog)
    assert answer["allowed"] is False
    assert (record["outcome"], record["code"], record["dry_run"]) == ("denied", answer["status"]["code"], True)


def test_an_audit_that_nobody_reads_is_not_written(caplog: pytest.LogCaptureFixture) -> None:
    app = app_of(Accounts(APP))
    with caplog.at_level(logging.WARNING, "wif.audit"):
        ask(app, review(pod()))
    assert audited(caplog) == []


OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "r-1", "controller": True}


def test_an_event_is_about_what_makes_the_pod() -> None:
    told: list[Told] = []
    ask(
        app_of(Accounts(BROKEN), told=told),
        review(pod(ownerReferences=[{**OWNER, "name": "other", "controller": False}, OWNER])),
    )
    [one] = told
    notices = notices_of(one)
    assert {each.reason for each in notices} == {"InjectionDenied"}
    about = notices[0].about
    assert (about.api_version, about.kind, about.namespace, about.name, about.uid) == (
        *("apps/v1", "ReplicaSet", "shop", "web-1"),
        "r-1",
    )
    assert "workload-identity-provider" in notices[0].note


def test_without_a_controller_it_is_about_the_service_account() -> None:
    told: list[Told] = []
    ask(app_of(Accounts(BROKEN), told=told), review(pod()))
    [notice, *_] = notices_of(told[0])
    assert (notice.about.kind, notice.about.name, notice.about.uid) == ("ServiceAccount", "app", UID)


def test_without_either_there_is_none() -> None:
    told: list[Told] = []
    app = app_of(Accounts(), told=told)
    ask(app, review(pod()))
    [one] = told
    assert notices_of(one) == []
    assert notices_of(one._replace(review=msgspec.structs.replace(one.review, dry_run=True))) == []


def test_a_decision_with_nothing_to_say_is_not_told() -> None:
    told: list[Told] = []
    ask(app_of(Accounts(APP), told=told), review(pod()))
    assert told == []
