"""What a test cluster is made of on disk: an authority with its certificates, signing keys, a kubeconfig."""

from __future__ import annotations

__all__ = ["write_certificates", "write_key", "write_kubeconfig", "write_private"]

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.emulator.cluster import KeyAlgorithm

_NAME = "wif-test-cluster"


def write_certificates(folder: Path) -> None:
    """An authority (``ca.crt``) and the certificates of the API server and of an administrator.

    Raises:
        ConfigurationError: extra-missing.
    """
    try:
        import trustme  # noqa: PLC0415 - an extra, loaded when a server starts
    except ImportError as error:
        raise _missing() from error
    authority = trustme.CA(organization_name="wif test cluster", organization_unit_name="wif test cluster")
    server = authority.issue_cert(
        "kubernetes.default.svc", "kubernetes.default", "localhost", "127.0.0.1", common_name="kube-apiserver"
    )
    # Kubernetes reads the user from the common name and the groups from the organisations.
    admin = authority.issue_cert("admin.wif.invalid", common_name="admin", organization_name="system:masters")
    for name, content in (
        ("ca.crt", authority.cert_pem.bytes()),
        ("server.crt", server.cert_chain_pems[0].bytes()),
        ("server.key", server.private_key_pem.bytes()),
        ("admin.crt", admin.cert_chain_pems[0].bytes()),
        ("admin.key", admin.private_key_pem.bytes()),
    ):
        write_private(folder / name, content)


def write_key(folder: Path, name: str, algorithm: KeyAlgorithm) -> Path:
    """A new signing key as ``NAME.key`` and its public half as ``NAME.pub``; returns the path of the first.

    Raises:
        ConfigurationError: extra-missing.
    """
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _missing() from error
    from wif.emulator.cluster import new_key  # noqa: PLC0415 - loads cryptography

    key = new_key(algorithm)
    # kube-apiserver finds the public half of an EC key in its own form (SEC 1) only, of an RSA key in PKCS 8 too
    form = serialization.PrivateFormat.PKCS8 if algorithm == "RS256" else serialization.PrivateFormat.TraditionalOpenSSL
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_private(folder / f"{name}.key", private)
    write_private(folder / f"{name}.pub", public)
    return folder / f"{name}.key"


def write_kubeconfig(path: Path, folder: Path, url: str) -> None:
    """The administrator's kubeconfig for one server, 0600; ``folder`` holds the certificates."""
    user = {"client-certificate": str(folder / "admin.crt"), "client-key": str(folder / "admin.key")}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": _NAME,
        "clusters": [{"name": _NAME, "cluster": {"server": url, "certificate-authority": str(folder / "ca.crt")}}],
        "users": [{"name": "admin", "user": user}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": "admin"}}],
    }
    path.unlink(missing_ok=True)
    write_private(path, json.dumps(document).encode())  # JSON is YAML


def write_private(path: Path, content: bytes) -> None:
    """Write a new file, 0600."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _missing() -> ConfigurationError:
    return ConfigurationError(
        "starting an API server needs trustme and cryptography",
        code="extra-missing",
        hint="pip install 'wif[emulator]'",
    )
