"""What one process remembers of the targets that several processes decide about together."""

from collections.abc import Sequence
from math import ceil, inf
from threading import Lock
from typing import NamedTuple

from resilient_agents.policies._shared import SharedView

SHUT = SharedView(open=False, wait=0.0)
UNKNOWN = SharedView(open=False, wait=0.0, known=False)
"""What is said of a target that nobody holds for down."""

MOST_TARGETS = 1000
"""How many targets are followed at most; what is said of others is not shared."""

FOLLOWED = 300.0
"""Time in seconds for which a target is followed after it was last asked about."""


class Target:
    """One target: what is agreed on about it, and what this process has to say.

    Attributes:
        asked: Whether somebody asked about it since the last message.
        followed_until: When it is forgotten if nobody asks.
        opening: The number of the opening that is in force; 0 while it is not open.
        probe_at: When it is probed.
        lease: The end of our lease; minus infinity without one.
        probing: The opening that a probe of ours is under way for, which uses the lease, or 0.
        wants: Whether a lease is wanted.
        vote: The end of a vote that was not passed on yet, or *None*.
        result: The opening and the end of a probe that were not passed on yet, or *None*.
    """

    __slots__ = (
        "asked",
        "followed_until",
        "lease",
        "opening",
        "probe_at",
        "probing",
        "result",
        "vote",
        "wants",
    )

    def __init__(self) -> None:
        self.asked = True
        self.followed_until = self.probe_at = self.lease = -inf
        self.opening = self.probing = 0
        self.wants = False
        self.vote: list[float] | None = None
        self.result: tuple[int, bool] | None = None


class Message(NamedTuple):
    """What is said of one target, as it was when the message was written."""

    key: str
    target: Target
    vote: list[float] | None
    wants: bool
    result: tuple[int, bool] | None

    def arguments(self, now: float) -> list[int]:
        """Return it as the script reads it: vote, wants, ended, good."""
        left = 0 if self.vote is None else max(0, ceil((self.vote[0] - now) * 1000))
        ended, good = self.result or (0, False)
        return [left, int(self.wants), ended, int(good)]


class Memory:
    """All targets of one process. Every method takes microseconds.

    Attributes:
        good_until: What is agreed on holds until then, unless it is renewed.
    """

    def __init__(self) -> None:
        self.good_until = -inf
        self._targets: dict[str, Target] = {}
        self._lock = Lock()

    def __contains__(self, key: str) -> bool:
        return key in self._targets

    def view(self, key: str, now: float) -> SharedView:
        """Return what is agreed on about *key*."""
        target = self._targets.get(key)
        if target is None:
            return SHUT
        target.asked = True
        if now > self.good_until:
            return UNKNOWN
        if not target.opening:
            return SHUT
        return SharedView(open=True, wait=max(0.0, target.probe_at - now))

    def follow(self, key: str) -> bool:
        """Remember *key* from now on, and tell whether it is new."""
        with self._lock:
            if key in self._targets or len(self._targets) >= MOST_TARGETS:
                return False
            self._targets[key] = Target()
            return True

    def vote(self, key: str, until: float) -> None:
        """Note that this process holds *key* for down."""
        with self._lock:
            if target := self._targets.get(key):
                target.asked, target.vote = True, [until]

    def take_lease(self, key: str, now: float) -> tuple[bool, bool]:
        """Use the lease for *key*; tell whether there was one, and if not whether to ask for it."""
        with self._lock:
            target = self._targets.get(key)
            if target is None or not target.opening or now > self.good_until or target.probe_at > now:
                return False, False
            target.asked = True
            if target.lease > now and not target.probing:
                target.probing, target.wants = target.opening, False
                return True, False
            news, target.wants = not target.wants and not target.result, True
            return False, news

    def end_probe(self, key: str, ok: bool) -> bool:
        """Note how a probe ended, and tell whether there was one."""
        with self._lock:
            target = self._targets.get(key)
            if target is None or not target.probing:
                return False
            target.result, target.probing, target.lease = (target.probing, ok), 0, -inf
            return True

    def messages(self, now: float) -> list[Message]:
        """Return what there is to say, and forget the targets that nobody asks about."""
        with self._lock:
            for key, target in list(self._targets.items()):
                if target.asked:
                    target.asked, target.followed_until = False, now + FOLLOWED
                if target.vote and target.vote[0] <= now:
                    target.vote = None
                if target.followed_until <= now:
                    del self._targets[key]
            return [
                Message(key, target, target.vote, target.wants, target.result)
                for key, target in self._targets.items()
            ]

    def learn(self, messages: Sequence[Message], answers: Sequence[Sequence[int]], now: float) -> None:
        """Note what is agreed on, and that *messages* have arrived."""
        with self._lock:
            for message, (opening, wait, lease) in zip(messages, answers, strict=True):
                target = message.target
                if target.vote is message.vote:
                    target.vote = None
                if target.result is message.result:
                    target.result = None
                if opening != target.opening:
                    target.lease, target.probing, target.wants = -inf, 0, False
                target.opening, target.probe_at = opening, now + wait / 1000
                if lease and not target.result and not (target.probing and target.lease > now):
                    target.lease, target.probing = now + lease / 1000, 0  # an older probe never ended
