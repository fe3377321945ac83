"""Every import contract holds, and each one breaks at an import that it is there to forbid.

A planted break is made in a copy of the package, so the whole way is shown: source text, import graph, contract.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent.parent
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


class Break(NamedTuple):
    """One line that must break one contract."""

    contract: str
    file: str
    line: str


BREAKS = [
    Break("layers", "wif/core/flow.py", "import wif.exchange"),
    Break("layers", "wif/edges/transport.py", "import wif.sdk"),
    Break("layers", "wif/clouds/aws.py", "import wif.trust.aws"),
    Break("errors-alone", "wif/errors.py", "import json"),
    Break("core-pure", "wif/core/token.py", "import socket"),
    Break("core-pure", "wif/core/freshness.py", "import time"),
    Break("clouds-pure", "wif/clouds/aws.py", "import os"),
    Break("clouds-pure", "wif/clouds/gcp.py", "def later():\n    import requests"),
    Break("trust-pure", "wif/trust/aws.py", "from pathlib import Path"),
    Break("admission-pure", "wif/admission/accounts.py", "import time"),
    Break("dialects-siblings", "wif/admission/dialects/eks.py", "import wif.admission.dialects.azure"),
    Break("config-pure", "wif/config/__init__.py", "import os"),
    Break("config-pure", "wif/config/issuers.py", "import pathlib"),
    Break("config-light", "wif/config/__init__.py", "import msgspec"),
    Break("config-light", "wif/config/__init__.py", "import wif.config.issuers"),
    Break("config-light", "wif/config/__init__.py", "import wif.config.webhook"),
    Break("config-light", "wif/config/__init__.py", "import wif.config.sidecar"),
    Break("clouds-siblings", "wif/clouds/gcp.py", "from wif.clouds import aws"),
    Break("trust-siblings", "wif/trust/azure.py", "import wif.trust.gcp"),
    Break("sdk-siblings", "wif/sdk/aws.py", "import wif.sdk.gcp"),
    Break("emulator-alone", "wif/emulator/services.py", "from wif.clouds.aws import sts_endpoint"),
    Break("emulator-alone", "wif/emulator/faults.py", "import wif.exchange.exchanger"),
    Break("production-alone", "wif/edges/transport.py", "import wif.emulator"),
    Break("production-alone", "wif/exchange/exchanger.py", "import trustme"),
    Break("exchange-light", "wif/exchange/exchanger.py", "import wif.core.jws"),
    Break("exchange-light", "wif/edges/transport.py", "import requests"),
    Break("http-in-edges", "wif/exchange/gcp.py", "import urllib3"),
    Break("kubernetes-in-kube", "wif/edges/sources.py", "from kubernetes import client"),
    Break("aws-sdk-in-its-place", "wif/edges/sources.py", "import botocore.session"),
    Break("google-sdk-in-its-place", "wif/exchange/gcp.py", "from google.auth import credentials"),
    Break("azure-sdk-in-its-place", "wif/exchange/azure.py", "import azure.identity"),
    Break("cryptography-in-its-place", "wif/edges/transport.py", "from cryptography import x509"),
    Break("servers-in-their-place", "wif/exchange/exchanger.py", "import uvicorn"),
    Break("authority-in-emulator", "wif/serve/__init__.py", "import trustme"),
    Break("object-stores-in-edges", "wif/issuer/__init__.py", "import obstore"),
    Break("layers", "wif/issuer/__init__.py", "import wif.serve"),
    Break("cel-in-trust", "wif/exchange/gcp.py", "from cel_expr_python import cel"),
    Break("xml-in-clouds", "wif/edges/transport.py", "import xml.etree.ElementTree"),
    Break("terminal-in-cli", "wif/edges/transport.py", "import rich.console"),
]


def _contracts() -> list[str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return [contract["id"] for contract in tomllib.load(file)["tool"]["importlinter"]["contracts"]]


def _lint(folder: Path, contract: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--config", str(ROOT / "pyproject.toml"), "--contract", contract],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "wif", tmp_path / "wif", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_contract_has_a_planted_break() -> None:
    assert sorted({planted.contract for planted in BREAKS}) == sorted(_contracts())


@pytest.mark.parametrize("planted", BREAKS, ids=lambda planted: f"{planted.contract}: {planted.file}: {planted.line}")
def test_a_planted_import_breaks_its_contract(copy: Path, planted: Break) -> None:
    file = copy / planted.file
    file.write_text(f"{file.read_text()}\n{planted.line}\n")
    result = _lint(copy, planted.contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "0 kept, 1 broken" in result.stdout


def test_an_import_for_annotations_alone_breaks_nothing(copy: Path) -> None:
    file = copy / "wif/core/token.py"
    file.write_text(f"{file.read_text()}\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import socket\n")
    result = _lint(copy, "core-pure")
    assert result.returncode == 0, result.stdout + result.stderr
