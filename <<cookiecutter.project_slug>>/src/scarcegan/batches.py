"""Batches: what waits together is worked on together, in a thread. For asyncio; knows nothing of HTTP or models."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches(Generic[Item, Result]):
    """Gives the items that have come since its last call, at most `most` of them, to one call of `work`.

    An item never waits for others to come: they gather while `work` is busy with earlier ones. `work` runs in a thread
    of its own, one call at a time.

    - work: a function from items to their results, in the same order. An exception among the results is raised for its
      item alone; an exception that `work` raises is raised for every item of the call.
    """

    def __init__(self, work: Callable[[list[Item]], Sequence[Result | Exception]], most: int) -> None:
        self.work, self.most = work, most
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._thread = ThreadPoolExecutor(1)
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

    async def _work_off(self) -> None:
        """Call `work` until no item is waiting."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken = [self._waiting.popleft() for _ in range(min(self.most, len(self._waiting)))]
                results: Sequence[Result | Exception]
                try:
                    results = await loop.run_in_executor(self._thread, self.work, [item for item, _ in taken])
                except Exception as error:
                    results = [error] * len(taken)
                for (_, future), result in zip(taken, results, strict=True):
                    if future.done():  # its caller was cancelled
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None
