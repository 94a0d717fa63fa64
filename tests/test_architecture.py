"""The floors of the house, enforced: who may import whom, and how a module looks.

The checks read the source of the installed package; they import none of it. Each is shown to fail on a small
crooked house.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import resilient_agents
from resilient_agents import actions, activity, cache, deadletter, errors, migrations, policies, testing
from resilient_agents.crm import kommo

PACKAGE = Path(resilient_agents.__file__).parent
PROJECT = Path(__file__).parents[1]

FLOORS = {
    "_clock": 0,
    "_extras": 0,
    "_flow": 0,
    "_json": 0,
    "correlation": 0,
    "errors": 0,
    "events": 0,
    "redaction": 0,
    "policies": 1,
    "cache": 2,
    "activity": 2,
    "deadletter": 2,
    "crm": 3,
    "actions": 4,
    "cli": 5,
    "integrations": 5,
    "migrations": 5,
    "testing": 5,
}
STDLIB_ONLY = 2
"""The highest floor whose modules load nothing but the standard library."""

COMPOSER = "resilient_agents.policies"
"""The module that puts the strategies together; a strategy itself imports no sibling but private plumbing."""

NEIGHBOURS = {
    ("cli", "migrations"),
    ("cli", "testing"),
    ("errors", "_clock"),
    ("errors", "correlation"),
    ("errors", "events"),
    ("redaction", "_json"),
}
"""Commands run migrations and the doubles for tests; a date in Retry-After is read against the clock, a
response names the request that it answers, a failure at the edge of a program is an event, and data is made
plain before it is searched for secrets."""

DRAWERS = {"base", "common", "compat", "core", "helpers", "manager", "types", "utils"}
MAX_LINES = 350

Sources = dict[str, str]
"""The text of each module, by dotted name."""


class Import(NamedTuple):
    """Module *source* imports *target*; *eager* when it does so while it is loaded."""

    source: str
    target: str
    line: int
    eager: bool

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def read(package: Path) -> Sources:
    """Return the source of every module below *package*."""
    sources = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        sources[name] = path.read_text(encoding="utf-8")
    return sources


def imports(sources: Sources) -> Iterator[Import]:
    """Yield every import of every module, as the module that is loaded by it."""
    for source, text in sources.items():
        for node, eager in import_statements(ast.parse(text), eager=True):
            for alias in node.names:
                target = alias.name
                if isinstance(node, ast.ImportFrom):
                    target = f"{node.module}.{alias.name}"
                    target = target if target in sources else f"{node.module}"
                yield Import(source, target, node.lineno, eager)


def import_statements(node: ast.AST, *, eager: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Yield the imports below *node* and whether loading performs them; TYPE_CHECKING blocks hold none."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, eager
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            yield from import_statements(ast.Module(child.orelse, []), eager=eager)
        else:
            lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from import_statements(child, eager=eager and not lazy)


def chapter(module: str) -> str:
    """Return the part of *module*'s name that has a floor; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def may_import(source: str, target: str) -> bool:
    """Return whether one of our modules may import another."""
    if chapter(source) != chapter(target):
        below = FLOORS[chapter(target)] < FLOORS[chapter(source)]
        return below or (chapter(source), chapter(target)) in NEIGHBOURS
    is_plumbing = target.rpartition(".")[2].startswith("_")
    return chapter(target) != "policies" or source == COMPOSER or is_plumbing


def homeless(sources: Sources) -> list[str]:
    """Report modules that are on no floor."""
    return [name for name in sources if chapter(name) not in {"", *FLOORS}]


def wrong_floors(sources: Sources) -> list[str]:
    """Report imports from the same floor or a higher one, inside functions too."""
    return [
        str(found)
        for found in imports(sources)
        if chapter(found.source) in FLOORS and chapter(found.target) in FLOORS and found.target in sources
        if not may_import(found.source, found.target)
    ]


def through_the_doors(sources: Sources) -> list[str]:
    """Report imports from the package itself: the doors are for users, and hide the floor behind them."""
    return [str(found) for found in imports(sources) if found.target == "resilient_agents"]


def cycles(sources: Sources) -> list[str]:
    """Report modules of which each needs the other to be loaded first."""
    graph: dict[str, set[str]] = {name: set() for name in sources}
    for found in imports(sources):
        if found.eager and found.target in sources:
            graph[found.source].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [", ".join(sorted(set(error.args[1])))]
    return []


def eager_third_party(sources: Sources) -> list[str]:
    """Report low modules that load other people's packages before they are used."""
    at_home = sys.stdlib_module_names | {"resilient_agents"}
    return [
        str(found)
        for found in imports(sources)
        if found.eager and FLOORS.get(chapter(found.source), 0) <= STDLIB_ONLY
        if found.target.partition(".")[0] not in at_home
    ]


Definition = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(node: Definition, name: str) -> Iterator[tuple[str, Definition]]:
    """Yield *node* and the public classes, functions and methods that it defines."""
    yield name, node
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and child.name[0] != "_":
            decorators = {ast.unparse(decorator) for decorator in child.decorator_list}
            if isinstance(child, ast.ClassDef):
                yield from definitions(child, f"{name}.{child.name}")
            elif isinstance(node, ast.Module | ast.ClassDef) and not decorators & {
                "overload",
                f"{child.name}.setter",
            }:
                yield f"{name}.{child.name}", child


def undocumented(sources: Sources) -> list[str]:
    """Report modules and public classes, functions and methods without a docstring."""
    return [
        where
        for name, text in sources.items()
        for where, node in definitions(ast.parse(text), name)
        if not ast.get_docstring(node)
    ]


def drawers(sources: Sources) -> list[str]:
    """Report modules whose name says nothing about what is in them."""
    return [name for name in sources if DRAWERS & {part.strip("_") for part in name.split(".")}]


def too_long(sources: Sources) -> list[str]:
    """Report modules that have more than one subject, judging by their length."""
    lengths = {name: len(text.splitlines()) for name, text in sources.items()}
    return [f"{name}: {lines} lines" for name, lines in lengths.items() if lines > MAX_LINES]


def unsorted_names(sources: Sources) -> list[str]:
    """Report modules whose `__all__` is not sorted: CONSTANTS, Classes, functions."""
    return [
        name
        for name, text in sources.items()
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        if (names := ast.literal_eval(node.value)) != sorted(names, key=in_order)
    ]


def in_order(name: str) -> tuple[bool, bool, str]:
    """Return the sort key of a public name, the one that ruff's RUF022 uses."""
    return not name.isupper(), not name[0].isupper(), name


CHECKS = [
    homeless,
    wrong_floors,
    through_the_doors,
    cycles,
    eager_third_party,
    undocumented,
    drawers,
    too_long,
    unsorted_names,
]


@pytest.fixture(scope="module")
def house() -> Sources:
    """Return the sources of the package."""
    return read(PACKAGE)


@pytest.mark.parametrize("check", CHECKS)
def test_house_stands(check: Callable[[Sources], list[str]], house: Sources) -> None:
    """The package passes each check."""
    assert [] == check(house)


CROOKED = [
    (homeless, {"attic.py": ""}, ["resilient_agents.attic"]),
    (
        wrong_floors,
        {"errors.py": "from resilient_agents.deadletter import Queue", "deadletter/__init__.py": ""},
        ["resilient_agents.errors:1 imports resilient_agents.deadletter"],
    ),
    (
        wrong_floors,
        {"events.py": "def emit():\n    from resilient_agents import redaction", "redaction.py": ""},
        ["resilient_agents.events:2 imports resilient_agents.redaction"],
    ),
    (
        wrong_floors,
        {"policies/retry.py": "import resilient_agents.policies.timeout", "policies/timeout.py": ""},
        ["resilient_agents.policies.retry:1 imports resilient_agents.policies.timeout"],
    ),
    (
        through_the_doors,
        {"__init__.py": "", "crm.py": "from resilient_agents import retry"},
        ["resilient_agents.crm:1 imports resilient_agents"],
    ),
    (
        cycles,
        {
            "crm/kommo.py": "from resilient_agents.crm import fake",
            "crm/fake.py": "from resilient_agents.crm.kommo import Kommo",
            "crm/__init__.py": "",
        },
        ["resilient_agents.crm.fake, resilient_agents.crm.kommo"],
    ),
    (
        eager_third_party,
        {"policies/retry.py": "try:\n    import tenacity.stop\nexcept ImportError:\n    pass"},
        ["resilient_agents.policies.retry:2 imports tenacity.stop"],
    ),
    (
        undocumented,
        {"events.py": '"""Doc."""\nclass Event:\n    """Doc."""\n    def tell(self): ...\ndef emit(): ...'},
        ["resilient_agents.events.Event.tell", "resilient_agents.events.emit"],
    ),
    (drawers, {"crm/_utils.py": ""}, ["resilient_agents.crm._utils"]),
    (too_long, {"events.py": "\n" * 351}, ["resilient_agents.events: 351 lines"]),
    (unsorted_names, {"events.py": '__all__ = ["emit", "Event"]'}, ["resilient_agents.events"]),
]


def build(folder: Path, files: Sources) -> Sources:
    """Write a package of *files* into *folder* and read it back."""
    for name, text in files.items():
        path = folder / "resilient_agents" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read(folder / "resilient_agents")


@pytest.mark.parametrize(("check", "files", "reports"), CROOKED)
def test_crooked_house_is_reported(
    check: Callable[[Sources], list[str]], files: Sources, reports: list[str], tmp_path: Path
) -> None:
    """Each check reports the fault it is there for."""
    assert reports == check(build(tmp_path, files))


def test_every_check_is_shown_to_fail() -> None:
    """No check is there for show."""
    assert CHECKS == list(dict.fromkeys(check for check, _, _ in CROOKED))


STRAIGHT = {
    "_flow.py": '"""Doc."""',
    "events.py": '"""Doc."""\nif TYPE_CHECKING:\n    from resilient_agents.errors import Failure',
    "errors/__init__.py": '"""Doc."""\nfrom resilient_agents.errors.failure import A\n__all__ = ["A", "b"]',
    "errors/failure.py": '"""Doc."""\ndef read():\n    """Doc."""\n    import httpx\ndef _inner(): ...',
    "policies/__init__.py": '"""Doc."""\nfrom resilient_agents.policies.retry import retry',
    "policies/retry.py": '"""Doc."""\nfrom resilient_agents.policies._wait import wait',
    "policies/_wait.py": '"""Doc."""\nfrom resilient_agents import _flow, events',
    "cli/__init__.py": '"""Doc."""\nimport typer\nfrom resilient_agents import testing',
    "testing.py": '"""Doc."""',
}


@pytest.mark.parametrize("check", CHECKS)
def test_straight_house_passes(check: Callable[[Sources], list[str]], tmp_path: Path) -> None:
    """What the house allows is not reported: chapters of several files, late imports, types."""
    assert [] == check(build(tmp_path, STRAIGHT))


PUBLIC = (
    resilient_agents,
    actions,
    activity,
    cache,
    deadletter,
    errors,
    kommo,
    migrations,
    policies,
    testing,
)


def test_public_names_are_documented() -> None:
    """Every name a user can import is written about in the README or in docs."""
    pages = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]
    words = {word for page in pages for word in re.findall(r"\w+", page.read_text(encoding="utf-8"))}

    assert set() == {name for package in PUBLIC for name in package.__all__} - words
