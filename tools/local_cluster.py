"""A real three-node cluster on this machine, for demonstrations, fault runs and tests.

Everything lives in one temporary folder: the checkpoint, the cluster file, and the state folder of the cluster.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

TOOLS = os.path.dirname(os.path.abspath(__file__))
UP_SECONDS = 180
THREE_NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts"], memory="2GiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="1GiB"),
    # Half a millisecond away: most of the time some dispatch is under way to it.
    dict(name="garage", roles=["experts"], memory="1GiB", shape=dict(delay="500us", rate="1Gbit")),
]


# For faults: an experts node that desk's passes need all the time. What desk does not hold itself is at attic and garage,
# and garage is nearer.
FAULT_NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts"], memory="2GiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="1GiB", shape=dict(delay="2ms", rate="1Gbit")),
    dict(name="garage", roles=["experts"], memory="1GiB", shape=dict(delay="300us", rate="1Gbit")),
]
# Garage has room for three experts of make_checkpoint.py's models, 73,728 bytes each: too few to serve both worlds.
LOST_PART_NODES = [FAULT_NODES[0], dict(name="attic", roles=["trunk", "experts"], memory="1GiB"),
                   dict(FAULT_NODES[2], memory="230kB")]


class LocalCluster:
    def __init__(self, consort, model, nodes=None, replicas=2, columns="auto", flags=(), keep=False):
        self.consort = os.path.abspath(consort)
        self.folder = tempfile.mkdtemp(prefix="consort-")
        self.keep = keep
        self.name = "local"
        self.flags = list(flags)
        self.file = os.path.join(self.folder, "cluster.toml")
        self.environment = dict(os.environ, XDG_STATE_HOME=os.path.join(self.folder, "state"))
        columns = json.dumps(columns)
        lines = ["[cluster]", f'name = "{self.name}"', f'model = "{os.path.abspath(model)}"', f"replicas = {replicas}",
                 f"columns = {columns}"]
        for node in nodes or THREE_NODES:
            lines.append("[[node]]")
            lines.append('host = "127.0.0.1"')
            for key, value in node.items():
                if isinstance(value, dict):
                    value = "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + " }"
                else:
                    value = json.dumps(value)
                lines.append(f"{key} = {value}")
        with open(self.file, "w") as out:
            out.write("\n".join(lines) + "\n")

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments, timeout=UP_SECONDS, check=True):
        done = subprocess.run([self.consort, *arguments], env=self.environment, capture_output=True, text=True,
                              timeout=timeout, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise RuntimeError(f"consort {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
                               f"{self.logs()}")
        return done

    def up(self):
        self.run("up", self.file, "--detach", *self.flags)

    def down(self):
        self.run("down", self.file, check=False)

    def status(self):
        return json.loads(self.run("status", self.file, "--json").stdout)

    def state(self, *path):
        return os.path.join(self.environment["XDG_STATE_HOME"], "consort", self.name, *path)

    def pid(self, process):
        with open(self.state("run", process + ".pid")) as file:
            return int(file.read())

    def signal(self, process, number):
        os.kill(self.pid(process), number)

    def logs(self):
        text = ""
        folder = self.state("log")
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            with open(os.path.join(folder, name), errors="replace") as file:
                text += f"--- {name}\n" + "".join(file.readlines()[-30:])
        return text

    def record(self, milliseconds, out):
        """Starts `consort trace`; returns its process once the nodes record."""
        process = subprocess.Popen([self.consort, "trace", self.file, "--out", out, "--milliseconds", str(milliseconds)],
                                   env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                   stdin=subprocess.DEVNULL, text=True)
        process.stdout.readline()
        return process

    def nodes(self):
        return {n["name"]: n for n in self.status()["nodes"]}

    def wait_ready(self, node, after_incarnation=0, seconds=60):
        """Until the node serves again, in a later life than the one given."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            now = self.nodes().get(node, {})
            if now.get("state") == "ready" and now["incarnation"] > after_incarnation:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{node} is not ready after {seconds} s\n{self.logs()}")

    def wait_coordinator(self, seconds=60):
        """Until a Coordinator answers and has adopted all nodes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status = self.status()
            by_worker = status["answered_by"] in (n["node"] for n in status["nodes"])
            if not by_worker and all(n["state"] == "ready" for n in status["nodes"]):
                return
            time.sleep(0.1)
        raise RuntimeError(f"the coordinator is not back after {seconds} s\n{self.logs()}")

    def generate(self, ids, tokens, deadline_ms=120000, extra=()):
        """Starts a generation; returns its Stream."""
        process = subprocess.Popen(
            [self.consort, "generate", "--cluster", self.file, "--ids", ",".join(map(str, ids)), "--ignore-eos", "--json",
             "--max-new-tokens", str(tokens), "--deadline", str(deadline_ms), *extra],
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        return Stream(process)


class Stream:
    """The tokens of one `consort generate --json`, with the time at which each line came. A thread reads them."""

    def __init__(self, process):
        self.process = process
        self.tokens = []
        self.times = []
        self.end = None
        self.exit_code = None
        self.error = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            now = time.monotonic()
            item = json.loads(line)
            if "id" in item:
                self.tokens.append((item["id"], item["logits_crc"]))
                self.times.append(now)
            else:
                self.end = item
        self.error = self.process.stderr.read()
        self.exit_code = self.process.wait()

    def wait_tokens(self, count):
        """Until so many tokens have come, or the stream has ended."""
        while len(self.tokens) < count and self.reader.is_alive():
            time.sleep(0.0005)
        return len(self.tokens)

    def drain(self, seconds=300):
        self.reader.join(seconds)
        if self.reader.is_alive():
            self.process.kill()
            raise RuntimeError(f"the stream has not ended after {seconds} s, {len(self.tokens)} tokens came")
        return self

    def largest_gap(self, since=0.0):
        """Between two tokens, of which the later came after `since`."""
        return max((b - a for a, b in zip(self.times, self.times[1:]) if b >= since), default=0.0)


def make_checkpoint(folder, *arguments):
    subprocess.run([sys.executable, os.path.join(TOOLS, "make_checkpoint.py"), folder, *arguments], check=True)
    return folder


KILL, STOP, CONTINUE = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
