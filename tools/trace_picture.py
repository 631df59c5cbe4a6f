#!/usr/bin/env python3
"""Draws a piece of a `consort trace` as SVG: a Decoder's two micro-batches, computing and waiting for their parts.

  trace_picture.py TRACE.json OUT.svg [--from MS] [--length MS]
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import json

WIDTH, LANE, LEFT, TOP, RIGHT = 1000, 34, 210, 44, 24
COLOURS = ["#3572b0", "#d9822b"]  # micro-batch 0 and 1
LANES = ["micro-batch 0 computes", "micro-batch 1 computes", "micro-batch 0: parts under way", "micro-batch 1: parts under way"]


def boxes(events):
    """(lane, micro-batch, begin, length) of what a Decoder and its Router recorded."""
    for event in events:
        args = event.get("args", {})
        if event["name"] in ("advance", "take", "shared") and args.get("b", 0) > 1 << 40:
            yield args["a"] % 2, args["a"] % 2, event["ts"], event["dur"]
        elif event["name"] == "dispatch":
            yield 2 + (args["b"] & 15) % 2, (args["b"] & 15) % 2, event["ts"], event["dur"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace")
    parser.add_argument("out")
    parser.add_argument("--from", dest="begin", type=float, default=0.0)
    parser.add_argument("--length", type=float, default=100.0)
    args = parser.parse_args()
    with open(args.trace) as file:
        drawn = sorted(boxes(e for e in json.load(file)["traceEvents"] if e.get("ph") == "X"), key=lambda b: b[2])
    origin = drawn[0][2] + args.begin * 1000
    scale = (WIDTH - LEFT - RIGHT) / (args.length * 1000)
    height = TOP + LANE * len(LANES) + 30
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="10" y="22" font-size="14">A prefill chunk in two micro-batches: while one waits for its experts, '
           'the other computes</text>']
    for i, name in enumerate(LANES):
        y = TOP + i * LANE
        svg.append(f'<text x="10" y="{y + 20}">{name}</text>')
        svg.append(f'<line x1="{LEFT}" y1="{y + LANE - 3}" x2="{WIDTH - RIGHT}" y2="{y + LANE - 3}" stroke="#ddd"/>')
    for lane, batch, begin, length in drawn:
        x = (begin - origin) * scale
        w = max(length * scale, 0.6)
        if x + w < 0 or x > WIDTH - LEFT - RIGHT:
            continue
        left, right = max(x, 0), min(x + w, WIDTH - LEFT - RIGHT)
        svg.append(f'<rect x="{LEFT + left:.1f}" y="{TOP + lane * LANE + 4}" width="{right - left:.1f}" height="{LANE - 10}" '
                   f'fill="{COLOURS[batch]}" opacity="{1.0 if lane < 2 else 0.55}"/>')
    for tick in range(0, int(args.length) + 1, max(1, int(args.length) // 10)):
        x = LEFT + tick * 1000 * scale
        svg.append(f'<text x="{x:.0f}" y="{height - 8}" text-anchor="middle" fill="#666">{tick} ms</text>')
    svg.append("</svg>")
    with open(args.out, "w") as file:
        file.write("\n".join(svg) + "\n")


if __name__ == "__main__":
    main()
