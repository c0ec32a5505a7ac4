"""Batches: what waits together is worked on together, in a thread. For asyncio; knows nothing of HTTP or models."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches(Generic[Item, Result]):
    """Gives the items that have come since its last call, at most `most` of them, to one call of `work`.

    An item never waits for others to come: they gather while `work` is busy with earlier ones. `work` runs in a thread
    of its own, one call at a time, until `close`. An item whose caller was cancelled before is left out.

    - work: a function from items to their results, in the same order. An exception among the results is raised for its
      item alone; an exception that `work` raises is raised for every item of the call.
    """

    def __init__(self, work: Callable[[list[Item]], Sequence[Result | Exception]], most: int) -> None:
        self.work, self.most = work, most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._calls: SimpleQueue[tuple[list[Item], asyncio.Future[Sequence[Result | Exception]]] | None] = SimpleQueue()
        # No executor: Python waits for an executor's threads before it ends, also for one in a call that is stuck.
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    async def result(self, item: Item) -> Result:
        """Return the result of an item, once `work` has been called with it.

        Raises the exception that `work` returned for the item, or raised.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = loop.create_task(self._work_off())
        return await future

    def close(self) -> None:
        """End the thread as soon as its present call has ended. `result` must not be called any more."""
        self._calls.put(None)

    async def _work_off(self) -> None:
        """Call `work` until no item is waiting."""
        try:
            while taken := self._next():
                results = await self._call([item for item, _ in taken])
                for (_, future), result in zip(taken, results, strict=True):
                    if future.done():  # its caller was cancelled
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Result]]]:
        """Remove the items of the next call from the waiting ones and return them; [] when none waits."""
        taken: list[tuple[Item, asyncio.Future[Result]]] = []
        while self._waiting and len(taken) < self.most:
            item, future = self._waiting.popleft()
            taken += [] if future.done() else [(item, future)]
        return taken

    def _call(self, items: list[Item]) -> asyncio.Future[Sequence[Result | Exception]]:
        """Hand items to the thread, and return the future of their results."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run_calls, daemon=True)
            self._thread.start()
        done = asyncio.get_running_loop().create_future()
        self._calls.put((items, done))
        return done

    def _run_calls(self) -> None:
        """In the thread: call `work` for all that `_call` hands over, until `close`."""
        while call := self._calls.get():
            items, done = call
            results: Sequence[Result | Exception]
            try:
                results = self.work(items)
            except Exception as error:
                results = [error] * len(items)
            with suppress(RuntimeError):  # its loop has been closed meanwhile: nobody waits any more
                done.get_loop().call_soon_threadsafe(give, done, results)


def give(future: asyncio.Future[Result], result: Result) -> None:
    """Give a future its result, unless it was cancelled."""
    if not future.done():
        future.set_result(result)
