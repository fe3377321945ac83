"""An audit hook (PEP 578) that sees every file, socket and process that the package touches during a test.

``sys.addaudithook`` cannot be undone, so one hook stays for the whole run and looks away unless a test asks.
It judges by the stack: the innermost frame that is the package's own decides, and an import under way is let
through, because reading a module's file is the interpreter's work.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Literal

NETWORK = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname")
OUTSIDE = ("open", "os.", "socket.", "subprocess.", "shutil.", "tempfile.", "urllib.", "ctypes.", "pty.", "fcntl.")

Rule = Literal["none", "no-network", "pure"]


class OutsideTouchedError(AssertionError):
    """A test's code touched what its rule forbids."""


class Watch:
    """The hook. ``rule`` says what is forbidden at the moment; ``seen`` what was done all the same."""

    def __init__(self, package: Path) -> None:
        self._package = str(package.resolve())
        self.rule: Rule = "none"
        self.seen: list[str] = []

    def hold(self, rule: Rule) -> None:
        """Forbid from now on."""
        self.seen.clear()
        self.rule = rule

    def release(self) -> list[str]:
        """Look away again, and tell what was seen."""
        self.rule = "none"
        seen, self.seen = self.seen, []
        return seen

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.rule == "none":
            return
        if event in NETWORK:
            # Addresses of the internet are tuples; an event loop's own socket pair has none.
            if event in ("socket.getaddrinfo", "socket.gethostbyname") or isinstance(arguments[1], tuple):
                self._refuse(event, arguments)
        elif self.rule == "pure" and event.startswith(OUTSIDE) and self._is_ours(sys._getframe(1)):
            self._refuse(event, arguments)

    def _refuse(self, event: str, arguments: tuple[object, ...]) -> None:
        what = f"{event}{tuple(repr(item)[:80] for item in arguments[:2])}"
        self.seen.append(what)
        raise OutsideTouchedError(f"this test may not touch the outside: {what}")

    def _is_ours(self, frame: FrameType | None) -> bool:
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith("<frozen importlib"):
                return False
            if name.startswith(self._package):
                return True
            frame = frame.f_back
        return False


WATCH = Watch(Path(__file__).parent.parent / "wif")
"""The one hook of a test run; installed by the root conftest."""
