"""Keys and schemas in processes that have nothing in common but the code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from dataclasses import dataclass
from enum import Enum
from typing import Annotated
from pydantic import BaseModel
from resilient_agents.cache.codec import Codec
from resilient_agents.cache.keys import compile_key

class Color(Enum):
    RED = object()

class Wide(BaseModel):
    words: set[str] = {"a", "b", "c", "d"}

class Other:
    ...

def load(first, *rest, **more): ...

more = {"x": {"k": 1, 2: frozenset("abc")}, "a": Wide()}
print(compile_key(load, None)(({"a", "b", "c"}, Color.RED, Other), more))
print(Codec(dict[Color, Wide] | None).schema.fingerprint, Codec(list[Wide]).schema.fingerprint)
print(Codec(Annotated[Other, lambda: 1]).schema.fingerprint)
"""


def printed(seed: str, folder: Path) -> str:
    """Return what a fresh interpreter prints, whose hashes of text begin with *seed*."""
    environment = os.environ | {"PYTHONHASHSEED": seed}
    child = subprocess.run(
        [sys.executable, "-c", CODE],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=folder,
    )
    return child.stdout


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_processes_agree(seed: str, tmp_path: Path) -> None:
    """The order of a set and the place of an object differ from process to process; keys do not."""
    assert printed("0", tmp_path) == printed(seed, tmp_path)
