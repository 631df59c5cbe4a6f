"""`consort run` on real clusters: the answers of single runs, whatever ends the job or a node meanwhile.

SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import real  # noqa: E402

NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts"], memory="256MiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="256MiB"),
    # Far enough away that a job is still under way when the test acts.
    dict(name="garage", roles=["experts"], memory="256MiB", shape=dict(delay="500us", rate="1Gbit")),
]
CHATS = 24
LONG = 40  # lines of 48 tokens each: some seconds
LONG_TOKENS = 48


def line(custom_id, body, url="/v1/chat/completions"):
    return json.dumps(dict(custom_id=custom_id, method="POST", url=url, body=dict(model="adder", **body)))


def sum_line(i, **more):
    return line(f"sum-{i}", dict(messages=[dict(role="user", content=f"{i + 10}+{i + 3}=?")], **more))


def long_line(i):
    """Half of them are drawn."""
    sampling = dict(temperature=0) if i % 2 else dict(temperature=1.1, seed=i)
    return line(f"long-{i}", dict(prompt=f"{i}+{i}=", max_tokens=LONG_TOKENS, ignore_eos=True, **sampling),
                "/v1/completions")


def text_of(answer):
    choice = answer["response"]["body"]["choices"][0]
    return choice.get("text") if "text" in choice else choice["message"]["content"]


class Job:
    def __init__(self, case, cluster, lines, **settings):
        self.folder = real.temporary(f"{case.id().split('.')[-1]}-{time.monotonic_ns()}")
        os.makedirs(self.folder)
        self.input = os.path.join(self.folder, "in.jsonl")
        self.output = os.path.join(self.folder, "out.jsonl")
        self.file = os.path.join(self.folder, "job.toml")
        self.environment = cluster.environment
        self.write(lines)
        settings = dict(input="in.jsonl", output="out.jsonl", cluster=cluster.file, concurrency=8) | settings
        with open(self.file, "w") as out:
            out.write("[job]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in settings.items()))

    def write(self, lines):
        with open(self.input, "w") as out:
            out.write("\n".join(lines) + "\n")

    def run(self):
        return real.run("run", self.file, "--json", environment=self.environment)

    def start(self):
        return subprocess.Popen([real.Program.path, "run", self.file, "--json"], env=self.environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)

    def whole_lines(self):
        if not os.path.exists(self.output):
            return []
        with open(self.output) as file:
            return file.read().split("\n")[:-1]

    def wait_lines(self, process, count):
        while len(self.whole_lines()) < count and process.poll() is None:
            time.sleep(0.002)

    def answers(self):
        return [json.loads(text) for text in self.whole_lines()]


class Jobs(unittest.TestCase):
    cluster = None

    @classmethod
    def setUpClass(cls):
        cls.cluster = real.LocalCluster(real.Program.path, real.ADDER, nodes=NODES)
        cls.cluster.up()
        cls.long_texts = None

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()

    def job(self, lines, **settings):
        return Job(self, self.cluster, lines, **settings)

    def long_lines(self):
        return [long_line(i) for i in range(LONG)]

    def expected(self):
        """The texts of the long lines, from a job that nothing happens to and that has one request open."""
        if self.long_texts is None:
            job = self.job(self.long_lines(), concurrency=1)
            done = job.run()
            self.assertEqual(done.returncode, 0, done.stderr)
            type(self).long_texts = {a["custom_id"]: text_of(a) for a in job.answers()}
            self.assertEqual(len(self.long_texts), LONG)
        return self.long_texts

    def check_long(self, job):
        answers = job.answers()
        ids = [a["custom_id"] for a in answers]
        self.assertEqual(sorted(ids), sorted(f"long-{i}" for i in range(LONG)), "a line was lost, or done twice")
        self.assertEqual({a["custom_id"]: text_of(a) for a in answers}, self.expected())

    def test_single_runs(self):
        """the answers are those of single runs, greedy and drawn"""
        lines = [sum_line(i, temperature=0) if i % 2 else sum_line(i, temperature=1.2, seed=i, max_tokens=40)
                 for i in range(CHATS)]
        job = self.job(lines)
        done = job.run()
        self.assertEqual(done.returncode, 0, done.stderr)
        given = {a["custom_id"]: a["response"]["body"] for a in job.answers()}
        for i in range(CHATS):
            sampling = [] if i % 2 else ["--temperature", "1.2", "--seed", str(i)]
            single = real.run("generate", "--cluster", self.cluster.file, "--chat", f"{i + 10}+{i + 3}=?", "--json",
                              "--max-new-tokens", "256" if i % 2 else "40", *sampling, environment=self.cluster.environment)
            self.assertEqual(single.returncode, 0, single.stderr)
            lines = [json.loads(text) for text in single.stdout.splitlines()]
            said = "".join(l.get("text", "") for l in lines)
            body = given[f"sum-{i}"]
            message = body["choices"][0]["message"]
            thought = message.get("reasoning_content", "")
            strip = lambda text: re.sub(r"</?think>|<[^>]*end[^>]*>|\s", "", text)  # noqa: E731
            self.assertEqual(strip(thought + message["content"]), strip(said))
            self.assertEqual(body["usage"]["completion_tokens"], sum("id" in l for l in lines))
        summary = json.loads(done.stdout)
        self.assertEqual((summary["lines"], summary["failed"]), (CHATS, 0))
        self.assertEqual(summary["completion_tokens"], sum(b["usage"]["completion_tokens"] for b in given.values()))
        self.assertEqual(summary["prompt_tokens"], sum(b["usage"]["prompt_tokens"] for b in given.values()))

    def test_shape(self):
        """an answer has the shape of OpenAI's batch output"""
        job = self.job([sum_line(1, temperature=0)])
        self.assertEqual(job.run().returncode, 0)
        answer, = job.answers()
        self.assertEqual(set(answer), {"id", "custom_id", "response", "error"})
        self.assertTrue(answer["id"].startswith("batch_req_"))
        self.assertIsNone(answer["error"])
        self.assertEqual(set(answer["response"]), {"status_code", "request_id", "body"})
        self.assertEqual(answer["response"]["body"]["object"], "chat.completion")

    def test_killed(self):
        """killed at several points, once with a torn end, it goes on: no line is lost and none done twice"""
        job = self.job(self.long_lines())
        for at in (0, 1, 9, 20, 33):
            process = job.start()
            job.wait_lines(process, at)
            process.kill()
            process.communicate()
            before = job.whole_lines()
            self.assertLess(len(before), LONG, "the job was over before it could be killed")
            if at == 9:
                with open(job.output, "a") as file:
                    file.write(before[0][:len(before[0]) // 2])
            if at == 20:  # as a power loss leaves pages that never reached the disk
                with open(job.output, "a") as file:
                    file.write("\0" * 300 + "\n" + "\0" * 200)
        done = job.run()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(job.whole_lines()[:len(before)], before, "what was there has changed")
        self.check_long(job)
        self.assertEqual(json.loads(done.stdout)["lines_before"], len(before))

    def test_interrupted(self):
        """Ctrl-C ends it in words that say how to go on"""
        job = self.job(self.long_lines())
        process = job.start()
        job.wait_lines(process, 5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=real.COMMAND_SECONDS)
        self.assertEqual(process.returncode, 1)
        self.assertIn(f"interrupted; `consort run {job.file}` goes on from there", said)
        self.assertEqual(job.run().returncode, 0)
        self.check_long(job)

    def test_node_killed(self):
        """nodes are killed meanwhile, the Batcher's too: all lines are answered, with the same texts"""
        self.expected()
        for node in ("garage", "attic", "desk"):
            with self.subTest(node=node):
                job = self.job(self.long_lines())
                life = self.cluster.nodes()[node]["incarnation"]
                process = job.start()
                job.wait_lines(process, 8)
                self.assertIsNone(process.poll(), "the job was over before the node could be killed")
                self.cluster.signal(node, signal.SIGKILL)
                _, said = process.communicate(timeout=real.COMMAND_SECONDS)
                self.assertEqual(process.returncode, 0, said)
                self.check_long(job)
                self.cluster.wait_ready(node, life)

    def test_bad_lines(self):
        """a line whose body is refused gets its error line; the others are answered, and the exit code is 1"""
        lines = [sum_line(1, temperature=0), sum_line(2, temperature=0, stream=True), sum_line(3, temperatura=0),
                 sum_line(4).replace('"adder"', '"other"'), sum_line(5, max_tokens=100000),
                 line("e", dict(prompt=[1, 2, 99999999]), "/v1/completions"), sum_line(7, temperature=0)]
        job = self.job(lines)
        done = job.run()
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("5 lines failed", done.stderr)
        by_id = {a["custom_id"]: a["response"] for a in job.answers()}
        self.assertEqual([by_id[i]["status_code"] for i in ("sum-1", "sum-2", "sum-3", "sum-4", "sum-5", "e", "sum-7")],
                         [200, 400, 400, 404, 400, 400, 200])
        error = by_id["sum-2"]["body"]["error"]
        self.assertEqual((error["param"], error["type"]), ("stream", "invalid_request_error"))
        self.assertEqual(by_id["sum-3"]["body"]["error"]["param"], "temperatura")
        again = job.run()
        self.assertEqual((again.returncode, len(job.whole_lines())), (1, 7), "failed lines are answered and stay")

    def test_bad_input(self):
        """an input that is not in the batch format is refused with every line's number, before anything is asked"""
        good = sum_line(1)
        lines = [good, "{", good, "", sum_line(2).replace("POST", "GET"), sum_line(3).replace("/v1/chat", "/v2/chat"),
                 '{"custom_id": "x", "method": "POST", "url": "/v1/completions", "body": 3}', "[]",
                 sum_line(4)[:-1] + ', "more": 1}', sum_line(5)[:-1] + ', "method": "POST"}']
        job = self.job(lines)
        done = job.run()
        self.assertEqual(done.returncode, 2)
        for number, what in ((2, "no JSON"), (3, "that of line 1 already"), (5, "'method'"), (6, "'url'"), (7, "'body'"),
                             (8, "no JSON object"), (9, "'more' is not known"), (10, "method")):
            self.assertRegex(done.stderr, rf"in\.jsonl:{number}: .*{re.escape(what)}")
        self.assertFalse(os.path.exists(job.output))
        job.write([])
        self.assertIn("has no lines", job.run().stderr)

    def test_other_input(self):
        """an output is not continued with another input, taken from two jobs, or made of somebody's file"""
        job = self.job([sum_line(1, temperature=0), sum_line(2, temperature=0)])
        self.assertEqual(job.run().returncode, 0)
        job.write([sum_line(1, temperature=0), sum_line(3, temperature=0)])
        done = job.run()
        self.assertEqual(done.returncode, 2)
        self.assertIn("answers another input", done.stderr)
        self.assertEqual(len(job.whole_lines()), 2)
        os.remove(job.output + ".job")
        done = job.run()
        self.assertEqual(done.returncode, 2)
        self.assertIn("is no job's output", done.stderr)
        busy = self.job(self.long_lines())
        process = busy.start()
        busy.wait_lines(process, 1)
        done = busy.run()
        process.kill()
        process.communicate()
        self.assertEqual(done.returncode, 2)
        self.assertIn("another `consort run`", done.stderr)

    def test_edited_output(self):
        """an output that somebody has edited is refused in words, not cut"""
        job = self.job([sum_line(i, temperature=0) for i in range(3)])
        self.assertEqual(job.run().returncode, 0)
        lines = job.whole_lines()
        for edited, says in (([lines[0], "hello", lines[1], lines[2]], ":2: is no answer of this job"),
                             ([lines[0], lines[0]], "twice")):
            with open(job.output, "w") as out:
                out.write("\n".join(edited) + "\n")
            done = job.run()
            self.assertEqual(done.returncode, 2)
            self.assertIn(says, done.stderr)
            self.assertEqual(job.whole_lines(), edited)

    def test_bad_job_file(self):
        """a job file is read strictly"""
        for settings, says in ((dict(concurrency=0), "job.concurrency"), (dict(patience="0s"), "job.patience"),
                               (dict(speed=3), "job.speed: is not known"), (dict(output="in.jsonl"), "is the input")):
            done = self.job([sum_line(1)], **settings).run()
            self.assertEqual(done.returncode, 2)
            self.assertIn(says, done.stderr)

    def test_more_than_fits(self):
        """far more requests at once than the cluster takes: it waits, and no line fails"""
        self.expected()
        job = self.job(self.long_lines(), concurrency=512)
        done = job.run()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.check_long(job)

    def test_terminal(self):
        """on a terminal there is a bar that moves"""
        job = self.job(self.long_lines())
        leader, follower = pty.openpty()
        process = subprocess.Popen([real.Program.path, "run", job.file], env=job.environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=follower)
        os.close(follower)
        said = b""
        try:
            while block := os.read(leader, 65536):
                said += block
        except OSError:  # the other end is closed
            pass
        os.close(leader)
        self.assertEqual(process.wait(), 0)
        drawn = said.decode().split("\r\x1b[K")
        self.assertGreater(len(drawn), 3)
        self.assertRegex(said.decode(), r"\[=+>? *\] \d+/40 lines, [0-9.]+ tokens/s, \d+:\d\d left")
        self.assertIn(f"40/{LONG} lines", drawn[-1])


class OwnClusters(unittest.TestCase):
    def setUp(self):
        self.cluster = real.LocalCluster(real.Program.path, real.ADDER, nodes=NODES)
        self.addCleanup(self.cluster.__exit__)

    def is_up(self):
        return os.path.exists(self.cluster.state("run", "agent-0.pid")) and \
            os.path.exists(f"/proc/{self.cluster.pid('agent-0')}")

    def test_own_cluster(self):
        """a job starts its cluster and takes it down, also where an earlier run was killed"""
        job = Job(self, self.cluster, [long_line(i) for i in range(LONG)], start_cluster=True)
        process = job.start()
        job.wait_lines(process, 5)
        process.kill()
        process.communicate()
        self.assertTrue(self.is_up())
        done = job.run()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(set(a["custom_id"] for a in job.answers())), LONG)
        self.assertFalse(self.is_up(), "the job left its cluster behind")

    def test_not_up(self):
        """without start_cluster the words say what to do; a cluster that was up stays up"""
        job = Job(self, self.cluster, [sum_line(1, temperature=0)])
        done = job.run()
        self.assertEqual(done.returncode, 2)
        self.assertIn("is not up: run `consort up", done.stderr)
        self.cluster.up()
        job = Job(self, self.cluster, [sum_line(1, temperature=0)], start_cluster=True)
        self.assertEqual(job.run().returncode, 0)
        self.assertTrue(self.is_up())


if __name__ == "__main__":
    real.main()
