#!/usr/bin/env python3
"""Compares two builds of `raft`.

Two clusters of three nodes run on loopback at the same time. Each load goes to the leader of one,
then of the other, several times in turn, and each pair gives one ratio.

    bench/cluster/versions.py --before OLD/raft --after NEW/raft [--pairs 9] [--quick]

Besides the requests per second it prints the processor time of the three nodes and of the leader
alone, and the leader's voluntary context switches, each for one request. On a machine with other
work these vary less than the rate. Needs redis-benchmark and redis-cli (Debian: redis-tools).
"""

import argparse
import os
import re
import statistics
import subprocess
import tempfile

from compare import Kodiak

VALUE_BYTES = 64
LOADS = [  # name, requests, arguments of redis-benchmark
    ("SET, 1 client", 3_000, ["-t", "set", "-c", "1"]),
    ("SET, 50 clients", 40_000, ["-t", "set", "-c", "50"]),
    ("SET, 256 clients", 60_000, ["-t", "set", "-c", "256"]),
    ("SET, 50 clients, pipeline 16", 160_000, ["-t", "set", "-c", "50", "-P", "16"]),
    ("GET, 50 clients", 40_000, ["-t", "get", "-c", "50"]),
    ("GET, 50 clients, pipeline 16", 240_000, ["-t", "get", "-c", "50", "-P", "16"]),
]


def processor_us(pid):
    """The processor time that a process has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1e6 / os.sysconf("SC_CLK_TCK")


def context_switches(pid):
    """The voluntary context switches of all threads of a process."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii") as status:
            total += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read(), re.M)[1])
    return total


def measure(cluster, requests, load):
    """Requests per second, and what one request costs the nodes."""
    leader = cluster.leader()
    pids = {node: process.pid for node, process in cluster.processes.items()}

    def costs():
        used = {node: processor_us(pid) for node, pid in pids.items()}
        return [sum(used.values()), used[leader], context_switches(pids[leader])]

    before = costs()
    command = ["redis-benchmark", "-p", str(cluster.client_ports[leader]), "-n", str(requests)]
    command += ["-d", str(VALUE_BYTES), "-r", "10000", "-q", *load]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    rate = float(re.findall(r"([\d.]+) requests per second", output)[-1])
    return [rate] + [(after - start) / requests for start, after in zip(before, costs())]


def spread(figures, form):
    median, low, high = statistics.median(figures), min(figures), max(figures)
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", required=True)
    parser.add_argument("--after", required=True)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests")
    arguments = parser.parse_args()
    binaries = [os.path.abspath(arguments.before), os.path.abspath(arguments.after)]
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        clusters = [Kodiak(folder, binary) for folder, binary in zip((first, second), binaries)]
        try:
            compare(clusters, arguments)
        finally:
            for cluster in clusters:
                cluster.stop()


def compare(clusters, arguments):
    print(
        f"values of {VALUE_BYTES} bytes; ratio of the new build to the old one, "
        f"median of {arguments.pairs} pairs (spread)"
    )
    print(
        "| load | requests/s | processor, all nodes | processor, leader "
        "| context switches, leader |"
    )
    print("|---|---|---|---|---|")
    for name, requests, load in LOADS:
        requests //= 5 if arguments.quick else 1
        ratios = []
        for pair in range(arguments.pairs + 1):
            order = (0, 1) if pair % 2 == 0 else (1, 0)
            figures = {which: measure(clusters[which], requests, load) for which in order}
            if pair:  # the first one warms up
                both = zip(figures[0], figures[1])
                ratios.append([after / max(before, 1e-9) for before, after in both])
        cells = [spread(column, ".2f") for column in zip(*ratios)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print(f"load average at the end: {os.getloadavg()}")


if __name__ == "__main__":
    main()
