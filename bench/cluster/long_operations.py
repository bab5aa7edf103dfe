#!/usr/bin/env python3
"""Measures how long operations of the store delay the loop that sends heartbeats.

There is one node with many keys. During an operation another connection sends PINGs without a
pause. For each PING the processor time is measured that the loop's thread uses until the reply.
The longest is how long a heartbeat could have waited for the loop, without the delays of a busy
machine.

    bench/cluster/long_operations.py --raft target/release/raft [--keys 5000000]

Linux only: the times are those of /proc/PID/task/TID/schedstat.
"""

import argparse
import os
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

from compare import free_ports


def command(*words):
    """A command as RESP, an array of bulk strings."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    bulk_strings = [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"*%d\r\n" % len(words) + b"".join(bulk_strings)


class Node:
    def __init__(self, raft, folder):
        self.raft, self.folder = raft, folder
        self.peer_port, self.client_port = free_ports(2)
        self.start()

    def start(self):
        log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(
            [self.raft, "serve", "--id", "1", "--data", os.path.join(self.folder, "data"),
             "--raft", f"127.0.0.1:{self.peer_port}", "--client", f"127.0.0.1:{self.client_port}"],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL)  # fmt: skip

    def connect(self):
        while True:
            try:
                stream = socket.create_connection(("127.0.0.1", self.client_port), 5)
                stream.settimeout(120)
                return stream
            except OSError:
                assert self.process.poll() is None, "the node has ended: see its log"

    def loop_ns(self):
        """Processor time of the loop, which runs on the main thread."""
        pid = self.process.pid
        with open(f"/proc/{pid}/task/{pid}/schedstat", encoding="ascii") as stat:
            return int(stat.read().split()[0])

    def ask(self, *words):
        """The reply to one command, once the node is able to answer."""
        with self.connect() as stream:
            while True:
                stream.sendall(command(*words))
                reply = stream.recv(1 << 20)
                if not reply.startswith((b"-LOADING", b"-CLUSTERDOWN")):
                    return reply

    def info(self, field):
        found = re.search(rb"^%s:(.*?)\r?$" % field.encode(), self.ask("INFO", "raft"), re.M)
        return found[1].decode() if found else "?"


class Pinger(threading.Thread):
    """Sends PINGs until it is stopped, and records the loop's processor time for each."""

    def __init__(self, node):
        super().__init__()
        self.node, self.stopped, self.ns, self.seconds = node, False, [], []

    def run(self):
        stream = self.node.connect()
        # A node that has just been started sends its first reply after it has opened its log.
        stream.sendall(command("PING"))
        assert stream.recv(64)
        while not self.stopped:
            used, began = self.node.loop_ns(), time.monotonic()
            stream.sendall(command("PING"))
            assert stream.recv(64)[:1] in b"+-"
            self.ns.append(self.node.loop_ns() - used)
            self.seconds.append(time.monotonic() - began)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped = True
        self.join()


def show(name, node, pinger, seconds):
    median_ms = statistics.median(pinger.ns) / 1e6
    loop_ms, wait_ms = max(pinger.ns) / 1e6, max(pinger.seconds) * 1e3
    print(
        f"| {name} | {seconds:.2f} | {len(pinger.ns)} | {median_ms:.3f} | **{loop_ms:.2f}** "
        f"| {wait_ms:.1f} | {node.info('longest_machine_call')} |",
        flush=True,
    )


def during(name, node, action):
    with Pinger(node) as pinger:
        while not pinger.ns:
            pass
        began = time.monotonic()
        action()
        seconds = time.monotonic() - began
    show(name, node, pinger, seconds)


def fill(node, keys, value):
    """Writes keys, 100 in a command, with up to 32 commands in flight. Waits for all replies."""
    in_command, in_flight = 100, 32
    with node.connect() as stream:
        outstanding = 0

        def wait(most):
            nonlocal outstanding
            while outstanding > most:
                reply = stream.recv(1 << 16)
                assert reply and not reply.startswith(b"-"), reply
                outstanding -= reply.count(b"\n")

        for first in range(0, keys, in_command):
            words = [b"MSET"]
            for key in range(first, min(first + in_command, keys)):
                words += [b"key:%d" % key, value]
            stream.sendall(command(*words))
            outstanding += 1
            wait(in_flight)
        wait(0)


def scan(node, steps):
    for cursor in range(steps):
        node.ask("SCAN", cursor)


def restart(node):
    """Kills the process with SIGKILL and starts it again."""
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    node.start()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raft", default="target/release/raft")
    parser.add_argument("--keys", type=int, default=5_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        node = Node(os.path.abspath(arguments.raft), folder)
        try:
            node.ask("SET", "key", "value")
            load = os.getloadavg()
            print(f"one node, {arguments.keys} keys of 16-byte values; load average {load}")
            print(
                "| while | seconds | PINGs | loop, median ms | loop, longest ms "
                "| wait, longest ms | longest call |"
            )
            print("|---|---|---|---|---|---|---|")
            value = b"0123456789abcdef"
            during("keys are written", node, lambda: fill(node, arguments.keys, value))
            during("KEYS (refused)", node, lambda: node.ask("KEYS", "*"))
            during("1000 steps of SCAN", node, lambda: scan(node, 1000))
            during("a snapshot, and writes", node, lambda: fill(node, 600_000, bytes(100)))
            restart(node)
            during("restore and replay", node, lambda: node.ask("DBSIZE"))
            during("FLUSHALL", node, lambda: [node.ask("FLUSHALL"), fill(node, 100_000, b"v")])
        finally:
            node.process.kill()
            node.process.wait()


if __name__ == "__main__":
    main()
