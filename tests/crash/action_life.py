"""One life of an agent under test: it handles messages with a critical action, and is killed.

Usage: ``python action_life.py DATABASE DONE FIRST_NUMBER MODE KIND``. The world is the file *DONE*: an action
that is done is one line in it. Each message that was handled is one line on stdout.
"""

import asyncio
import os
import random
import signal
import sys
import threading
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from resilient_agents import DeadLetterQueue, Replayer
from resilient_agents.actions import AgentActions, Intent, Message
from resilient_agents.deadletter import Limits

LIMITS = Limits(max_crashes=10_000, wait_initial=0.05, wait_max=0.4)
GRACE = 0.5
"""Time in seconds. An action takes no time once it is under way: the line is there, or it never will be."""


def tell(line: str) -> None:
    """Write a whole line at once."""
    os.write(1, f"{line}\n".encode())


def die() -> None:
    """End as a power cut of the process would."""
    os.kill(os.getpid(), signal.SIGKILL)


class Agent:
    """An agent whose action leaves a line in the world.

    Args:
        queue: Where actions are kept.
        done: The world.
        mode: Where it dies: ``"dies-before"`` or ``"dies-after"`` the deed, or wherever it is killed.
        kind: Whether the action is a ``"def"`` or an ``"async def"``.
    """

    def __init__(self, queue: DeadLetterQueue, done: Path, mode: str, kind: str) -> None:
        self._done = done
        self._mode = mode
        self._draw = random.Random()  # noqa: S311
        self.actions = AgentActions(lambda message: "pay", queue=queue)
        pay, look = (self.apay, self.alook) if kind == "async def" else (self.pay, self.look)
        self.actions.on("pay", critical=True, reconcile=look, grace=GRACE)(pay)

    def pay(self, message: Message, intent: Intent, context: Mapping[str, Any] | None) -> str:
        """Do the deed; sometimes say that it is unknown, and sometimes refuse."""
        chance = self._draw.random()
        if chance < 0.1:
            raise ConnectionRefusedError
        if self._mode == "dies-before":
            die()
        with self._done.open("ab", buffering=0) as world:
            world.write(f"{message.id}\n".encode())
        if self._mode == "dies-after":
            die()
        if chance < 0.2:
            raise ConnectionResetError  # the deed is done, and nobody hears of it
        return message.id

    async def apay(self, message: Message, intent: Intent, context: Mapping[str, Any] | None) -> str:
        """Do the deed, with a moment before and after in which it can be cancelled."""
        await asyncio.sleep(0)
        done = self.pay(message, intent, context)
        await asyncio.sleep(0)
        return done

    def look(self, message: Message, intent: Intent, context: Mapping[str, Any] | None) -> str | None:
        """Tell whether the deed was done."""
        return message.id if message.id in self._done.read_text().split() else None

    async def alook(self, message: Message, intent: Intent, context: Mapping[str, Any] | None) -> str | None:
        """Tell whether the deed was done."""
        return self.look(message, intent, context)


def a_message(number: int) -> Message:
    """Return a message of its own."""
    return Message(id=f"m-{number:06d}", organization_id="1", agent_id="42", text="Take my money")


def handle_for_ever(agent: Agent, first: int, step: int) -> None:
    """Handle message after message; tell of each."""
    for number in count(first, step):
        agent.actions.handle_blocking(a_message(number))
        tell(f"m-{number:06d}")


async def ahandle_for_ever(agent: Agent, first: int, step: int) -> None:
    """Handle message after message; tell of each; the channel gives up on some of them half-way."""
    for number in count(first, step):
        handling = asyncio.ensure_future(agent.actions.handle(a_message(number)))
        if number % 5 == 0:
            await asyncio.sleep(random.uniform(0, 0.01))  # noqa: S311
            handling.cancel()
        await asyncio.wait([handling])
        if not handling.cancelled():
            handling.result()
            tell(f"m-{number:06d}")


async def awaited(agent: Agent, replayer: Replayer, first: int) -> None:
    """Handle and replay in an event loop."""
    await asyncio.gather(*(ahandle_for_ever(agent, first + n, 4) for n in range(4)), replayer.arun())


def drain(queue: DeadLetterQueue, replay: Any, replayer: Replayer) -> None:
    """Replay until nothing waits any more."""
    worker = threading.Thread(target=replay)
    worker.start()
    try:
        while queue.stats().waiting:
            worker.join(0.05)
    finally:
        replayer.stop()
        worker.join()


def main(database: str, done: str, first: int, mode: str, kind: str) -> None:
    """Live until killed; in mode ``drain`` until nothing waits any more."""
    with DeadLetterQueue(f"sqlite:///{database}", lease=1.0, limits=LIMITS) as queue:
        agent = Agent(queue, Path(done), mode, kind)
        replayer = Replayer(queue, concurrency=2, poll=0.05)
        if mode == "drain":
            drain(queue, replayer.run if kind == "def" else lambda: asyncio.run(replayer.arun()), replayer)
        elif kind == "async def":
            asyncio.run(awaited(agent, replayer, first))
        else:
            for offset in range(4):
                threading.Thread(target=handle_for_ever, args=(agent, first + offset, 4), daemon=True).start()
            replayer.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
