"""One process = one, two and three nodes = simulator, in bits: every tensor of `logits`, every logits_crc of `generate`.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import real  # noqa: E402

TOKENS = 40
IDS = [3, 1, 4, 1, 5, 9, 2, 6]
LONG_IDS = [(7 * i * i + 3 * i + 1) % 160 for i in range(150)]  # more than two KV pages

DESK = dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts"], memory="1GiB")
ATTIC = dict(name="attic", roles=["trunk", "experts"], memory="1GiB", slowdown=2.0)
GARAGE = dict(name="garage", roles=["experts"], memory="1GiB", shape=dict(delay="300us", rate="1Gbit"))


def text(ids):
    return ",".join(map(str, ids))


class Bits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = real.make_checkpoint(real.temporary("bits-model"))

    def generated(self, *where, ids=IDS, extra=()):
        done = real.run("generate", *where, "--ids", text(ids), "--ignore-eos", "--json", "--max-new-tokens", TOKENS, *extra,
                        environment=self.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        tokens, end = real.token_lines(done.stdout)
        self.assertEqual((end["end"], len(tokens)), ("length", TOKENS))
        return tokens

    def logits(self, name, *where):
        out = real.temporary(name + ".safetensors")
        done = real.run("logits", *where, "--ids", text(LONG_IDS), "--out", out, environment=self.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return real.read_tensors(out)

    def assert_same_tensors(self, expected, tensors, what):
        self.assertEqual(expected.keys(), tensors.keys(), what)
        self.assertEqual([n for n in expected if expected[n] != tensors[n]], [], what)

    def simulated(self, cluster):
        done = real.run("simulate", cluster.file, "--ids", text(IDS), "--max-new-tokens", TOKENS, "--json")
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout[-2000:])
        line = next(l for l in map(json.loads, done.stdout.splitlines()) if l.get("request") == 0)
        return [(int(i), int(c)) for i, c in zip(line["ids"].split(","), line["logits_crc"].split(","))]

    def compare(self, nodes, replicas, columns):
        """Returns the tokens of this cut."""
        with real.LocalCluster(real.Program.path, self.model, nodes=nodes, replicas=replicas, columns=columns) as cluster:
            self.environment = cluster.environment
            plan = real.temporary("plan.json")
            cluster.run("status", cluster.file, "--numeric-plan", plan)
            with open(plan) as file:
                cut = len(json.load(file)["columns"])
            self.assertEqual(cut, 1 if columns == "never" else columns)
            here = ("--cluster", cluster.file)
            alone = ("--model", self.model, "--numeric-plan", plan)
            tokens = self.generated(*alone)
            self.assertEqual(tokens, self.generated(*here))
            self.assertEqual(tokens, self.simulated(cluster))
            sampled = ("--temperature", "0.8", "--top-p", "0.9", "--seed", "11")
            self.assertEqual(self.generated(*alone, extra=sampled), self.generated(*here, extra=sampled))
            # A prefill of many rows, then steps of one.
            self.assertEqual(self.generated(*alone, ids=LONG_IDS), self.generated(*here, ids=LONG_IDS))
            expected = self.logits("alone", *alone)
            self.assertEqual(expected["logits"][1], [len(LONG_IDS), 160])
            self.assert_same_tensors(expected, self.logits("cluster", *here), "cluster")
            for chunk in (1, 7, 64, 150):
                chunked = self.logits("chunked", *alone, "--chunk-tokens", chunk)
                self.assert_same_tensors(expected, chunked, f"chunks of {chunk}")
        return tokens

    def test_three_nodes_whole(self):
        """three nodes, two replicas, whole experts: the bits of one process and of the simulator"""
        self.compare([DESK, ATTIC, GARAGE], 2, "never")

    def test_three_nodes_cut(self):
        """three nodes, two replicas, experts cut in three: the bits of one process and of the simulator"""
        self.compare([DESK, ATTIC, GARAGE], 2, 3)

    def test_two_nodes(self):
        """two nodes, experts cut in two: the bits of one process and of the simulator"""
        self.compare([DESK, GARAGE], 1, 2)

    def test_one_node(self):
        """one node: the bits of one process and of the simulator"""
        self.compare([DESK], 1, "never")


if __name__ == "__main__":
    real.main()
