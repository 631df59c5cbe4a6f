"""Every command as a user types it: exit codes 0, 1 and 2, and errors that name what, where and what to do.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import real  # noqa: E402

OK, FAILED, WRONG_USE = 0, 1, 2
CLUSTER = """[cluster]
name = "commands"
model = "{model}"
[[node]]
name = "desk"
host = "127.0.0.1"
roles = ["coordinator", "batcher", "trunk", "experts"]
memory = "{memory}"
"""


class Commands(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.environment = dict(os.environ, XDG_STATE_HOME=real.temporary("commands-state"))

    def consort(self, code, *arguments, says=()):
        done = real.run(*arguments, environment=self.environment)
        self.assertEqual(done.returncode, code, f"consort {arguments}: {done.stdout}{done.stderr}")
        for words in says:
            self.assertIn(words, done.stdout + done.stderr)
        return done.stdout

    def cluster_file(self, name, model=real.ADDER, memory="1GiB", text=CLUSTER):
        path = real.temporary(name + ".toml")
        with open(path, "w") as file:
            file.write(text.format(model=model, memory=memory))
        return path

    def test_help(self):
        """help and version exit with 0, and every command has a help"""
        said = self.consort(OK, "--help")
        for command in ("up", "down", "status", "generate", "logits", "inspect", "tokenize", "doctor", "trace", "simulate",
                        "keys"):
            self.assertIn("\n  " + command + " ", said)
            self.consort(OK, command, "--help")
        self.assertNotIn("worker-process", said)
        self.consort(OK, "--version", says=["consort 0."])

    def test_wrong_flags(self):
        """flags that are missing, unknown or against each other exit with 2"""
        self.consort(WRONG_USE)
        self.consort(WRONG_USE, "generat", says=["generat"])
        self.consort(WRONG_USE, "generate", "--ids", "1", says=["--model DIR or --cluster FILE"])
        self.consort(WRONG_USE, "generate", "--model", real.ADDER, "--cluster", "x", "--ids", "1")
        self.consort(WRONG_USE, "generate", "--model", real.ADDER, "--ids", "1", "--prompt", "2")
        self.consort(WRONG_USE, "generate", "--model", real.ADDER, says=["--prompt, --chat or --ids"])
        self.consort(WRONG_USE, "logits", "--model", real.ADDER, "--ids", "1", says=["--out"])
        self.consort(WRONG_USE, "up", "nowhere.toml", says=["nowhere.toml"])

    def test_wrong_values(self):
        """values that no run could use exit with 2 and say what is wrong"""
        generate = ("generate", "--model", real.ADDER)
        self.consort(WRONG_USE, *generate, "--ids", "1,x", says=["'x'"])
        self.consort(WRONG_USE, *generate, "--ids", "64", says=["64", "vocabulary"])
        self.consort(WRONG_USE, *generate, "--ids", "1", "--temperature", "-1", says=["temperature"])
        self.consort(WRONG_USE, *generate, "--ids", "1", "--top-p", "0", says=["top_p"])
        self.consort(WRONG_USE, *generate, "--ids", "1", "--max-new-tokens", "0", says=["max-new-tokens"])
        self.consort(WRONG_USE, *generate, "--ids", "1", "--max-new-tokens", "1000000", says=["positions"])
        self.consort(WRONG_USE, *generate, "--ids", "1", "--chunk-tokens", "0", says=["chunk-tokens"])
        self.consort(WRONG_USE, *generate, "--ids", "1", "--deadline", "0", says=["deadline"])
        self.consort(WRONG_USE, *generate, "--chat", "1+1=?", "--chat-format", "v9", says=["v9", "r1"])
        self.consort(WRONG_USE, *generate, "--ids", "1", "--numeric-plan", real.temporary("none.json"), says=["none.json"])
        cluster = self.cluster_file("values")
        self.consort(WRONG_USE, "generate", "--cluster", cluster, "--ids", "1", "--numeric-plan", "plan.json",
                     says=["--numeric-plan"])

    def test_wrong_model(self):
        """directories that are no checkpoint, or a damaged one, exit with 2 and name the file"""
        self.consort(WRONG_USE, "inspect", real.temporary("nothing"))
        empty = real.temporary("empty")
        os.mkdir(empty)
        self.consort(WRONG_USE, "inspect", empty, says=["config.json"])
        self.consort(WRONG_USE, "generate", "--model", empty, "--ids", "1", says=["config.json"])
        damaged = real.make_checkpoint(real.temporary("damaged"))
        weights = next(os.path.join(damaged, n) for n in os.listdir(damaged) if n.endswith(".safetensors"))
        os.truncate(weights, os.path.getsize(weights) - 1)
        self.consort(WRONG_USE, "inspect", damaged, says=[os.path.basename(weights)])
        self.consort(WRONG_USE, "up", self.cluster_file("damaged-up", model=damaged), says=[os.path.basename(weights)])

    def test_wrong_cluster_file(self):
        """a wrong cluster file exits with 2 and names file, line and key"""
        for line, words in (("colums = 2", "colums"), ("replicas = 0", "replicas"), ("replicas = \"two\"", "replicas")):
            path = self.cluster_file("wrong", text=CLUSTER.replace("[[node]]", line + "\n[[node]]", 1))
            self.consort(WRONG_USE, "up", path, says=[os.path.basename(path) + ":4", words])
            self.consort(WRONG_USE, "simulate", path, says=[words])
        path = self.cluster_file("far", text=CLUSTER.replace("127.0.0.1", "192.0.2.7"))
        self.consort(WRONG_USE, "up", path, says=["192.0.2.7"])
        path = self.cluster_file("few", text=CLUSTER.replace("[[node]]", "replicas = 2\n[[node]]"))
        self.consort(WRONG_USE, "up", path, says=["replicas"])

    def test_cluster_that_is_not_up(self):
        """commands for a cluster that is not up exit with 1 in seconds; down says so and exits with 0"""
        path = self.cluster_file("sleeping")
        for command in (("status", path), ("generate", "--cluster", path, "--ids", "1"),
                        ("logits", "--cluster", path, "--ids", "1", "--out", real.temporary("x")),
                        ("trace", path, "--out", real.temporary("y"))):
            self.consort(FAILED, *command, says=["consort up"])
        self.consort(OK, "down", path, says=["not up"])

    def test_cluster_without_memory(self):
        """what cannot fit is refused in words that say what is missing"""
        self.consort(FAILED, "up", self.cluster_file("small", memory="100kB"), says=["memory", "desk"])
        self.consort(FAILED, "up", self.cluster_file("tight", memory="1500kB"), says=["memory"])

    def test_local_commands(self):
        """inspect, tokenize, generate and logits run with a model directory"""
        self.assertEqual(json.loads(self.consort(OK, "inspect", real.ADDER, "--json"))["parameters"], 1597104)
        ids = self.consort(OK, "tokenize", real.ADDER, "--text", "12+34=?").strip()
        self.assertTrue(self.consort(OK, "tokenize", real.ADDER, "--ids", ids).endswith(">12+34=?\n"))  # after the begin token
        said = self.consort(OK, "generate", "--model", real.ADDER, "--chat", "12+34=?")
        self.assertTrue(said.rstrip().endswith("46"), said)
        self.consort(OK, "logits", "--model", real.ADDER, "--ids", "3,1,4", "--out", real.temporary("l.safetensors"))
        self.assertEqual(real.read_tensors(real.temporary("l.safetensors"))["logits"][1], [3, 64])

    def test_life_of_a_cluster(self):
        """up, up again, status, generate, trace, doctor, down, and up with the same numeric plan"""
        path = self.cluster_file("life")
        self.consort(OK, "doctor", path, says=["is whole"])
        self.consort(OK, "up", path, "--detach", says=["a token has crossed every node"])
        try:
            self.consort(WRONG_USE, "up", path, "--detach", says=["up already", "consort down"])
            status = json.loads(self.consort(OK, "status", path, "--json"))
            self.assertEqual([n["state"] for n in status["nodes"]], ["ready"])
            plan = real.temporary("life-plan.json")
            self.consort(OK, "status", path, "--numeric-plan", plan)
            said = self.consort(OK, "generate", "--cluster", path, "--chat", "275+481=?")
            self.assertTrue(said.rstrip().endswith("756"), said)
            self.consort(FAILED, "generate", "--cluster", path, "--ids", "64", says=["64", "vocabulary"])
            trace = real.temporary("life-trace.json")
            self.consort(OK, "trace", path, "--out", trace, "--milliseconds", "200")
            with open(trace) as file:
                json.load(file)
            state = os.path.join(self.environment["XDG_STATE_HOME"], "consort", "commands")
            for folder, _, names in os.walk(state):
                self.assertEqual(os.stat(folder).st_mode & 0o777, 0o700, folder)
                for name in names:
                    self.assertEqual(os.stat(os.path.join(folder, name)).st_mode & 0o777, 0o600, name)
        finally:
            self.consort(OK, "down", path, says=["is down"])
        self.consort(OK, "up", path, "--detach", "--numeric-plan", plan)
        self.consort(OK, "down", path)

    def up_in_the_foreground(self, path, end):
        """What `consort up` says after it was ready and end(process) was called; it must exit with 0."""
        process = subprocess.Popen([real.Program.path, "up", path], env=self.environment, stderr=subprocess.PIPE, text=True)
        try:
            said = ""
            while "Ctrl-C" not in said:
                line = process.stderr.readline()
                self.assertNotEqual(line, "", said)
                said += line
            end(process)
            self.assertEqual(process.wait(real.COMMAND_SECONDS), OK)
            return process.stderr.read()
        finally:
            process.kill()
            process.stderr.close()

    def test_up_in_the_foreground(self):
        """up without --detach stays until it is interrupted, and takes the cluster down"""
        path = self.cluster_file("foreground", text=CLUSTER.replace("commands", "foreground"))
        self.up_in_the_foreground(path, lambda process: process.terminate())
        self.consort(OK, "down", path, says=["not up"])

    def test_down_from_elsewhere(self):
        """up without --detach ends, and says so, when its cluster is taken down by another command"""
        path = self.cluster_file("elsewhere", text=CLUSTER.replace("commands", "elsewhere"))
        said = self.up_in_the_foreground(path, lambda _: self.consort(OK, "down", path, says=["is down"]))
        self.assertIn("taken down from elsewhere", said)

    def test_simulate(self):
        """a seed gives the same events every time; a fault plan that names nobody exits with 2"""
        path = self.cluster_file("simulated")
        first = self.consort(OK, "simulate", path, "--seed", "7", "--json")
        self.assertEqual(first, self.consort(OK, "simulate", path, "--seed", "7", "--json"))
        self.assertIn("trace_hash", first)
        self.consort(WRONG_USE, "simulate", path, "--faults", "crash cellar at 10", says=["cellar"])
        self.consort(WRONG_USE, "simulate", path, "--faults", "explode desk at 10", says=["explode"])


if __name__ == "__main__":
    real.main()
