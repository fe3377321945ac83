"""A subject token that a program prints, as Google's ``external_account`` files name one.

Google's own rules: the program runs only where ``GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES`` is ``1``, learns what is
asked from ``GOOGLE_EXTERNAL_ACCOUNT_*`` variables, and prints one JSON object (version 1). Here it is never run by a
shell, has no standard input, is ended with its children when its time is over, and its output is bounded.
"""

from __future__ import annotations

__all__ = ["ALLOW_VARIABLE", "ExecutableSource"]

import json
import os
import shlex
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from wif.core.freshness import MAX_SUBJECT_TOKEN_BYTES
from wif.edges.files import read_bounded
from wif.errors import ConfigurationError, TokenError

if TYPE_CHECKING:
    import subprocess

ALLOW_VARIABLE = "GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES"
"""Google's switch; only the value ``1`` counts."""

_MAX_OUTPUT_BYTES = 3 * MAX_SUBJECT_TOKEN_BYTES
"""A token of the largest size and what the JSON around it takes."""

_TOKEN_TYPES = ("urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token")


class ExecutableSource:
    """A token from a program, run anew for each exchange unless its own output file holds one that still lives.

    Args:
        command: the program with its arguments, split as a POSIX shell would, run without a shell.
        audience: the provider's full name, told to the program.
        token_type: what kind of token is asked for: a URN of RFC 8693.
        timeout_seconds: the program's time; Google allows 5 to 120.
        impersonated_email: the service account, where one is impersonated.
        output_file: where the program keeps its last answer.
        environ: the environment with Google's switch, handed on to the program.
    """

    def __init__(
        self,
        command: str,
        *,
        audience: str,
        token_type: str = _TOKEN_TYPES[0],
        timeout_seconds: float = 30.0,
        impersonated_email: str | None = None,
        output_file: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError:
            self._arguments = []
        if not self._arguments:
            raise ConfigurationError("the executable source has no usable command", code="config-invalid")
        self._timeout_seconds = timeout_seconds
        self._output_file = output_file
        self._environ = os.environ if environ is None else environ
        self._told = {
            "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": audience,
            "GOOGLE_EXTERNAL_ACCOUNT_TOKEN_TYPE": token_type,
            "GOOGLE_EXTERNAL_ACCOUNT_ID": impersonated_email or "",
            "GOOGLE_EXTERNAL_ACCOUNT_INTERACTIVE": "0",
            "GOOGLE_EXTERNAL_ACCOUNT_REVOKE": "0",
        }
        if impersonated_email:
            self._told["GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL"] = impersonated_email
        if output_file:
            self._told["GOOGLE_EXTERNAL_ACCOUNT_OUTPUT_FILE"] = output_file

    @property
    def origin(self) -> str:
        """The program's path, without its arguments."""
        return f"executable {self._arguments[0]}"

    def __repr__(self) -> str:
        return f"ExecutableSource({self._arguments[0]!r})"

    def read(self) -> str:
        """The token that the program prints.

        Raises:
            ConfigurationError: credential-source-refused where Google's switch is not set.
            TokenError: token-source-failed, token-expired, token-too-large.
        """
        if self._environ.get(ALLOW_VARIABLE) != "1":
            raise ConfigurationError(
                f"the credential file asks to run {self._arguments[0]!r} for a token, which is not allowed here",
                code="credential-source-refused",
                hint=f"if you trust the file, set {ALLOW_VARIABLE}=1, as for Google's own libraries",
            )
        kept = self._kept()
        if kept is not None:
            return kept
        printed = self._run()
        if not printed.strip() and self._output_file:
            try:
                printed = read_bounded(self._output_file, _MAX_OUTPUT_BYTES)
            except (OSError, ValueError):
                self._fail("printed nothing, and its output file cannot be read")
        return self._token(printed)

    def _kept(self) -> str | None:
        """The token of the output file, where that still lives; whatever is wrong with it, the program is asked."""
        if not self._output_file:
            return None
        try:
            data = read_bounded(self._output_file, _MAX_OUTPUT_BYTES)
            answer = json.loads(data)
            if isinstance(answer, dict) and "expiration_time" in answer:
                return self._token(data)
        except (OSError, ValueError, RecursionError, TokenError):
            pass
        return None

    def _run(self) -> bytes:
        import subprocess  # noqa: PLC0415  # only where a program is run
        import threading  # noqa: PLC0415

        try:
            process = subprocess.Popen(  # noqa: S603  # the caller has allowed it by Google's switch
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**self._environ, **self._told},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "a zero byte in its environment or arguments"
            raise TokenError(
                f"the program {self._arguments[0]!r} cannot be run: {reason}", code="token-source-failed"
            ) from error
        stream = process.stdout
        assert stream is not None  # noqa: S101  # asked for above
        printed: list[bytes] = []
        reader = threading.Thread(target=lambda: printed.append(stream.read(_MAX_OUTPUT_BYTES + 1)), daemon=True)
        ends = time.monotonic() + self._timeout_seconds
        reader.start()
        try:
            reader.join(self._timeout_seconds)
            if not reader.is_alive() and len(printed[0]) <= _MAX_OUTPUT_BYTES:
                process.wait(max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            late = process.poll() is None or reader.is_alive()
            if late:
                _end(process)
                reader.join(1.0)
            if not reader.is_alive():
                stream.close()
        if printed and len(printed[0]) > _MAX_OUTPUT_BYTES:
            self._fail(f"printed more than {_MAX_OUTPUT_BYTES} bytes", code="token-too-large")
        if late:
            self._fail(f"did not end within {self._timeout_seconds:g} s")
        if process.returncode != 0:
            self._fail(f"ended with exit status {process.returncode}")
        return printed[0]

    def _token(self, data: bytes) -> str:
        try:
            answer = json.loads(data)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self._fail("did not print one JSON object")
        if answer.get("version") != 1 or not isinstance(answer.get("success"), bool):
            self._fail("did not print version 1 of the answer with the member success")
        if not answer["success"]:
            self._fail(f"said no: {_shown(answer.get('code'))}: {_shown(answer.get('message'))}")
        expires = answer.get("expiration_time")
        if expires is not None and (isinstance(expires, bool) or not isinstance(expires, int | float)):
            self._fail("printed an expiration_time that is no number")
        if expires is not None and expires <= time.time():
            self._fail("gave a token that has expired", code="token-expired")
        if answer.get("token_type") not in _TOKEN_TYPES:
            self._fail(f"gave a token of type {_shown(answer.get('token_type'))}, expected a jwt or id_token")
        token = answer.get("id_token")
        if not isinstance(token, str) or not token:
            self._fail("gave no id_token")
        return token

    def _fail(self, what: str, *, code: str = "token-source-failed") -> NoReturn:
        raise TokenError(
            f"the program {self._arguments[0]!r} {what}",
            code=code,
            hint="run the program by hand with the variables of Google's executable sources",
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its own session: the group has its number
    elif process.poll() is None:
        process.kill()
    process.wait()


def _shown(value: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(value)[:200])
