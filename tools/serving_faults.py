#!/usr/bin/env python3
"""Many streams through the HTTP service while nodes are lost, and what their clients see of it.

  serving_faults.py --consort PROGRAM [--streams 64] [--seconds 120] [--check-times]

Three nodes, replicas = 2. Every stream asks for one of a set of completions of mixed lengths, again and again; each answer
must be the one that the same body got when it was asked alone, byte for byte, log-probabilities included. At a quarter of
the time garage is killed; when it is ready again, and half of the time is over, attic is stopped for 5 seconds. Prints the
gaps between tokens, and what each fault cost: the tokens that did not come in the seconds after it, over the rate around.
At the end nothing may be left: no request, no KV page in use.
--check-times: fails also where the 99th percentile of the gaps or a fault's cost is beyond its limit; for a quiet machine.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import asyncio
import itertools
import os
import random
import re
import signal
import statistics
import sys
import time
import urllib.request

from local_cluster import KILL, LocalCluster

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path.insert(0, os.path.join(ROOT, "bench"))
import load_generator as load  # noqa: E402

ADDER = os.path.join(ROOT, "examples", "models", "adder")
NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts", "gateway"], memory="1GiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="1GiB"),
    dict(name="garage", roles=["experts"], memory="1GiB"),
]
BODIES = 96
STOP_SECONDS = 5
GAP_LIMIT_SECONDS = 0.7  # of the 99th percentile
COST_LIMIT_SECONDS = 2.0  # of each fault
# A fault's cost is looked for in this time after it; the rate around is that of the rest.
WINDOW_SECONDS = 12
SETTLE_SECONDS = 20  # for the last steps, and for nodes that come back


def bodies(rng):
    for number in range(BODIES):
        prompt = [rng.randint(3, 59) for _ in range(rng.randint(4, 200))]
        yield dict(model="adder", prompt=prompt, max_tokens=rng.randint(16, 256), ignore_eos=True, logprobs=0,
                   temperature=0 if number % 4 == 0 else 1, seed=number)


def gauges(url):
    """name{labels} -> value of /metrics."""
    with urllib.request.urlopen(url + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for line in lines if (found := re.match(r"^([^#\s]\S*) (\S+)$", line))
            for name, value in [found.groups()]}


async def faults(cluster, begin, seconds, told):
    """What happens to the nodes; runs beside the load."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(max(0.0, begin + seconds / 4 - time.monotonic()))
    life = (await loop.run_in_executor(None, cluster.nodes))["garage"]["incarnation"]
    told.append(("kill of garage", time.monotonic()))
    cluster.signal("garage", KILL)
    await loop.run_in_executor(None, cluster.wait_ready, "garage", life)
    print(f"garage is ready again {time.monotonic() - told[-1][1]:.1f} s after it was killed", flush=True)
    await asyncio.sleep(max(0.0, begin + seconds / 2 - time.monotonic(), told[-1][1] + WINDOW_SECONDS - time.monotonic()))
    pid = cluster.pid("attic")
    told.append(("stop of attic", time.monotonic()))
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(STOP_SECONDS)
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        pass  # it was declared dead, and ended by its agent


async def run_load(service, cluster, asked, streams, seconds):
    told, begin = [], time.monotonic()
    nodes = asyncio.create_task(faults(cluster, begin, seconds, told))
    answers = await load.closed_loop(service, itertools.cycle(asked), streams, seconds)
    await nodes
    return begin, answers, told


def rates(answers, begin, seconds):
    """Tokens in every whole second."""
    counts = [0] * int(seconds)
    for answer in answers:
        for t in answer.times:
            if 0 <= t - begin < len(counts):
                counts[int(t - begin)] += 1
    return counts


def cost(counts, at, around):
    """How many seconds' worth of tokens did not come after a fault."""
    window = counts[int(at):int(at) + WINDOW_SECONDS]
    return sum(around - count for count in window) / around


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consort", required=True)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--check-times", action="store_true")
    args = parser.parse_args()
    asked = list(bodies(random.Random(11)))
    wrong = []
    with LocalCluster(args.consort, ADDER, nodes=NODES, extra=["[gateway]", "port = 0"]) as cluster:
        with open(cluster.state("run", "gateway.address")) as file:
            url = file.read().strip()
        service = load.Service(url)
        alone = asyncio.run(load.closed_loop(service, iter(asked), 1, 600))
        if len(alone) != len(asked) or not all(a.ok() for a in alone):
            print(f"a single run failed: {[a.error for a in alone if not a.ok()][:1]}\n{cluster.logs()}")
            sys.exit(1)
        said = {a.body["seed"]: a.said for a in alone}
        begin, answers, told = asyncio.run(run_load(service, cluster, asked, args.streams, args.seconds))
        failed = [a for a in answers if not a.ok()]
        differ = [a for a in answers if a.ok() and a.said != said[a.body["seed"]]]
        gaps = [g for a in answers for g in a.gaps()]
        counts = rates(answers, begin, args.seconds)
        windows = {int(at - begin) + i for _, at in told for i in range(WINDOW_SECONDS)}
        around = statistics.mean(c for second, c in enumerate(counts) if second not in windows and second > 0)
        print(f"{len(answers)} answers on {args.streams} streams in {args.seconds:.0f} s, {len(failed)} failed, {len(differ)} "
              f"differ from single runs; {around:.0f} tokens/s without faults")
        p99 = load.percentile(gaps, 0.99)
        print(f"gaps between tokens: p50 {load.percentile(gaps, 0.5) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms "
              f"(limit {GAP_LIMIT_SECONDS * 1e3:.0f}), largest {max(gaps) * 1e3:.0f} ms")
        costs = [(what, cost(counts, at - begin, around)) for what, at in told]
        for what, seconds in costs:
            print(f"{what}: cost {seconds:.2f} s of tokens (limit {COST_LIMIT_SECONDS:.0f})")
        wrong += [f"failed: {a.status} {a.error}" for a in failed[:3]]
        wrong += [f"differs: seed {a.body['seed']} after {len(a.said)} events" for a in differ[:3]]
        if len(told) != 2:
            wrong.append("not every fault happened")
        if args.check_times and p99 > GAP_LIMIT_SECONDS:
            wrong.append("the gaps are too long")
        if args.check_times:
            wrong += [f"{what} cost too much" for what, seconds in costs if seconds > COST_LIMIT_SECONDS]
        end = time.monotonic() + SETTLE_SECONDS
        while (left := what_is_left(url)) and time.monotonic() < end:
            time.sleep(0.2)
        wrong += left
        if wrong:
            print("\n".join(wrong), cluster.logs(), sep="\n")
    print("ok" if not wrong else "FAILED")
    sys.exit(1 if wrong else 0)


def what_is_left(url):
    now = gauges(url)
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
    return [f"left: {name} {value:.0f}" for name, value in now.items() if name.startswith(names) and value != 0]


if __name__ == "__main__":
    main()
