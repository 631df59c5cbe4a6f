#!/usr/bin/env python3
"""Kills and stops real nodes in the middle of a generation, and looks at what a user would see.

  faults.py --consort PROGRAM [--runs 10] [--tokens 1000] [--only NAME ...] [--once]

Every run: three nodes, replicas = 2, one request of --tokens tokens, the fault between tokens 100 and 900 (a tenth and
nine tenths). All ids and every logits_crc must equal the undisturbed run's. Prints the largest gap between two tokens of
each run, and per fault the median and the worst. For the loss of an experts node the trace must show a dispatch that was
outstanding there and replayed, or the run does not count and is done again. --once: each fault once, results only.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time

from local_cluster import KILL, STOP, LocalCluster, make_checkpoint

# name: (process, signal, gap in seconds that the median should keep, trace must show a replay)
FAULTS = {
    "kill-garage": ("garage", KILL, 0.300, True),
    "stop-garage": ("garage", STOP, 1.200, True),
    "kill-attic": ("attic", KILL, 3.000, False),
    "stop-attic": ("attic", STOP, 3.000, False),
    "kill-coordinator": ("coordinator", KILL, None, False),  # no gap above twice the undisturbed run's largest
}
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
TRACE_MILLISECONDS = 3000
MAX_UNCOUNTED = 10  # runs in which the fault fell between two dispatches


def replayed_at(trace_file, node):
    with open(trace_file) as file:
        events = json.load(file)
    events = events["traceEvents"] if isinstance(events, dict) else events
    return any(e.get("name") == "replayed" and e.get("args", {}).get("a") == node for e in events)


def disturbed(cluster, fault, tokens, rng, node_ids):
    process, signal_number, _, must_replay = FAULTS[fault]
    at = rng.randrange(tokens // 10, tokens * 7 // 10)  # the trace needs a moment to start: well before nine tenths
    trace_file = os.path.join(cluster.folder, "trace.json")
    stream = cluster.generate(PROMPT, tokens)
    stream.wait_tokens(at)
    trace = cluster.record(TRACE_MILLISECONDS, trace_file) if must_replay else None
    at = len(stream.tokens)
    cluster.signal(process, signal_number)
    stream.drain()
    counted = tokens // 10 <= at <= tokens * 9 // 10
    if trace is not None:
        trace.wait(timeout=60)
        counted = counted and os.path.exists(trace_file) and replayed_at(trace_file, node_ids[process])
    return stream, at, counted


def run_fault(args, fault, model, reference, rng):
    process, _, limit, _ = FAULTS[fault]
    gaps, uncounted, failed = [], 0, 0
    with LocalCluster(args.consort, model) as cluster:
        node_ids = {n["name"]: n["node"] for n in cluster.status()["nodes"]}
        calm = cluster.generate(PROMPT, args.tokens).drain()
        if calm.tokens != reference:
            raise RuntimeError(f"{fault}: the undisturbed run differs from the reference ({calm.error})")
        while len(gaps) < args.runs and failed == 0 and uncounted <= MAX_UNCOUNTED:
            stream, at, counted = disturbed(cluster, fault, args.tokens, rng, node_ids)
            same = stream.tokens == reference and stream.exit_code == 0
            if not same:
                failed += 1
                print(f"{fault}: token {at}: WRONG after {len(stream.tokens)} tokens: {stream.end} {stream.error}")
                print(cluster.logs())
            elif not counted:
                uncounted += 1
                print(f"{fault}: token {at}: does not count", flush=True)
            else:
                gaps.append(stream.largest_gap())
                print(f"{fault}: token {at}: same ids and logits, largest gap {gaps[-1] * 1000:.0f} ms "
                      f"(undisturbed {calm.largest_gap() * 1000:.0f} ms)", flush=True)
            if process != "coordinator":
                cluster.wait_ready(process)
            else:
                time.sleep(2.0)
    if len(gaps) < args.runs:
        failed += 1
    goal = f"goal {limit * 1000:.0f} ms" if limit else f"goal {2 * calm.largest_gap() * 1000:.0f} ms for the worst"
    if gaps:
        print(f"{fault}: {len(gaps)} runs, gap median {statistics.median(gaps) * 1000:.0f} ms, worst "
              f"{max(gaps) * 1000:.0f} ms, {goal}; {uncounted} did not count", flush=True)
    return failed == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consort", required=True)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=list(FAULTS), choices=list(FAULTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args()
    if args.once:
        args.runs = 1
    rng = random.Random(args.seed)
    passed = 0
    with tempfile.TemporaryDirectory(prefix="consort-model-") as folder:
        model = make_checkpoint(os.path.join(folder, "model"))
        with LocalCluster(args.consort, model) as cluster:
            reference = cluster.generate(PROMPT, args.tokens).drain()
            if reference.exit_code != 0 or len(reference.tokens) != args.tokens:
                print(f"the undisturbed run failed: {reference.end} {reference.error}\n{cluster.logs()}")
                return 1
            print(f"undisturbed: {args.tokens} tokens, largest gap {reference.largest_gap() * 1000:.0f} ms", flush=True)
        for fault in args.only:
            passed += run_fault(args, fault, model, reference.tokens, rng)
    print(f"{passed} passed, {len(args.only) - passed} failed, 0 skipped")
    return 0 if passed == len(args.only) else 1


if __name__ == "__main__":
    sys.exit(main())
