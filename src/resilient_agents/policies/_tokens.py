"""What policies that make extra calls ask before they make one."""

from typing import Protocol


class Tokens(Protocol):
    """A stock of extra calls, as `RetryBudget` is one."""

    name: str

    def count(self) -> object:
        """Note that a call begins."""
        ...

    def take(self) -> bool:
        """Take a token for one extra call; tell whether there was one."""
        ...

    def refund(self) -> None:
        """Give a token back: the extra call was worth it."""
        ...
