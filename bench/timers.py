#!/usr/bin/env python3
"""Measures timer structures, every measurement in a process of its own (`kodiak-bench timer`).

timers.py MIXES COUNTS ROUNDS [STRUCTURES], each but ROUNDS a list with commas. The structures run
in turn, and another one is first in each round. Prints for each mix and count a row of medians
(lowest - highest) in ns; for cancel-insert and fire-rearm also a row of the longest call in us.
"""
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "target/release/kodiak-bench"
STRUCTURES = [
    "kodiak", "lazy BinaryHeap", "4-ary heap", "BTreeMap", "DelayQueue", "quad wheel",
    "nexus-timer",
]  # fmt: skip


def measure(structure, mix, count):
    """Nanoseconds for each operation, and the longest call in microseconds or None."""
    command = [PROGRAM, "timer", structure, mix, count]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # "12.3 ns", and for some "…, the longest call 45.6 µs, …"
    words = output.split()
    return float(words[0]), float(words[5]) if len(words) > 5 else None


def cell(values):
    if None in values:
        return "–"
    short = lambda value: f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"
    return f"{short(statistics.median(values))} ({short(min(values))}–{short(max(values))})"


def print_row(name, cells):
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def main(mixes, counts, rounds, structures=",".join(STRUCTURES)):
    structures = structures.split(",")
    print_row("", structures)
    for mix in mixes.split(","):
        for count in counts.split(","):
            nanos = {structure: [] for structure in structures}
            longest = {structure: [] for structure in structures}
            for round in range(int(rounds)):
                for position in range(len(structures)):
                    structure = structures[(position + round) % len(structures)]
                    each, call = measure(structure, mix, count)
                    nanos[structure].append(each)
                    longest[structure].append(call)
            print_row(f"{mix}, {count}", map(cell, nanos.values()))
            if None not in longest[structures[0]]:
                print_row(f"{mix}, the longest call, {count}", map(cell, longest.values()))


main(*sys.argv[1:])
