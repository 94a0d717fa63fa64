"""What the name of an exception's class says, as data; a module for each kind of library.

Classes are known by their qualified names and never imported, so a library costs nothing where it is not
installed, and a fork under another name is not mistaken for the original. To teach the package another
library, add its classes to the table of its kind.
"""

from resilient_agents.errors.names import clients, databases, frameworks, python, services

NAMES: dict[str, str] = {
    f"{module}.{name}": code
    for kind in (python, clients, databases, services, frameworks)
    for module, codes in kind.CLASSES.items()
    for code, names in codes.items()
    for name in names.split()
}
"""What a class says, by its qualified name: the class itself first, then its bases in their order."""

INNER: dict[str, str] = {**python.INNER, **clients.INNER, **databases.INNER}
"""Wrappers that keep what they wrap elsewhere than in ``__cause__``: the attribute that holds it.

A wrapper says less than what is in it, whatever its name.
"""

DECISIVE: frozenset[str] = services.DECISIVE | frameworks.DECISIVE
"""Classes that say more than the HTTP status which they carry."""

STATUS: dict[str, str] = {**clients.STATUS, **frameworks.STATUS}
"""Which attribute holds the HTTP status of a class and its subclasses, if not ``response.status_code``."""

TO_OUR_CALLER: frozenset[str] = frozenset(frameworks.STATUS)
"""Classes whose HTTP status is the one with which we refuse our own caller."""

TELLING: dict[str, str] = {**frameworks.STATUS, **clients.TELLING, **databases.TELLING, **python.TELLING}
"""The attributes on which alone the decision about a class and its subclasses depends, with few exceptions.

What was decided about one value of them is remembered for the next.
"""
