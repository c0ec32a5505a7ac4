"""Batches: who is worked on together, who no more, and what a call that never ends holds up."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from scarcegan.batches import Batches


def test_an_item_whose_caller_has_gone_is_not_worked_on() -> None:
    begun, go, calls = threading.Event(), threading.Event(), list[list[str]]()

    def work(items: list[str]) -> list[str]:
        calls.append(items)
        begun.set()
        assert go.wait(30)
        return items

    async def ask() -> list[str]:
        batches = Batches(work, 2)
        first = asyncio.ensure_future(batches.result("first"))
        await asyncio.to_thread(begun.wait, 30)
        gone, last = (asyncio.ensure_future(batches.result(item)) for item in ("gone", "last"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        go.set()
        return [await first, await last]

    assert asyncio.run(ask()) == ["first", "last"]
    assert calls == [["first"], ["last"]]


def test_what_work_raises_is_raised_for_each_item_of_the_call_and_the_next_call_is_made() -> None:
    def work(items: list[str]) -> list[str]:
        if "bad" in items:
            raise ValueError("bad")
        return items

    async def ask() -> None:
        batches = Batches(work, 2)
        found = await asyncio.gather(batches.result("bad"), batches.result("with it"), return_exceptions=True)
        assert [repr(error) for error in found] == ["ValueError('bad')"] * 2
        with pytest.raises(ValueError, match="bad"):
            await batches.result("bad")
        assert await batches.result("good") == "good"

    asyncio.run(ask())


STUCK = """
import asyncio, threading
from scarcegan.batches import Batches
batches = Batches(lambda items: threading.Event().wait(), 1)
async def ask():
    try:
        await asyncio.wait_for(batches.result("never"), 0.2)
    except TimeoutError:
        print("not waited for", flush=True)
asyncio.run(ask())
"""


def test_a_call_that_never_ends_does_not_keep_the_process_from_ending() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", STUCK], env=environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (0, "not waited for\n"), done.stderr


def test_the_thread_ends_when_the_batches_are_closed() -> None:
    batches = Batches(lambda items: [threading.current_thread()] * len(items), 1)
    thread = asyncio.run(batches.result("one"))
    assert asyncio.run(batches.result("another")) is thread
    batches.close()
    thread.join(10)
    assert not thread.is_alive()
