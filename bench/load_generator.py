"""Load for an OpenAI-compatible service: many streamed completions at once, from one thread that costs little itself.

A request is a body for /v1/completions. Every event's arrival is timed; what it says is kept as it came, so that two runs
of one body can be compared to the bit. HTTP/1.0, so that the end of the connection ends the answer.
SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import dataclasses
import json
import time
from urllib.parse import urlsplit

CONNECT_SECONDS = 10
# Of one event: what differs between two runs of one request comes before this.
CHOICES = b'"choices":'


@dataclasses.dataclass
class Answer:
    """One request as its client saw it. Times are of time.monotonic()."""
    body: dict
    started: float
    status: int = 0
    times: list = dataclasses.field(default_factory=list)  # of every event with tokens
    said: list = dataclasses.field(default_factory=list)  # the choices of every event, as they came
    usage: dict = None
    error: str = ""  # of the stream, or of the connection; empty where all is well
    ended: float = 0.0

    def ok(self):
        return self.status == 200 and not self.error and self.usage is not None

    def first(self):
        return self.times[0] - self.started if self.times else float("inf")

    def gaps(self, since=0.0, until=float("inf")):
        """Seconds between events, of those whose later one came in the window."""
        return [b - a for a, b in zip(self.times, self.times[1:]) if since <= b <= until]


class _Stream(asyncio.Protocol):
    def __init__(self, host, path, key, answer, done):
        self.answer, self.done, self.rest, self.in_head = answer, done, b"", True
        body = json.dumps(answer.body).encode()
        head = [f"POST {path} HTTP/1.0", f"Host: {host}", "Content-Type: application/json", f"Content-Length: {len(body)}"]
        if key:
            head.append(f"Authorization: Bearer {key}")
        self.request = ("\r\n".join(head) + "\r\n\r\n").encode() + body

    def connection_made(self, transport):
        transport.write(self.request)

    def data_received(self, data):
        now = time.monotonic()
        self.rest += data
        if self.in_head:
            head, found, after = self.rest.partition(b"\r\n\r\n")
            if not found:
                return
            self.in_head, self.rest = False, after
            self.answer.status = int(head.split(b" ", 2)[1])
        if self.answer.status != 200:
            return
        *events, self.rest = self.rest.split(b"\n\n")
        for event in events:
            if not event.startswith(b"data: {"):
                continue  # a comment, or [DONE]
            at = event.find(CHOICES)
            if at < 0:
                self.answer.error = event[6:].decode()
            elif event.startswith(b"[]", at + len(CHOICES)):
                self.answer.usage = json.loads(event[6:])["usage"]
            else:
                self.answer.times.append(now)
                self.answer.said.append(event[at:])

    def connection_lost(self, error):
        if self.answer.status != 200:
            self.answer.error = self.rest.decode(errors="replace") or str(error or "no answer")
        elif self.answer.usage is None and not self.answer.error:
            self.answer.error = f"the connection ended in the middle of the answer: {error}"
        self.answer.ended = time.monotonic()
        if not self.done.done():
            self.done.set_result(None)


class Service:
    def __init__(self, url, key=None):
        place = urlsplit(url)
        self.host, self.port, self.key = place.hostname, place.port, key

    async def complete(self, body, path="/v1/completions", cancel_after=None):
        """The whole answer to one body; `cancel_after` seconds the client goes away."""
        body = dict(body, stream=True, stream_options=dict(include_usage=True))
        answer = Answer(body, time.monotonic())
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        try:
            transport, _ = await asyncio.wait_for(
                loop.create_connection(lambda: _Stream(self.host, path, self.key, answer, done), self.host, self.port),
                CONNECT_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            answer.error, answer.ended = f"no connection: {error!r}", time.monotonic()
            return answer
        try:
            await asyncio.wait_for(done, cancel_after)
        except asyncio.TimeoutError:
            pass
        finally:
            transport.abort()
        return answer


async def closed_loop(service, bodies, concurrency, seconds):
    """`concurrency` clients, each of which sends its next request when its last one has ended. Bodies from an iterator;
    the clients stop at its end, or begin none after `seconds`."""
    answers, end = [], time.monotonic() + seconds

    async def client():
        for body in bodies:
            answers.append(await service.complete(body))
            if time.monotonic() >= end:
                return

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return answers


async def open_loop(service, bodies, per_second, seconds, cancel_after=None):
    """Requests at a steady rate, whatever becomes of those before."""
    begin, tasks = time.monotonic(), []
    for number, body in enumerate(bodies):
        at = begin + number / per_second
        if at - begin >= seconds:
            break
        await asyncio.sleep(max(0.0, at - time.monotonic()))
        tasks.append(asyncio.create_task(service.complete(body, cancel_after=cancel_after)))
    return await asyncio.gather(*tasks)


def percentile(values, share):
    """The smallest value that at least `share` of them do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def tokens_in(answers, since, until):
    return sum(sum(since <= t <= until for t in answer.times) for answer in answers)
