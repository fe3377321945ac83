"""The command line in processes of its own: a directory with a token, the way to the local STS, every command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tests.pod import CLIENT, PROVIDER, ROLE, TENANT, Pod

AWS = ["--role-arn", ROLE, "--file", "token"]
GCP = ["--provider", PROVIDER, "--file", "token"]
AZURE = ["--tenant-id", TENANT, "--client-id", CLIENT, "--file", "token"]
SCOPE = ["--scope", "https://management.azure.com/.default"]


class Shell:
    """A directory with a token in it, and the variables that lead to the local STS; no identity of its own."""

    def __init__(self, pod: Pod, folder: Path) -> None:
        self.pod, self.folder = pod, folder
        kept = ("HOME", "PATH", "PYTHONWARNINGS", *pod.emulator.environment())
        self.environment = {name: pod.environment[name] for name in kept} | {"XDG_RUNTIME_DIR": str(folder)}
        self.token = (pod.tokens / "any").read_text()
        (folder / "token").write_text(self.token)

    def start(self, *words: str, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["wif", *words],
            cwd=self.folder,
            env=self.environment | changes,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, status: int = 0, stdin: str = "", **changes: str) -> tuple[str, str]:
        """Run, check the exit status, and that no token shows on stderr."""
        process = self.start(*words, **changes)
        out, err = process.communicate(stdin, timeout=60)
        assert process.returncode == status, f"{words}: {process.returncode}\n{out}\n{err}"
        assert self.token not in err
        assert self.token.rpartition(".")[2] not in err
        return out, err

    def json(self, *words: str, stdin: str = "", **changes: str) -> Any:
        return json.loads(self.run(*words, status=0, stdin=stdin, **changes)[0])

    def python(self, program: str, **changes: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=self.folder,
            env=self.environment | changes,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def leaves(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        yield (*path, name), found
        if isinstance(found, click.Group):
            yield from leaves(found, (*path, name))
