"""A Kubernetes cluster as the clouds see one: keys, ServiceAccount tokens, and the two published documents.

A :class:`LocalCluster` mints tokens with exactly the claims of the TokenRequest API and publishes discovery
document and JWKS as kube-apiserver writes them (``pkg/serviceaccount`` of kubernetes/kubernetes). It holds
several keys at once, so that a rotation can be played through: :meth:`~LocalCluster.stage_key`,
:meth:`~LocalCluster.sign_with`, :meth:`~LocalCluster.withdraw_key`.
"""

from __future__ import annotations

__all__ = ["ClusterKey", "KeyAlgorithm", "LocalCluster", "new_key"]

import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from wif.core.discovery import DISCOVERY_PATH, JWKS_PATH, discovery_document, encode_document, jwks_document
from wif.core.jws import PrivateKey, algorithm_of, key_id, sign
from wif.edges.files import private_directory, write_atomically
from wif.emulator.publication import Document, Publication, PublishedRequest, write_documents
from wif.errors import ConfigurationError

if TYPE_CHECKING:
    from wif.emulator.authority import Authority
    from wif.emulator.faults import Faults

KeyAlgorithm = Literal["RS256", "ES256", "ES384", "ES512"]
"""What kube-apiserver signs with, by the kind of its key."""

_RSA_BITS = 2048
"""What kubeadm makes."""
_CACHE_CONTROL = "public, max-age=3600"
"""kube-apiserver's, for keys from files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterKey:
    """One signing key of a cluster."""

    kid: str
    algorithm: str
    private_key: PrivateKey = field(repr=False)


class LocalCluster:
    """An issuer of ServiceAccount tokens.

    Args:
        issuer: what goes into ``iss`` and the documents, byte for byte. None takes the address of :meth:`serve`.
        key: the first signing key; None makes a new one.
        algorithm: of the first key where none is given.
    """

    def __init__(
        self, issuer: str | None = None, *, key: PrivateKey | None = None, algorithm: KeyAlgorithm = "RS256"
    ) -> None:
        self._issuer = issuer
        self._lock = threading.Lock()
        self._keys: dict[str, ClusterKey] = {}
        self._published: list[str] = []
        self._uids: dict[tuple[str, ...], str] = {}
        self._publication: Publication | None = None
        self._signer = self.stage_key(key, algorithm=algorithm)

    # -- keys ----------------------------------------------------------------------------------------

    def stage_key(self, key: PrivateKey | None = None, *, algorithm: KeyAlgorithm = "RS256") -> str:
        """Publish one more key, which does not sign yet, and return its ``kid``."""
        made = new_key(algorithm) if key is None else key
        kid = key_id(made.public_key())
        with self._lock:
            self._keys[kid] = ClusterKey(kid=kid, algorithm=algorithm_of(made.public_key()), private_key=made)
            if kid not in self._published:
                self._published.append(kid)
        return kid

    def sign_with(self, kid: str) -> None:
        """Sign new tokens with this key; whether it is published does not matter here, as in a real cluster."""
        self._signer = self._key(kid).kid

    def withdraw_key(self, kid: str) -> None:
        """Take a key out of the JWKS. It may still sign: that is the fault which clouds report as an unknown key."""
        self._key(kid)
        with self._lock:
            if kid in self._published:
                self._published.remove(kid)

    def rotate(self) -> str:
        """Publish a new key and sign with it at once; earlier keys stay published. Returns its ``kid``."""
        kid = self.stage_key()
        self.sign_with(kid)
        return kid

    @property
    def signing_key(self) -> ClusterKey:
        """The key that signs new tokens."""
        return self._key(self._signer)

    @property
    def keys(self) -> tuple[ClusterKey, ...]:
        """All keys, the withdrawn ones too, oldest first."""
        with self._lock:
            return tuple(self._keys.values())

    def _key(self, kid: str) -> ClusterKey:
        try:
            return self._keys[kid]
        except KeyError:
            raise ConfigurationError(
                f"the cluster has no key {kid!r}", code="config-invalid", hint="use a kid that stage_key returned"
            ) from None

    # -- tokens --------------------------------------------------------------------------------------

    def mint(
        self,
        namespace: str,
        service_account: str,
        audience: str | Sequence[str],
        *,
        expires_in: float = 3600,
        pod: str | None = None,
        node: str | None = None,
        now: float | None = None,
        kid: str | None = None,
        private_key: PrivateKey | None = None,
        headers: Mapping[str, Any] | None = None,
        claims: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> str:
        """A token as TokenRequest would issue it.

        Args:
            namespace: of the ServiceAccount.
            service_account: its name.
            audience: one, or several in their order; ``aud`` is always a list.
            expires_in: seconds.
            pod: the pod to which the token is bound.
            node: the node of that pod.
            now: unix seconds; None is the time of now.
            kid: of the key to sign with; None is the current one.
            private_key: signs in place of that key, while the header still names it: a forgery.
            headers: further members of the header.
            claims: claims to replace or add, where their names are no Python names; None takes a claim out.
            overrides: the same, as keywords.
        """
        start = int(time.time() if now is None else now)
        bound: dict[str, Any] = {"namespace": namespace}
        for kind, name in (("node", node), ("pod", pod), ("serviceaccount", service_account)):
            if name is not None:
                owner = () if kind == "node" else (namespace,)  # nodes have no namespace
                bound[kind] = {"name": name, "uid": self._uid(kind, *owner, name)}
        said: dict[str, Any] = {
            "aud": [audience] if isinstance(audience, str) else list(audience),
            "exp": start + int(expires_in),
            "iat": start,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": bound,
            "nbf": start,
            "sub": f"system:serviceaccount:{namespace}:{service_account}",
        }
        said |= {**(claims or {}), **overrides}
        key = self.signing_key if kid is None else self._key(kid)
        present = {name: value for name, value in said.items() if value is not None}
        if private_key is None:
            return sign(present, key.private_key, key.kid, key.algorithm, headers)
        return sign(present, private_key, key.kid, algorithm_of(private_key.public_key()), headers)

    def service_account_uid(self, namespace: str, service_account: str) -> str:
        """The uid that tokens of this ServiceAccount carry."""
        return self._uid("serviceaccount", namespace, service_account)

    def recreate_service_account(self, namespace: str, service_account: str) -> str:
        """Delete a ServiceAccount and make it again: same name, same subject, another uid, which is returned."""
        with self._lock:
            self._uids.pop(("serviceaccount", namespace, service_account), None)
        return self.service_account_uid(namespace, service_account)

    def _uid(self, *identity: str) -> str:
        with self._lock:
            return self._uids.setdefault(identity, str(uuid.uuid4()))

    # -- documents -------------------------------------------------------------------------------------

    @property
    def issuer(self) -> str:
        """The issuer, as it stands in ``iss``."""
        if self._issuer is None:
            raise ConfigurationError(
                "the cluster has no issuer yet",
                code="config-missing",
                hint="pass issuer=, or call serve() first: then its address is the issuer",
            )
        return self._issuer

    @property
    def discovery_document(self) -> dict[str, Any]:
        """What the cluster's ``/.well-known/openid-configuration`` says now."""
        with self._lock:
            algorithms = [self._keys[kid].algorithm for kid in self._published]
        return discovery_document(self.issuer, self.issuer.removesuffix("/") + JWKS_PATH, algorithms)

    @property
    def jwks(self) -> dict[str, Any]:
        """The published key set of now."""
        with self._lock:
            keys = [self._keys[kid].private_key.public_key() for kid in self._published]
        return jwks_document(keys)

    def _document(self, path: str) -> Document | None:
        if path == DISCOVERY_PATH:
            return _document("openid-configuration", self.discovery_document, "application/json")
        if path == JWKS_PATH:
            return _document("jwks", self.jwks, "application/jwk-set+json")
        return None

    def write(self, directory: Path) -> None:
        """Write both documents under a directory, at the paths where a web server would serve them."""
        documents = {DISCOVERY_PATH: self.discovery_document, JWKS_PATH: self.jwks}
        write_documents(directory, {path: encode_document(content) for path, content in documents.items()})

    def write_keys(self, directory: Path) -> tuple[Path, ...]:
        """Write the private keys as PEM, 0600, one ``<kid>.key`` each. Only for a user who asked for it.

        Raises:
            ConfigurationError: file-unusable, also for a directory that others may read or change.
        """
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - nobody else needs it
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        private_directory(directory)
        written = []
        for key in self.keys:
            path = directory / f"{key.kid}.key"
            pem = key.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_atomically(path, pem)
            written.append(path)
        return tuple(written)

    # -- publication -------------------------------------------------------------------------------------

    def serve(self, authority: Authority, *, faults: Faults | None = None) -> str:
        """Publish the documents over HTTPS on loopback, in a thread, and return ``https://localhost:PORT``.

        That address becomes the issuer where none was given. The documents are read anew for each request, so a
        rotation shows at once. Faults of the cloud ``issuer`` hit the operations ``openid-configuration`` and
        ``jwks``.
        """
        if self._publication is None:
            self._publication = Publication(authority.server_context(), self._document, faults=faults)
            if self._issuer is None:
                self._issuer = self._publication.url
        return self._publication.url

    @property
    def requests(self) -> Sequence[PublishedRequest]:
        """Every request that reached the published documents, in order; for tests of caches."""
        return () if self._publication is None else self._publication.requests

    def stop(self) -> None:
        """End the publication. The issuer stays what it is."""
        publication, self._publication = self._publication, None
        if publication is not None:
            publication.stop()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _document(operation: str, content: Mapping[str, Any], content_type: str) -> Document:
    return Document(
        operation=operation,
        body=encode_document(content),
        content_type=content_type,
        cache_control=_CACHE_CONTROL,
    )


def new_key(algorithm: KeyAlgorithm) -> PrivateKey:
    """A new private key for this algorithm."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - heavy, and only for new keys

    if algorithm == "RS256":
        return rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
    curves: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return ec.generate_private_key(curves[algorithm])
