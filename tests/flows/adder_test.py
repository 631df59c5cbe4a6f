"""The adder model on three nodes of which none could hold it: right sums, the recorded tokens, few bytes read.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import re
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import real  # noqa: E402

MEMORY_BYTES = 3_000_000  # the checkpoint has 3,194,304 bytes of weights
NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts"], memory=str(MEMORY_BYTES)),
    dict(name="attic", roles=["trunk", "experts"], memory=str(MEMORY_BYTES)),
    dict(name="garage", roles=["experts"], memory=str(MEMORY_BYTES)),
]
AT_ONCE = 4  # clients
RIGHT_AT_LEAST = 98
READ_AT_MOST = 1.05  # of a worker's trunk and parts


def answers():
    """As transformers gave them (tools/record_reference.py adder)."""
    with open(os.path.join(real.SOURCE, "tests", "reference", "adder-answers.json")) as file:
        return json.load(file)


def answer(where, environment, recorded):
    done = real.run("generate", *where, "--chat", f"{recorded['a']}+{recorded['b']}=?", "--json", environment=environment)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [l["id"] for l in lines if "id" in l], "".join(l.get("text", "") for l in lines)


class Adder(unittest.TestCase):
    def ask_all(self, where, environment=None):
        recorded = answers()
        self.assertEqual(len(recorded), 100)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            given = list(pool.map(lambda r: answer(where, environment, r), recorded))
        different = [(r["a"], r["b"]) for r, (ids, _) in zip(recorded, given) if ids != r["ids"]]
        self.assertEqual(different, [], "not the tokens that transformers gives")
        right = sum(re.findall(r"\d+", said)[-1:] == [str(r["a"] + r["b"])] for r, (_, said) in zip(recorded, given))
        self.assertGreaterEqual(right, RIGHT_AT_LEAST)
        return right

    def test_one_process(self):
        """one process gives transformers' tokens, and 98 of 100 sums are right"""
        right = self.ask_all(("--model", real.ADDER))
        print(f"one process: {right} of 100 sums right")

    def test_three_nodes(self):
        """three nodes that cannot hold the model give transformers' tokens, and read what they hold"""
        weights = sum(len(t[2]) for name in os.listdir(real.ADDER) if name.endswith(".safetensors")
                      for t in real.read_tensors(os.path.join(real.ADDER, name)).values())
        self.assertLess(MEMORY_BYTES, weights)
        inspected = json.loads(real.run("inspect", real.ADDER, "--json").stdout)
        trunk = inspected["bytes"] - inspected["parts"]["routed experts"]["bytes"]
        with real.LocalCluster(real.Program.path, real.ADDER, nodes=NODES) as cluster:
            right = self.ask_all(("--cluster", cluster.file), cluster.environment)
            nodes = cluster.nodes()
        print(f"three nodes: {right} of 100 sums right")
        for name, node in nodes.items():
            holds = node["part_bytes"] + (trunk if "trunk" in node["roles"] else 0)
            print(f"{name}: holds {holds} bytes of weights, read {node['checkpoint_bytes_read']}")
            self.assertLessEqual(holds, MEMORY_BYTES)
            self.assertGreater(node["part_bytes"], 0)
            self.assertLessEqual(node["checkpoint_bytes_read"], READ_AT_MOST * holds)


if __name__ == "__main__":
    real.main()
