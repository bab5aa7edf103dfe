#!/usr/bin/env python3
"""Timers: every measurement in a process of its own (`kodiak-bench timed`), peers in turn, another one first in each round.

timers.py MIXES COUNTS ROUNDS [PEERS], each a list with commas; prints a row of medians (lowest - highest) in ns for each mix and count, and
for cancel-insert and fire-rearm one of the longest call in us. Short pieces, so that one can be taken whenever the machine is quiet.
"""
import statistics
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "target/release/kodiak-bench"
PEERS = ["kodiak", "lazy BinaryHeap", "4-ary heap", "BTreeMap", "DelayQueue", "quad wheel", "nexus-timer"]


def measure(peer, mix, count):
    words = subprocess.run([PROGRAM, "timed", peer, mix, count], capture_output=True, text=True, check=True).stdout.split()
    # "12.3 ns", and for some "…, the longest call 45.6 µs, …"
    return float(words[0]), float(words[5]) if len(words) > 5 else None


def cell(values):
    if None in values:
        return "–"
    short = lambda value: f"{value:.0f}" if value >= 99.5 else f"{value:.1f}"
    return f"{short(statistics.median(values))} ({short(min(values))}–{short(max(values))})"


def main(mixes, counts, rounds, peers=",".join(PEERS)):
    peers = peers.split(",")
    print(f"| | {' | '.join(peers)} |", flush=True)
    for mix in mixes.split(","):
        for count in counts.split(","):
            nanos, longest = {peer: [] for peer in peers}, {peer: [] for peer in peers}
            for round in range(int(rounds)):
                for place in range(len(peers)):
                    peer = peers[(place + round) % len(peers)]
                    taken, call = measure(peer, mix, count)
                    nanos[peer].append(taken)
                    longest[peer].append(call)
            print(f"| {mix}, {count} | {' | '.join(cell(nanos[peer]) for peer in peers)} |", flush=True)
            if None not in longest[peers[0]]:
                print(f"| {mix}, the longest call, {count} | {' | '.join(cell(longest[peer]) for peer in peers)} |", flush=True)


main(*sys.argv[1:])
