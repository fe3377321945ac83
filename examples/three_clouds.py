"""Credentials of three clouds at once, with asyncio.

Reads the variables of all three webhooks. A cloud without variables is left out; one whose variables are broken
says so and spoils nothing for the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import wif

SCOPE = "https://management.azure.com/.default"


async def aws(environment: wif.Environment) -> str:
    if environment.aws is None:
        return "not configured"
    keys = await environment.aws.acredentials()
    return f"{keys.assumed_role_arn} until {keys.expires_at:%H:%M} UTC"


async def gcp(environment: wif.Environment) -> str:
    if environment.gcp is None:
        return "not configured"
    token = await environment.gcp.acredentials()
    return f"{environment.gcp.service_account or 'the federated principal'} until {token.expires_at:%H:%M} UTC"


async def azure(environment: wif.Environment) -> str:
    if environment.azure is None:
        return "not configured"
    token = await environment.azure.acredentials(scope=SCOPE)
    return f"until {token.expires_at:%H:%M} UTC"


async def told(cloud: Callable[[wif.Environment], Coroutine[Any, Any, str]], environment: wif.Environment) -> str:
    try:
        return await cloud(environment)
    except wif.WifError as error:
        return f"{error.code} ({error.clause}): {error.message}"


async def main() -> None:
    environment = wif.from_env()
    clouds = (aws, gcp, azure)
    for cloud, answer in zip(
        clouds, await asyncio.gather(*(told(cloud, environment) for cloud in clouds)), strict=True
    ):
        print(f"{cloud.__name__}: {answer}")


if __name__ == "__main__":
    asyncio.run(main())
