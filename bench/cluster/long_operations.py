#!/usr/bin/env python3
"""How much do long operations of the store hold up the loop that sends heartbeats? One node with many keys; while an
operation is under way, another connection sends PING, one after the other without a pause, and for each PING the
processor time is taken that the loop's thread has used until the reply. The largest is what a heartbeat could have
waited for the loop itself; what a busy machine adds is left out.

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
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


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
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/schedstat", encoding="ascii") as stat:
            return int(stat.read().split()[0])

    def ask(self, *words):
        """The reply to one command, once the node has a state to answer from."""
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
    """Sends PING until it is stopped, and keeps what each cost the loop."""

    def __init__(self, node):
        super().__init__()
        self.node, self.stopped, self.ns, self.seconds = node, False, [], []

    def run(self):
        stream = self.node.connect()
        # The first reply of a node that has just been started comes when the loop begins: until
        # then it has opened its log.
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
    loop_ms, wait_ms = max(pinger.ns) / 1e6, max(pinger.seconds) * 1e3
    print(
        f"| {name} | {seconds:.2f} | {len(pinger.ns)} | {statistics.median(pinger.ns) / 1e6:.3f} | **{loop_ms:.2f}** "
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
    """Writes keys, many in a command and many commands at a time; waits for all replies."""
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


def restart(node):
    """Ends the process as kill -9 does, starts it, and waits until it answers reads."""
    node.process.send_signal(signal.SIGKILL)
    node.process.wait()
    node.start()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raft", default="target/release/raft")
    parser.add_argument("--keys", type=int, default=5_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        node = Node(os.path.abspath(arguments.raft), folder)
        try:
            node.ask("SET", "key", "value")
            print(f"one node, {arguments.keys} keys of 16-byte values; load average {os.getloadavg()}")
            print("| while | seconds | PINGs | loop, median ms | loop, longest ms | wait, longest ms | longest call |")
            print("|---|---|---|---|---|---|---|")
            during("keys are written", node, lambda: fill(node, arguments.keys, b"0123456789abcdef"))
            during("KEYS (refused)", node, lambda: node.ask("KEYS", "*"))
            during("1000 steps of SCAN", node, lambda: [node.ask("SCAN", cursor) for cursor in range(1000)])
            during("a snapshot, and writes", node, lambda: fill(node, 600_000, bytes(100)))
            restart(node)
            during("restore and replay", node, lambda: node.ask("DBSIZE"))
            during("FLUSHALL", node, lambda: [node.ask("FLUSHALL"), fill(node, 100_000, b"v")])
        finally:
            node.process.kill()
            node.process.wait()


if __name__ == "__main__":
    main()
