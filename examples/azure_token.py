"""A credential for any Azure client, and its asynchronous twin.

Reads AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE and AZURE_AUTHORITY_HOST. Needs the extras
``azure`` and ``azure-aio``.
"""

from __future__ import annotations

import asyncio

import wif
from wif.sdk import azure
from wif.sdk.azure import aio

SCOPE = "https://management.azure.com/.default"


async def twice(exchanger: wif.AzureExchanger) -> None:
    async with aio.credential(exchanger) as credential:
        first, second = await asyncio.gather(credential.get_token(SCOPE), credential.get_token(SCOPE))
        print(f"one cache for the whole process: {first.token == second.token}")


def main() -> None:
    exchanger = wif.from_env().azure
    if exchanger is None:
        raise SystemExit("AZURE_CLIENT_ID is not set")
    with exchanger:
        print(f"expires at {azure.credential(exchanger).get_token(SCOPE).expires_on} (unix seconds)")
        asyncio.run(twice(exchanger))
        print(f"exchanges: {exchanger.statistics.exchanges}")


if __name__ == "__main__":
    main()
