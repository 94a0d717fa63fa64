"""``resilient-agents demo``: are leads lost or duplicated when everything fails at once?

- `scenario`: what happens in a demo, all of it decided by a seed: leads, kills, faults.
- `sender`: posts the leads and keeps the ledger of what was acknowledged.
- `durable`, `naive`: the two intake services, each a process of its own; `front` is their HTTP side.
- `service`: starts, kills and restarts such a process.
- `trial`: one scenario through one intake; `ledger` compares what was accepted with what arrived.
- `display`: progress bars and the table.
"""
