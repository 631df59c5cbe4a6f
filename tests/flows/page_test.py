"""The page in a real browser, over a real cluster: to talk, and to look. And what it looks at, by other means.

With CONSORT_PICTURES set to a folder, pictures of the page are left there.
SPDX-License-Identifier: Apache-2.0
"""
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import pypi  # noqa: E402
import real  # noqa: E402

NODES = [
    dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts", "gateway"], memory="256MiB"),
    dict(name="attic", roles=["trunk", "experts"], memory="256MiB"),
    dict(name="garage", roles=["experts"], memory="256MiB", shape=dict(delay="300us", rate="1Gbit")),
]
QUESTION = "275+481=?"
LONG_QUESTION = "1" * 200  # this model finds no end to its answer, hot enough
SOON = 20  # seconds for what happens at once, on a machine that is busy
WIDE, PHONE = (1280, 860), (390, 844)


class Service:
    cluster = None
    url = ""

    @classmethod
    def up(cls):
        if cls.cluster is None:
            cls.cluster = real.LocalCluster(real.Program.path, real.ADDER, nodes=NODES, extra=["[gateway]", "port = 0"])
            cls.cluster.up()
            with open(cls.cluster.state("run", "gateway.address")) as file:
                cls.url = file.read().strip()

    @classmethod
    def down(cls):
        if cls.cluster is not None:
            cls.cluster.__exit__()
            cls.cluster = None


def call(method, path, body=None, headers=None):
    place = urlsplit(Service.url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
    try:
        fields = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body=None if body is None else json.dumps(body), headers={**fields, **(headers or {})})
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read().decode()
    finally:
        connection.close()


def live():
    status, _, body = call("GET", "/live")
    assert status == 200, body
    return json.loads(body)


def ask(question=QUESTION, **more):
    status, _, body = call("POST", "/v1/chat/completions",
                           dict(model="adder", messages=[dict(role="user", content=question)], temperature=0, **more))
    assert status == 200, body
    return json.loads(body)["choices"][0]["message"]["content"]


def wait_until(what, holds, seconds=SOON):
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class Browser:
    """Debian's Chromium without a window, driven by selenium."""
    driver = None

    @classmethod
    def start(cls):
        if cls.driver is not None:
            return
        binary, helper = shutil.which("chromium"), shutil.which("chromedriver")
        if binary is None or helper is None:
            raise unittest.SkipTest("chromium or chromedriver is not installed: see cmake/test_packages.txt")
        folder = pypi.folder(os.path.dirname(real.Program.path), "selenium")
        if folder is None:
            raise unittest.SkipTest("the selenium package could not be fetched")
        sys.path.insert(0, folder)
        from selenium import webdriver
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        # The sandbox needs user namespaces, which containers and root do not have; only our own page is opened.
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     f"--user-data-dir={real.temporary('browser')}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        cls.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=helper))
        cls.driver.set_page_load_timeout(60)

    @classmethod
    def end(cls):
        if cls.driver is not None:
            cls.driver.quit()
            cls.driver = None


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        Browser.start()
        Service.up()
        cls.driver = Browser.driver

    def setUp(self):
        self.size(WIDE)
        self.driver.get(Service.url + "/")
        self.driver.execute_script("localStorage.clear(); sessionStorage.clear()")
        self.driver.get(Service.url + "/#chat")
        self.driver.refresh()
        wait_until("the model's name", lambda: self.text("#model") == "adder")

    def tearDown(self):
        # What Chromium complains of is also what the page's own policy refuses.
        complaints = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        expected = [c for c in complaints if re.search(r"the server responded with a status of (40[019]|503)", c)]
        self.assertEqual(complaints, expected)

    def size(self, size):
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", dict(
            width=size[0], height=size[1], deviceScaleFactor=1, mobile=size == PHONE))

    def theme(self, theme):
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", dict(
            features=[dict(name="prefers-color-scheme", value=theme)]))

    def line(self, bytes_per_second):
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", dict(
            offline=False, latency=0, downloadThroughput=bytes_per_second, uploadThroughput=-1))

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector, which=-1):
        return self.driver.execute_script(
            "const all = document.querySelectorAll(arguments[0]); return all.length ? [...all].at(arguments[1]).textContent : ''",
            selector, which)

    def shown(self, selector):
        return any(e.is_displayed() for e in self.all(selector))

    def click(self, selector):
        self.driver.execute_script("document.querySelector(arguments[0]).focus()", selector)
        self.all(selector)[0].click()

    def say(self, text):
        from selenium.webdriver.common.keys import Keys
        self.all("#prompt")[0].send_keys(text + Keys.ENTER)

    def answered(self):
        return not self.all("[aria-busy=true]") and bool(self.all(".assistant .foot"))

    def talk(self, text):
        before = len(self.all(".assistant"))
        self.say(text)
        wait_until("an answer begins", lambda: len(self.all(".assistant")) > before)
        wait_until("the answer ends", self.answered)

    def set_settings(self, **values):
        if not self.shown("#settings"):
            self.click("#settings-button")
        for name, value in values.items():
            field = self.all("#" + name)[0]
            field.clear()
            field.send_keys(str(value))

    def picture(self, name):
        folder = os.environ.get("CONSORT_PICTURES")
        if folder:
            os.makedirs(folder, exist_ok=True)
            self.driver.save_screenshot(os.path.join(folder, name + ".png"))

    def fits(self):
        """Nothing is wider than the window."""
        return self.driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")

    def test_talk(self):
        """a question is answered as it streams, with its thought folded away and its figures; a reload keeps it"""
        self.set_settings(temperature=0)
        self.talk(QUESTION)
        self.assertEqual(self.text(".assistant .prose").strip(), "756")
        self.assertRegex(self.text(".thought summary"), r"Thought for .*s")
        self.assertFalse(self.shown(".thought div"))
        self.click(".thought summary")
        self.assertTrue(self.shown(".thought div"))
        self.assertIn("5+1=6", self.text(".thought div"))
        self.assertRegex(self.text(".foot"), r"\d+ tokens · .*tokens/s · first after ")
        self.talk("12+34=?")
        self.assertEqual(len(self.all(".user")), 2)
        self.driver.refresh()
        wait_until("the conversation is back", lambda: len(self.all(".assistant")) == 2)
        self.assertEqual(self.text(".assistant .prose", 0).strip(), "756")
        self.assertEqual(self.text("#conversations li button", 0), QUESTION)
        self.assertEqual(self.driver.execute_script("return document.getElementById('temperature').value"), "0")
        self.click("#new")
        self.assertTrue(self.shown("#empty"))
        self.assertEqual(len(self.all(".message")), 0)
        self.click("#conversations li button")
        self.assertEqual(len(self.all(".message")), 4)
        self.click(".forget")
        self.assertEqual(len(self.all("#conversations li")), 0)

    def seed_of_a_long_answer(self):
        for seed in range(1, 100):
            asked = dict(model="adder", messages=[dict(role="user", content=LONG_QUESTION)], seed=seed, temperature=2,
                         max_tokens=250)
            if json.loads(call("POST", "/v1/chat/completions", asked)[2])["usage"]["completion_tokens"] == 250:
                return seed
        raise AssertionError("every seed found its end")

    def test_stream(self):
        """the answer is seen to grow, can be stopped, and made again"""
        self.set_settings(temperature=2, seed=self.seed_of_a_long_answer(), max_tokens=250)
        self.driver.execute_script("""
            window.lengths = new Set();
            new MutationObserver(() => lengths.add(document.querySelector('.message.assistant')?.textContent.length ?? 0))
              .observe(document.getElementById('messages'), { childList: true, subtree: true })""")
        # The model is faster than a hand on a button: a thin line makes the answer last for seconds.
        self.line(4096)
        try:
            self.say(LONG_QUESTION)
            wait_until("it grows", lambda: self.driver.execute_script("return lengths.size") >= 3)
            self.assertTrue(self.shown("#stop"), "the answer came to its end")
            self.click("#stop")
            wait_until("it has stopped", self.answered)
        finally:
            self.line(-1)
        self.assertIn("stopped", self.text(".foot"))
        self.assertTrue(self.shown("#send"))
        wait_until("the service knows", lambda: live()["service"]["vllm:num_requests_running"] == 0)
        stopped_at = self.text(".message.assistant")
        self.set_settings(max_tokens=20)
        self.click(".again")
        wait_until("another answer", lambda: self.answered() and self.text(".message.assistant") != stopped_at)
        self.assertIn("20 tokens", self.text(".foot"))
        self.assertIn("ended at the longest length", self.text(".foot"))
        self.assertEqual((len(self.all(".user")), len(self.all(".assistant"))), (1, 1))

    def test_errors(self):
        """what the service refuses is said in words, and the conversation goes on"""
        self.talk("é")
        self.assertIn("vocabulary", self.text(".failed"))
        self.assertTrue(self.shown(".again"))
        self.set_settings(temperature=3)
        self.talk("1+1=?")
        self.assertIn("temperature", self.text(".failed").lower())

    def test_markdown(self):
        """markdown becomes elements, and text of the model never becomes markup"""
        bad = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) `<script>` &amp;"
        text = "\n".join(["# Title", "", "Some **bold** and *thin* `code`, see https://example.org/a.", "", "- one", "- two",
                          "  1. deep", "", "> said", "", "```cpp", "int main() { return 0 < 1; }", "```", "", "| a | b |",
                          "|---|---|", "| 1 | 2 |", "", bad, "", "2 * 3 * 4 and snake_case_name"])
        talk = [dict(id="x", messages=[dict(role="user", content="show"), dict(role="assistant", content=text, reasoning="",
                                                                              tokens=5, finish="stop")])]
        self.driver.execute_script("localStorage.setItem('consort.conversations', arguments[0]);"
                                   "localStorage.setItem('consort.current', '\"x\"')", json.dumps(talk))
        self.driver.refresh()
        wait_until("it is drawn", lambda: self.all(".prose h1"))
        for selector, count in {"h1": 1, "strong": 1, "em": 1, "ul > li": 2, "li ol > li": 1, "blockquote p": 1, ".code pre code": 1,
                                "table td": 2, "img": 0, "script": 0, "a": 1}.items():
            self.assertEqual(len(self.all(".prose " + selector)), count, selector)
        self.assertEqual(self.text(".code pre"), "int main() { return 0 < 1; }")
        self.assertEqual(self.all(".prose a")[0].get_attribute("href"), "https://example.org/a")
        self.assertIn("<img src=x onerror=alert(1)> [x](javascript:alert(1)) <script> &amp;", self.text(".prose"))
        self.assertIn("2 * 3 * 4 and snake_case_name", self.text(".prose"))
        self.picture("markdown-light")

    def test_live(self):
        """the cluster is seen at work; a node that dies is seen to go and to come back"""
        for _ in range(3):
            ask()
        self.driver.get(Service.url + "/#live")
        wait_until("three nodes", lambda: len(self.all("#nodes tr[data-state=ready]")) == 3)
        for _ in range(3):
            ask()
        wait_until("steps", lambda: len(self.all("#steps .stack")) >= 1)
        self.assertIn("attention", self.text("#legend"))
        wait_until("bandwidth", lambda: "/s" in self.text("#nodes tbody"))
        self.assertIn("experts; busiest is", self.text("#load-words"))
        self.assertGreater(self.driver.execute_script(
            "const c = document.getElementById('heat');"
            "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length"), 5)
        life = Service.cluster.nodes()["garage"]["incarnation"]
        Service.cluster.signal("agent-0", signal.SIGSTOP)  # it starts nothing again for now
        try:
            Service.cluster.signal("garage", signal.SIGKILL)
            wait_until("it is gone", lambda: "garage is gone" in self.text("#events"))
            self.assertEqual(len(self.all("#nodes tr[data-node=garage][data-state=gone]")), 1)
            self.assertEqual(ask(), "756")
        finally:
            Service.cluster.signal("agent-0", signal.SIGCONT)
        Service.cluster.wait_ready("garage", life)
        wait_until("it is back", lambda: f"garage is ready again, in life {life + 1}" in self.text("#events"))
        self.assertEqual(len(self.all("#nodes tr[data-state=ready]")), 3)

    def test_drain_refused(self):
        """a drain asks before it does anything, and says why it cannot be"""
        self.driver.get(Service.url + "/#live")
        wait_until("three nodes", lambda: len(self.all("#nodes tr[data-state=ready]")) == 3)
        self.assertFalse(self.all("[data-node=desk] .drain")[0].is_displayed())
        self.click("[data-node=attic] .drain")
        self.assertTrue(self.shown("#drain"))
        self.click("#drain-no")
        self.assertFalse(self.shown("#drain"))
        self.assertEqual(Service.cluster.nodes()["attic"]["state"], "ready")

    def test_looks(self):
        """light, dark, on a desk and on a phone: everything fits, and the theme can be chosen"""
        self.set_settings(temperature=0)
        self.talk(QUESTION)
        self.click(".thought summary")
        self.click("#new")
        self.talk("12+34=?")
        self.click("#conversations li:last-child button")
        self.click("#settings-button")
        self.driver.execute_script("document.activeElement.blur()")
        paper = "return getComputedStyle(document.body).backgroundColor"
        seen = set()
        for theme in ("light", "dark"):
            self.theme(theme)
            wait_until("the theme", lambda: self.driver.execute_script("return document.documentElement.dataset.theme") == theme)
            seen.add(self.driver.execute_script(paper))
            for name, size in (("", WIDE), ("-phone", PHONE)):
                self.size(size)
                for view in ("chat", "live"):
                    self.driver.execute_script("location.hash = arguments[0]", view)
                    wait_until("the view", lambda: self.shown("#view-" + view))
                    if view == "live":
                        wait_until("nodes", lambda: len(self.all("#nodes tr[data-state=ready]")) == 3)
                        with ThreadPoolExecutor(6) as pool:
                            asked = [pool.submit(ask, QUESTION, max_tokens=400, ignore_eos=True) for _ in range(30)]
                            time.sleep(2.2)  # two looks
                            self.picture(f"{view}{name}-{theme}")
                            for one in asked:
                                one.result()
                    self.assertTrue(self.fits(), (theme, name, view))
                    if view == "chat":
                        self.picture(f"{view}{name}-{theme}")
        self.assertEqual(len(seen), 2)
        self.size(WIDE)
        self.click("#theme")
        self.assertEqual(self.driver.execute_script("return document.documentElement.dataset.theme"), "light")
        self.driver.refresh()
        wait_until("the choice is kept", lambda: self.driver.execute_script("return document.documentElement.dataset.theme") == "light")
        self.theme("light")

    def test_keyboard(self):
        """everything can be reached by keyboard and has a name"""
        self.driver.get(Service.url + "/#live")
        wait_until("three nodes", lambda: len(self.all("#nodes tr")) >= 3)
        nameless = self.driver.execute_script("""
            return [...document.querySelectorAll('button, input, select, textarea, a, canvas')]
              .filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length))
              .map((e) => e.outerHTML)""")
        self.assertEqual(nameless, [])


class Endpoints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        Service.up()

    def test_page(self):
        """the page comes with a policy that lets nothing in, and asks nobody else for anything"""
        status, fields, body = call("GET", "/")
        self.assertEqual(status, 200)
        policy = fields["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(fields["X-Content-Type-Options"], "nosniff")
        self.assertEqual(re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', body), [])
        self.assertNotRegex(body, r"\son\w+=|innerHTML|eval\(")
        about = json.loads(call("GET", "/about")[2])
        self.assertEqual((about["model"], about["needs_key"], about["thinking_switch"]), ("adder", False, False))

    def test_live_figures(self):
        """what is shown adds up: phases to steps, rows to experts, and every node answers"""
        before = live()
        time.sleep(1)
        ask()
        time.sleep(1)
        after = live()
        self.assertEqual([n["name"] for n in after["nodes"]], ["desk", "attic", "garage"])
        def figures(look, name):
            return sum((n["figures"] or {"numbers": {}})["numbers"].get(name, 0) for n in look["nodes"])
        def grown(name):
            return figures(after, name) - figures(before, name)
        self.assertGreater(grown("steps"), 10)
        self.assertGreater(grown("part_bytes_read"), 0)
        phases = ["attention_ns", "shared_ns", "dispatch_ns", "experts_ns", "combine_ns", "head_ns", "wait_ns"]
        shares = {p: grown(p) / grown("step_ns") for p in phases}
        print("shares of a step:", {p: round(s, 3) for p, s in shares.items()})
        self.assertLess(sum(shares.values()), 1.0001)
        # What remains is hand-over between threads: on this model, whose layers take microseconds, about half.
        self.assertGreater(sum(shares.values()), 0.1)
        self.assertGreater(min(shares["attention_ns"], shares["head_ns"], shares["combine_ns"]), 0)
        self.assertGreater(sum(n["part_bytes"] for n in after["nodes"]), 0)
        edges = [e for n in after["nodes"] for e in n["figures"]["edges"]]
        self.assertGreater(sum(e["answers"] for e in edges), 0)
        self.assertEqual(sum(e["wait_ns"] for e in edges), figures(after, "wait_ns"))
        # Each row of each MoE layer goes to top_k experts.
        with open(os.path.join(real.ADDER, "config.json")) as file:
            config = json.load(file)
        layers = config["num_hidden_layers"] - config["first_k_dense_replace"]
        routed = sum(sum(load["rows"]) for n in after["nodes"] for load in n["figures"]["loads"])
        self.assertEqual(routed, figures(after, "step_rows") * layers * config["num_experts_per_tok"])

    def test_asked_only_when_looked_at(self):
        """nodes are asked about once a second however many look"""
        first = live()["at_ns"]
        self.assertEqual({live()["at_ns"] for _ in range(5)} - {first}, set())
        time.sleep(1)
        self.assertGreater(live()["at_ns"], first)

    def families(self):
        folder = pypi.folder(os.path.dirname(real.Program.path), "prometheus_client")
        if folder is None:
            raise unittest.SkipTest("the prometheus_client package could not be fetched")
        sys.path.insert(0, folder)
        from prometheus_client.parser import text_string_to_metric_families
        status, fields, body = call("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(fields["Content-Type"].startswith("text/plain; version=0.0.4"))
        found = list(text_string_to_metric_families(body))
        names = [f.name for f in found]
        self.assertEqual(len(names), len(set(names)), "a family comes in two pieces")
        return found

    def test_metrics(self):
        """/metrics is read by Prometheus' own parser, under vLLM's names and our own"""
        ask()
        time.sleep(1.2)  # a look, and the Gateway's own figures
        families = {f.name: f for f in self.families()}
        for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "prompt_tokens",
                     "generation_tokens", "request_success", "time_to_first_token_seconds", "inter_token_latency_seconds",
                     "e2e_request_latency_seconds"):
            self.assertIn("vllm:" + name, families)
            self.assertEqual({s.labels.get("model_name") for s in families["vllm:" + name].samples}, {"adder"})
        up = {s.labels["node"]: s.value for s in families["consort:node_up"].samples}
        self.assertEqual(up, dict(desk=1, attic=1, garage=1))
        phases = {s.labels["phase"] for s in families["consort:step_phase_seconds"].samples}
        self.assertEqual(phases, {"attention", "shared", "combine", "head", "dispatch", "experts", "wait"})
        self.assertTrue(families["consort:edge_round_trip_seconds"].samples)
        self.assertGreater(sum(s.value for s in families["consort:expert_rows"].samples), 0)

    def test_dashboard(self):
        """every metric that the Grafana dashboard names is there"""
        ask()
        time.sleep(1.2)
        there = {s.name for f in self.families() for s in f.samples}
        with open(os.path.join(real.SOURCE, "deploy", "grafana", "consort.json")) as file:
            dashboard = json.load(file)
        expressions = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
        self.assertGreater(len(expressions), 10)
        named = {name for e in expressions for name in re.findall(r"(?:vllm|consort):\w+", e)}
        self.assertEqual(named - there, set())

    def test_drain(self):
        """only a POST of JSON drains, only a node that is there, and only one that the others can be without"""
        self.assertEqual(call("GET", "/drain")[0], 405)
        status, _, body = call("POST", "/drain", dict(node="attic"), {"Content-Type": "text/plain"})
        self.assertEqual(status, 415, body)
        self.assertEqual(call("POST", "/drain", dict(node="nobody"))[0], 409)
        self.assertEqual(call("POST", "/drain", dict(knot="attic"))[0], 400)
        self.assertEqual(call("POST", "/drain", dict(node="attic"), {"Host": "evil.example"})[0], 403)
        status, _, body = call("POST", "/drain", dict(node="desk"))
        self.assertEqual(status, 409, body)
        self.assertIn("cannot be without it", body)

    def test_key(self):
        """with a key made, the page is shown to all, the cluster to those who have it"""
        key = Service.cluster.run("keys", "api", "add", Service.cluster.file, "ann").stdout.strip()
        try:
            self.assertEqual(call("GET", "/")[0], 200)
            self.assertTrue(json.loads(call("GET", "/about")[2])["needs_key"])
            self.assertEqual(call("GET", "/live")[0], 401)
            self.assertEqual(call("POST", "/drain", dict(node="nobody"))[0], 401)
            good = {"Authorization": "Bearer " + key}
            self.assertEqual(call("GET", "/live", headers=good)[0], 200)
            self.assertEqual(call("POST", "/drain", dict(node="nobody"), good)[0], 409)
        finally:
            os.unlink(Service.cluster.state("keys", "api-keys"))

    def test_top(self):
        """consort top shows the same in a terminal"""
        ask()
        shown = Service.cluster.run("top", Service.cluster.file, "--once").stdout
        for words in ("desk", "attic", "garage", "ready", "attention", "per step"):
            self.assertIn(words, shown)
        self.assertNotIn("\x1b", shown)


class ZDrained(unittest.TestCase):
    """Last: the cluster is smaller afterwards."""

    @classmethod
    def setUpClass(cls):
        Service.up()

    def test_drained(self):
        """a drained node leaves in order: its parts are elsewhere, and answers stay right"""
        self.assertEqual(ask(), "756")
        done = Service.cluster.run("drain", Service.cluster.file, "garage")
        self.assertIn("garage", done.stdout)
        wait_until("it is gone", lambda: Service.cluster.nodes()["garage"]["state"] == "absent")
        wait_until("the others are ready", lambda: all(n["state"] == "ready" for n in Service.cluster.nodes().values()
                                                       if n["name"] != "garage"))
        self.assertEqual(ask(), "756")
        refused = Service.cluster.run("drain", Service.cluster.file, "attic", check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("attic cannot leave", refused.stderr)  # two replicas need two nodes
        self.assertEqual(ask(), "756")


def tearDownModule():
    Browser.end()
    Service.down()


if __name__ == "__main__":
    real.main()
