"""Google's metadata server, as far as credentials go: which question a request asks, and what it is answered.

Only a fixed header is asked for, which every process of the pod's network namespace can send. What the clients look
at was seen with google-auth, gcloud, and the libraries of Go, Java and Node: each finds out in another way whether it
is there, and each wants ``Metadata-Flavor: Google`` in every answer.

Source: Compute Engine's documentation, "About VM metadata" and "Predefined metadata keys".
"""

from __future__ import annotations

__all__ = [
    "MAX_SCOPES",
    "ROWS",
    "WAIT_SECONDS",
    "Account",
    "Case",
    "IdTokenAsked",
    "Machine",
    "Row",
    "TokenAsked",
    "failed",
    "id_token_answer",
    "read_request",
    "state_answer",
    "token_answer",
]

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, NamedTuple

from wif.clouds.answers import shown
from wif.clouds.endpoint_answers import Answer, state_of
from wif.clouds.endpoint_requests import Headers, header_values, parameters, seconds_left
from wif.core.credentials import AccessToken
from wif.errors import ConfigurationError, WifError

WAIT_SECONDS = 2.5
"""How long a request may wait for an exchange: google-auth gives up after 3 s, Go's library after 5."""
MAX_SCOPES = 32
"""Of one token. gcloud asks for seven."""

_ROOT = "/computeMetadata/v1"
_SECRET = re.compile(rf"{_ROOT}/instance/service-accounts/([^/]+)/(token|identity)/?")
_MAX_AUDIENCE = 1024
_MAX_TEXT = 1024
_SCOPE = re.compile(r"https://(?:[a-z0-9-]+\.)*(?:googleapis|google)\.com/[\x21-\x7e]{0,200}|openid|email|profile")
_AUDIENCE = re.compile(rf"[\x21-\x7e]{{1,{_MAX_AUDIENCE}}}")
_TEXT = b"application/text"
_JSON = b"application/json"
_PLAIN = b"text/plain; charset=utf-8"

Case = Literal[
    "ready", "pending", "outage", "refused", "unknown-account", "no-id-token", "no-header", "invalid", "too-many"
]
"""The four states of an identity, and what else can be wrong with a request."""


class Row(NamedTuple):
    """What one case is answered with, and what comes of it."""

    status: int
    clients: str
    """What the clients do; measured with google-auth."""


# google-auth: 408, 429, 500, 503 and 504 are asked again, five times in all with pauses of 1, 2, 4 and 8 s; every other
# one raises at once and shows the text. Node and Go retry all of 500 to 599; Go hides the text of a 404. A library that
# has found the metadata server looks nowhere else, whatever it then answers.
ROWS: Mapping[Case, Row] = {
    "ready": Row(200, "use the token until it is nearly over"),
    "pending": Row(503, "ask again, in all five times within 15 s and the waiting"),
    "outage": Row(503, "ask again, in all five times within 15 s, then raise with the text"),
    "refused": Row(403, "raise at once, with the cloud's own words"),
    "unknown-account": Row(404, "raise at once"),
    "no-id-token": Row(400, "raise at once, with the reason"),
    "no-header": Row(403, "does not happen: every client sends the header"),
    "invalid": Row(400, "raise at once, with the reason"),
    "too-many": Row(429, "ask again, in all five times within 15 s, then raise with the text"),
}
"""The table of the interface. A valid token is answered with 200, whatever else goes on."""


class Account(NamedTuple):
    """One identity, as this interface shows it."""

    name: str
    """Of the identity in the configuration."""
    email: str | None
    """None for direct access, which has no e-mail address."""
    scopes: tuple[str, ...]
    """What a token is for if nobody names scopes."""
    is_default: bool

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of its folder, in lower case."""
        return (*(["default"] if self.is_default else []), *([self.email.lower()] if self.email else []))


class Machine(NamedTuple):
    """Everything that is not secret."""

    accounts: tuple[Account, ...]
    project_id: str | None
    project_number: str | None
    universe_domain: str

    def account(self, path: str) -> Account | None:
        """Whose folder this is."""
        wanted = path.lower()
        return next((each for each in self.accounts if wanted in each.paths), None)


class TokenAsked(NamedTuple):
    """A request for an access token."""

    account: Account
    scopes: tuple[str, ...] | None
    """In an order of their own, each once; None: the account's."""

    @property
    def key(self) -> tuple[str, ...] | None:
        """What tells kinds of tokens apart; None for the account's own."""
        return self.scopes


class IdTokenAsked(NamedTuple):
    """A request for an ID token."""

    account: Account
    audience: str
    include_email: bool

    @property
    def key(self) -> tuple[str, bool]:
        """What tells kinds of tokens apart."""
        return self.audience, self.include_email


def read_request(machine: Machine, *, path: str, query: bytes, headers: Headers) -> TokenAsked | IdTokenAsked | Answer:
    """What a GET asks for: a token, or something that is answered here.

    Args:
        path: percent-decoded.
        query: as it was sent.
    """
    if header_values(headers, b"metadata-flavor") != (b"Google",):
        return state_answer("no-header", "send the header Metadata-Flavor: Google")
    try:
        asked = parameters(query)
        return _secret_of(machine, path, asked) or _value_of(machine, path, asked)
    except ConfigurationError as error:
        return state_answer("invalid", error.message)


def token_answer(credential: AccessToken, *, now: float) -> Answer:
    """An access token; what is left of it is counted now."""
    left = seconds_left(credential, now)
    body = {"access_token": credential.token, "expires_in": left, "token_type": "Bearer"}
    return _answer(200, _JSON, json.dumps(body).encode())


def id_token_answer(credential: AccessToken) -> Answer:
    """An ID token: the answer is the token itself."""
    return _answer(200, _TEXT, credential.token.encode())


def state_answer(case: Case, text: str) -> Answer:
    """The answer of a case in which there is no token.

    Args:
        text: for the eyes of whoever runs the program; every client shows it.
    """
    return _answer(ROWS[case].status, _PLAIN, f"{text[:_MAX_TEXT]}\n".encode())


def failed(error: WifError) -> Answer:
    """The answer where an exchange has failed, or has not ended while the request waited, and no token is valid."""
    if error.code == "timeout":
        return state_answer("pending", f"{error.message}; ask again")
    text = "; ".join(part for part in (error.message, error.hint) if part)
    return state_answer("outage" if state_of(error) == "outage" else "refused", text)


def _answer(status: int, kind: bytes, body: bytes) -> Answer:
    flavor, no_store = (b"metadata-flavor", b"Google"), (b"cache-control", b"no-store")
    return Answer(status, body, ((b"content-type", kind), flavor, no_store))


# -- tokens ----------------------------------------------------------------------------------------------------------


def _secret_of(machine: Machine, path: str, asked: Mapping[str, str]) -> TokenAsked | IdTokenAsked | Answer | None:
    found = _SECRET.fullmatch(path)
    if found is None:
        return None
    account = machine.account(found[1])
    if account is None:
        return _unknown(found[1])
    if found[2] == "token":
        return TokenAsked(account, _scopes(asked.get("scopes", ""), account.scopes))
    return _id_token(account, asked)


def _unknown(name: str) -> Answer:
    return state_answer("unknown-account", f"no service account {shown(name)} is served here")


@lru_cache(maxsize=64)
def _scopes(text: str, usual: tuple[str, ...]) -> tuple[str, ...] | None:
    """The scopes asked for. Their order and number of times are nobody's wish, but would each take a cache."""
    scopes = set(re.split(r"[,\s]+", text.strip(", \t\r\n"))) - {""}
    if len(scopes) > MAX_SCOPES:
        raise ConfigurationError(f"more than {MAX_SCOPES} scopes", code="scope-invalid")
    wrong = sorted(each for each in scopes if not _SCOPE.fullmatch(each))
    if wrong:
        raise ConfigurationError(f"{shown(wrong[0])} is no scope of Google", code="scope-invalid")
    return None if not scopes or scopes == set(usual) else tuple(sorted(scopes))


def _id_token(account: Account, asked: Mapping[str, str]) -> IdTokenAsked | Answer:
    audience, form = asked.get("audience", ""), asked.get("format", "standard")
    if not _AUDIENCE.fullmatch(audience):
        raise ConfigurationError(
            f"an ID token needs audience=, 1 to {_MAX_AUDIENCE} visible ASCII characters", code="parameter-invalid"
        )
    if form not in ("standard", "full"):
        raise ConfigurationError("format= is standard or full", code="parameter-invalid")
    if account.email is None:
        return state_answer(
            "no-id-token",
            f"the identity {account.name} is a federated principal without a service account, and Google makes ID "
            "tokens for service accounts only: name a service_account for it",
        )
    return IdTokenAsked(account, audience, form == "full")


# -- everything else -------------------------------------------------------------------------------------------------

_Leaf = str | int | list[str]
_Folder = Mapping[str, "_Leaf | _Folder"]


def _value_of(machine: Machine, path: str, asked: Mapping[str, str]) -> Answer:
    if "wait_for_change" in asked:
        raise ConfigurationError("wait_for_change is not served: nothing here changes", code="parameter-invalid")
    form = asked.get("alt", "json" if asked.get("recursive", "").lower() == "true" else "text")
    if form not in ("json", "text"):
        raise ConfigurationError("alt= is json or text", code="parameter-invalid")
    node: _Leaf | _Folder | None = _tree(machine)
    steps = [step for step in path.split("/") if step]
    steps[4:5] = [step.lower() for step in steps[4:5]]  # an account's folder
    for step in steps:
        node = node.get(step) if isinstance(node, Mapping) else None
    if node is None:
        if steps[:4] == ["computeMetadata", "v1", "instance", "service-accounts"]:
            return _unknown("/".join(steps[4:]))
        return _answer(404, _PLAIN, b"not found\n")
    if form == "json":
        return _answer(200, _JSON, json.dumps(_json_form(node)).encode())
    return _answer(200, _TEXT, _text_form(node).encode())


def _tree(machine: Machine) -> _Folder:
    project = {"numeric-project-id": machine.project_number, "project-id": machine.project_id}
    return {
        "computeMetadata": {
            "v1": {
                "instance": {"service-accounts": {name: _folder(a) for a in machine.accounts for name in a.paths}},
                "project": {name: value for name, value in project.items() if value is not None},
                "universe": {"universe-domain": machine.universe_domain},
            }
        }
    }


def _folder(account: Account) -> _Folder:
    return {
        "aliases": ["default"] if account.is_default else [],
        "email": account.email or "default",
        "scopes": list(account.scopes),
    }


def _text_form(node: _Leaf | _Folder) -> str:
    """As the metadata server writes it: a line for each element, names of folders with a slash."""
    if isinstance(node, Mapping):
        secrets = ["identity", "token"] if "scopes" in node else []
        lines = [f"{name}/" if isinstance(value, Mapping) else name for name, value in node.items()] + secrets
        return "".join(f"{line}\n" for line in sorted(lines))
    if isinstance(node, list):
        return "".join(f"{each}\n" for each in node)
    return str(node)


def _json_form(node: _Leaf | _Folder) -> object:
    """As the metadata server writes it: camel case, a project's number as one. No token is in a listing."""
    if not isinstance(node, Mapping):
        return node
    return {
        re.sub(r"-(.)", lambda found: found[1].upper(), name) if "@" not in name else name: (
            int(value) if name == "numeric-project-id" and isinstance(value, str) else _json_form(value)
        )
        for name, value in node.items()
    }
