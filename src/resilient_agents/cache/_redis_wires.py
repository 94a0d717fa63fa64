"""All connections to Redis of one store: those of threads, those of tasks, and new ones."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from resilient_agents.cache._redis_awaiting import Links
from resilient_agents.cache._redis_blocking import Line, Pool
from resilient_agents.cache._redis_dialer import Dialer
from resilient_agents.cache._redis_wire import Closed

Part: TypeAlias = tuple[bytes, bytes]
"""A name and a command that is about it, packed; the name tells a cluster where the command goes."""

Exchange: TypeAlias = Callable[[Sequence[Part], float], Any]
"""How commands are sent and their answers received within a time, in threads or in tasks."""


class Fresh(Protocol):
    """New connections that nobody uses yet."""

    def exchange(self, parts: Sequence[Part], within: float) -> list[Any]:
        """Send the commands and return the answers."""
        ...

    def adopt(self) -> None:
        """Give them to those who need connections."""
        ...

    def close(self) -> None:
        """Close them."""
        ...


class Node:
    """One server: a pool for threads, and a link for each event loop.

    Args:
        dialer: Who makes connections.
        size: How many connections threads open at most.
        missed: Called with the time in seconds that was waited for an answer to a task that had left by then.
    """

    def __init__(self, dialer: Dialer, size: int, missed: Callable[[float], object]) -> None:
        self.dialer = dialer
        self._size = size
        self.pool = Pool(dialer, size)
        self.links = Links(dialer, missed)

    def let_go(self, exc: Exception) -> None:
        """Close all connections; tasks that wait get *exc*."""
        pool, self.pool = self.pool, Pool(self.dialer, self._size)
        pool.close()
        self.links.drop(exc)

    def adopt(self, connection: Any) -> None:
        """Take a new connection for threads, and make new ones for the event loops. Blocks."""
        self.pool.adopt(connection)
        self.links.prepare()


class Wires:
    """The connections to one server.

    Attributes:
        where: The server, in words without secrets.
        clustered: Whether a command can only be about names of one slot.
    """

    clustered = False

    def __init__(self, dialer: Dialer, size: int, missed: Callable[[float], object]) -> None:
        self.where = dialer.where
        self._node = Node(dialer, size, missed)

    def exchange(self, parts: Sequence[Part], within: float) -> list[Any]:
        """Send the commands and return the answers, blocking."""
        return self._node.pool.exchange(joined(parts), len(parts), within)

    async def aexchange(self, parts: Sequence[Part], within: float) -> list[Any]:
        """Send the commands and return the answers."""
        return await self._node.links.exchange(joined(parts), len(parts), within)

    def dial(self) -> Any:
        """Return a new connection to any server."""
        return self._node.dialer.dial()

    def fresh(self) -> "Fresh":
        """Make new connections, which nobody uses yet. Blocks.

        Raises:
            Exception: One could not be made.
        """
        return FreshLine(self._node, self._node.dialer.dial())

    def probes(self, prefix: str) -> list[bytes]:
        """Return names that nothing is kept under, one for each server."""
        return [f"{prefix}:probe".encode()]

    def let_go(self, exc: Exception) -> None:
        """Close all connections; tasks that wait get *exc*."""
        self._node.let_go(exc)

    def leave(self) -> None:
        """Close the connections of the running loop at once."""
        self._node.links.here().drop(Closed())

    def anew(self) -> "Wires":
        """Return the same for a forked child, without any connection."""
        node = self._node
        return Wires(node.dialer, node._size, node.links._missed)


class FreshLine:
    """A new connection, to see whether a server is back."""

    def __init__(self, node: Node, connection: Any) -> None:
        self._node = node
        self._connection = connection
        self._line = Line(connection)

    def exchange(self, parts: Sequence[Part], within: float) -> list[Any]:
        """Send the commands and return the answers."""
        return self._line.exchange(joined(parts), len(parts), within)

    def adopt(self) -> None:
        """Give it to those who need connections."""
        self._node.adopt(self._connection)

    def close(self) -> None:
        """Close it."""
        self._line.close()


def joined(parts: Sequence[Part]) -> bytes:
    """Return the commands in one piece."""
    return parts[0][1] if len(parts) == 1 else b"".join([command for _, command in parts])
