"""Executable sources: run only where Google's switch says so, bounded in time and size, ended with their children."""

from __future__ import annotations

import json
import os
import shlex
import sys
import time
from pathlib import Path

import pytest

from wif.edges.executable import ALLOW_VARIABLE, ExecutableSource
from wif.errors import ConfigurationError, TokenError

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"
ALLOWED = {ALLOW_VARIABLE: "1", "PATH": os.environ.get("PATH", "")}
JWT = "urn:ietf:params:oauth:token-type:jwt"
GOOD = {"version": 1, "success": True, "token_type": JWT, "id_token": TOKEN, "expiration_time": 4102444800}


def program(
    code: str,
    *,
    environ: dict[str, str] | None = None,
    timeout_seconds: float = 20.0,
    output_file: str | None = None,
    impersonated_email: str | None = None,
) -> ExecutableSource:
    return ExecutableSource(
        shlex.join([sys.executable, "-c", code]),
        audience="//iam.googleapis.com/a",
        environ=ALLOWED if environ is None else environ,
        timeout_seconds=timeout_seconds,
        output_file=output_file,
        impersonated_email=impersonated_email,
    )


def printing(answer: object) -> str:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return f"print({text!r})"


@pytest.mark.parametrize("value", [None, "", "0", "true", "11"])
def test_nothing_runs_without_googles_switch(tmp_path: Path, value: str | None) -> None:
    witness = tmp_path / "ran"
    environ = {} if value is None else {ALLOW_VARIABLE: value}
    with pytest.raises(ConfigurationError) as caught:
        program(f"open({str(witness)!r}, 'w')", environ=environ).read()
    assert caught.value.code == "credential-source-refused"
    assert ALLOW_VARIABLE in caught.value.hint
    assert not witness.exists()


def test_a_program_prints_a_token() -> None:
    assert program(printing(GOOD)).read() == TOKEN


def test_a_program_learns_what_is_asked(tmp_path: Path) -> None:
    seen = tmp_path / "environ"
    source = program(
        f"import json, os, sys; json.dump(dict(os.environ), open({str(seen)!r}, 'w'));"
        f"assert sys.stdin.read() == ''; {printing(GOOD)}",
        impersonated_email="a@p.iam.gserviceaccount.com",
        output_file=str(tmp_path / "out"),
    )
    assert source.read() == TOKEN
    told = {name: value for name, value in json.loads(seen.read_text()).items() if name.startswith("GOOGLE_")}
    assert told == {
        ALLOW_VARIABLE: "1",
        "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": "//iam.googleapis.com/a",
        "GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE": JWT,
        "GOOGLE_EXTERNAL_ACCOUNT_ID": "a@p.iam.gserviceaccount.com",
        "GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE": "0",
        "GOOGLE_EXTERNAL_ACCOUNT_REVOKE": "0",
        "GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL": "a@p.iam.gserviceaccount.com",
        "GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE": str(tmp_path / "out"),
    }


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    source = ExecutableSource(f"/bin/echo '$(touch {witness})' ; touch {witness}", audience="a", environ=ALLOWED)
    with pytest.raises(TokenError):
        source.read()
    assert not witness.exists()


@pytest.mark.parametrize("command", ["", "  ", "'unclosed"])
def test_a_command_that_is_none_is_refused_at_once(command: str) -> None:
    with pytest.raises(ConfigurationError):
        ExecutableSource(command, audience="a", environ=ALLOWED)


def test_what_is_written_to_stderr_does_no_harm() -> None:
    assert program(f"import sys; sys.stderr.write('log line\\n'); {printing(GOOD)}").read() == TOKEN


WRONG = {
    "nothing": ("", "one JSON object", "token-source-failed"),
    "no JSON": (printing("hello"), "one JSON object", "token-source-failed"),
    "a list": (printing([1]), "one JSON object", "token-source-failed"),
    "deep": (printing("[" * 20_000), "one JSON object", "token-source-failed"),
    "binary": ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe\\x00')", "one JSON object", "token-source-failed"),
    "no version": (printing({**GOOD, "version": None}), "version 1", "token-source-failed"),
    "another version": (printing({**GOOD, "version": 2}), "version 1", "token-source-failed"),
    "no success": (printing({**GOOD, "success": "yes"}), "version 1", "token-source-failed"),
    "saml": (
        printing({**GOOD, "token_type": "urn:ietf:params:oauth:token-type:saml2"}),
        "saml2",
        "token-source-failed",
    ),
    "no token": (printing({**GOOD, "id_token": None}), "no id_token", "token-source-failed"),
    "an odd time": (printing({**GOOD, "expiration_time": "soon"}), "expiration_time", "token-source-failed"),
    "expired": (printing({**GOOD, "expiration_time": 1}), "expired", "token-expired"),
    "a failure": (
        printing({"version": 1, "success": False, "code": "401", "message": "not you"}),
        "said no: 401: not you",
        "token-source-failed",
    ),
    "an exit status": (f"import sys; {printing(GOOD)}; sys.exit(3)", "exit status 3", "token-source-failed"),
    "too much": ("while True: print('x' * 10000)", "more than", "token-too-large"),
}


@pytest.mark.parametrize(("code", "words", "slug"), WRONG.values(), ids=WRONG)
def test_a_program_that_does_it_wrong_is_said(code: str, words: str, slug: str) -> None:
    started = time.monotonic()
    with pytest.raises(TokenError, match=words) as caught:
        program(code).read()
    assert caught.value.code == slug
    assert TOKEN not in str(caught.value)
    assert time.monotonic() - started < 10


def test_a_program_that_is_not_there_is_said() -> None:
    with pytest.raises(TokenError, match="cannot be run") as caught:
        ExecutableSource("/no/such/program", audience="a", environ=ALLOWED).read()
    assert caught.value.code == "token-source-failed"


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        "import os, time; os.close(1); time.sleep(60)",
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)",
    ],
    ids=["sleeps", "closes its output", "leaves a child with its output", "ignores signals"],
)
def test_a_program_that_takes_too_long_is_ended(code: str) -> None:
    started = time.monotonic()
    with pytest.raises(TokenError, match="did not end within 1 s"):
        program(code, timeout_seconds=1.0).read()
    assert time.monotonic() - started < 4


def test_children_end_with_the_program(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(p.pid))\ntime.sleep(60)"
    )
    with pytest.raises(TokenError):
        program(code, timeout_seconds=1.5).read()
    child = int(pid_file.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            break
        if state == "Z":
            break
        time.sleep(0.02)
    else:
        pytest.fail("the child still runs")


def test_an_output_file_that_still_lives_saves_the_run(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.write_text(json.dumps(GOOD))
    assert program("raise SystemExit(9)", output_file=str(out)).read() == TOKEN


@pytest.mark.parametrize(
    "kept",
    [
        {**GOOD, "expiration_time": 1},
        {name: value for name, value in GOOD.items() if name != "expiration_time"},
        {"version": 1, "success": False, "code": "1", "message": "no", "expiration_time": 4102444800},
        "not json",
        [1],
    ],
    ids=["expired", "without a time", "a failure", "no JSON", "a list"],
)
def test_an_output_file_that_helps_nothing_is_passed_over(tmp_path: Path, kept: object) -> None:
    out = tmp_path / "out"
    out.write_text(kept if isinstance(kept, str) else json.dumps(kept))
    assert program(printing({**GOOD, "id_token": "new.to.ken"}), output_file=str(out)).read() == "new.to.ken"


def test_a_program_may_write_its_answer_to_the_output_file_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = f"import os; open(os.environ['GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE'], 'w').write({json.dumps(GOOD)!r})"
    assert program(code, output_file=str(out)).read() == TOKEN
    out.unlink()
    with pytest.raises(TokenError, match="printed nothing"):
        program("pass", output_file=str(out)).read()
