"""A certificate made for a server, and what a client would say of it."""

from __future__ import annotations

import contextlib
import io
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from wif.errors import ConfigurationError, UnavailableError
from wif.serve.certificate_authority import MadePair, main, make_pair, request_pair
from wif.serve.certificate_check import certificates_of, look_at

NAMES = ["hook.wif-system.svc", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def made() -> MadePair:
    return make_pair(NAMES, life_seconds=900)


def context_of(made: MadePair, folder: Path) -> ssl.SSLContext:
    file = folder / "pair.pem"
    file.write_text(made.chain + made.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_it_is_accepted_by_its_authority_for_each_of_its_names(made: MadePair, tmp_path: Path) -> None:
    found = look_at(context_of(made, tmp_path), authorities=made.authority, names=NAMES)
    assert found.problem == ""
    assert found.not_after == made.not_after == pytest.approx(time.time() + 900, abs=60)
    assert found.not_before < time.time() - 200, "the API server's clock may be behind"


def test_it_is_accepted_by_a_strict_client(made: MadePair, tmp_path: Path) -> None:
    server = context_of(made, tmp_path)
    client = ssl.create_default_context(cadata=made.authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=NAMES[0]),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(6):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert sides[0].version() == "TLSv1.3"


def test_what_a_client_would_refuse(made: MadePair, tmp_path: Path) -> None:
    server = context_of(made, tmp_path)
    other = make_pair(NAMES, life_seconds=900)
    assert "issuer" in look_at(server, authorities=other.authority).problem
    assert look_at(server, authorities=other.authority + made.authority).problem == ""
    assert "hostname" in look_at(server, authorities=made.authority, names=["hook", NAMES[0]]).problem
    assert "hostname" in look_at(server, authorities=made.authority, names=[NAMES[0], "hook"]).problem
    assert look_at(server, authorities="").problem != ""
    assert look_at(server, authorities="text").problem != ""
    assert look_at(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)).problem.startswith("no handshake")


def test_without_an_authority_its_dates_are_looked_at(tmp_path: Path) -> None:
    made = make_pair(["a.example"], life_seconds=2)
    server = context_of(made, tmp_path)
    assert look_at(server).not_after == made.not_after
    while time.time() < made.not_after + 1:
        time.sleep(0.1)
    assert "expired" in look_at(server).problem
    assert "expired" in look_at(server, authorities=made.authority).problem


def test_certificates_of_a_text_are_compared_whatever_stands_around_them(made: MadePair) -> None:
    authority = made.authority
    assert certificates_of("# mine\r\n" + authority.replace("\n", "\r\n") + "tail" + authority) == (authority,)
    assert certificates_of("") == ()
    assert certificates_of("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----") == ()


# -- the child -------------------------------------------------------------------------------------------------------


def test_a_child_makes_what_is_asked_for() -> None:
    found = request_pair(["a.example"], life_seconds=600)
    assert found.not_after == pytest.approx(time.time() + 600, abs=60)
    assert found.key.startswith("-----BEGIN PRIVATE KEY-----")
    assert "cryptography" not in {name.partition(".")[0] for name in vars(sys.modules[request_pair.__module__])}


@pytest.mark.parametrize(
    ("names", "life"),
    [([], 900), (["a b"], 900), (["x" * 300], 900), (["a"] * 33, 900), (["a"], 1), (["a"], 10**12), ([""], 900)],
    ids=str,
)
def test_a_child_says_what_it_cannot_make(names: list[str], life: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        make_pair(names, life_seconds=life)
    assert caught.value.code == "config-invalid"


def test_its_refusal_comes_through() -> None:
    with pytest.raises(ConfigurationError, match="'a b' is no name"):
        request_pair(["a b"], life_seconds=900)


def test_a_child_that_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(UnavailableError) as caught:
        request_pair(["a"], life_seconds=900)
    assert caught.value.code == "certificate-failed"


def child(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str) -> dict[str, Any]:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert main() == 0
    out, err = capsys.readouterr()
    assert err == ""
    found: dict[str, Any] = json.loads(out)
    return found


def test_a_childs_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    request = json.dumps({"names": ["a.example"], "life_seconds": 600})
    assert set(child(monkeypatch, capsys, request)) == {"authority", "chain", "key", "not_after"}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"names": 5, "life_seconds": 600}', '{"names": ["a b"]}'])
def test_a_request_that_a_child_cannot_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    assert set(child(monkeypatch, capsys, text)["error"]) == {"message", "code", "hint"}
