"""A ServiceAccount as one small value: what most of them have in common is not kept 50,000 times.

Measured at 50,000 ServiceAccounts of three clouds: 532 bytes each as JSON, 173 so. A value over 512 bytes also does not
come from Python's own allocator, and 15 MiB were lost between such values and the pages of the list.
"""

from __future__ import annotations

__all__ = ["MAX_ACCOUNT_BYTES", "AccountValues"]

import hashlib
import re
import zlib
from functools import lru_cache

from wif.admission.accounts import ServiceAccount, packed, unpacked

MAX_ACCOUNT_BYTES = 16 * 1024
"""Of one account as JSON: a hundred annotations. Kubernetes takes 256 KiB; a namespace full of those would otherwise
fill this process' memory. A larger account is read from the API server whenever it is needed."""
DECODED = 512
"""Accounts that are kept decoded as well: those that pods were made of last."""

_TYPICAL = (
    '{"containers":"session-name":"region":"token-expiration":"project":"audience":"direct":"true"}'
    '"wif.internal/aws.role-arn":"arn:aws:iam::","wif.internal/azure.client-id":"","wif.internal/azure.tenant-id":"'
    '"wif.internal/gcp.provider":"","wif.internal/gcp.service-account":""'
    '"cloud.google.com/audience":"","cloud.google.com/token-expiration":"86400","cloud.google.com/injection-mode":""'
    '"eks.amazonaws.com/audience":"sts.amazonaws.com","eks.amazonaws.com/token-expiration":"86400"'
    '"eks.amazonaws.com/sts-regional-endpoints":"true"'
    '"azure.workload.identity/service-account-token-expiration":"3600"}]'
    ',{"azure.workload.identity/client-id":"","azure.workload.identity/tenant-id":"",'
    '"cloud.google.com/service-account-email":"@.iam.gserviceaccount.com",'
    '"cloud.google.com/workload-identity-provider":"projects//locations/global/workloadIdentityPools//providers/",'
    '"eks.amazonaws.com/role-arn":"arn:aws:iam:::role/"}]'
)
"""What values have in common, the most common last (RFC 1950, preset dictionary). It says nothing of what is valid."""

_WINDOW_BITS, _MEMORY_LEVEL, _LEVEL = -12, 5, 6
"""Without header and checksum; 4 KiB of window. Larger ones were no smaller and no faster."""

_ONLY_UID, _DEFLATED, _DIGEST = b"\0", b"\1", b"\2"
"""What a value begins with. Most accounts have no annotation of a dialect, and then a uid says it all."""
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class AccountValues:
    """Makes values and reads them. Equal accounts give equal values, other accounts other ones. Safe for threads.

    Args:
        prefixes: of the annotations that come.
    """

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        others = "".join(f'"{prefix}' for prefix in prefixes if prefix not in _TYPICAL)
        self._dictionary = (others + _TYPICAL).encode()
        self.read = lru_cache(DECODED)(self._read)
        """The account of a namespace, a name and its value; None where it was too large to be kept."""

    def make(self, account: ServiceAccount) -> bytes:
        """The value of an account."""
        if not account.annotations and _UID.fullmatch(account.uid):
            return _ONLY_UID + bytes.fromhex(account.uid.replace("-", ""))
        text = packed(account)
        if len(text) > MAX_ACCOUNT_BYTES:
            return _DIGEST + hashlib.sha256(text).digest()
        deflate = zlib.compressobj(
            _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, self._dictionary
        )
        return _DEFLATED + deflate.compress(text) + deflate.flush()

    def _read(self, namespace: str, name: str, value: bytes) -> ServiceAccount | None:
        if value[:1] == _DIGEST:
            return None
        if value[:1] == _ONLY_UID:
            digits = value[1:].hex()
            uid = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
            return ServiceAccount(namespace, name, uid)
        return unpacked(zlib.decompressobj(_WINDOW_BITS, self._dictionary).decompress(value[1:]))
