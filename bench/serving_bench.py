#!/usr/bin/env python3
"""What the service does under load, as ratios of runs made side by side on a cluster of three nodes on this machine.

  serving_bench.py --consort PROGRAM [--only QUESTION ...] [--rounds 5] [--quick]

batch     total tokens/s of 16 clients over that of one
prefill   p99 of the gaps between tokens of 8 streams while long prompts come in, over that of quiet runs
cached    time to first token of a prompt of which 90 % is cached, over that of an unknown one
overload  tokens/s of whole answers at twice the load that can be served, over the peak

The model is the adder of examples/models; `prefill` and `cached` run it with a longer context, for which it was not
trained: what it says there is noise, what it costs is not. The clients run on the same cores as the cluster.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time

import load_generator as load

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "tools"))
from local_cluster import LocalCluster  # noqa: E402

ADDER = os.path.join(ROOT, "examples", "models", "adder")
NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts", "gateway"], memory="512MiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="512MiB"),
    dict(name="garage", roles=["experts"], memory="512MiB"),
]
LONG_CONTEXT = 16384
LONG_PROMPT = 6000
CACHED_SHARE = 0.9
FIRST_BYTE_ID, LAST_BYTE_ID = 3, 59  # of the adder's vocabulary: no special tokens


def ids(rng, count):
    return [rng.randint(FIRST_BYTE_ID, LAST_BYTE_ID) for _ in range(count)]


def body(rng, prompt, tokens, **more):
    prompt = prompt if isinstance(prompt, list) else ids(rng, prompt)
    return dict(model="adder", prompt=prompt, max_tokens=tokens, ignore_eos=True, temperature=1,
                seed=rng.randrange(1 << 31), **more)


def mixed(rng):
    """Requests of unlike lengths, without end."""
    while True:
        yield body(rng, rng.randint(8, 64), rng.randint(32, 192))


def made(answers):
    """Tokens of the answers that came whole."""
    return sum(a.usage["completion_tokens"] for a in answers if a.ok())


def must_be_whole(answers):
    failed = [a for a in answers if not a.ok()]
    if failed:
        raise SystemExit(f"{len(failed)} of {len(answers)} requests failed, the first: {failed[0].error}")


def report(name, values, goal, unit="x"):
    ordered = sorted(values)
    print(f"{name:10} median {statistics.median(ordered):.2f}{unit}  (min {ordered[0]:.2f}, max {ordered[-1]:.2f}, "
          f"{len(ordered)} rounds)  goal {goal}", flush=True)


def ask_batch(service, rounds, seconds):
    rng, ratios = random.Random(1), []
    rate = {}
    for _ in range(rounds):
        for clients in (1, 16):
            begin = time.monotonic()
            answers = asyncio.run(load.closed_loop(service, mixed(rng), clients, seconds))
            must_be_whole(answers)
            rate[clients] = made(answers) / (max(a.ended for a in answers) - begin)
        ratios.append(rate[16] / rate[1])
        print(f"  1 client {rate[1]:.0f} tokens/s, 16 clients {rate[16]:.0f}", flush=True)
    report("batch", ratios, ">= 4")


async def _decode(service, rng, tokens, prompts_every):
    streams = [asyncio.create_task(service.complete(body(rng, 16, tokens, logprobs=0))) for _ in range(8)]
    others = []
    begin = time.monotonic()
    while prompts_every and not all(s.done() for s in streams):
        at = begin + (len(others) + 0.5) * prompts_every
        await asyncio.wait(streams, timeout=max(0.0, at - time.monotonic()))
        if not all(s.done() for s in streams):
            others.append(asyncio.create_task(service.complete(body(rng, LONG_PROMPT, 1))))
    return await asyncio.gather(*streams), await asyncio.gather(*others)


def ask_prefill(service, rounds, tokens):
    rng, ratios = random.Random(2), []
    for _ in range(rounds):
        p99, first = {}, []
        for kind, every in (("quiet", None), ("busy", 3.0)):
            streams, others = asyncio.run(_decode(service, rng, tokens, every))
            must_be_whole(streams + others)
            p99[kind] = load.percentile([g for s in streams for g in s.gaps()[1:]], 0.99)
            first += [o.first() for o in others]
        ratios.append(p99["busy"] / p99["quiet"])
        print(f"  p99 gap quiet {p99['quiet'] * 1e3:.1f} ms, beside {len(first)} prompts of {LONG_PROMPT} tokens "
              f"{p99['busy'] * 1e3:.1f} ms; their first token after {statistics.median(first):.2f} s", flush=True)
    report("prefill", ratios, "<= 2")


def ask_cached(service, rounds):
    rng, ratios = random.Random(3), []
    for _ in range(rounds):
        shared = ids(rng, int(LONG_PROMPT * CACHED_SHARE))
        tail = LONG_PROMPT - len(shared)
        cold = asyncio.run(service.complete(body(rng, shared + ids(rng, tail), 2, logprobs=0)))
        warm = asyncio.run(service.complete(body(rng, shared + ids(rng, tail), 2, logprobs=0)))
        must_be_whole([cold, warm])
        ratios.append(warm.first() / cold.first())
        cached = warm.usage["prompt_tokens_details"]["cached_tokens"]
        print(f"  first token {cold.first() * 1e3:.0f} ms unknown, {warm.first() * 1e3:.0f} ms with {cached} of "
              f"{LONG_PROMPT} tokens cached", flush=True)
    report("cached", ratios, "<= 0.25")


def ask_overload(service, seconds):
    rng, peak = random.Random(4), 0.0
    requests = 0.0
    for clients in (16, 32, 64):
        begin = time.monotonic()
        answers = asyncio.run(load.closed_loop(service, mixed(rng), clients, seconds / 4))
        must_be_whole(answers)
        took = max(a.ended for a in answers) - begin
        if made(answers) / took > peak:
            peak, requests = made(answers) / took, len(answers) / took
        print(f"  {clients} clients: {made(answers) / took:.0f} tokens/s, {len(answers) / took:.1f} requests/s", flush=True)
    begin = time.monotonic()
    answers = asyncio.run(load.open_loop(service, mixed(rng), 2 * requests, seconds))
    took = max(max(a.ended for a in answers) - begin, seconds)
    refused = sum(a.status in (429, 503) for a in answers)
    others = [a for a in answers if not a.ok() and a.status not in (429, 503)]
    print(f"  offered {2 * requests:.1f} requests/s for {seconds:.0f} s: {sum(a.ok() for a in answers)} whole, {refused} "
          f"told to come later, {len(others)} failed{': ' + others[0].error if others else ''}; first token p50 "
          f"{load.percentile([a.first() for a in answers if a.ok()], 0.5):.2f} s", flush=True)
    report("overload", [made(answers) / took / peak], ">= 0.9")


def longer(folder):
    """The adder with room for long prompts."""
    shutil.copytree(ADDER, folder)
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config["max_position_embeddings"] = LONG_CONTEXT
    json.dump(config, open(path, "w"))
    return folder


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consort", required=True)
    parser.add_argument("--only", nargs="*", default=["batch", "prefill", "cached", "overload"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a look, no measurement")
    args = parser.parse_args()
    rounds = 1 if args.quick else args.rounds
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        long_adder = longer(os.path.join(folder, "adder"))
        for model, questions in ((ADDER, ("batch", "overload")), (long_adder, ("prefill", "cached"))):
            asked = [q for q in questions if q in args.only]
            if not asked:
                continue
            with LocalCluster(args.consort, model, nodes=NODES, extra=["[gateway]", "port = 0"]) as cluster:
                with open(cluster.state("run", "gateway.address")) as file:
                    service = load.Service(file.read().strip())
                asyncio.run(load.closed_loop(service, itertools.islice(mixed(random.Random(0)), 16), 8, 60))  # warm
                for question in asked:
                    if question == "batch":
                        ask_batch(service, rounds, 2 if args.quick else 8)
                    elif question == "overload":
                        ask_overload(service, 20 if args.quick else 120)
                    elif question == "prefill":
                        ask_prefill(service, rounds, 1000 if args.quick else 4000)
                    else:
                        ask_cached(service, rounds)


if __name__ == "__main__":
    main()
