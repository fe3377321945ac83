"""The Kubernetes API's answers: refusals that name the missing right, slices, headers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wif.core.discovery import DISCOVERY_PATH as CORE_DISCOVERY_PATH
from wif.core.discovery import JWKS_PATH as CORE_JWKS_PATH
from wif.core.flow import Response
from wif.edges.kube_answers import (
    DISCOVERY_PATH,
    JWKS_PATH,
    ApiServerEndpoint,
    ServiceAccountName,
    endpoints_of,
    failure,
    max_age_seconds,
    status_of,
    warnings_of,
)
from wif.edges.stores import WriteConflict
from wif.errors import RefusedError, UnavailableError

SERVER = "https://api.example"


def answer(status: int, reason: str = "Some", message: str = "words", **headers: str) -> Response:
    body = json.dumps({"kind": "Status", "reason": reason, "message": message}).encode()
    return Response(
        status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body
    )


def test_the_paths_are_those_of_the_core() -> None:
    assert (DISCOVERY_PATH, JWKS_PATH) == (CORE_DISCOVERY_PATH, CORE_JWKS_PATH)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        ("GET", "/api/v1/namespaces/a/configmaps/b", "get on the resource configmaps of the API group '' named 'b' in"),
        (
            "GET",
            "/api/v1/namespaces/a/configmaps",
            "list on the resource configmaps of the API group '' in the namespace",
        ),
        ("GET", "/api/v1/serviceaccounts?watch=1", "watch on the resource serviceaccounts of the API group '' (a Cl"),
        (
            "GET",
            "/api/v1/namespaces/a/configmaps?fieldSelector=metadata.name%3Db&watch=1",
            "watch on the resource configmaps of the API group '' named 'b' in the namespace 'a' (a Role",
        ),
        ("POST", "/api/v1/namespaces/a/configmaps", "create on the resource configmaps of the API group '' in"),
        (
            "PUT",
            "/apis/coordination.k8s.io/v1/namespaces/a/leases/b",
            "update on the resource leases of the API group 'coordination.k8s.io' named 'b' in the namespace 'a' (a",
        ),
        (
            "PATCH",
            "/apis/events.k8s.io/v1/namespaces/a/events/b",
            "patch on the resource events of the API group 'events.k8s.io' named 'b'",
        ),
        (
            "DELETE",
            "/api/v1/namespaces/a",
            "delete on the resource namespaces of the API group '' named 'a' (a ClusterRole",
        ),
        (
            "POST",
            "/api/v1/namespaces/a/serviceaccounts/b/token",
            "create on the resource serviceaccounts/token of the API group '' named 'b' in the namespace 'a'",
        ),
        (
            "GET",
            "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=x",
            "list on the resource endpointslices of the API group 'discovery.k8s.io' in the namespace 'default'",
        ),
        ("GET", "/openid/v1/jwks", "get on the nonResourceURL /openid/v1/jwks (a ClusterRole"),
        ("GET", "/api", "get on the nonResourceURL /api ("),
        ("GET", "/apis/apps/v1", "get on the nonResourceURL /apis/apps/v1 ("),
    ],
)
def test_a_missing_right_is_named_in_the_hint(method: str, path: str, words: str) -> None:
    error = failure(answer(403, "Forbidden"), method=method, path=path, server=SERVER)
    assert isinstance(error, RefusedError)
    assert (error.code, error.status, error.cloud_code, error.retryable) == ("cluster-refused", 403, "Forbidden", False)
    assert f"the verb {words}" in error.hint


@pytest.mark.parametrize(
    ("status", "kind", "code", "retryable"),
    [
        (400, RefusedError, "cluster-refused", False),
        (401, UnavailableError, "cluster-unavailable", False),
        (404, RefusedError, "cluster-refused", False),
        (409, WriteConflict, "write-conflict", True),
        (413, RefusedError, "cluster-refused", False),
        (422, RefusedError, "cluster-refused", False),
        (429, UnavailableError, "cluster-unavailable", True),
        (500, UnavailableError, "cluster-unavailable", True),
        (504, UnavailableError, "cluster-unavailable", True),
        (304, UnavailableError, "cluster-unavailable", False),
    ],
)
def test_each_status_is_one_kind_of_error(status: int, kind: type[Exception], code: str, retryable: bool) -> None:
    error = failure(answer(status, "Reason"), method="GET", path="/x?secret=1", server=SERVER)
    assert type(error) is kind
    assert (error.code, error.status, error.cloud_code, error.retryable) == (code, status, "Reason", retryable)
    assert error.hint
    assert error.message == f"GET /x at {SERVER}: {status} Reason: words"


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_a_busy_server_says_when_to_come_again(header: str, seconds: float | None) -> None:
    error = failure(answer(429, retry_after=header), method="GET", path="/x", server=SERVER)
    assert error.retry_after_seconds == seconds


@given(st.binary(max_size=200))
def test_any_body_gives_a_reason_and_a_message(body: bytes) -> None:
    reason, message = status_of(Response(status=500, headers={}, body=body))
    assert reason
    assert message


def test_a_message_is_one_printable_line_of_bounded_length() -> None:
    reason, message = status_of(answer(500, "a\nb", "c\x1b" + "d" * 1000))
    assert reason == "a b"
    assert message == "c " + "d" * 498


# -- headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ("", ()),
        ('299 - "one"', ("one",)),
        ('299 - "one", 299 api "a \\"quoted\\" word, with a comma"', ("one", 'a "quoted" word, with a comma')),
        ("299 - unquoted", ()),
        ('199 - "other code"', ()),
    ],
)
def test_warnings_are_read(header: str, texts: tuple[str, ...]) -> None:
    assert warnings_of(answer(200, warning=header)) == texts


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("public, max-age=3600", 3600),
        ("max-age=0", 0),
        ("MAX-AGE=5, public", 5),
        ("s-maxage=7", None),
        ("max-age=-1", None),
        ("max-age=1.5", None),
        ("max-age=99999999999", None),
        ("no-store", None),
        ("", None),
    ],
)
def test_the_cache_time_of_the_keys_is_read(header: str, seconds: int | None) -> None:
    assert max_age_seconds(answer(200, cache_control=header)) == seconds
    assert max_age_seconds(answer(200)) is None


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("system:serviceaccount:a:b", ServiceAccountName("a", "b")),
        ("system:serviceaccount:a:b:c", None),
        ("system:node:a", None),
        ("system:serviceaccount::b", None),
        ("x system:serviceaccount:a:b", None),
    ],
)
def test_a_subject_is_a_service_account_or_not(subject: str, name: ServiceAccountName | None) -> None:
    assert ServiceAccountName.from_subject(subject) == name


# -- slices -----------------------------------------------------------------------------------------------------------


def slice_of(*addresses: str, family: str = "IPv4", ports: Any = None, **conditions: Any) -> dict[str, Any]:
    return {
        "addressType": family,
        "ports": [{"name": "https", "port": 6443}] if ports is None else ports,
        "endpoints": [{"addresses": [address], "conditions": conditions} for address in addresses],
    }


def test_all_families_are_united_and_each_address_is_named_once() -> None:
    found = endpoints_of(
        {
            "items": [
                slice_of("192.0.2.1", "192.0.2.2"),
                slice_of("2001:db8:0::1", family="IPv6"),
                slice_of(
                    "192.0.2.2", "192.0.2.3", ports=[{"name": "https", "port": 443}, {"name": "other", "port": 1}]
                ),
                slice_of("192.0.2.2"),
                slice_of("api.example", family="FQDN"),
            ]
        }
    )
    assert found == (
        ("192.0.2.1", 6443),
        ("192.0.2.2", 6443),
        ("2001:db8::1", 6443),
        ("192.0.2.2", 443),
        ("192.0.2.3", 443),
    )
    assert all(isinstance(each, ApiServerEndpoint) for each in found)


def test_only_those_that_are_ready_or_do_not_say() -> None:
    slices = {
        "items": [
            slice_of("192.0.2.1", ready=True),
            slice_of("192.0.2.2", ready=False),
            slice_of("192.0.2.3"),
            slice_of("192.0.2.4", ready=None),
        ]
    }
    ready = [each.address for each in endpoints_of(slices)]
    assert ready == ["192.0.2.1", "192.0.2.3", "192.0.2.4"]
    assert [each.address for each in endpoints_of(slices, ready=False)] == ["192.0.2.2"]
    assert len(endpoints_of(slices, ready=None)) == 4


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([{"port": 6443}], [6443]),
        ([{"name": "", "port": 6443}], [6443]),
        ([{"name": "metrics", "port": 1}], []),
        ([{"name": "https", "port": 6443}, {"port": 1}], [6443]),
        ([], []),
    ],
)
def test_the_port_is_the_one_named_https_or_the_nameless(ports: list[dict[str, Any]], found: list[int]) -> None:
    assert [each.port for each in endpoints_of({"items": [slice_of("192.0.2.1", ports=ports)]})] == found


def test_a_slice_without_endpoints_is_empty() -> None:
    assert endpoints_of({"items": [{"addressType": "IPv4", "endpoints": None, "ports": None}]}) == ()


@pytest.mark.parametrize(
    "slices",
    [
        {},
        {"items": 1},
        {"items": [1]},
        {"items": [slice_of("not an address")]},
        {"items": [slice_of("192.0.2.1/../evil")]},
        {"items": [{"addressType": "IPv4", "ports": [{"name": "https"}], "endpoints": [{"addresses": ["192.0.2.1"]}]}]},
        {"items": [{"addressType": "IPv4", "ports": [{"name": "https", "port": 1}], "endpoints": [{}]}]},
    ],
)
def test_a_list_that_is_none_is_one_error(slices: dict[str, Any]) -> None:
    with pytest.raises(UnavailableError, match="EndpointSlices") as caught:
        endpoints_of(slices)
    assert caught.value.code == "cluster-unavailable"
