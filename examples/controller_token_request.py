"""A controller that acts for many ServiceAccounts: TokenRequest as the token source, one exchanger for each identity.

Usage: controller_token_request.py ROLE_ARN NAMESPACE/SERVICE_ACCOUNT...

Asks the API server of the pod it runs in, else of the kubeconfig (which needs the extra ``kubernetes``). Whoever may
``create serviceaccounts/token`` for a ServiceAccount may be it: grant that by name.
"""

from __future__ import annotations

import sys

import wif
from wif.edges.sources import TokenRequestSource


class Identities:
    """One exchanger for each ServiceAccount, made when it is first asked for and kept."""

    def __init__(self, role_arn: str) -> None:
        self._role_arn = role_arn
        self._exchangers: dict[str, wif.AwsExchanger] = {}

    def keys(self, account: str) -> wif.AwsCredentials:
        if account not in self._exchangers:
            namespace, _, name = account.partition("/")
            source = TokenRequestSource(namespace=namespace, service_account=name, audience="sts.amazonaws.com")
            self._exchangers[account] = wif.aws(role_arn=self._role_arn, source=source)
        return self._exchangers[account].credentials()


def main(role_arn: str, *accounts: str) -> int:
    identities = Identities(role_arn)
    refused = 0
    for account in accounts:
        try:
            keys = identities.keys(account)
        except wif.RefusedError as error:  # the cloud says no to this tenant; the others go on
            print(f"{account}: refused at {error.clause}: {error.message}")
            refused += 1
        else:
            print(f"{account}: {keys.assumed_role_arn}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
