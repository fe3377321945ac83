"""A thread's work, and what becomes of it where there is no thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest

from tests.unit.serve.thread_limit import LimitedThreads
from wif.serve.threads import NoThread, in_thread


def test_what_a_thread_does_comes_back() -> None:
    name: ContextVar[str] = ContextVar("name", default="nobody's")

    def fail() -> None:
        raise RuntimeError("its own")

    async def scenario() -> None:
        assert await in_thread(threading.get_ident) != threading.get_ident()
        name.set("the caller's")
        assert await in_thread(name.get) == "the caller's"
        with pytest.raises(RuntimeError, match="its own"):
            await in_thread(fail)

    asyncio.run(scenario())


def test_what_no_thread_could_do_is_not_done_later_either() -> None:
    done: list[str] = []

    async def scenario() -> None:
        limited = LimitedThreads()
        asyncio.get_running_loop().set_default_executor(limited)
        with pytest.raises(NoThread, match="can't start new thread"):
            await in_thread(lambda: done.append("too late"))
        limited.is_reached = False
        await in_thread(lambda: done.append("now"))

    asyncio.run(scenario())
    assert done == ["now"]


def test_what_another_thread_has_begun_after_all_is_waited_for() -> None:
    class Busy(ThreadPoolExecutor):
        """Its only thread ends other work while a second one cannot be started."""

        def submit(self, function: Callable[..., Any], /, *words: Any, **named: Any) -> Future[Any]:
            super().submit(function, *words, **named)
            begun.wait(10)
            raise RuntimeError("can't start new thread")

    begun, goes_on = threading.Event(), threading.Event()

    def work() -> str:
        begun.set()
        goes_on.wait(10)
        return "done"

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(Busy())
        loop.call_later(0.05, goes_on.set)
        assert await in_thread(work) == "done"

    asyncio.run(scenario())
