"""Work that may block, in a thread of the event loop's executor; and what happens where no thread can be had.

A pod has a limit of processes and threads (``podPidsLimit``), which another container of it may reach. Who keeps
something up to date must survive that: it tries again later.
"""

from __future__ import annotations

__all__ = ["NoThread", "in_thread"]

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


class NoThread(Exception):
    """No thread could be started; nothing was done."""


async def in_thread(function: Callable[[], _T]) -> _T:
    """As :func:`asyncio.to_thread`, with the caller's context variables; whatever the function raises comes through.

    Raises:
        NoThread: the function is not called, and will not be.
    """
    work: Future[_T] = Future()

    def call() -> None:
        if not work.set_running_or_notify_cancel():
            return
        try:
            work.set_result(function())
        except BaseException as error:  # noqa: BLE001  # handed to who waits, who would wait forever without it
            work.set_exception(error)

    try:
        asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, call)
    except RuntimeError as error:  # "can't start new thread"
        # the executor has it in its queue all the same: a thread that ends other work may have begun it just now
        if work.cancel():
            raise NoThread(str(error)) from error
    return await asyncio.wrap_future(work)
