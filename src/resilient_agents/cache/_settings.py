"""What a cache is told when it is made, checked, and what follows from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from resilient_agents.cache._entry import Freshness
from resilient_agents.cache._tiers import LONGEST_LIFE
from resilient_agents.cache.store import Store
from resilient_agents.policies._parameters import number, patience, text

if TYPE_CHECKING:
    from resilient_agents.cache.codec import Cipher, Codec


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Parameters of `Cache`, which documents them."""

    prefix: str
    budget: float
    tenant: str | None
    jitter: float
    lease: float
    throttle: float
    origin_limit: int
    cipher: "Cipher | None"
    compress_over: int | None
    chance: Callable[[], float]

    def __post_init__(self) -> None:
        if not text("prefix", self.prefix):
            raise ValueError("prefix must not be empty: it keeps the keys of two caches apart")
        if self.tenant is not None:
            text("tenant", self.tenant)
        for parameter in ("budget", "lease"):
            if patience(parameter, getattr(self, parameter)) is None:
                raise TypeError(f"{parameter} must be a time in seconds, not None")
        if patience("throttle", self.throttle, zero=True) is None:
            raise TypeError("throttle must be a time in seconds, not None")
        if not 0 <= number("jitter", self.jitter, "a number from 0 to 1") < 1:
            raise ValueError(f"jitter must be 0 or more and less than 1, not {self.jitter!r}")

    def store(self, given: Any) -> Store | None:
        """Return the store that *given* stands for."""
        if given is None or hasattr(given, "usable"):
            return cast("Store | None", given)
        from resilient_agents.cache.redis import RedisStore

        return cast("Store", RedisStore(given, prefix=self.prefix, budget=self.budget))

    def codec_of(self, fn: Callable[..., Any], model: Any) -> "Codec":
        """Return what writes the values of *fn*."""
        from resilient_agents.cache.codec import UNKNOWN, Codec

        model = UNKNOWN if model is None else model
        return Codec.of(fn, model=model, cipher=self.cipher, compress_over=self.compress_over)

    def codec(self, model: Any) -> "Codec":
        """Return what writes values of *model*."""
        from resilient_agents.cache.codec import Codec

        return Codec(model, cipher=self.cipher, compress_over=self.compress_over)


def freshness(
    settings: Settings,
    *,
    ttl: float,
    stale: float = 0.0,
    stale_if_error: float | None = None,
    early: float = 0.0,
    negative_ttl: float | None = None,
) -> Freshness:
    """Return how entries age.

    Raises:
        TypeError: A parameter is of a wrong type.
        ValueError: A parameter is out of range.
    """
    if patience("ttl", ttl) is None:
        raise TypeError("ttl must be a time in seconds, not None: nothing is fresh for ever")
    if patience("stale", stale, zero=True) is None:
        raise TypeError("stale must be a time in seconds, not None")
    patience("negative_ttl", negative_ttl)
    kept = stale if stale_if_error is None else patience("stale_if_error", stale_if_error, zero=True)
    if not number("early", early, "a number") >= 0:
        raise ValueError(f"early must be 0 or more, not {early!r}")
    ages = Freshness(
        ttl, settings.jitter, stale, kept or 0.0, early, negative_ttl, settings.throttle, settings.chance
    )
    if ttl + ages.grace(None) > LONGEST_LIFE or (negative_ttl or 0.0) > LONGEST_LIFE:
        raise ValueError(
            f"an entry lives {LONGEST_LIFE / 86_400:g} days at most, ttl and stale together: so long the "
            "invalidation of a tag is remembered"
        )
    return ages
