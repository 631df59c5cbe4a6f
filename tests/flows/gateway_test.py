"""The Gateway as an operator runs it: TLS, quotas per key, what was used, and the process killed.

SPDX-License-Identifier: Apache-2.0
"""
import csv
import datetime
import http.client
import io
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import pypi  # noqa: E402
import real  # noqa: E402
from service import SOON, Service, chat, make_certificate, wait_until  # noqa: E402

PRICE = ["[price]", "per_million_prompt = 0.55", "per_million_cached = 0.14", "per_million_completion = 2.19",
         "machine_cost_per_hour = 1.5"]
COMMITTED = 1.0  # seconds after which what was used is on disk
IDLE = 500
# OpenSSL keeps some KiB per connection when its buffers are released.
MAX_IDLE_BYTES = 64 << 10


class World:
    folder = None
    service = None
    key = ""

    @classmethod
    def up(cls):
        if cls.service is None:
            cls.folder = tempfile.TemporaryDirectory(prefix="consort-tls-")
            cls.service = Service(PRICE, make_certificate(cls.folder.name))
            cls.key = cls.service.keys("add", "ann")

    @classmethod
    def down(cls):
        if cls.service is not None:
            cls.service.down()
            cls.folder.cleanup()


def usage(*arguments):
    """consort usage --csv as a list of dicts."""
    cluster = World.service.cluster
    return list(csv.DictReader(io.StringIO(cluster.run("usage", cluster.file, "--csv", *arguments).stdout)))


def used(key):
    """The sums of a key over all days."""
    sums = {}
    for row in usage("--key", key):
        for name, value in row.items():
            if name not in ("day", "key"):
                sums[name] = sums.get(name, 0) + (float(value) if "." in value else int(value))
    return sums


def ask(key, **more):
    return World.service.call("POST", "/v1/chat/completions", chat(**more), key=key)


class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        World.up()

    def handshake(self, **more):
        context = World.service.trust(**more)
        with World.service.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as s:
            return s.version(), s.cipher()[0], s.selected_alpn_protocol()

    def test_only_new(self):
        """TLS 1.3 is spoken, 1.2 is refused, an unknown authority is the client's to refuse"""
        self.assertTrue(World.service.url.startswith("https://"))
        self.assertEqual(self.handshake()[0], "TLSv1.3")
        with self.assertRaises(ssl.SSLError):
            self.handshake(maximum_version=ssl.TLSVersion.TLSv1_2)
        with World.service.connect() as plain, self.assertRaises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")
        self.assertEqual(World.service.call("GET", "/health")[0], 200)

    def test_protocols(self):
        """HTTP/1.1 is chosen where it is offered; who offers HTTP/2 alone is let in without a choice"""
        for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["h2"], None)):
            context = World.service.trust()
            context.set_alpn_protocols(offered)
            with World.service.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as s:
                self.assertEqual(s.selected_alpn_protocol(), chosen)

    def test_curl(self):
        """curl streams over TLS 1.3 and refuses with 1.2"""
        def curl(*more):
            return subprocess.run(["curl", "-sN", "--cacert", World.service.certificate, *more,
                                   World.service.url + "/v1/chat/completions", "-H", "Content-Type: application/json", "-H",
                                   "Authorization: Bearer " + World.key, "-d", json.dumps(chat(stream=True))],
                                  capture_output=True, text=True, timeout=60)
        done = curl("--tlsv1.3")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.endswith("data: [DONE]\n\n"))
        self.assertNotEqual(curl("--tls-max", "1.2").returncode, 0)

    def test_official(self):
        """the official client speaks through httpx with the certificate given to it"""
        folder = pypi.folder(os.path.dirname(real.Program.path), "openai")
        if folder is None:
            self.skipTest("the official openai package cannot be had: is PyPI in reach?")
        sys.path.insert(0, folder)
        import openai
        with openai.DefaultHttpxClient(verify=World.service.trust()) as trusting:
            client = openai.OpenAI(base_url=World.service.url + "/v1", api_key=World.key, max_retries=0,
                                   http_client=trusting)
            self.talk(client)

    def talk(self, client):
        self.assertEqual(client.chat.completions.create(**chat()).choices[0].message.content, "46")
        streamed = client.chat.completions.create(**chat(stream=True))
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in streamed), "46")

    def test_large_and_many(self):
        """a large body, and many requests on one connection, go through TLS whole"""
        connection = World.service.connection()
        try:
            for size in (10, 100_000, 1_500_000, 10):
                text = json.dumps(dict(prompt="1+2=" * (size // 4 or 1), add_special_tokens=False))
                status, _, body = World.service.call("POST", "/tokenize", text, World.key, connection)
                self.assertEqual(status, 200, body[:200])
                self.assertGreaterEqual(json.loads(body)["count"], size // 4)
            for _ in range(100):
                self.assertEqual(World.service.call("GET", "/health", connection=connection)[0], 200)
        finally:
            connection.close()

    def test_idle(self):
        """an idle TLS connection costs the Gateway little"""
        def held():
            with open(f"/proc/{World.service.pid}/status") as file:
                return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:"))
        connections, before = [], held()
        try:
            for _ in range(IDLE):
                connections.append(World.service.connection())
                World.service.call("GET", "/health", connection=connections[-1])
            each = (held() - before) / IDLE
            print(f"{IDLE} idle TLS connections cost the Gateway {each / 1024:.1f} KiB each", flush=True)
            if not real.is_sanitized():
                self.assertLess(each, MAX_IDLE_BYTES)
        finally:
            for connection in connections:
                connection.close()

    def test_plain_http(self):
        """plain HTTP to the TLS port is told so, and ends cleanly; noise is let go"""
        with World.service.connect() as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = b""
            while block := s.recv(65536):
                said += block
        self.assertTrue(said.startswith(b"HTTP/1.1 400 "), said)
        self.assertIn(b"https://", said)
        for noise in (b"\x00" * 100, b"\x16\x03\x01\x00\x05hello", os.urandom(4000)):
            with World.service.connect() as s:
                s.sendall(noise)
                try:
                    while s.recv(65536):
                        pass
                except ConnectionResetError:
                    pass
        self.assertEqual(World.service.call("GET", "/health")[0], 200)

    def test_slow_handshake(self):
        """a handshake that does not come to its end is let go after 10 s, whatever trickles in"""
        silent, slow = World.service.connect(30), World.service.connect(30)
        started = time.monotonic()
        try:
            ended = {}
            hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 64
            while len(ended) < 2 and time.monotonic() - started < 25:
                for name, s in (("silent", silent), ("slow", slow)):
                    if name in ended:
                        continue
                    try:
                        if name == "slow":
                            s.sendall(hello[:1])
                            hello = hello[1:]
                        s.settimeout(0.5)
                        if s.recv(1) == b"":
                            ended[name] = time.monotonic() - started
                    except TimeoutError:
                        pass
                    except OSError:
                        ended[name] = time.monotonic() - started
            self.assertEqual(set(ended), {"silent", "slow"})
            self.assertGreater(min(ended.values()), 5)
        finally:
            silent.close()
            slow.close()

    def served_name(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with World.service.connect() as plain, context.wrap_socket(plain) as s:
            der = s.getpeercert(binary_form=True)
        said = subprocess.run(["openssl", "x509", "-inform", "der", "-noout", "-subject"], input=der, capture_output=True,
                              check=True)
        return said.stdout.decode().split("=")[-1].strip()

    def test_renewed(self):
        """a renewed certificate is taken by the next connection; a bad one is not, and the log says why"""
        held = World.service.connection()
        World.service.call("GET", "/health", connection=held)
        make_certificate(World.folder.name, "second")
        self.assertEqual(self.served_name(), "second")
        self.assertEqual(World.service.call("GET", "/health", connection=held)[0], 200)  # the old connection goes on
        held.close()
        key = os.path.join(World.folder.name, "tls.key")
        os.chmod(key, 0o644)
        os.utime(key)
        self.assertEqual(self.served_name(), "second")
        self.assertIn("others can read it: chmod 600", World.service.log())
        with open(key, "w") as file:
            file.write("no key")
        os.chmod(key, 0o600)
        self.assertEqual(self.served_name(), "second")
        self.assertIn("is no private key in PEM", World.service.log())
        make_certificate(World.folder.name, "third")
        self.assertEqual(self.served_name(), "third")

    def test_start(self):
        """without TLS or its own word nobody beyond this machine is served; bad files are refused at the start"""
        cluster = World.service.cluster
        with open(cluster.file) as file:
            text = file.read().replace('name = "local"', 'name = "other"')
        other = os.path.join(cluster.folder, "other.toml")

        def up(old, new, *flags):
            with open(other, "w") as file:
                file.write(text.replace(old, new))
            return cluster.run("up", other, "--detach", *flags, check=False)
        files = [line for line in text.splitlines() if line.startswith("tls_")]
        exposed = up("\n".join(files), 'host = "0.0.0.0"')
        self.assertEqual(exposed.returncode, 2)
        self.assertIn("gateway.tls_certificate", exposed.stderr)
        flagged = up("\n".join(files), 'host = "0.0.0.0"', "--insecure")  # goes on to the next wall
        self.assertIn("there is no API key", flagged.stderr)
        with open(os.path.join(World.folder.name, "bad.key"), "w") as file:
            file.write("no key")
        os.chmod(file.name, 0o644)
        for mode, word in ((0o644, "chmod 600"), (0o600, "is no private key")):
            os.chmod(file.name, mode)
            self.assertIn(word, up(files[1], f'tls_key = "{file.name}"').stderr)


class Quotas(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        World.up()

    def over(self, answer, code):
        status, fields, body = answer
        self.assertEqual(status, 429, body)
        error = json.loads(body)["error"]
        self.assertEqual(error["code"], code)
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertGreaterEqual(int(fields["Retry-After"]), 1)
        return fields

    def test_requests(self):
        """requests per minute: OpenAI's fields count down, beyond them 429 and when to come again"""
        key = World.service.keys("add", "two", "--requests-per-minute", "2", "--tokens-per-minute", "10000")
        left = []
        for _ in range(2):
            status, fields, _ = ask(key)
            self.assertEqual(status, 200)
            left.append(fields["x-ratelimit-remaining-requests"])
            self.assertEqual(fields["x-ratelimit-limit-tokens"], "10000")
        self.assertEqual(left, ["1", "0"])
        fields = self.over(ask(key), "rate_limit_exceeded")
        self.assertLessEqual(int(fields["Retry-After"]), 30)
        self.assertEqual(World.service.call("GET", "/v1/models", key=key)[0], 200)  # looking is free
        World.service.keys("set", "two", "--requests-per-minute", "0")
        self.assertEqual(ask(key)[0], 200)
        self.assertIn("tokens_per_minute 10000", World.service.keys("list"))

    def test_concurrent(self):
        """requests at once: the second waits for the first's end; an ended one makes room at once"""
        key = World.service.keys("add", "one", "--concurrent", "1")
        for _ in range(10):
            self.assertEqual(ask(key, max_tokens=2)[0], 200)
        stream = World.service.connection()
        stream.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True, max_tokens=400, ignore_eos=True)),
                       {"Content-Type": "application/json", "Authorization": "Bearer " + key})
        response = stream.getresponse()
        response.read(10)
        self.over(ask(key), "rate_limit_exceeded")
        stream.sock and stream.sock.close()
        response.close()
        stream.close()
        wait_until("the closed stream makes room", lambda: ask(key, max_tokens=2)[0] == 200)

    def test_tokens(self):
        """tokens per minute and per day: what was used counts, and the day's end is not retried for"""
        key = World.service.keys("add", "small", "--tokens-per-day", "20")
        self.assertEqual(ask(key)[0], 200)
        fields = self.over(ask(key), "insufficient_quota")
        self.assertEqual(fields["x-should-retry"], "false")
        key = World.service.keys("add", "slow", "--tokens-per-minute", "30")
        self.assertEqual(ask(key, max_tokens=20)[0], 200)
        self.over(ask(key, max_tokens=20), "rate_limit_exceeded")


class Usage(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        World.up()

    def test_sums(self):
        """whole and streamed answers count as their usage says, and the bill is exact"""
        key = World.service.keys("add", "sums")
        said = [json.loads(ask(key)[2])["usage"] for _ in range(3)]
        stream = World.service.call("POST", "/v1/chat/completions",
                                    chat(stream=True, stream_options=dict(include_usage=True)), key=key)[2].decode()
        said.append(json.loads(stream.split("data: ")[-2])["usage"])
        self.assertEqual(World.service.call("POST", "/v1/chat/completions", chat() | dict(temperature=9), key=key)[0], 400)
        wait_until("it is on disk", lambda: used("sums").get("requests") == 4, COMMITTED + SOON)
        sums = used("sums")
        self.assertEqual(sums["prompt"], sum(u["prompt_tokens"] for u in said))
        self.assertEqual(sums["completion"], sum(u["completion_tokens"] for u in said))
        self.assertEqual(sums["reasoning"], sum(u["completion_tokens_details"]["reasoning_tokens"] for u in said))
        self.assertEqual(sums["failed"], 0)
        self.assertGreater(sums["seconds"], 0)
        (row,) = usage("--key", "sums")
        cached = int(row["cached"])
        steps = (int(row["prompt"]) - cached) * 550000 + cached * 140000 + int(row["completion"]) * 2190000
        self.assertEqual(round(float(row["bill_usd"]) * 10**12), steps)
        table = World.service.cluster.run("usage", World.service.cluster.file, "--key", "sums").stdout
        self.assertIn("sums", table)
        wait_until("machine hours", lambda: "an hour" in World.service.cluster.run(
            "usage", World.service.cluster.file).stdout, 20)
        today = datetime.datetime.now(datetime.timezone.utc).date()
        self.assertEqual(usage("--key", "sums", "--to", str(today - datetime.timedelta(days=1))), [])
        self.assertEqual(World.service.cluster.run("usage", World.service.cluster.file, "--from", "soon",
                                                   check=False).returncode, 2)

    def test_broken_off(self):
        """an answer that its client leaves counts for what was made"""
        key = World.service.keys("add", "leaver")
        stream = World.service.connection()
        stream.request("POST", "/v1/chat/completions", json.dumps(chat(stream=True, max_tokens=400, ignore_eos=True, n=4)),
                       {"Content-Type": "application/json", "Authorization": "Bearer " + key})
        response = stream.getresponse()
        events = 0
        while events < 40:
            events += response.readline().startswith(b"data: ")
        stream.sock and stream.sock.close()
        response.close()
        stream.close()
        wait_until("it is on disk", lambda: used("leaver").get("requests") == 1, COMMITTED + SOON)
        sums = used("leaver")
        self.assertGreaterEqual(sums["completion"], 30)
        self.assertLess(sums["completion"], 1600)
        self.assertEqual(sums["failed"], 0)

    def test_killed(self):
        """the process killed while it streams: connections end, the port and all that was used stay"""
        service = World.service
        key = service.keys("add", "killed")
        finished = [json.loads(ask(key)[2])["usage"] for _ in range(3)]
        known = sum(u["prompt_tokens"] + u["completion_tokens"] for u in finished)
        broken = 0
        for _ in range(3):
            time.sleep(COMMITTED)  # what a kill may cost
            before, address, pid = usage(), service.url, service.pid
            outcomes = []

            def stream(_):
                connection = service.connection(30)
                try:
                    connection.request("POST", "/v1/chat/completions",
                                       json.dumps(chat(stream=True, max_tokens=400, ignore_eos=True, n=4)),
                                       {"Content-Type": "application/json", "Authorization": "Bearer " + key})
                    outcomes.append(connection.getresponse().read())
                except (OSError, http.client.HTTPException) as error:
                    outcomes.append(error)
                finally:
                    connection.close()
            with ThreadPoolExecutor(8) as pool:
                running = pool.map(stream, range(8))
                time.sleep(0.3)
                os.kill(pid, signal.SIGKILL)
                killed_at = time.monotonic()
                list(running)
            self.assertLess(time.monotonic() - killed_at, 5, "a stream did not end with its service")
            self.assertEqual(len(outcomes), 8)
            whole = [o for o in outcomes if isinstance(o, bytes) and b"[DONE]" in o]
            self.assertLess(len(whole), 8, "the streams were too short to be killed")
            broken += 8 - len(whole)

            def serves():
                try:
                    return service.pid != pid and service.call("GET", "/health")[0] == 200
                except OSError:
                    return False
            wait_until("another life", serves, 30)
            self.assertEqual(service.url, address)
            after = {(r["day"], r["key"]): r for r in usage()}
            for row in before:
                now = after[row["day"], row["key"]]
                for name in ("requests", "prompt", "completion", "reasoning"):
                    self.assertGreaterEqual(int(now[name]), int(row[name]))
            self.assertNotIn("damaged", service.cluster.run("usage", service.cluster.file).stderr)
        wait_until("nothing runs", lambda: service.metric("vllm:num_requests_running", key) == 0)
        self.assertEqual(json.loads(ask(key)[2])["choices"][0]["message"]["content"], "46")
        sums = used("killed")
        self.assertGreaterEqual(sums["prompt"] + sums["completion"], known)
        print(f"three kills broke {broken} of 24 streams; {sums['completion']} tokens of their answers are in the log")

    def test_zz_down(self):
        """consort usage reads the same when the cluster is down"""
        cluster = World.service.cluster
        time.sleep(COMMITTED)
        before = [row for row in usage()]
        cluster.down()
        self.assertEqual(usage(), before)


def tearDownModule():
    World.down()


if __name__ == "__main__":
    real.main()
