"""The authority: its name, its folder, and which names it vouches for. TLS runs in memory, without a socket."""

from __future__ import annotations

import os
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from wif.emulator.authority import CA_NAME, LEAF_VALID, MAX_CONTEXTS, Authority
from wif.errors import ConfigurationError


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(directory=tmp_path_factory.mktemp("authority"))


def strict(authority: Authority) -> ssl.SSLContext:
    """As Python 3.13's default: RFC 5280 to the letter."""
    context = authority.client_context()
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> x509.Certificate:
    """Run a handshake in memory and return what the server showed."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
        if not waiting:
            break
    assert not waiting
    shown = ends[0].getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def names_of(certificate: x509.Certificate) -> list[str]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in names]


def test_every_certificate_is_called_wif_local_sts(authority: Authority) -> None:
    own = x509.load_pem_x509_certificate(authority.ca_file.read_bytes())
    leaf = shake_hands(authority.server_context(), strict(authority), "localhost")
    for name in (own.subject, own.issuer, leaf.subject, leaf.issuer):
        said = {attribute.oid: attribute.value for attribute in name}
        assert said == {NameOID.ORGANIZATION_NAME: CA_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME: CA_NAME}
    assert CA_NAME == "wif local STS"


def test_it_is_made_anew_each_time(tmp_path: Path) -> None:
    with Authority(directory=tmp_path) as one, Authority(directory=tmp_path) as other:
        assert one.ca_pem != other.ca_pem
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(one.server_context(), other.client_context(), "localhost")


def test_the_folder_is_private_holds_no_key_and_goes_away(tmp_path: Path) -> None:
    authority = Authority(directory=tmp_path)
    assert stat.S_IMODE(authority.directory.stat().st_mode) == 0o700
    authority.server_context(admitted=lambda _: True)
    assert [path.name for path in authority.directory.iterdir()] == ["ca.pem"]
    assert b"PRIVATE" not in authority.ca_file.read_bytes()
    authority.close()
    authority.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise RuntimeError"])
def test_the_folder_goes_away_with_the_process(tmp_path: Path, end: str) -> None:
    script = (
        "from pathlib import Path\nfrom wif.emulator.authority import Authority\n"
        f"a = Authority(directory=Path({str(tmp_path)!r}))\nprint(a.ca_file.exists())\n{end}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout == "True\n"
    assert list(tmp_path.iterdir()) == []


def test_a_forked_child_leaves_the_folder_to_its_parent(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from wif.emulator.authority import Authority
authority = Authority(directory=Path({str(tmp_path)!r}))
child = os.fork()
if child == 0:
    sys.exit()
os.waitpid(child, 0)
print(authority.ca_file.exists())
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script], capture_output=True, text=True, timeout=30
    )
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "LOCALHOST"])
def test_loopback_is_always_named_under_strict_rules(authority: Authority, name: str) -> None:
    certificate = shake_hands(authority.server_context(), strict(authority), name)
    assert names_of(certificate) == ["localhost", "127.0.0.1", "::1"]


@pytest.mark.parametrize("name", ["sts.eu-west-1.amazonaws.com", "STS.googleapis.com", "login.microsoftonline.com"])
def test_an_admitted_name_gets_its_own_leaf_under_strict_rules(authority: Authority, name: str) -> None:
    context = authority.server_context(admitted=lambda host: host == name.lower())
    assert names_of(shake_hands(context, strict(authority), name)) == [name.lower()]


@pytest.mark.parametrize(
    "admitted", [None, lambda host: host == "sts.amazonaws.com"], ids=["nothing admitted", "another name admitted"]
)
def test_another_name_ends_the_handshake(authority: Authority, admitted: Callable[[str], bool] | None) -> None:
    context = authority.server_context(admitted=admitted)
    # OpenSSL 3.2 renamed the alert's text
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name|callback failed"):
        shake_hands(context, strict(authority), "sts.amazonaws.com.evil.example")


def test_leaves_are_kept_and_their_number_is_bounded(authority: Authority) -> None:
    client = strict(authority)
    asked: list[str] = []

    def admitted(host: str) -> bool:
        asked.append(host)
        return True

    context = authority.server_context(admitted=admitted)
    first = shake_hands(context, client, "r0.example")
    assert shake_hands(context, client, "r0.example") == first
    second = shake_hands(context, client, "r1.example")
    for number in range(2, MAX_CONTEXTS):
        shake_hands(context, client, f"r{number}.example")
    assert shake_hands(context, client, "r0.example") == first  # used again, so that r1 is now the oldest
    shake_hands(context, client, "one-more.example")
    assert shake_hands(context, client, "r0.example") == first
    assert shake_hands(context, client, "r1.example") != second
    assert asked[:2] == ["r0.example"] * 2


def test_leaves_have_what_strict_verifiers_ask_for(authority: Authority) -> None:
    certificate = shake_hands(authority.server_context(), strict(authority), "localhost")
    extensions = certificate.extensions
    own = x509.load_pem_x509_certificate(authority.ca_pem)
    key_id = own.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == key_id
    assert extensions.get_extension_for_class(x509.BasicConstraints).critical
    basic = own.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value.ca
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == LEAF_VALID


def test_a_leaf_is_minted_in_milliseconds(authority: Authority) -> None:
    context, client = authority.server_context(admitted=lambda _: True), strict(authority)
    shake_hands(context, client, "warm.example")
    start = time.perf_counter()
    for number in range(20):
        shake_hands(context, client, f"n{number}.example")
    assert (time.perf_counter() - start) / 20 < 0.1  # measured 3 ms; a stalled machine is no failure


def test_old_tls_is_refused(authority: Authority) -> None:
    assert authority.server_context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert authority.client_context().minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_bundle_joins_other_authorities(authority: Authority, tmp_path: Path) -> None:
    with Authority(directory=tmp_path) as other:
        path = authority.bundle(other.ca_file)
        trusting = ssl.create_default_context(cafile=str(path))
        shake_hands(authority.server_context(), trusting, "localhost")
        shake_hands(other.server_context(), trusting, "localhost")
    with pytest.raises(ConfigurationError) as caught:
        authority.bundle(tmp_path / "absent.pem")
    assert caught.value.code == "file-unusable"
    assert "absent.pem" in caught.value.message


def test_without_trustme_the_error_names_the_extra(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['trustme'] = None\nfrom wif.emulator.authority import Authority\n"
        "from wif.errors import ConfigurationError\n"
        "try:\n    Authority()\nexcept ConfigurationError as error:\n    print(error.code, error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, env=os.environ)
    assert done.stdout == "extra-missing pip install 'wif[emulator]'\n"
