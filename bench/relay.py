"""``make bench-relay``: the relay beside the peers that are installed, in one run.

The workloads W1 to W5 are those of ``peers`` in the shared data (found by WARDLINE_SHARED), whose
clients are a process apart from the server. A figure ``per CPU second`` is per second of CPU that
all of the server's processes took: it depends least on what else the machine does. Each workload
goes through the peers in turn, so that they meet the same machine. ``QUICK=1`` ends within a
minute: Wardline and refrelay-fsync, W1 to W3, once, W1 and W2 shorter; what needs an absent peer is
unmeasured then. ``WORKLOADS="W1 W3"`` measures those alone.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.relay_growth import MEMBERS, send_costs
from bench.report import UNMEASURED, Figure, Value, report

ROOT = Path(__file__).resolve().parents[1]
OWN = ("wardline", "wardline-tls")
ADAPTERS = ",".join(
    f"{name}=bench/peer_adapter.py:{kind}"
    for name, kind in zip(OWN, ("Wardline", "WardlineTls"), strict=True)
)
REFERENCE = "refrelay-fsync"
PROGRAMS = {
    "ejabberd": "ejabberdctl",
    "prosody": "prosody",
    "mosquitto": "mosquitto",
    "nats-js": "nats-server",
}
"""The peers that are measured beside the reference, and the program that shows one is there."""

WORKLOADS = ("W1", "W2", "W3", "W4", "W5")
QUICK_WORKLOADS = ("W1", "W2", "W3")
QUICK_SETTINGS = {
    "W1": ("secs=2", "warm=0.5", "idle=0.5"),
    "W2": ("secs=2", "warm=0.5"),
}
REPETITIONS = 3
UNIT_CPU = "per second of server CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table: which figure of which workload, and what is wanted of it."""

    name: str
    workload: str
    key: str
    unit: str
    wanted: float | None = None
    at_least: bool = True


ROWS = (
    Row(name="w1_per_cpu", workload="W1", key="per_srv_cpu_s", unit=UNIT_CPU, wanted=18_000),
    Row(name="w1_rate", workload="W1", key="rate", unit="messages/s"),
    Row(name="w1_p99", workload="W1", key="p99_ms", unit="ms", at_least=False),
    Row(name="w1_idle", workload="W1", key="idle_p50_ms", unit="ms", wanted=1, at_least=False),
    Row(name="w2_per_cpu", workload="W2", key="per_srv_cpu_s", unit=UNIT_CPU, wanted=90_000),
    Row(name="w2_rate", workload="W2", key="rate", unit="deliveries/s"),
    Row(name="w3_stored", workload="W3", key="rate", unit="messages/s", wanted=15_000),
    Row(name="w3_drained", workload="W3", key="drain_rate", unit="messages/s", wanted=40_000),
    Row(name="w3_stored_per_cpu", workload="W3", key="store_per_srv_cpu_s", unit=UNIT_CPU),
    Row(name="w3_drained_per_cpu", workload="W3", key="drain_per_srv_cpu_s", unit=UNIT_CPU),
    Row(name="w3_missing", workload="W3", key="missing", unit="messages", wanted=0, at_least=False),
    Row(name="w3_twice", workload="W3", key="dups", unit="messages", wanted=0, at_least=False),
    Row(name="w4_memory", workload="W4", key="kB_per_conn", unit="kB", wanted=16, at_least=False),
    Row(name="w5_lost", workload="W5", key="rate", unit="messages", wanted=0, at_least=False),
    Row(name="w5_twice", workload="W5", key="dups", unit="messages", wanted=0, at_least=False),
)

Results = Mapping[tuple[str, str], Mapping[str, float]]
"""By peer and workload, the medians of what was measured."""


def shared_peers() -> Path:
    """Return the folder of the peers' harness."""
    return Path(os.environ.get("WARDLINE_SHARED", ROOT.parent / "shared")).absolute() / "peers"


def installed() -> list[str]:
    """Return the peers that this machine can run, the reference first."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    there = [name for name, program in PROGRAMS.items() if shutil.which(program, path=path)]
    return [REFERENCE, *there]


def measure(peer: str, workload: str, *, repetitions: int, settings: tuple[str, ...]) -> str:
    """Run one workload against one peer in a process of its own; return its row as JSON."""
    environment = {
        **os.environ,
        "PEERS_EXTRA": ADAPTERS,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, str(shared_peers() / "run.py"), "--peer", peer]
    command += ["--workload", workload, "--reps", str(repetitions)]
    with tempfile.NamedTemporaryFile("r") as out:
        command += ["--out", out.name, *(["--set", *settings] if settings else [])]
        subprocess.run(
            command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
        )
        return out.read()


def medians(row: str) -> dict[str, float]:
    """Return the medians of a row; nothing where the peer could not do the workload."""
    found = json.loads(row)
    if found["summary"] is None:
        print(f"{found['peer']} {found['workload']}: {found['error']}", file=sys.stderr)
        return {}
    return {key: value["med"] for key, value in found["summary"].items()}


def chosen(*, quick: bool) -> tuple[str, ...]:
    """Return the workloads that are to be measured."""
    asked = os.environ.get("WORKLOADS", "").split()
    return tuple(asked) or (QUICK_WORKLOADS if quick else WORKLOADS)


def results(workloads: tuple[str, ...], *, quick: bool) -> dict[tuple[str, str], dict[str, float]]:
    """Measure workloads, peer by peer."""
    found = {}
    for workload in workloads:
        settings = QUICK_SETTINGS.get(workload, ()) if quick else ()
        own = OWN[:1] if quick or workload in ("W3", "W5") else OWN
        for peer in (*own, *([REFERENCE] if quick else installed())):
            row = measure(
                peer, workload, repetitions=1 if quick else REPETITIONS, settings=settings
            )
            found[peer, workload] = medians(row)
    return found


def value(found: Results, peer: str, row: Row) -> Value:
    """Return a peer's figure."""
    return found.get((peer, row.workload), {}).get(row.key, UNMEASURED)


def ratio(one: Value, other: Value) -> Value:
    """Return how many times the other figure one is."""
    if isinstance(one, str) or isinstance(other, str) or not other:
        return UNMEASURED
    return one / other


def figures(*, quick: bool) -> Iterator[Figure]:
    """Measure everything; give the table's rows, then those that compare."""
    workloads = chosen(quick=quick)
    found = results(workloads, quick=quick)
    peers = sorted({peer for peer, _ in found} - set(OWN[:1]))
    for row in ROWS:
        if row.workload not in workloads:
            continue
        yield Figure(
            name=row.name,
            value=value(found, OWN[0], row),
            unit=f"{row.unit}, {'once' if quick else f'median of {REPETITIONS}'}",
            wanted=row.wanted,
            at_least=row.at_least,
            peers={peer: value(found, peer, row) for peer in peers},
        )
    if "W1" in workloads:
        yield from compared(found)
    if not quick:
        yield from encrypted(found, workloads)
    if workloads in (QUICK_WORKLOADS, WORKLOADS):
        yield from growth(quick=quick)


def compared(found: Results) -> Iterator[Figure]:
    """Give what is wanted relative to a peer."""
    w1, rate, p99 = ROWS[:3]
    beside = ratio(value(found, OWN[0], rate), value(found, REFERENCE, rate))
    yield share("w1_of_refrelay", beside, 0.8)
    beside = ratio(value(found, OWN[0], w1), value(found, REFERENCE, w1))
    yield share("w1_of_refrelay_per_cpu", beside, None)
    worse = ratio(value(found, OWN[0], p99), value(found, "ejabberd", p99))
    yield Figure(name="w1_p99_of_ejabberd", value=worse, unit="times", wanted=1)


def encrypted(found: Results, workloads: tuple[str, ...]) -> Iterator[Figure]:
    """Give what is wanted with TLS 1.3, relative to none."""
    for row in (ROWS[0], ROWS[4]):
        if row.workload in workloads:
            kept = ratio(value(found, OWN[1], row), value(found, OWN[0], row))
            yield share(f"{row.workload.lower()}_tls", kept, 0.6)
    if "W4" not in workloads:
        return
    memory = found.get((OWN[1], "W4"), {}).get("kB_per_conn", UNMEASURED)
    yield Figure(name="w4_memory_tls", value=memory, unit="kB", wanted=40)


def share(name: str, found: Value, wanted: float | None) -> Figure:
    """Return a figure that is a share of another."""
    return Figure(name=name, value=found, unit="times", wanted=wanted, at_least=True)


def growth(*, quick: bool) -> Iterator[Figure]:
    """Give what a send costs as the group grows, with nobody connected."""
    costs = send_costs(batches=20 if quick else 100)
    for members, cost in costs.items():
        yield Figure(name=f"send_{members}", value=cost, unit="us of CPU, best batch")
    grown = costs[MEMBERS[-1]] / costs[MEMBERS[0]]
    yield Figure(
        name="send_growth", value=grown, unit=f"times, {MEMBERS[0]} to {MEMBERS[-1]}", wanted=1.25
    )


def main() -> int:
    """Measure and print; return the exit status."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return report(figures(quick=bool(os.environ.get("QUICK"))))


if __name__ == "__main__":
    sys.exit(main())
