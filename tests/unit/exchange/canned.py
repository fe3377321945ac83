"""A sender with prepared answers, and subject tokens whose signature nobody looks at."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from wif.core.flow import Request, Response
from wif.core.hosts import AllowedHosts
from wif.errors import TransportError

NOW = 1_790_000_000.0
"""Unix seconds at which the tests happen."""


def subject_token(subject: str = "system:serviceaccount:shop:cart", *, serial: int = 1, **claims: Any) -> str:
    """A token as Kubernetes writes it, unsigned."""
    _, _, namespace, name = subject.split(":")
    payload = {
        "iss": "https://oidc.example.com/cluster-a",
        "sub": subject,
        "aud": ["sts.amazonaws.com"],
        "iat": NOW - 10,
        "nbf": NOW - 10,
        "exp": NOW + 3600,
        "jti": f"jti-{serial}",
        "kubernetes.io": {
            "namespace": namespace,
            "serviceaccount": {"name": name, "uid": f"uid-of-{name}"},
            "pod": {"name": f"{name}-0", "uid": "pod-uid"},
        },
    } | claims
    parts = [{"alg": "RS256", "kid": "k"}, payload]
    return ".".join([*(_b64(json.dumps(part).encode()) for part in parts), _b64(b"signature")])


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


Answer: TypeAlias = Response | Exception | Callable[[Request], Response]


@dataclass
class Canned:
    """Answers requests by their operation; the last answer of an operation repeats."""

    answers: Mapping[str, Sequence[Answer]]
    requests: list[Request] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    aborted: threading.Event = field(default_factory=threading.Event)

    def send(self, request: Request, *, deadline: float, hosts: AllowedHosts) -> Response:
        """The next answer; the host rule holds here as in the real one."""
        assert deadline > 0
        hosts.check(request.url)
        self.requests.append(request)
        queue = self.answers[request.operation]
        answer = queue[min(self.count(request.operation), len(queue)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Response) else answer(request)

    def abort(self, thread: int | None = None) -> None:
        """Let a hanging answer go on."""
        assert thread is not None
        self.aborted.set()

    def hang(self, _: Request) -> Response:
        """An answer that comes only when it is aborted."""
        self.aborted.wait(10)
        raise TransportError("aborted", code="timeout")

    def count(self, operation: str) -> int:
        """How many requests of an operation came."""
        return sum(request.operation == operation for request in self.requests)


def form(request: Request) -> Mapping[str, str]:
    """The form of a request."""
    return {name: values[0] for name, values in parse_qs(request.body.decode()).items()}


def aws_keys(serial: int = 1, *, life_seconds: int = 3600, operation: str = "AssumeRoleWithWebIdentity") -> Response:
    """Keys as STS gives them."""
    end = _iso(NOW + life_seconds)
    body = f"""<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{operation}Result>
      <AssumedRoleUser><AssumedRoleId>AROA:cart</AssumedRoleId>
      <Arn>arn:aws:sts::111122223333:assumed-role/app/cart</Arn></AssumedRoleUser>
      <Credentials><AccessKeyId>ASIA{serial:012}</AccessKeyId><SecretAccessKey>sec/ret</SecretAccessKey>
      <SessionToken>session-token</SessionToken><Expiration>{end}</Expiration></Credentials>
      </{operation}Result></{operation}Response>"""
    return Response(status=200, headers={"content-type": "text/xml"}, body=body.encode())


def aws_error(code: str, message: str, status: int = 400) -> Response:
    """An error as STS gives it."""
    body = f"""<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
      <Code>{code}</Code><Message>{message}</Message></Error><RequestId>r</RequestId></ErrorResponse>"""
    return Response(status=status, headers={"content-type": "text/xml"}, body=body.encode())


def as_json(body: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """A JSON answer."""
    return Response(
        status=status, headers={"content-type": "application/json"} | headers, body=json.dumps(body).encode()
    )


def google_token(serial: int = 1, *, life_seconds: int = 3599) -> Response:
    """A federated token."""
    return as_json(
        {
            "access_token": f"ya29.federated-{serial}",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "token_type": "Bearer",
            "expires_in": life_seconds,
        }
    )


def service_account_token(serial: int = 1) -> Response:
    """A service account's token."""
    return as_json({"accessToken": f"ya29.account-{serial}", "expireTime": _iso(NOW + 3600)})


def entra_token(serial: int = 1, *, life_seconds: int = 3599) -> Response:
    """An Entra access token."""
    return as_json({"token_type": "Bearer", "expires_in": life_seconds, "access_token": f"eyJ.entra.{serial}"})


def entra_error(number: int, status: int = 401) -> Response:
    """An Entra error."""
    return as_json(
        {"error": "invalid_client", "error_description": f"AADSTS{number}: no.", "error_codes": [number]}, status
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
