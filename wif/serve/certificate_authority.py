"""A certificate for a server and the authority behind it, made by a process of its own.

``cryptography`` costs 10 MiB that a webhook would carry for good, so the webhook runs this module as a child
(``python -m wif.serve.certificate_authority``), the only one of :mod:`wif.serve` that loads it. The request is one
JSON object on stdin, the answer one on stdout; the private key is in no argument, no variable and no log. The
authority's own key signs one certificate and is then forgotten: who reads the Secret can be this server until the
certificate ends, and nobody else ever.
"""

from __future__ import annotations

__all__ = ["MadePair", "main", "make_pair", "request_pair"]

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from wif.errors import ConfigurationError, UnavailableError

CHILD_SECONDS = 30.0
"""It takes a third of a second; a machine that is busy starting fifty pods takes longer."""
BACKDATED_SECONDS = 300
"""By how much the API server's clock may be behind."""
MIN_LIFE_SECONDS = 2
MAX_LIFE_SECONDS = 10 * 366 * 86_400
_MAX_NAMES = 32
_MAX_REQUEST_BYTES = 64 * 1024


class MadePair(NamedTuple):
    """What was made. Its ``repr`` shows no key."""

    authority: str
    """PEM: what a client trusts."""
    chain: str
    """PEM: the leaf alone; its issuer is the authority."""
    key: str
    """PEM, PKCS 8, without a passphrase."""
    not_after: float
    """Unix seconds; the authority ends with the leaf."""

    def __repr__(self) -> str:
        return f"MadePair(not_after={self.not_after!r})"


def request_pair(names: Sequence[str], *, life_seconds: int) -> MadePair:
    """Have a child make an authority and a certificate for these names.

    Args:
        names: DNS names and IP addresses, the first one is shown as the subject.
        life_seconds: from now.

    Raises:
        UnavailableError: certificate-failed.
        ConfigurationError: extra-missing, config-invalid.
    """
    request = json.dumps({"names": list(names), "life_seconds": life_seconds})
    program = [sys.executable, "-m", "wif.serve.certificate_authority"]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, this module
            program, input=request, capture_output=True, text=True, timeout=CHILD_SECONDS, check=False
        )
        answer = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        # `from None`: the child's output, which an exception may quote, can hold a key
        raise UnavailableError(
            f"the process that makes certificates gave no answer ({type(error).__name__})",
            code="certificate-failed",
            hint="check that this pod may start a process and has memory for it",
            retryable=True,
        ) from None
    if "error" in answer:
        raise ConfigurationError(answer["error"]["message"], code=answer["error"]["code"], hint=answer["error"]["hint"])
    return MadePair(**answer)


def make_pair(names: Sequence[str], *, life_seconds: int) -> MadePair:
    """What the child does; loads ``cryptography``.

    Raises:
        ConfigurationError: config-invalid, extra-missing.
    """
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            "making a certificate needs cryptography", code="extra-missing", hint="pip install 'wif[serve]'"
        ) from error
    shown = _subject_names(names)
    if not MIN_LIFE_SECONDS <= life_seconds <= MAX_LIFE_SECONDS:
        raise ConfigurationError(
            f"a certificate's life of {life_seconds} s is not between {MIN_LIFE_SECONDS} s and ten years",
            code="config-invalid",
        )
    authority_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority, leaf = _certificates(authority_key, leaf_key, names[0], shown, life_seconds)
    pem = serialization.Encoding.PEM
    key = leaf_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return MadePair(
        authority=authority.public_bytes(pem).decode(),
        chain=leaf.public_bytes(pem).decode(),
        key=key.decode(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


def _subject_names(names: Sequence[str]) -> list[Any]:
    import ipaddress  # noqa: PLC0415 - the child alone

    from cryptography import x509  # noqa: PLC0415 - an extra

    if not 0 < len(names) <= _MAX_NAMES:
        raise ConfigurationError(f"a certificate is for 1 to {_MAX_NAMES} names", code="config-invalid")
    found: list[Any] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
            continue
        except ValueError:
            pass
        if not name or len(name) > 253 or not all(c.isascii() and (c.isalnum() or c in "-.") for c in name):
            raise ConfigurationError(f"{name[:80]!r} is no name of a server", code="config-invalid")
        found.append(x509.DNSName(name))
    return found


def _certificates(authority_key: Any, leaf_key: Any, name: str, names: list[Any], life_seconds: int) -> tuple[Any, Any]:
    """Both as RFC 5280 has them, also for a client that checks strictly."""
    import datetime  # noqa: PLC0415 - the child alone

    from cryptography import x509  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives import hashes  # noqa: PLC0415 - an extra
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID  # noqa: PLC0415 - an extra

    now = datetime.datetime.now(datetime.UTC)
    starts = now - datetime.timedelta(seconds=BACKDATED_SECONDS)
    ends = now + datetime.timedelta(seconds=life_seconds)

    def begun(subject: Any, issuer: Any, key: Any) -> Any:
        identifier = x509.SubjectKeyIdentifier.from_public_key(key)
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(starts).not_valid_after(ends)
        return builder.add_extension(identifier, critical=False).add_extension(signer, critical=False)

    def usage(*, signs_certificates: bool) -> Any:
        return x509.KeyUsage(
            digital_signature=not signs_certificates,
            key_cert_sign=signs_certificates,
            crl_sign=signs_certificates,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )

    # each authority has a name of its own: two of one name in a bundle make a client try the wrong one
    title = f"wif webhook {x509.random_serial_number():040x}"[:52]
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    authority = (
        begun(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        begun(subject, issuer, leaf_key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return authority, leaf


def main() -> int:
    """Read the request, write the answer; the exit status."""
    try:
        request = json.loads(sys.stdin.read(_MAX_REQUEST_BYTES))
        made = make_pair([str(name) for name in request["names"]], life_seconds=int(request["life_seconds"]))
        answer: dict[str, Any] = made._asdict()
    except ConfigurationError as error:
        answer = {"error": {"message": error.message, "code": error.code, "hint": error.hint}}
    except (ValueError, LookupError, TypeError) as error:
        what = f"the request for a certificate cannot be read ({type(error).__name__})"
        answer = {"error": {"message": what, "code": "config-invalid", "hint": "send names and life_seconds as JSON"}}
    sys.stdout.write(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
