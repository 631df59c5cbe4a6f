#!/usr/bin/env python3
"""Kills and stops real nodes in the middle of a generation, and looks at what a user would see.

  faults.py --consort PROGRAM [--runs 10] [--tokens 1000] [--only NAME ...] [--once]

kill-*, stop-*: three nodes, replicas = 2, one request of --tokens tokens (two where a trunk is lost, so that one runs
there), the fault between a tenth and nine tenths of them. All ids and every logits_crc must equal the undisturbed run's.
Prints the largest gap between two tokens after the fault, and per fault the median and the worst. For the loss of an
experts node the trace must show a dispatch that was outstanding there and replayed, or the run does not count and is
done again. The others are done once: no-coordinator (a node hangs while the Coordinator is dead), lost-part
(replicas = 1, no restart), lost-part-restart, kill-batcher.
--once: each fault once, results only, not times.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time

from local_cluster import FAULT_NODES, KILL, LOST_PART_NODES, STOP, LocalCluster, make_checkpoint

# name: (process, signal, gap in seconds that the median should keep, what must be seen to be lost)
FAULTS = {
    "kill-garage": ("garage", KILL, 0.300, "dispatch"),
    "stop-garage": ("garage", STOP, 1.200, "dispatch"),
    "kill-attic": ("attic", KILL, 3.000, "trunk"),
    "stop-attic": ("attic", STOP, 3.000, "trunk"),
    # No gap above twice the undisturbed runs' largest, of which one is made before each: noise must not decide.
    "kill-coordinator": ("coordinator", KILL, None, None),
}
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
TRACE_MILLISECONDS = 1500
MAX_UNCOUNTED = 20  # runs in which the fault fell between two dispatches
BATCHER_WORDS_SECONDS = 1.0
LOST_PART_DEADLINE_MS = 15000  # several times what the tokens take on a quiet machine
SAMPLING = ("--temperature", "1", "--seed", "5")  # greedy tokens of random weights repeat themselves, and use few experts


def generate(cluster, prompt, tokens, **more):
    return cluster.generate(prompt, tokens, extra=SAMPLING, **more)


def replayed_at(trace_file, node, since):
    """A dispatch was outstanding there and done again elsewhere: lost with the node, or late beyond its deadline."""
    with open(trace_file) as file:
        events = json.load(file)
    events = events["traceEvents"] if isinstance(events, dict) else events
    return any(e["name"] in ("replayed", "hedged") and e["args"]["a"] == node and e["ts"] >= since * 1e6
               for e in events if "ts" in e)


def disturbed(cluster, fault, tokens, rng):
    """One run. Returns its streams, the one measured first; when the fault was; and whether the run counts."""
    process, signal_number, _, loses = FAULTS[fault]
    at = rng.randrange(tokens // 10, tokens * 6 // 10)  # the trace needs a moment to start: well before nine tenths
    trace_file = os.path.join(cluster.folder, "trace.json")
    streams = [generate(cluster, PROMPT, tokens)]
    if loses == "trunk":  # the first is on desk; the second goes to the other trunk
        streams[0].wait_tokens(1)
        streams.insert(0, generate(cluster, PROMPT, tokens))
    streams[0].wait_tokens(at)
    trace = cluster.record(TRACE_MILLISECONDS, trace_file) if loses == "dispatch" else None
    at, when = len(streams[0].tokens), time.monotonic()
    cluster.signal(process, signal_number)
    for stream in streams:
        stream.drain()
    counted = tokens // 10 <= at <= tokens * 9 // 10
    if trace is not None:
        trace.wait(timeout=60)
        node = cluster.nodes()[process]["node"]
        counted = counted and os.path.exists(trace_file) and replayed_at(trace_file, node, when)
    if loses == "trunk":
        counted = counted and ended(streams[0]).get("decoder_moves", 0) > 0
    return streams, at, when, counted


def run_fault(args, fault, model, rng):
    process, _, limit, loses = FAULTS[fault]
    gaps, uncounted, failed = [], 0, 0
    with LocalCluster(args.consort, model, nodes=FAULT_NODES) as cluster:
        calm = generate(cluster, PROMPT, args.tokens).drain()
        if calm.tokens != args.reference:
            print(f"{fault}: the undisturbed run differs from the reference: {calm.end} {calm.error}\n{cluster.logs()}")
            return False
        undisturbed = calm.largest_gap()
        while len(gaps) < args.runs and failed == 0 and uncounted <= MAX_UNCOUNTED:
            life = 0 if process == "coordinator" else cluster.nodes()[process]["incarnation"]
            if limit is None and gaps:
                undisturbed = max(undisturbed, generate(cluster, PROMPT, args.tokens).drain().largest_gap())
            streams, at, when, counted = disturbed(cluster, fault, args.tokens, rng)
            wrong = [s for s in streams if s.tokens != args.reference or s.exit_code != 0]
            if wrong:
                failed += 1
                print(f"{fault}: token {at}: WRONG after {len(wrong[0].tokens)} tokens: {wrong[0].end} {wrong[0].error}")
                print(cluster.logs())
            elif not counted:
                uncounted += 1
                print(f"{fault}: token {at}: same ids and logits, but nothing was lost: does not count", flush=True)
            else:
                gaps.append(streams[0].largest_gap(when))
                print(f"{fault}: token {at}: same ids and logits, largest gap {gaps[-1] * 1000:.0f} ms "
                      f"(undisturbed {undisturbed * 1000:.0f} ms)", flush=True)
            if process != "coordinator":
                cluster.wait_ready(process, life)
            else:
                cluster.wait_coordinator()
    if gaps:
        goal = f"goal {limit * 1000:.0f} ms" if limit else f"goal {2 * undisturbed * 1000:.0f} ms for the worst"
        print(f"{fault}: {len(gaps)} runs, gap median {statistics.median(gaps) * 1000:.0f} ms, worst "
              f"{max(gaps) * 1000:.0f} ms, {goal}; {uncounted} did not count", flush=True)
    return failed == 0 and len(gaps) == args.runs


def ended(stream):
    """The end line; nothing where none came. One that the client wrote itself says nothing of the way."""
    return stream.end or {}


def whole(stream, tokens):
    return stream.exit_code == 0 and len(stream.tokens) == tokens


def run_lost_part(args, model, restart):
    """One replica of each expert, and garage holds three experts: one world of tokens needs them, the other does not."""
    name = "lost-part-restart" if restart else "lost-part"
    vocabulary = json.load(open(os.path.join(model, "config.json")))["vocab_size"]
    prompts = {"first": PROMPT, "second": [vocabulary // 2 + i for i in PROMPT]}
    tokens = args.tokens
    with LocalCluster(args.consort, model, nodes=LOST_PART_NODES, replicas=1, columns="never",
                      flags=() if restart else ("--no-restart",)) as cluster:
        calm = {world: generate(cluster, ids, tokens).drain() for world, ids in prompts.items()}
        if not all(whole(s, tokens) for s in calm.values()):
            print(f"{name}: an undisturbed run failed\n{cluster.logs()}")
            return False
        life = cluster.nodes()["garage"]["incarnation"]
        deadline = 60000 if restart else LOST_PART_DEADLINE_MS
        streams = {world: generate(cluster, ids, tokens, deadline_ms=deadline) for world, ids in prompts.items()}
        for stream in streams.values():
            stream.wait_tokens(tokens // 10)
        cluster.signal("garage", KILL)
        for stream in streams.values():
            stream.drain()
        if restart:
            cluster.wait_ready("garage", life)
    said, waited = [], []
    good = True
    for world, stream in streams.items():
        complete = whole(stream, tokens)
        prefix = stream.tokens == calm[world].tokens[:len(stream.tokens)]
        words = ended(stream).get("end") == "deadline" and "is at no node" in stream.error
        good = good and prefix and (complete or (not restart and words))
        if ended(stream).get("waits", 0) > 0:
            waited.append(world)
        said.append(f"{world} world: {'complete' if complete else str(len(stream.tokens)) + ' tokens, ' + stream.error.strip()}")
    print(f"{name}: {'; '.join(said)}; waited: {', '.join(waited) or 'nobody'}", flush=True)
    return good and len(waited) == 1


def run_no_coordinator(args, model):
    """The Coordinator is dead and stays so; then garage hangs, and nobody is there to declare it dead."""
    with LocalCluster(args.consort, model, nodes=FAULT_NODES, flags=("--no-restart",)) as cluster:
        cluster.signal("coordinator", KILL)
        stream = generate(cluster, PROMPT, args.tokens)
        stream.wait_tokens(args.tokens // 5)
        when = time.monotonic()
        cluster.signal("garage", STOP)
        stream.drain()
        again = generate(cluster, PROMPT, args.tokens).drain()
        garage = cluster.nodes()["garage"]
    good = stream.tokens == args.reference and again.tokens == args.reference and garage["suspected"]
    print(f"no-coordinator: garage is {'' if garage['suspected'] else 'not '}suspected, {len(stream.tokens)} and "
          f"{len(again.tokens)} tokens, largest gap {stream.largest_gap(when) * 1000:.0f} ms {stream.error.strip()}", flush=True)
    return good


def run_kill_batcher(args, model):
    with LocalCluster(args.consort, model, nodes=FAULT_NODES) as cluster:
        life = cluster.nodes()["desk"]["incarnation"]
        stream = generate(cluster, PROMPT, args.tokens)
        stream.wait_tokens(args.tokens // 10)
        when = time.monotonic()
        cluster.signal("desk", KILL)
        stream.drain()
        took = time.monotonic() - when
        words = stream.exit_code == 1 and "Batcher" in stream.error
        prefix = stream.tokens == args.reference[:len(stream.tokens)]
        cluster.wait_ready("desk", life)
        again = generate(cluster, PROMPT, args.tokens).drain()
        print(f"kill-batcher: ended in words after {took * 1000:.0f} ms (goal {BATCHER_WORDS_SECONDS * 1000:.0f} ms): "
              f"{stream.error.strip()}", flush=True)
    in_time = args.once or took <= BATCHER_WORDS_SECONDS
    return words and prefix and in_time and again.tokens == args.reference


def main():
    names = list(FAULTS) + ["no-coordinator", "lost-part", "lost-part-restart", "kill-batcher"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--consort", required=True)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--once", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("faults.py was told to end"))  # the cluster is taken down on the way
    if args.once:
        args.runs = 1
    rng = random.Random(args.seed)
    passed = 0
    with tempfile.TemporaryDirectory(prefix="consort-model-") as folder:
        model = make_checkpoint(os.path.join(folder, "model"))
        worlds = make_checkpoint(os.path.join(folder, "worlds"), "--two-worlds")
        with LocalCluster(args.consort, model, nodes=FAULT_NODES) as cluster:
            reference = generate(cluster, PROMPT, args.tokens).drain()
            if not whole(reference, args.tokens):
                print(f"the undisturbed run failed: {reference.end} {reference.error}\n{cluster.logs()}")
                return 1
        args.reference = reference.tokens
        print(f"undisturbed: {args.tokens} tokens, largest gap {reference.largest_gap() * 1000:.0f} ms", flush=True)
        for fault in args.only:
            if fault in FAULTS:
                good = run_fault(args, fault, model, rng)
            elif fault == "no-coordinator":
                good = run_no_coordinator(args, model)
            elif fault == "kill-batcher":
                good = run_kill_batcher(args, model)
            else:
                good = run_lost_part(args, worlds, fault == "lost-part-restart")
            passed += good
            if not good:
                print(f"failed: {fault}", flush=True)
    print(f"{passed} passed, {len(args.only) - passed} failed, 0 skipped")
    return 0 if passed == len(args.only) else 1


if __name__ == "__main__":
    sys.exit(main())
