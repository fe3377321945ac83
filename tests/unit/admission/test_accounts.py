"""ServiceAccounts as they are kept."""

from __future__ import annotations

from wif.admission.accounts import ServiceAccount, is_kept, packed, unpacked


def test_packed_and_unpacked() -> None:
    account = ServiceAccount("shop", "app", "uid", {"wif.internal/aws.role-arn": "r", "κ": "ü\n"})
    assert isinstance(packed(account), bytes)
    assert unpacked(packed(account)) == account
    assert packed(unpacked(packed(account))) == packed(account)
    assert unpacked(packed(ServiceAccount("shop", "app", ""))).annotations == {}


def test_which_annotations_are_kept() -> None:
    prefixes = ("wif.internal/", "eks.amazonaws.com/")
    assert is_kept("wif.internal/use", prefixes)
    assert is_kept("eks.amazonaws.com/role-arn", prefixes)
    assert not is_kept("wif.internal.example/use", prefixes)
    assert not is_kept("kubectl.kubernetes.io/last-applied-configuration", prefixes)
    assert not is_kept("wif.internal/use", ())
