"""Clients that behave badly, and a good one beside them: its latency, the Gateway's memory, its life.

Ratios are printed; what is asserted is generous, for the machine may be busy. SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import random
import resource
import select
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import real  # noqa: E402
from service import SOON, Service, chat, wait_until  # noqa: E402

IDLE = 10_000
SPARE_FILES = 300  # descriptors of this test that are no idle connections
GOOD_SECONDS = 4.0  # of the good client beside each attack
# An idle connection costs the service a session, a descriptor and a timer.
MAX_IDLE_BYTES = 8 << 10
# What clients can make the Gateway hold, beyond what it holds at rest: 256 MiB of bodies, one of them as JSON, and the
# allocator's slack.
MAX_GROWN_BYTES = 600 << 20
MAX_RATIO = 20  # of the good client's p99 under attack to the quiet one; the attackers share its two cores


def memory(pid, name="VmRSS"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(name + ":"))


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


class World:
    service = None
    rest = 0  # bytes that the Gateway holds before anybody does anything
    pid = 0

    @classmethod
    def up(cls):
        if cls.service is None:
            cls.service = Service()
            for _ in range(5):
                cls.service.call("POST", "/v1/chat/completions", chat())
            cls.pid, cls.rest = cls.service.pid, memory(cls.service.pid)

    @classmethod
    def down(cls):
        if cls.service is not None:
            cls.service.down()


def answer_times(seconds):
    """How long the good client waits for each of its answers, one after the other on one connection."""
    connection, times = World.service.connection(), []
    end = time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            started = time.monotonic()
            status, _, body = World.service.call("POST", "/v1/chat/completions", chat(), connection=connection)
            times.append(time.monotonic() - started)
            if status != 200:
                raise AssertionError(f"the good client got {status}: {body[:200]}")
    finally:
        connection.close()
    return times


class Attackers:
    """Threads that do the same thing again and again until the good client is done."""

    def __init__(self, work, threads):
        self.count, self.errors = 0, []
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run, args=(work,), daemon=True) for _ in range(threads)]

    def run(self, work):
        while not self.ended.is_set():
            try:
                work()
            except OSError:
                pass
            except Exception as error:  # noqa: BLE001
                self.errors.append(error)
                return
            with self.lock:
                self.count += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join(60)


def said_to(data, timeout=SOON):
    """What comes back to these bytes until the service closes."""
    with World.service.connect(timeout) as s:
        s.sendall(data)
        received = b""
        try:
            while block := s.recv(65536):
                received += block
        except OSError:
            pass
        return received


def post(path, body, *fields):
    body = body if isinstance(body, bytes) else body.encode()
    head = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}",
            *fields]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def bombs():
    """Four MiB each of what takes JSON parsers long or much memory."""
    def filled(before, unit, after):
        return before + unit * ((4_194_000 - len(before) - len(after)) // len(unit)) + after
    base = '{"model":"adder","messages":[{"role":"user","content":"1"}],"x":'
    yield filled(base + "[", "[],", "[]]}")
    yield filled(base + "[", "{},", "{}]}")
    yield filled(base + "[", "1,", "1]}")
    yield base + "[" * 2_000_000 + "]" * 2_000_000 + "}"
    yield "{" + ",".join(f'"k{i}":1' for i in range(350_000)) + "}"
    yield filled('{"model":"adder","messages":[{"role":"user","content":"', "\\u00e9", '"}]}')
    yield filled('{"model":"adder","messages":[', '{"role":"user","content":"1"},', '{"role":"user","content":"1"}]}')


class BadClients(unittest.TestCase):
    quiet = None

    @classmethod
    def setUpClass(cls):
        World.up()
        cls.quiet = answer_times(GOOD_SECONDS)

    def tearDown(self):
        self.assertEqual(World.service.pid, World.pid, "the Gateway's process is another one\n" + World.service.log()[-2000:])
        if not real.is_sanitized():
            self.assertLess(memory(World.pid) - World.rest, MAX_GROWN_BYTES)

    def beside(self, name, work, threads=4, needs=1):
        """The good client's latency beside the attackers, as a ratio to the quiet run."""
        with Attackers(work, threads) as attackers:
            times = answer_times(GOOD_SECONDS)
        self.assertEqual(attackers.errors, [])
        self.assertGreaterEqual(attackers.count, needs, "nobody attacked")
        shares = {share: percentile(times, share) / percentile(self.quiet, share) for share in (0.5, 0.99)}
        print(f"{name}: {attackers.count} attacks, {len(times)} answers ({len(self.quiet)} quiet), latency p50 "
              f"{1000 * percentile(times, 0.5):.1f} ms ({shares[0.5]:.2f} x quiet), p99 {1000 * percentile(times, 0.99):.1f} ms "
              f"({shares[0.99]:.2f} x quiet), {memory(World.pid) >> 20} MiB held", flush=True)
        self.assertLess(shares[0.99], MAX_RATIO)

    def test_slow_headers(self):
        """two hundred clients that send a byte of a header now and then"""
        slow = [World.service.connect() for _ in range(200)]
        try:
            def trickle():
                for s in slow:
                    s.send(b"G")
                time.sleep(0.5)
            self.beside("slow headers", trickle, 1)
        finally:
            for s in slow:
                s.close()

    def test_half_open(self):
        """connections that are broken without a word, and that stop in the middle of a body"""
        def half():
            s = World.service.connect()
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      b"Content-Length: 100000\r\n\r\n{")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset instead of an end
            s.close()
            World.service.connect().close()
            time.sleep(0.002)
        self.beside("half-open connections", half)

    def test_never_reading(self):
        """streams that are asked for and never read"""
        held = []
        try:
            body = json.dumps(chat(stream=True, max_tokens=400, ignore_eos=True, logprobs=True, top_logprobs=20))
            for _ in range(6):
                s = World.service.connect(receive_bytes=4096)
                s.sendall(post("/v1/chat/completions", body))
                held.append(s)
            self.beside("streams that are never read", lambda: time.sleep(0.1), 1)
        finally:
            for s in held:
                s.close()
        wait_until("nothing runs", lambda: World.service.metric("vllm:num_requests_running") == 0, 30)

    def test_all_idle(self):
        """ten thousand connections that say nothing cost little each"""  # first: what others freed would hide it
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        count = min(IDLE, hard - SPARE_FILES)
        before, idle = memory(World.pid), []
        try:
            for _ in range(count):
                idle.append(World.service.connect())
            self.assertEqual(World.service.call("GET", "/health")[0], 200)  # all before it were taken
            each = (memory(World.pid) - before) / count
            print(f"{count} idle connections cost the Gateway {each / 1024:.1f} KiB each", flush=True)
            if not real.is_sanitized():
                self.assertLess(each, MAX_IDLE_BYTES)
            self.beside("idle connections", lambda: time.sleep(0.1), 1)
            watched = select.poll()
            for s in idle[:200]:
                watched.register(s, select.POLLIN | select.POLLHUP)
            self.assertEqual(watched.poll(0), [], "connections were let go though there was room")
        finally:
            for s in idle:
                s.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_large_bodies(self):
        """bodies that are too large, that never come, and lengths that lie"""
        turns = iter(range(10**9))

        def large():
            kind = next(turns) % 4
            if kind == 0:
                head = post("/v1/chat/completions", b"").replace(b"Content-Length: 0", b"Content-Length: 99999999")
                self.assertIn(b" 413 ", said_to(head))
            elif kind == 1:
                self.assertIn(b" 400 ", said_to(post("/v1/chat/completions", b"x" * 4_000_000, "Connection: close")))
            elif kind == 2:
                with World.service.connect() as s:  # chunks without end
                    s.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                              b"Transfer-Encoding: chunked\r\n\r\n")
                    for _ in range(100):
                        s.sendall(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            else:
                with World.service.connect() as s:  # one chunk's size, without end
                    s.sendall(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                              b"Transfer-Encoding: chunked\r\n\r\n" + b"1;" + b"a" * 200_000)
        self.beside("large bodies", large)

    def test_bombs(self):
        """JSON that takes long to read holds up nobody else"""
        made = list(bombs())
        turns = iter(range(10**9))
        self.beside("JSON bombs", lambda: self.assertIn(
            b" 400 ", said_to(post("/v1/chat/completions", made[next(turns) % len(made)], "Connection: close"), 60)))

    def test_noise(self):
        """bytes that are not HTTP, paths that climb, keys that nobody has"""
        paths = ["/../../etc/passwd", "/v1/../metrics", "//health", "/%2e%2e/health", "/v1/models/..%2f..", "/\0", "/" + "a" * 9000,
                 "/v1/models/" + "%00" * 100, "http://evil/health", "*", "/health\\..\\x", "/v1/chat/completions;x=1"]
        chance = random.Random(7)

        def noise():
            path = chance.choice(paths)
            for data in (f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode(),
                         chance.randbytes(chance.randrange(1, 4000)) + b"\r\n\r\n",
                         b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + b"x" * 5000 +
                         b"\r\nConnection: close\r\n\r\n",
                         b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % i for i in range(3000)) + b"\r\n"):
                said = said_to(data, 2)
                self.assertNotIn(b"root:", said)
                if said and b" 200 " in said.split(b"\r\n")[0]:
                    self.assertTrue(b"/metrics" in data or b"//" in data, (data[:80], said[:80]))
            time.sleep(0.01)
        self.beside("noise", noise)

    def test_pipelined(self):
        """thousands of requests sent at once on one connection are answered in order, and leave turns to others"""
        one = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

        def pipelined():
            said = bytearray()
            with World.service.connect(30) as s:
                sender = threading.Thread(target=lambda: s.sendall(one * 2000 + last))
                sender.start()
                while block := s.recv(1 << 16):
                    said += block
                sender.join()
            self.assertEqual(said.count(b"HTTP/1.1 200 OK"), 2001)
        self.beside("pipelined requests", pipelined, 2)

    def test_pipelined_without_end(self):
        """a client that sends requests faster than they are answered fills the wire, not the memory"""
        held = memory(World.pid)
        many = post("/detokenize", json.dumps(dict(tokens=[3]))) * 1000
        with World.service.connect() as s:
            s.setblocking(False)
            end, sent = time.monotonic() + GOOD_SECONDS, 0
            while time.monotonic() < end:
                select.select([s], [s], [], 0.1)
                try:
                    sent += s.send(many[sent % len(many):])
                except BlockingIOError:
                    pass
                try:
                    s.recv(1 << 12)
                except BlockingIOError:
                    pass
        print(f"{sent >> 10} KiB of requests were sent, the Gateway grew by {(memory(World.pid) - held) >> 10} KiB")
        self.assertGreater(sent, 100_000)
        if not real.is_sanitized():
            self.assertLess(memory(World.pid) - held, 16 << 20)

    def test_reused(self):
        """one connection serves thousands of requests, good and bad ones"""
        connection = World.service.connection()
        started = time.monotonic()
        for i in range(3000):
            good = i % 3 != 0
            status = World.service.call("POST", "/detokenize", dict(tokens=[3, 4]) if good else "{", connection=connection)[0]
            self.assertEqual(status, 200 if good else 400)
        print(f"3000 requests on one connection: {3000 / (time.monotonic() - started):.0f} a second")
        connection.close()

    def test_zz_wrong_keys(self):
        """wrong keys are refused, quickly and without end"""
        key = World.service.keys("add", "good")
        try:
            wrong = World.service.connection()

            def guess():
                connection = World.service.connection()
                for _ in range(20):
                    self.assertEqual(World.service.call("GET", "/v1/models", key="sk-consort-" + os.urandom(32).hex(),
                                                        connection=connection)[0], 401)
                connection.close()
            wrong.close()
            with Attackers(guess, 4) as attackers:
                times = []
                for _ in range(30):
                    started = time.monotonic()
                    self.assertEqual(World.service.call("POST", "/v1/chat/completions", chat(), key)[0], 200)
                    times.append(time.monotonic() - started)
            self.assertEqual(attackers.errors, [])
            print(f"wrong keys: {20 * attackers.count} guesses, the good key's p50 {1000 * percentile(times, 0.5):.1f} ms")
        finally:
            os.unlink(World.service.cluster.state("keys", "api-keys"))


def tearDownModule():
    World.down()


if __name__ == "__main__":
    real.main()
