"""Fakes of two Google APIs over TLS: providers of identity pools (``iam.v1``) and fleet memberships (``gkehub.v1``).

Written from Google's published discovery documents: the paths, ``updateMask``, the long-running operation that an
update answers with, ``requestId`` of the fleet, bytes as base64, errors as ``google.rpc.Status``. As there, nothing
is conditional: the last operation to finish wins.
"""

from __future__ import annotations

__all__ = ["MEMBERSHIP", "PROVIDER", "GoogleApis", "Seen"]

import base64
import http.server
import json
import re
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

PROVIDER = "projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/edge"
MEMBERSHIP = "projects/123456789012/locations/global/memberships/edge"

_PROVIDER_PATH = re.compile(r"projects/[^/]+/locations/[^/]+/workloadIdentityPools/[^/]+/providers/[^/]+")
_MEMBERSHIP_PATH = re.compile(r"projects/[^/]+/locations/[^/]+/memberships/[^/]+")
_OPERATION_PATH = re.compile(
    r"projects/[^/]+/locations/[^/]+(/workloadIdentityPools/[^/]+/providers/[^/]+)?/operations/[^/]+"
)
_JWK_MEMBERS = {"kty", "alg", "use", "kid", "n", "e", "x", "y", "crv"}
_MASKS = {"oidc.jwksJson": "jwksJson", "authority.oidcJwks": "oidcJwks"}
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request that arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Operation:
    """An update under way."""

    name: str
    apply: Callable[[], None]
    polls_left: int
    done: bool = False
    error: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next requests of a method."""

    method: str
    times: int
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: str = ""
    """``before``: the connection ends and nothing was done. ``after``: it ends, and the update was begun."""
    on: str = ""
    """Only requests whose path holds this."""


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class GoogleApis:
    """Both APIs on one address.

    Args:
        context: a server's TLS context.
        polls: how often an operation is not yet done when it is asked for.
        token: the bearer token that is accepted; change it and the old one is expired.
    """

    def __init__(self, context: ssl.SSLContext, *, polls: int = 2, token: str = "ya29.good") -> None:
        self.polls = polls
        self.token = token
        self.resources: dict[str, dict[str, Any]] = {
            PROVIDER: {
                "name": PROVIDER,
                "state": "ACTIVE",
                "attributeMapping": {"google.subject": "assertion.sub"},
                "oidc": {"issuerUri": "https://oidc.example.com/edge", "allowedAudiences": ["a"]},
            },
            MEMBERSHIP: {
                "name": MEMBERSHIP,
                "state": {"code": "READY"},
                "authority": {"issuer": "https://oidc.example.com/edge"},
            },
        }
        self.stale: dict[str, list[dict[str, Any]]] = {}
        """Answers that a GET still gives, one each, before it gives the resource of now."""
        self.operation_error: Mapping[str, Any] | None = None
        """A google.rpc.Status with which the next operations end."""
        self.lost_updates = 0
        """Operations that end well and change nothing."""
        self.tells_late = False
        """Whether an update that is done at once is told as one under way."""
        self.before_patch: Callable[[], None] | None = None
        self.after_done: Callable[[], None] | None = None
        """Called once an operation is done, before it is told: another writer."""
        self.seen: list[Seen] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._operations: dict[str, Operation] = {}
        self._request_ids: dict[str, str] = {}
        self._server = _Server(context, self)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    # -- what tests ask and set -----------------------------------------------------------------------------------

    def key_set(self, name: str) -> bytes | None:
        """The key set that a resource has now."""
        with self.lock:
            oidc, authority = self.resources[name].get("oidc"), self.resources[name].get("authority")
        if oidc is not None:
            return oidc.get("jwksJson", "").encode() or None
        return base64.b64decode((authority or {}).get("oidcJwks", "")) or None

    def put_by_hand(self, name: str, body: bytes) -> None:
        """What another writer does."""
        with self.lock:
            self._set(name, body.decode() if "oidc" in self.resources[name] else base64.b64encode(body).decode())

    def fail(self, method: str, times: int = 1, **what: Any) -> None:
        """Let the next requests of a method fail."""
        self.faults.append(Fault(method, times, **what))

    def patches(self) -> list[Seen]:
        """The updates that arrived."""
        return [seen for seen in self.seen if seen.method == "PATCH"]

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- the APIs -------------------------------------------------------------------------------------------------

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that hits a request."""
        with self.lock:
            for fault in self.faults:
                if fault.method == method and fault.on in path:
                    fault.times -= 1
                    if fault.times == 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def get(self, name: str) -> Mapping[str, Any]:
        """A resource or an operation."""
        with self.lock:
            if _OPERATION_PATH.fullmatch(name):
                return self._operation(name)
            if name not in self.resources:
                raise _Refused(404, f"Requested entity was not found: {name}")
            if self.stale.get(name):
                return self.stale[name].pop(0)
            answer: dict[str, Any] = json.loads(json.dumps(self.resources[name]))
            return answer

    def patch(self, name: str, query: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
        """Begin an update."""
        if self.before_patch is not None:
            self.before_patch()
        with self.lock:
            if name not in self.resources:
                raise _Refused(404, f"Requested entity was not found: {name}")
            value = self._updated(name, query, json.loads(body))
            request_id = query.get("requestId")
            if request_id in self._request_ids:
                return self._answer(self._operations[self._request_ids[request_id]])
            home = name if _PROVIDER_PATH.fullmatch(name) else name.partition("/memberships/")[0]
            operation = Operation(
                name=f"{home}/operations/op-{len(self._operations)}",
                apply=lambda: self._set(name, value),
                polls_left=self.polls,
                error=self.operation_error,
            )
            if self.lost_updates:
                self.lost_updates -= 1
                operation.apply = lambda: None
            self._operations[operation.name] = operation
            if request_id:
                self._request_ids[request_id] = operation.name
            begun = self._answer(operation)
            if not self.polls:
                self._finish(operation)
            return begun if self.tells_late else self._answer(operation)

    def _updated(self, name: str, query: Mapping[str, str], body: Any) -> str:
        is_provider = _PROVIDER_PATH.fullmatch(name) is not None
        mask = "oidc.jwksJson" if is_provider else "authority.oidcJwks"
        if query.get("updateMask") != mask:
            raise _Refused(400, f"the update mask {query.get('updateMask')!r} would change more than {mask}")
        if set(query) - {"updateMask"} - (set() if is_provider else {"requestId"}):
            raise _Refused(400, f"Invalid JSON payload received. Unknown name in {sorted(query)}")
        outer, inner = mask.split(".")
        if set(body) != {outer} or set(body[outer]) - {inner}:
            raise _Refused(400, f"the body changes more than {mask}")
        value: str = body[outer].get(inner, "")
        text = value.encode() if is_provider else base64.b64decode(value, validate=True)
        if text:
            _check_key_set(json.loads(text), strict=is_provider)
        return value

    def _operation(self, name: str) -> Mapping[str, Any]:
        operation = self._operations.get(name)
        if operation is None:
            raise _Refused(404, "no such operation")
        if not operation.done:
            if operation.polls_left > 0:
                operation.polls_left -= 1
            else:
                self._finish(operation)
        return self._answer(operation)

    def _finish(self, operation: Operation) -> None:
        operation.done = True
        if operation.error is None:
            operation.apply()
            if self.after_done is not None:
                self.after_done()

    def _answer(self, operation: Operation) -> Mapping[str, Any]:
        answer: dict[str, Any] = {
            "name": operation.name,
            "metadata": {"@type": "type.googleapis.com/x.OperationMetadata"},
        }
        if operation.done:
            answer["done"] = True
            if operation.error is not None:
                answer["error"] = operation.error
            else:
                answer["response"] = {"@type": "type.googleapis.com/x.Resource"}
        return answer

    def _set(self, name: str, value: str) -> None:
        resource = self.resources[name]
        part, member = (resource["oidc"], "jwksJson") if "oidc" in resource else (resource["authority"], "oidcJwks")
        part.pop(member, None)
        if value:
            part[member] = value


def _check_key_set(document: Any, *, strict: bool) -> None:
    for key in document["keys"]:
        if strict and (set(key) - _JWK_MEMBERS or key["kty"] not in ("RSA", "EC")):
            raise _Refused(400, "Input JWK is not in a valid json format.")


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, context: ssl.SSLContext, apis: GoogleApis) -> None:
        self.context = context
        self.apis = apis
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        plain.settimeout(10)
        return self.context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        self._serve()

    def do_PATCH(self) -> None:
        self._serve()

    def _serve(self) -> None:
        apis = self.server.apis
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        apis.seen.append(Seen(method=self.command, path=parts.path, query=query, body=body))
        fault = apis.take(self.command, parts.path)
        if fault is not None and fault.drop == "before":
            self.close_connection = True
            return
        try:
            if fault is not None and fault.status is not None:
                raise _Refused(fault.status, "as the test wants it")
            if self.headers.get("authorization") != f"Bearer {apis.token}":
                raise _Refused(401, "Request had invalid authentication credentials.")
            name = parts.path.removeprefix("/v1/")
            answer = apis.get(name) if self.command == "GET" else apis.patch(name, query, body)
            status = 200
        except _Refused as refused:
            status = refused.status
            answer = {"error": {"code": status, "message": str(refused), "status": _CODES.get(status, "UNKNOWN")}}
        if fault is not None and fault.drop == "after":
            self.close_connection = True
            return
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json; charset=UTF-8")
        self.send_header("content-length", str(len(content)))
        for key, value in (fault.headers if fault else {}).items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are remembered, not printed."""
