"""The connections to a Redis Cluster: which server a name belongs to, and what happens when names move."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import Any, TypeAlias

from resilient_agents import _clock
from resilient_agents._extras import require
from resilient_agents._flow import Flow, arun, run
from resilient_agents.cache._redis_blocking import Line
from resilient_agents.cache._redis_dialer import CONNECT_PATIENCE, Dialer
from resilient_agents.cache._redis_wire import Refusal, pack
from resilient_agents.cache._redis_wires import Fresh, Node, Part, Wires, joined

Address: TypeAlias = tuple[str, int]

_SLOTS = 16384
_A_MOMENT = 0.001
_MOVED, _ASK = "MOVED", "ASK"


class ClusterWires(Wires):
    """The connections to the masters of a cluster, which are found when they are first needed.

    Args:
        dialer: Makes connections to one of its servers.
        size: How many connections threads open at most, to each master.
        missed: Called with the time in seconds that was waited for an answer to a task that had left by then.
    """

    clustered = True

    def __init__(self, dialer: Dialer, size: int, missed: Callable[[float], object]) -> None:
        super().__init__(dialer, size, missed)
        self._settings = dialer, size, missed
        self._slot_of: Callable[[bytes], int] = require(
            "redis.crc", extra="redis", feature="RedisStore"
        ).key_slot
        self._masters: dict[int, Address] = {}
        self._nodes: dict[Address, Node] = {}
        self._finding: Thread | None = None

    def exchange(self, parts: Sequence[Part], within: float) -> list[Any]:
        """Send each command to its server and return the answers, blocking."""
        return run(self.routed(parts, within, lambda address: self.node(address).pool.exchange))

    async def aexchange(self, parts: Sequence[Part], within: float) -> list[Any]:
        """Send each command to its server and return the answers."""
        return await arun(self.routed(parts, within, lambda address: self.node(address).links.exchange))

    def dial(self) -> Any:
        """Return a new connection to any server that accepts one."""
        for node in list(self._nodes.values()):
            try:
                return node.dialer.dial()
            except Exception:  # noqa: S112 - another one may do
                continue
        return super().dial()

    def fresh(self) -> Fresh:
        """Ask who the masters are, and make a new connection to each. Blocks.

        Raises:
            Exception: One could not be made.
        """
        self._find_masters()
        addresses = sorted(set(self._masters.values()))
        return FreshCluster(self, {address: self.node(address).dialer.dial() for address in addresses})

    def _find_masters(self) -> None:
        connection = self.dial()
        line = Line(connection)
        try:
            (slots,) = line.exchange(pack("CLUSTER", "SLOTS"), 1, CONNECT_PATIENCE)
        finally:
            line.close()
        if isinstance(slots, Refusal):
            raise slots
        masters: dict[int, Address] = {}
        for first, last, (host, port, *_), *_ in slots:
            address = (host.decode() or connection.host, port)
            masters.update(dict.fromkeys(range(first, last + 1), address))
        self._masters = masters

    def _find_masters_later(self) -> None:
        """Have a thread ask who the masters are, for names have moved."""
        if self._finding is None or not self._finding.is_alive():
            with suppress(RuntimeError):
                self._finding = Thread(target=self._find_masters, name="resilient-agents-slots", daemon=True)
                self._finding.start()

    def probes(self, prefix: str) -> list[bytes]:
        """Return names that nothing is kept under, one for each master."""
        found: dict[Address | None, bytes] = {}
        everywhere = len(set(self._masters.values())) or 1
        for number in range(_SLOTS):
            name = f"{prefix}:probe:{number}".encode()
            found.setdefault(self._masters.get(self._slot_of(name)), name)
            if len(found) >= everywhere:
                break
        return list(found.values())

    def let_go(self, exc: Exception) -> None:
        """Close all connections; tasks that wait get *exc*."""
        for node in list(self._nodes.values()):
            node.let_go(exc)

    def leave(self) -> None:
        """Close the connections of the running loop at once."""
        for node in list(self._nodes.values()):
            node.links.here().drop(ConnectionError("closed"))

    def anew(self) -> Wires:
        """Return the same for a forked child, without any connection."""
        return ClusterWires(*self._settings)

    def node(self, address: Address) -> Node:
        """Return the connections to one server."""
        node = self._nodes.get(address)
        if node is None:
            dialer, size, missed = self._settings
            node = self._nodes.setdefault(address, Node(dialer.to(*address), size, missed))
        return node

    def routed(
        self, parts: Sequence[Part], within: float, way_to: Callable[[Address], Callable[..., Any]]
    ) -> Flow[list[Any]]:
        """Send each command to its server, one after the other; once more to where names have moved."""
        until = _clock.in_force.monotonic() + within
        answers: list[Any] = [None] * len(parts)
        for address, places in self._by_server(parts).items():
            payload = joined([parts[place] for place in places])
            got = yield partial(way_to(address), payload, len(places), _left(until))
            for place, answer in zip(places, got, strict=True):
                answers[place] = answer
        for place, answer in enumerate(answers):
            if isinstance(answer, Refusal) and answer.moved_to is not None:
                host, port, slot = answer.moved_to
                address = (host or self._masters.get(slot, ("", 0))[0], port)
                asking = answer.code == _ASK
                if not asking:
                    self._masters[slot] = address
                    self._find_masters_later()
                payload = pack("ASKING") * asking + parts[place][1]
                answers[place] = (yield partial(way_to(address), payload, 1 + asking, _left(until)))[-1]
        return answers

    def _by_server(self, parts: Sequence[Part]) -> dict[Address, list[int]]:
        groups: dict[Address, list[int]] = {}
        anybody = self._node.dialer.address
        for place, (name, _) in enumerate(parts):
            groups.setdefault(self._masters.get(self._slot_of(name), anybody), []).append(place)
        return groups


class FreshCluster:
    """A new connection to each master."""

    def __init__(self, wires: ClusterWires, connections: dict[Address, Any]) -> None:
        self._wires = wires
        self._connections = connections
        self._lines = {address: Line(connection) for address, connection in connections.items()}

    def exchange(self, parts: Sequence[Part], within: float) -> list[Any]:
        """Send each command to its server and return the answers."""
        return run(self._wires.routed(parts, within, lambda address: self._lines[address].exchange))

    def adopt(self) -> None:
        """Give them to those who need connections."""
        for address, connection in self._connections.items():
            self._wires.node(address).adopt(connection)

    def close(self) -> None:
        """Close them."""
        for line in self._lines.values():
            line.close()


def _left(until: float) -> float:
    return max(_A_MOMENT, until - _clock.in_force.monotonic())
