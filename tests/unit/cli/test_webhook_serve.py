"""The command line of ``wif webhook serve``, before it asks a cluster."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from wif.cli import main
from wif.cli.webhook_serve import _inherited
from wif.edges.kube import KubeClient
from wif.errors import ConfigurationError

LOADED = KubeClient
"""Before the tests: urllib3 tries out IPv6 when it is loaded."""


@pytest.fixture(autouse=True)
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("WIF_") or name == "KUBECONFIG":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "exactly one of --tls-cert and --self-managed"),
        (["--tls-cert", "a", "--self-managed", "a/b"], "exactly one of --tls-cert and --self-managed"),
        (["--self-managed", "tls", "--tls-name", "a.b.svc"], "--self-managed 'tls' is not NAMESPACE/NAME"),
        (["--self-managed", "a/tls"], "no name for the certificate"),
        (["--tls-cert", "a", "--lease", "/b"], "--lease '/b' is not NAMESPACE/NAME"),
        (["--tls-cert", "a", "--platform-config", "a/b/c"], "--platform-config 'a/b/c' is not NAMESPACE/NAME"),
        (["--tls-cert", "a", "--wait", "9"], "--wait"),
        (["--tls-cert", "a", "--fd", "1"], "--fd"),
        (["--tls-cert", "a", "--aws-token-expiration", "1"], "aws_token_expiration"),
        (["--tls-cert", "a", "--kubeconfig", "none"], "the kubeconfig none"),
    ],
    ids=str,
)
def test_a_command_line_that_cannot_be(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["webhook", "serve", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 2


def test_what_does_not_listen_is_refused() -> None:
    with socket.socket() as idle, Path(os.devnull).open() as file:
        for number in (idle.fileno(), file.fileno(), 4095):
            with pytest.raises(ConfigurationError, match=f"--fd {number}"):
                _inherited(number)
        assert idle.fileno() > 0, "it still belongs to whoever opened it"
        idle.getsockname()
        file.read()
