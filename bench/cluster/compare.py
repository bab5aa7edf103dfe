#!/usr/bin/env python3
"""Compares kodiak's `raft`, etcd, and Redis on loopback, with the same durability.

raft and etcd have three nodes; Redis is a single server that syncs every write (`appendfsync
always`). The systems run in turn. The result is the median and the spread.

    cargo build --release --bin raft
    bench/cluster/compare.py --raft target/release/raft [--rounds 3] [--failovers 10] [--quick]

Needs redis-benchmark and redis-cli, and etcd, etcdctl and redis-server for the comparison (Debian:
etcd-server etcd-client redis-server redis-tools). A system that is not installed is skipped.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

VALUE_BYTES = 1024  # what `etcdctl check perf` writes
CLIENTS = 500  # its load "l"


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in held]
    for listener in held:
        listener.close()
    return ports


class Cluster:
    """Processes with a folder; `stop` kills them."""

    def __init__(self, folder):
        self.folder = folder
        self.processes = {}

    def spawn(self, name, command):
        log = open(os.path.join(self.folder, f"{name}.log"), "ab")
        self.processes[name] = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )

    def kill(self, name):
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self):
        for name in list(self.processes):
            self.kill(name)


class Kodiak(Cluster):
    def __init__(self, folder, raft):
        super().__init__(folder)
        ports = free_ports(6)
        self.raft = raft
        self.peer_ports = dict(zip((1, 2, 3), ports))
        self.client_ports = dict(zip((1, 2, 3), ports[3:]))
        for node in (1, 2, 3):
            self.start(node)

    def start(self, node):
        data = os.path.join(self.folder, str(node))
        command = [self.raft, "serve", "--id", str(node), "--data", data]
        command += ["--raft", f"127.0.0.1:{self.peer_ports[node]}"]
        command += ["--client", f"127.0.0.1:{self.client_ports[node]}"]
        for peer, port in self.peer_ports.items():
            if peer != node:
                command += ["--peer", f"{peer}=127.0.0.1:{port}"]
        self.spawn(node, command)

    def leader(self):
        """The leader's id. Writes first, because a write waits until there is a leader."""
        while True:
            for node in self.processes:
                if self.put(node):
                    info = redis_cli(self.client_ports[node], "INFO", "raft")
                    found = re.search(r"leader_id:(\d+)", info)
                    if found and int(found[1]) in self.processes:
                        return int(found[1])

    def put(self, node):
        return redis_cli(self.client_ports[node], "SET", "key", "value").strip() == "OK"

    def port(self):
        return self.client_ports[self.leader()]


class Etcd(Cluster):
    def __init__(self, folder):
        super().__init__(folder)
        ports = free_ports(6)
        self.peer_ports = dict(zip((1, 2, 3), ports))
        self.client_ports = dict(zip((1, 2, 3), ports[3:]))
        self.members = ",".join(
            f"n{node}=http://127.0.0.1:{port}" for node, port in self.peer_ports.items()
        )
        for node in (1, 2, 3):
            self.start(node, "new")

    def start(self, node, state):
        peer = f"http://127.0.0.1:{self.peer_ports[node]}"
        client = f"http://127.0.0.1:{self.client_ports[node]}"
        self.spawn(node, [
            "etcd", "--name", f"n{node}", "--data-dir", os.path.join(self.folder, str(node)),
            "--log-level", "error",
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--initial-cluster", self.members, "--initial-cluster-state", state,
        ])  # fmt: skip

    def endpoint(self, node):
        return f"127.0.0.1:{self.client_ports[node]}"

    def endpoints(self):
        return ",".join(map(self.endpoint, self.processes))

    def leader(self):
        while True:
            for node in self.processes:
                output = etcdctl("endpoint", "status", endpoints=self.endpoint(node))
                if ", true, " in output:
                    return node

    def put(self, node):
        return etcdctl("put", "key", "value", endpoints=self.endpoint(node)).strip() == "OK"


class Redis(Cluster):
    def __init__(self, folder):
        super().__init__(folder)
        (self.tcp_port,) = free_ports(1)
        self.spawn("redis", [
            "redis-server", "--port", str(self.tcp_port), "--dir", folder, "--save", "",
            "--appendonly", "yes", "--appendfsync", "always",
        ])  # fmt: skip
        while redis_cli(self.tcp_port, "PING").strip() != "PONG":
            pass

    def port(self):
        return self.tcp_port


def redis_cli(port, *arguments):
    command = ["redis-cli", "-p", str(port), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout


def etcdctl(*arguments, endpoints, timeout="2s"):
    environment = dict(os.environ, ETCDCTL_API="3")
    command = ["etcdctl", "--endpoints", endpoints, "--command-timeout", timeout, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment).stdout


def redis_benchmark(port, requests, clients, pipeline, operation):
    command = ["redis-benchmark", "-p", str(port), "-t", operation, "-n", str(requests)]
    command += ["-c", str(clients), "-d", str(VALUE_BYTES), "-P", str(pipeline)]
    command += ["-r", "100000", "-q"]
    output = subprocess.run(command, capture_output=True, text=True).stdout
    return float(re.findall(r"([\d.]+) requests per second", output)[-1])


def etcd_check_perf(cluster):
    """Writes per second by `etcdctl check perf --load=l`: 500 clients, 1 KiB values, a minute."""
    environment = dict(os.environ, ETCDCTL_API="3")
    command = ["etcdctl", "--endpoints", cluster.endpoints(), "check", "perf", "--load=l"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = re.search(r"(\d+(?:\.\d+)?) writes/s", run.stdout + run.stderr)
    return float(found[1]) if found else None


def failover_ms(cluster):
    """The time from SIGKILL of the leader to the first write that another node acknowledges."""
    leader = cluster.leader()
    cluster.kill(leader)
    killed = time.monotonic()
    survivors = list(cluster.processes)
    while not any(cluster.put(node) for node in survivors):
        pass
    elapsed = (time.monotonic() - killed) * 1e3
    cluster.start(leader) if isinstance(cluster, Kodiak) else cluster.start(leader, "existing")
    while not cluster.put(leader):
        pass
    return elapsed


def show(name, unit, figures):
    figures = [figure for figure in figures if figure is not None]
    if figures:
        median, low, high = statistics.median(figures), min(figures), max(figures)
        print(
            f"| {name} | {median:,.0f} {unit} | {low:,.0f} to {high:,.0f} | {len(figures)} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raft", default="target/release/raft")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--failovers", type=int, default=10)
    quick_help = "a tenth of the requests, and no etcdctl check perf, which takes a minute"
    parser.add_argument("--quick", action="store_true", help=quick_help)
    arguments = parser.parse_args()
    if not os.access(arguments.raft, os.X_OK):
        sys.exit(f"{arguments.raft} is missing; build it: cargo build --release --bin raft")
    has_etcd = bool(shutil.which("etcd") and shutil.which("etcdctl"))
    has_redis = bool(shutil.which("redis-server"))
    if not has_etcd:
        print("skipped: etcd (no etcd or etcdctl in the path)")
    if not has_redis:
        print("skipped: Redis (no redis-server in the path)")

    scale = 10 if arguments.quick else 1
    workloads = [  # name, requests, clients, pipeline, operation
        (f"SET, {CLIENTS} clients", 300_000 // scale, CLIENTS, 1, "set"),
        ("SET, 50 clients", 200_000 // scale, 50, 1, "set"),
        ("SET, 50 clients, pipeline 16", 500_000 // scale, 50, 16, "set"),
        ("SET, 1 client", 5_000 // scale, 1, 1, "set"),
        ("GET, 50 clients", 200_000 // scale, 50, 1, "get"),
    ]
    raft = os.path.abspath(arguments.raft)
    figures = {}

    def record(name, unit, figure):
        figures.setdefault((name, unit), []).append(figure)

    for _ in range(arguments.rounds):
        for system in ("kodiak", "redis", "etcd"):
            with tempfile.TemporaryDirectory() as folder:
                if system == "etcd":
                    if has_etcd and not arguments.quick:
                        cluster = Etcd(folder)
                        cluster.leader()
                        rate = etcd_check_perf(cluster)
                        record(f"etcd: check perf l, {CLIENTS} clients", "writes/s", rate)
                        cluster.stop()
                    continue
                if system == "redis" and not has_redis:
                    continue
                cluster = Kodiak(folder, raft) if system == "kodiak" else Redis(folder)
                for name, *workload in workloads:
                    rate = redis_benchmark(cluster.port(), *workload)
                    record(f"{system}: {name}", "requests/s", rate)
                cluster.stop()

    folder = tempfile.TemporaryDirectory
    with folder() as kodiak_folder, folder() as etcd_folder:
        clusters = {"kodiak": Kodiak(kodiak_folder, raft)}
        if has_etcd:
            clusters["etcd"] = Etcd(etcd_folder)
        for _ in range(arguments.failovers):
            for name, cluster in clusters.items():
                what = f"{name}: kill -9 of the leader to the first write"
                record(what, "ms", failover_ms(cluster))
        for cluster in clusters.values():
            cluster.stop()

    print(f"values of {VALUE_BYTES} bytes; load average at the end: {os.getloadavg()}")
    print("| what | median | spread | runs |\n|---|---|---|---|")
    for (name, unit), values in figures.items():
        show(name, unit, values)


if __name__ == "__main__":
    main()
