"""The HTTP service on a real cluster: the official openai package, plain HTTP, and clients that behave badly.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import openai_client  # noqa: E402
import real  # noqa: E402

MODEL = "adder"
NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts", "gateway"], memory="256MiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="256MiB"),
]
BATCHER = ["[batcher]", "max_running = 16", "max_queued = 64"]  # so that a dozen clients can fill the queue
QUESTION = "12+34=?"
THOUGHT = "2+4=6,1+3=4"
SOON = 10  # seconds for what happens at once, on a machine that is busy


def chat(question=QUESTION, **more):
    return dict(model=MODEL, messages=[dict(role="user", content=question)], temperature=0, **more)


class Service:
    """A cluster with a Gateway, shared by the cases below."""
    cluster = None
    url = ""

    @classmethod
    def up(cls):
        if cls.cluster is None:
            cls.cluster = real.LocalCluster(real.Program.path, real.ADDER, nodes=NODES, extra=["[gateway]", "port = 0", *BATCHER])
            cls.cluster.up()
            cls.url = cls.address()

    @classmethod
    def down(cls):
        if cls.cluster is not None:
            cls.cluster.__exit__()
            cls.cluster = None

    @classmethod
    def address(cls):
        with open(cls.cluster.state("run", "gateway.address")) as file:
            return file.read().strip()


def connect(timeout=SOON, receive_bytes=None):
    place = urlsplit(Service.url)
    s = socket.socket()
    s.settimeout(timeout)
    if receive_bytes is not None:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.connect((place.hostname, place.port))
    return s


def call(method, path, body=None, headers=None, timeout=60):
    """(status, headers, body) of one request."""
    place = urlsplit(Service.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=timeout)
    try:
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        fields = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body=body, headers={**fields, **(headers or {})})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def raw(data, timeout=SOON):
    """What comes back to these bytes until the service closes."""
    with connect(timeout) as s:
        s.sendall(data)
        received = b""
        try:
            while block := s.recv(65536):
                received += block
        except (ConnectionResetError, TimeoutError):
            pass
        return received


def metric(name, label=""):
    """The sum of a metric over its series, or of those that have the label."""
    _, _, body = call("GET", "/metrics")
    series = re.findall(rf"^{re.escape(name)}({{[^}}]*}}) (\S+)$", body.decode(), re.M)
    return sum(float(value) for labels, value in series if label in labels)


def wait_until(what, holds, seconds=SOON):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Plain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        Service.up()

    def refused(self, status, param, body, path="/v1/chat/completions", headers=None):
        got, fields, text = call("POST", path, body, headers)
        self.assertEqual(got, status, text)
        error = json.loads(text)["error"]
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        self.assertEqual(error["param"], param, error)
        self.assertTrue(fields["x-request-id"].startswith("req_"))
        return error

    def test_health_version_models(self):
        """health, version and the list of models answer"""
        self.assertEqual(call("GET", "/health")[0], 200)
        self.assertIn(b"consort", call("GET", "/version")[2])
        listed = json.loads(call("GET", "/v1/models")[2])
        self.assertEqual([m["id"] for m in listed["data"]], [MODEL])
        self.assertEqual(json.loads(call("GET", f"/v1/models/{MODEL}")[2]), listed["data"][0])
        self.assertEqual(call("GET", "/v1/models/other")[0], 404)
        status, fields, body = call("HEAD", "/health")
        self.assertEqual((status, body), (200, b""))

    def test_tokenize(self):
        """tokenize and detokenize are each other's way back, and chats are rendered"""
        encoded = json.loads(call("POST", "/tokenize", dict(prompt="12+34=", add_special_tokens=False))[2])
        self.assertEqual(encoded["count"], len(encoded["tokens"]))
        self.assertEqual(json.loads(call("POST", "/detokenize", dict(tokens=encoded["tokens"]))[2])["prompt"], "12+34=")
        rendered = json.loads(call("POST", "/tokenize", dict(messages=chat()["messages"]))[2])
        text = json.loads(call("POST", "/detokenize", dict(tokens=rendered["tokens"]))[2])["prompt"]
        self.assertTrue(text.endswith("<think>\n"), text)
        self.assertIn(QUESTION, text)
        # Text that spells a marker stays text in a chat.
        marked = json.loads(call("POST", "/tokenize", dict(messages=[dict(role="user", content="1+1")]))[2])
        self.assertEqual(marked["max_model_len"], 512)

    def test_curl(self):
        """curl -N shows a stream event by event"""
        done = subprocess.run(["curl", "-sN", Service.url + "/v1/chat/completions", "-H", "Content-Type: application/json",
                               "-d", json.dumps(chat(stream=True))], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        events = [e for e in done.stdout.split("\n\n") if e]
        self.assertEqual(events[-1], "data: [DONE]")
        chunks = [json.loads(e.removeprefix("data: ")) for e in events[:-1]]
        deltas = [c["choices"][0]["delta"] for c in chunks]
        self.assertEqual([d["role"] for d in deltas if "role" in d], ["assistant"])
        self.assertEqual("".join(d.get("reasoning_content", "") for d in deltas), THOUGHT)
        self.assertEqual("".join(d.get("content", "") for d in deltas), "46")
        self.assertEqual(chunks[-1]["choices"][0]["finish_reason"], "stop")

    def test_old_http(self):
        """HTTP/1.0 gets its stream without chunks, ended by the connection's end"""
        body = json.dumps(chat(stream=True))
        said = raw(f"POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                   f"Content-Length: {len(body)}\r\n\r\n{body}".encode()).decode()
        head, _, events = said.partition("\r\n\r\n")
        self.assertNotIn("chunked", head)
        self.assertTrue(events.endswith("data: [DONE]\n\n"), said)

    def test_refusals(self):
        """what is wrong is refused in OpenAI's shape, with the field's name"""
        self.refused(400, "temperature", chat() | dict(temperature=3))
        self.refused(400, "logit_bias", chat(logit_bias={"5": 101}))
        self.refused(400, "tools", chat(tools=[dict(type="function", function=dict(name="f"))]))
        self.refused(400, "colour", chat(colour="red"))
        self.refused(400, "messages", dict(model=MODEL, messages=[]))
        self.refused(404, "model", chat() | dict(model="gpt-4"))
        error = self.refused(400, "messages", chat("1" * 600))
        self.assertEqual(error["code"], "context_length_exceeded")
        error = self.refused(400, "messages", chat(max_tokens=512))
        self.assertIn("512", error["message"])
        self.refused(400, None, dict(model=MODEL, prompt=[63, 64]), "/v1/completions")
        self.refused(400, None, chat("text with signs that this vocabulary lacks: é"))
        self.refused(415, None, json.dumps(chat()), headers={"Content-Type": "text/plain"})
        self.refused(404, None, chat(), "/v1/nothing")
        self.refused(404, None, chat(), "/v1/../v1/chat/completions")
        self.refused(404, None, chat(), "/v1/chat/completions/")
        self.assertEqual(call("GET", "/v1/chat/completions")[0], 405)
        self.assertEqual(call("DELETE", "/v1/models")[0], 405)
        self.refused(403, None, chat(), headers={"Host": "evil.example"})
        for body in ("", "{", "[]", '{"model":1,"model":2}', b"\xff\xfe", "[" * 5000, json.dumps(chat()) + "x"):
            self.refused(400, None, body)

    def test_bad_http(self):
        """what is not HTTP, or says two lengths, is refused and closed"""
        for request in (b"hello\r\n\r\n", b"\x00" * 200 + b"\r\n\r\n", b"GET /health HTTP/9.9\r\n\r\n",
                        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
                        b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"):
            self.assertTrue(raw(request).startswith(b"HTTP/1.1 400"), request[:60])
        self.assertTrue(raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40000 + b"\r\n\r\n")
                        .startswith(b"HTTP/1.1 431"))
        self.assertTrue(raw(b"POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                            b"Content-Length: 99999999\r\n\r\n").startswith(b"HTTP/1.1 413"))
        self.assertEqual(call("GET", "/health")[0], 200)

    def test_pipelined(self):
        """requests on one connection are answered in order"""
        one = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
        last = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        said = raw(one + one + last)
        self.assertEqual(said.count(b"HTTP/1.1 200 OK"), 3)
        self.assertTrue(said.endswith(b"]}"), said[-100:])

    def test_silent_clients(self):
        """a hundred clients that send a byte a second, or nothing, keep nobody waiting and are let go"""
        slow = [connect(30) for _ in range(50)]
        idle = [connect(30) for _ in range(50)]
        try:
            for s in slow:
                s.sendall(b"GET /health HTT")
            started = time.monotonic()
            self.assertEqual(call("POST", "/v1/chat/completions", chat())[0], 200)
            self.assertLess(time.monotonic() - started, SOON)
            begun = time.monotonic()
            while slow and time.monotonic() - begun < 25:  # the header has 10 s, however it trickles in
                time.sleep(1)
                for s in list(slow):
                    try:
                        s.sendall(b"P")
                        s.setblocking(False)
                        if s.recv(1) == b"":
                            raise ConnectionResetError
                    except BlockingIOError:
                        pass
                    except OSError:
                        s.close()
                        slow.remove(s)
            self.assertEqual(len(slow), 0, "slow clients that are still connected")
        finally:
            for s in slow + idle:
                s.close()

    def start_long(self, receive_bytes=None, **more):
        """A connection on which a long answer was asked for."""
        s = connect(receive_bytes=receive_bytes)
        body = json.dumps(chat(max_tokens=400, ignore_eos=True, **more))
        s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        return s

    def running(self):
        return metric("vllm:num_requests_running") + metric("vllm:num_requests_waiting")

    def test_client_gone(self):
        """an answer whose client went away is not made to its end, streamed or not"""
        for stream in (True, False):
            aborted = metric("vllm:request_success_total", 'finished_reason="abort"')
            before = metric("vllm:generation_tokens_total")
            wait_until("nothing runs", lambda: self.running() == 0)
            clients = [self.start_long(stream=stream, n=16) for _ in range(4)]
            for s in clients:
                if stream:
                    self.assertTrue(s.recv(15).startswith(b"HTTP/1.1 200"))
            time.sleep(0 if stream else 0.3)
            for s in clients:
                s.close()
            wait_until("nothing runs", lambda: self.running() == 0)
            time.sleep(1.2)  # metrics are published every second
            made = metric("vllm:generation_tokens_total") - before
            self.assertLess(made, 4 * 16 * 400, "all was made")
            # One that is not streamed may not even have been read whole.
            ended = metric("vllm:request_success_total", 'finished_reason="abort"') - aborted
            self.assertGreaterEqual(ended, 4 if stream else 1)
            print(f"stream={stream}: {made:.0f} of {4 * 16 * 400} tokens were made before the clients went")

    def test_never_reading(self):
        """a streaming client that never reads is let go, and does not keep the others waiting"""
        wait_until("nothing runs", lambda: self.running() == 0)
        aborted = metric('vllm:request_success_total', 'finished_reason="abort"')
        s = self.start_long(stream=True, n=16, logprobs=True, top_logprobs=20, receive_bytes=4096)  # 16 x 1 MB to say
        try:
            started = time.monotonic()
            self.assertEqual(call("POST", "/v1/chat/completions", chat(max_tokens=3))[0], 200)
            print(f"beside a client that never reads: answered in {time.monotonic() - started:.2f} s")
            wait_until("it is let go", lambda: metric('vllm:request_success_total', 'finished_reason="abort"') > aborted, 90)
        finally:
            s.close()

    def test_metrics(self):
        """metrics have the names that dashboards know, and count"""
        before = metric("vllm:generation_tokens_total")
        used = json.loads(call("POST", "/v1/chat/completions", chat())[2])["usage"]
        wait_until("metrics", lambda: metric("vllm:generation_tokens_total") >= before + used["completion_tokens"])
        text = call("GET", "/metrics")[2].decode()
        for name in ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:prompt_tokens_total",
                     "vllm:time_to_first_token_seconds_bucket", "vllm:inter_token_latency_seconds_sum",
                     "vllm:e2e_request_latency_seconds_count"):
            self.assertIn(f'\n{name}{{model_name="{MODEL}"', "\n" + text)

    def test_log(self):
        """the log has a line per request and neither prompts nor answers"""
        call("POST", "/v1/chat/completions", chat("77+88=?"))
        with open(Service.cluster.state("log", "gateway.log")) as file:
            text = file.read()
        self.assertIn('"path":"/v1/chat/completions","status":200', text)
        for secret in ("77+88", "165"):
            self.assertNotIn(f"{secret}=", text)


class Official(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = openai_client.folder(os.path.dirname(real.Program.path))
        if folder is None:
            raise unittest.SkipTest("the official openai package cannot be had: is PyPI in reach?")
        sys.path.insert(0, folder)
        import openai
        cls.openai = openai
        print(f"openai {openai.__version__}")
        Service.up()
        cls.client = openai.OpenAI(base_url=Service.url + "/v1", api_key="none", max_retries=0)

    def test_chat(self):
        """a chat: the thought apart from the answer, usage, finish"""
        done = self.client.chat.completions.create(**chat())
        message = done.choices[0].message
        self.assertEqual(message.content, "46")
        self.assertEqual(message.reasoning_content, THOUGHT)
        self.assertEqual(message.role, "assistant")
        self.assertEqual(done.choices[0].finish_reason, "stop")
        self.assertEqual(done.usage.total_tokens, done.usage.prompt_tokens + done.usage.completion_tokens)
        self.assertGreater(done.usage.completion_tokens_details.reasoning_tokens, 5)
        self.assertLess(done.usage.completion_tokens_details.reasoning_tokens, done.usage.completion_tokens)
        self.assertEqual(done.model, MODEL)

    def test_stream(self):
        """a stream gives the same text and usage as the whole answer"""
        whole = self.client.chat.completions.create(**chat())
        thought = content = ""
        usage = None
        for chunk in self.client.chat.completions.create(**chat(stream=True, stream_options=dict(include_usage=True))):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                thought += getattr(choice.delta, "reasoning_content", None) or ""
                content += choice.delta.content or ""
        self.assertEqual((thought, content), (THOUGHT, "46"))
        self.assertEqual(usage, whole.usage)

    def test_stream_helper(self):
        """client.chat.completions.stream() accumulates to the whole answer"""
        with self.client.chat.completions.stream(**chat(n=2)) as stream:
            for _ in stream:
                pass
            done = stream.get_final_completion()
        self.assertEqual([c.message.content for c in done.choices], ["46", "46"])
        self.assertEqual([c.message.role for c in done.choices], ["assistant"] * 2)
        self.assertEqual([c.finish_reason for c in done.choices], ["stop"] * 2)

    def test_async(self):
        """sixteen at once through the async client"""
        async def all_of_them():
            async with self.openai.AsyncOpenAI(base_url=Service.url + "/v1", api_key="none") as client:
                return await asyncio.gather(*(client.chat.completions.create(**chat(f"{i}+{i}=?")) for i in range(10, 26)))
        said = [d.choices[0].message.content for d in asyncio.run(all_of_them())]
        alone = [self.client.chat.completions.create(**chat(f"{i}+{i}=?")).choices[0].message.content for i in (10, 25)]
        self.assertEqual([said[0], said[-1]], alone)
        right = sum(answer == str(2 * i) for i, answer in zip(range(10, 26), said))
        self.assertGreaterEqual(right, 15)

    def test_seed(self):
        """a seed gives the same answers every time, and they differ from each other"""
        def sampled(seed):
            done = self.client.completions.create(model=MODEL, prompt="7", n=8, max_tokens=16, temperature=2.0, seed=seed)
            return [choice.text for choice in done.choices]
        first = sampled(11)
        self.assertEqual(first, sampled(11))
        self.assertNotEqual(first, sampled(12))
        self.assertGreater(len(set(first)), 2, first)

    def test_stop_and_length(self):
        """stop texts end the answer and are no part of it; max_tokens ends it with length"""
        done = self.client.chat.completions.create(**chat(stop=["6"]))
        self.assertEqual((done.choices[0].message.content, done.choices[0].finish_reason), ("4", "stop"))
        done = self.client.chat.completions.create(**chat(max_completion_tokens=3))
        self.assertEqual((done.choices[0].message.content, done.choices[0].finish_reason), ("", "length"))
        self.assertEqual(done.usage.completion_tokens, 3)

    def test_logprobs(self):
        """logprobs name the tokens of the answer, with alternatives, the likeliest first"""
        done = self.client.chat.completions.create(**chat(logprobs=True, top_logprobs=3))
        tokens = done.choices[0].logprobs.content
        self.assertEqual("".join(t.token for t in tokens).strip("\n"), "46")
        for token in tokens:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(bytes(token.bytes).decode(), token.token)
            self.assertEqual(len(token.top_logprobs), 3)
            self.assertEqual(token.top_logprobs[0].token, token.token)  # temperature 0

    def test_completions(self):
        """completions of texts and ids, streamed and whole, with the legacy logprobs"""
        asked = dict(model=MODEL, prompt="12+34=", max_tokens=4, temperature=0)
        done = self.client.completions.create(**asked, logprobs=2)
        self.assertEqual(done.object, "text_completion")
        self.assertEqual("".join(done.choices[0].logprobs.tokens), done.choices[0].text)
        self.assertEqual(len(done.choices[0].logprobs.top_logprobs[0]), 2)
        streamed = "".join(c.choices[0].text for c in self.client.completions.create(**asked, stream=True))
        self.assertEqual(streamed, done.choices[0].text)
        ids = json.loads(call("POST", "/tokenize", dict(prompt="12+34="))[2])["tokens"]
        both = self.client.completions.create(**asked | dict(prompt=[ids, ids]))
        self.assertEqual([c.text for c in both.choices], [done.choices[0].text] * 2)

    def test_penalties(self):
        """penalties and biases change the answer, and logprobs stay the model's own"""
        asked = dict(model=MODEL, prompt="7+7+7+7+", max_tokens=24, temperature=0, logprobs=1, extra_body=dict(ignore_eos=True))
        plain = self.client.completions.create(**asked).choices[0]
        warm = asked | dict(temperature=2, seed=5, max_tokens=100)  # at 0 the adder is too sure of itself
        texts = [self.client.completions.create(**warm, **more).choices[0].text
                 for more in (dict(), dict(presence_penalty=2), dict(frequency_penalty=2))]
        warm["extra_body"] = dict(ignore_eos=True, repetition_penalty=5)
        texts.append(self.client.completions.create(**warm).choices[0].text)
        self.assertEqual(len(set(texts)), len(texts), texts)
        digits = {d: json.loads(call("POST", "/tokenize", dict(prompt=d))[2])["tokens"][-1] for d in "0123456789"}
        never = self.client.completions.create(**asked, logit_bias={str(i): -100 for i in digits.values()}).choices[0]
        self.assertFalse(set(never.text) & set(digits), never.text)
        always = self.client.completions.create(**asked, logit_bias={str(digits["3"]): 100}).choices[0]
        self.assertEqual(always.text, "3" * 24)
        self.assertEqual(always.logprobs.top_logprobs[0], plain.logprobs.top_logprobs[0])

    def test_cached_prompt(self):
        """a prompt that begins alike is taken from the cache, says how much of it, and gives the same answer"""
        prompt = "".join(f"{i}+{i}={2 * i} " for i in range(31, 56))[:200]
        asked = dict(model=MODEL, prompt=prompt, max_tokens=8, temperature=0)
        def used(**more):
            done = self.client.completions.create(**asked, **more)
            usage = done.usage.model_dump()
            self.assertEqual(usage["prompt_cache_hit_tokens"], usage["prompt_tokens_details"]["cached_tokens"])
            self.assertEqual(usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"], usage["prompt_tokens"])
            return done.choices[0].text, usage["prompt_cache_hit_tokens"]
        text, cached = used()
        self.assertEqual(cached, 0)
        self.assertEqual(used(), (text, 192))
        self.assertEqual(used(extra_body=dict(cache_salt="another")), (text, 0))

    def test_errors(self):
        """errors become the client's own exceptions, with the field's name"""
        with self.assertRaises(self.openai.BadRequestError) as caught:
            self.client.chat.completions.create(**chat(presence_penalty=3))
        self.assertEqual(caught.exception.param, "presence_penalty")
        self.assertTrue(caught.exception.request_id.startswith("req_"))
        with self.assertRaises(self.openai.NotFoundError):
            self.client.chat.completions.create(**chat() | dict(model="gpt-4"))
        with self.assertRaises(self.openai.NotFoundError):
            self.client.models.retrieve("gpt-4")
        self.assertEqual([m.id for m in self.client.models.list()], [MODEL])

    def test_timeout(self):
        """a client that gives up gets its own timeout, and the service goes on"""
        Service.cluster.signal("desk", signal.SIGSTOP)  # no answer can come
        try:
            with self.assertRaises(self.openai.APITimeoutError):
                self.client.with_options(timeout=0.2).chat.completions.create(**chat())
        finally:
            Service.cluster.signal("desk", signal.SIGCONT)
        # Where this took long the node was replaced meanwhile: the client's own retries wait for it.
        patient = self.client.with_options(max_retries=20)
        self.assertEqual(patient.chat.completions.create(**chat()).choices[0].message.content, "46")

    def test_busy(self):
        """beyond the queue requests are refused with 429 and Retry-After; the others are served"""
        def one(_):
            try:
                self.client.chat.completions.create(**chat(n=16, max_tokens=300), extra_body=dict(ignore_eos=True))
                return "served"
            except self.openai.RateLimitError as error:
                self.assertIn(int(error.response.headers["retry-after"]), range(1, 61))
                return "busy"
        with ThreadPoolExecutor(12) as pool:
            results = list(pool.map(one, range(12)))
        self.assertGreater(results.count("busy"), 0, results)
        self.assertGreater(results.count("served"), 0, results)
        # With the client's own retries nobody is refused for good.
        patient = self.client.with_options(max_retries=20)
        self.assertEqual(patient.chat.completions.create(**chat()).choices[0].message.content, "46")

    def test_cancel(self):
        """a stream that its client closes ends"""
        stream = self.client.chat.completions.create(**chat(stream=True, max_tokens=400), extra_body=dict(ignore_eos=True))
        next(iter(stream))
        stream.close()
        wait_until("nothing runs", lambda: metric("vllm:num_requests_running") == 0)


class Faults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        Service.up()

    def answer(self):
        status, _, body = call("POST", "/v1/chat/completions", chat())
        return json.loads(body)["choices"][0]["message"]["content"] if status == 200 else status

    def refused_for_now(self):
        status, fields, body = call("POST", "/v1/chat/completions", chat())
        self.assertEqual(status, 503, body)
        self.assertEqual(json.loads(body)["error"]["type"], "unavailable_error")
        self.assertEqual(fields["Retry-After"], "1")

    def test_nodes(self):
        """a lost experts node is not felt; without the Batcher's node health says no until it is back"""
        Service.cluster.signal("attic", signal.SIGKILL)
        self.assertEqual(self.answer(), "46")
        Service.cluster.wait_ready("attic")
        life = Service.cluster.nodes()["desk"]["incarnation"]
        Service.cluster.signal("agent-0", signal.SIGSTOP)  # it starts nothing again for now
        try:
            Service.cluster.signal("desk", signal.SIGKILL)
            wait_until("health says no", lambda: call("GET", "/health")[0] == 503)
            _, fields, body = call("GET", "/health")
            self.assertIn("Batcher", json.loads(body)["why"])
            self.assertEqual(fields["Retry-After"], "1")
            self.refused_for_now()
        finally:
            Service.cluster.signal("agent-0", signal.SIGCONT)
        Service.cluster.wait_ready("desk", life)
        wait_until("health says yes", lambda: call("GET", "/health")[0] == 200, 30)
        self.assertEqual(self.answer(), "46")

    def test_gateway(self):
        """the Gateway's process killed: running requests end in a connection error, and it is back"""
        s = connect()
        body = json.dumps(chat(max_tokens=400, ignore_eos=True, stream=True, n=16))
        s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                  f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
        self.assertTrue(s.recv(15).startswith(b"HTTP/1.1 200"))
        pid = Service.cluster.pid("gateway")
        os.kill(pid, signal.SIGKILL)
        said = b""
        try:
            while block := s.recv(65536):
                said += block
        except ConnectionResetError:
            pass
        s.close()
        self.assertNotIn(b"[DONE]", said)
        wait_until("another life", lambda: Service.cluster.pid("gateway") != pid, 30)

        def serves():
            Service.url = Service.address()
            try:
                return call("GET", "/health")[0] == 200
            except OSError:
                return False
        wait_until("health says yes", serves, 30)
        if Official.__dict__.get("client") is not None:
            Official.client = Official.openai.OpenAI(base_url=Service.url + "/v1", api_key="none", max_retries=0)
        self.assertEqual(self.answer(), "46")


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        Service.up()

    def test_keys(self):
        """with a key made, requests need one; a revoked one is refused at once"""
        def keys(*arguments):
            return Service.cluster.run("keys", "api", arguments[0], Service.cluster.file, *arguments[1:])
        self.assertIn("no key was made yet", keys("list").stdout)
        key = keys("add", "ann").stdout.strip()
        try:
            self.assertEqual(os.stat(Service.cluster.state("keys", "api-keys")).st_mode & 0o777, 0o600)
            with open(Service.cluster.state("keys", "api-keys")) as file:
                self.assertNotIn(key, file.read())
            self.assertIn("ann", keys("list").stdout)
            status, fields, body = call("POST", "/v1/chat/completions", chat())
            self.assertEqual((status, fields["WWW-Authenticate"]), (401, "Bearer"))
            self.assertEqual(json.loads(body)["error"]["code"], "invalid_api_key")
            for wrong in ("Bearer " + key[:-1], "Bearer x", "Basic " + key, key):
                self.assertEqual(call("GET", "/v1/models", headers={"Authorization": wrong})[0], 401)
            self.assertEqual(call("GET", "/metrics")[0], 401)
            self.assertEqual(call("GET", "/health")[0], 200)
            good = {"Authorization": "Bearer " + key}
            self.assertEqual(call("POST", "/v1/chat/completions", chat(), good)[0], 200)
            if "openai" in sys.modules:
                openai = sys.modules["openai"]
                client = openai.OpenAI(base_url=Service.url + "/v1", api_key=key)
                self.assertEqual(client.chat.completions.create(**chat()).choices[0].message.content, "46")
                with self.assertRaises(openai.AuthenticationError):
                    client.with_options(api_key="sk-wrong").models.list()
            keys("revoke", "ann")
            self.assertEqual(call("GET", "/v1/models", headers=good)[0], 401)
            self.assertIn("nobody is served", keys("list").stdout)
            with open(Service.cluster.state("log", "gateway.log")) as file:
                self.assertNotIn(key, file.read())
        finally:
            os.unlink(Service.cluster.state("keys", "api-keys"))


def tearDownModule():
    Service.down()


if __name__ == "__main__":
    real.main()
