"""Keys of every kind, and an issuer of letters that need care: our documents are Kubernetes' own, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wif.core.discovery import (
    DISCOVERY_PATH,
    JWKS_PATH,
    discovery_document,
    encode_document,
    jwks_document,
    parse_discovery,
    parse_jwks,
)
from wif.core.jws import PublicKey, algorithm_of, key_id, split_compact, verify
from wif.emulator.apiserver import ApiServer, missing_assets

pytestmark = [pytest.mark.integration, pytest.mark.one_python]

ISSUER = "https://kubernetes.wif.invalid/a&b<c>'é"


@pytest.mark.skipif(bool(missing_assets()), reason=f"no real API server: {missing_assets()}")
def test_documents_of_every_kind_of_key(tmp_path: Path) -> None:
    added: list[PublicKey] = [
        ec.generate_private_key(curve()).public_key() for curve in (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
    ]
    added.append(rsa.generate_private_key(public_exponent=65537, key_size=4096).public_key())
    arguments = []
    for number, public_key in enumerate(added):
        file = tmp_path / f"{number}.pub"
        file.write_bytes(public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        arguments.append(f"--service-account-key-file={file}")
    with ApiServer(issuer=ISSUER, arguments=arguments) as server:
        documents = server.documents()
        server.create_namespace("team")
        server.create_service_account("team", "app")
        token = server.request_token("team", "app", "sts.amazonaws.com")

    served = parse_jwks(documents[JWKS_PATH])
    # the signer's own key comes first
    assert [key.key_id for key in served.keys[1:]] == [key_id(public_key) for public_key in added]
    assert encode_document(jwks_document([key.key for key in served.keys])) == documents[JWKS_PATH]
    algorithms = [algorithm_of(key.key) for key in served.keys]
    written = discovery_document(ISSUER, ISSUER + JWKS_PATH, algorithms)
    assert encode_document(written) == documents[DISCOVERY_PATH]
    assert parse_discovery(documents[DISCOVERY_PATH], issuer=ISSUER).algorithms == tuple(sorted(set(algorithms)))
    jws = split_compact(token)
    (key,) = served.candidates(jws.key_id)
    assert verify(jws, key.key, "RS256").claims["iss"] == ISSUER
