"""Deterministic simulation: client, gate, schedule, journal, runner and receiver under faults.

One process life after the other runs the real batch runner in virtual time against a server that
counts. All that happens follows from one seed: latencies, lies, lost answers, callbacks, disks that
refuse, crashes between any two steps, restarts. `python -m tests.simulation` runs it by the
thousand; `docs/simulation.md` says what it covers.
"""
