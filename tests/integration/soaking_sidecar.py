"""A sidecar whose credentials live for seconds, as a program: what ``wif sidecar serve`` puts together, in a hurry.

The clouds give no credential for less than minutes. A sender shortens what they answer, the exchangers' limits are
made smaller alike, and the wall clock that they read jumps when a line on standard input says so. Everything else is
the real thing, with the real time. Arguments: one JSON object. Prints one JSON object when it listens, and an empty
line when the clock has been set.
"""

from __future__ import annotations

__all__ = ["LIFE_SECONDS", "LIMITS", "main"]

import dataclasses
import json
import re
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from wif.config.sidecar import Cloud, load_sidecar
from wif.core.flow import Request, Response
from wif.core.freshness import Limits
from wif.core.hosts import AllowedHosts
from wif.edges.transport import Transport
from wif.exchange.clocks import SYSTEM, Clocks
from wif.serve.health import HealthApp, new_registry
from wif.serve.httpd import Address, run
from wif.serve.sidecar_files import SidecarFiles
from wif.serve.sidecar_service import SidecarService

LIFE_SECONDS = 15.0

LIMITS = Limits(
    exchanges_per_minute=240,
    connect_seconds=0.5,
    read_seconds=0.5,
    total_seconds=0.6,
    attempts=2,
    backoff_seconds=0.02,
    backoff_max_seconds=0.1,
    failure_backoff_seconds=0.1,
    failure_backoff_max_seconds=1.0,
)
"""As the defaults are to an hour: an exchange that fails has ended before the last margin begins."""


class Shortened:
    """A sender that makes credentials end soon."""

    def __init__(self, cloud: Cloud) -> None:
        self._transport = Transport(cloud)

    def send(self, request: Request, *, deadline: float, hosts: AllowedHosts) -> Response:
        """Send, and shorten what a good answer says about the end."""
        response = self._transport.send(request, deadline=deadline, hosts=hosts)
        if response.status != 200:
            return response
        end = (datetime.now(UTC) + timedelta(seconds=LIFE_SECONDS)).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
        body = re.sub(rb"<Expiration>[^<]*", b"<Expiration>" + end, response.body)
        body = re.sub(rb'("expireTime":\s*")[^"]*', rb"\g<1>" + end, body)
        body = re.sub(rb'("(?:ext_)?expires_in":\s*)\d+', rb"\g<1>%d" % LIFE_SECONDS, body)
        return dataclasses.replace(response, body=body)

    def abort(self, thread: int | None = None) -> None:
        """As the transport."""
        self._transport.abort(thread)


class JumpingClock:
    """The wall clock, and how far it was set wrong."""

    def __init__(self) -> None:
        self.offset_seconds = 0.0

    def __call__(self) -> float:
        return time.time() + self.offset_seconds

    def follow(self) -> None:
        """Take orders until standard input ends, and say when each is done."""
        for line in sys.stdin:
            self.offset_seconds = float(line)
            print(flush=True)


def main() -> None:
    """Serve until SIGTERM."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    clock = JumpingClock()
    threading.Thread(target=clock.follow, daemon=True).start()
    clocks = Clocks(steady=SYSTEM.steady, wall=clock, monotonic=SYSTEM.monotonic)
    settings = load_sidecar(told["settings"])
    service = SidecarService(settings, limits=LIMITS, clocks=clocks, transport=Shortened)
    files = SidecarFiles(service.identities, service.keeper, environ={}, clocks=clocks)
    service.parts.append(files)
    servers = service.open()
    registry = new_registry()
    service.register_metrics(registry, servers)
    health = HealthApp(registry=registry, unhealthy=service.unhealthy, unready=service.unready)
    health_server = health.server(Address.parse("127.0.0.1:0"))

    def ready() -> None:
        service.start()
        print(json.dumps({"port": servers[0].port, "health_url": health_server.url}), flush=True)

    try:
        run(servers, health=health_server, grace_seconds=5.0, on_ready=ready, on_stop=service.stop)
    finally:
        service.close()


if __name__ == "__main__":
    main()
