"""Azure Blob by azurite (npm) on an ephemeral port; found by ``WIF_AZURITE``, the path of its ``blob/main.js``."""

from __future__ import annotations

__all__ = ["ACCOUNT", "KEY", "Azurite", "missing_azurite"]

import base64
import email.utils
import hashlib
import hmac
import os
import re
import selectors
import shutil
import subprocess
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The development account's well-known name and key."""

_READY_SECONDS = 60.0
_LISTENS = re.compile(rb"listens on (http://127\.0\.0\.1:\d+)")


def missing_azurite() -> str | None:
    """What is not there; None where azurite can be started."""
    program = os.environ.get("WIF_AZURITE")
    if not program:
        return (
            "WIF_AZURITE is not set (npm install --prefix DIR azurite; DIR/node_modules/azurite/dist/src/blob/main.js)"
        )
    if not Path(program).is_file():
        return f"WIF_AZURITE names {program}, which is not there"
    return None if shutil.which("node") else "node is not on PATH"


class Azurite:
    """A context manager. ``endpoint`` is what a target's ``endpoint`` says: it ends in the account's name."""

    def __init__(self) -> None:
        self.environ = {"AZURE_STORAGE_KEY": KEY}
        self._containers = 0

    def __enter__(self) -> Azurite:
        program = os.environ["WIF_AZURITE"]
        node = shutil.which("node")
        assert node is not None
        arguments = ["--blobHost", "127.0.0.1", "--blobPort", "0", "--inMemoryPersistence", "--silent"]
        self._process = subprocess.Popen([node, program, *arguments, "--disableTelemetry"], stdout=subprocess.PIPE)
        self.endpoint = f"{self._address()}/{ACCOUNT}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def container(self) -> str:
        """The name of a new container, whose blobs anybody may read."""
        self._containers += 1
        name = f"container-{self._containers}"
        date = email.utils.formatdate(usegmt=True)
        headers = {"x-ms-blob-public-access": "blob", "x-ms-date": date, "x-ms-version": "2023-11-03"}
        # https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
        canonical = "".join(f"{header}:{value}\n" for header, value in sorted(headers.items()))
        text = "PUT" + "\n" * 12 + canonical + f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
        request = urllib.request.Request(
            f"{self.endpoint}/{name}?restype=container",
            method="PUT",
            headers=headers | {"Authorization": f"SharedKey {ACCOUNT}:{signature}"},
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 201
        return name

    def sas(self, permissions: str = "rwdlac") -> str:
        """A signature of the account for containers and blobs, as Microsoft's ``create-account-sas`` describes it."""
        ends = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        values = {"sp": permissions, "ss": "b", "srt": "sco", "st": "", "se": ends, "sip": "", "spr": "https,http"}
        values |= {"sv": "2022-11-02", "ses": ""}
        text = "".join(f"{value}\n" for value in (ACCOUNT, *values.values()))
        signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
        return urlencode({name: value for name, value in values.items() if value} | {"sig": signature})

    def _address(self) -> str:
        output = self._process.stdout
        assert output is not None
        seen = b""
        ends = time.monotonic() + _READY_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(output, selectors.EVENT_READ)
            while time.monotonic() < ends:
                if not selector.select(0.5):
                    continue
                part = os.read(output.fileno(), 4096)
                if not part:
                    break
                seen += part
                if found := _LISTENS.search(seen):
                    return found.group(1).decode()
        self._process.kill()
        self._process.wait(10)
        raise AssertionError(f"azurite did not start: {seen.decode(errors='replace')}")
