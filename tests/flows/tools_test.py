"""Tools and formats of answers on a real cluster: the official openai package, and a model that says nothing of sense.

SPDX-License-Identifier: Apache-2.0
"""
import asyncio
import http.client
import json
import os
import sys
import tempfile
import unittest
from urllib.parse import urlsplit

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import byte_model  # noqa: E402
import pypi  # noqa: E402
import real  # noqa: E402

NODES = [dict(name="desk", roles=["coordinator", "batcher", "trunk", "experts", "gateway"], memory="256MiB"),
         dict(name="attic", roles=["experts"], memory="256MiB")]
WEATHER = dict(type="function", function=dict(
    name="get_weather", description="The weather of a city", parameters=dict(
        type="object", properties=dict(city=dict(enum=["Berlin", "北京"]), days=dict(type="integer", minimum=1, maximum=30)),
        required=["city", "days"], additionalProperties=False)))
NOW = dict(type="function", function=dict(name="now", parameters=dict(type="object", properties={}, additionalProperties=False)))
ORDER = dict(type="object", properties=dict(
    item=dict(type="string", maxLength=12), count=dict(type="integer", minimum=1, maximum=999),
    tags=dict(type="array", items=dict(enum=["new", "used"]), maxItems=2), note=dict(type=["null", "boolean"])),
    required=["item", "count", "tags", "note"], additionalProperties=False)


class Tools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        model = byte_model.make(os.path.join(cls.folder.name, "bytes"))
        cls.cluster = real.LocalCluster(real.Program.path, model, nodes=NODES, extra=["[gateway]", "port = 0"])
        cls.cluster.up()
        with open(cls.cluster.state("run", "gateway.address")) as file:
            cls.url = file.read().strip()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.__exit__()
        cls.folder.cleanup()

    def asked(self, **more):
        # The model's vocabulary has <think>, which a model of no sense may take for a way out.
        return dict(model="bytes", messages=[dict(role="user", content="How is the weather?")], max_tokens=400, temperature=1.0,
                    logit_bias={str(byte_model.THINK): -100}) | more

    def client(self):
        folder = pypi.folder(os.path.dirname(real.Program.path), "openai")
        if folder is None:
            raise unittest.SkipTest("the official openai package cannot be had: is PyPI in reach?")
        if folder not in sys.path:
            sys.path.insert(0, folder)
        import openai
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0)

    def refused(self, param, **more):
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=60)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(self.asked(**more)), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        self.assertEqual(response.status, 400, body)
        error = json.loads(body)["error"]
        self.assertEqual(error["param"], param, error)
        return error["message"]

    def check_calls(self, choice, names, most=None):
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertFalse(choice.message.content)  # null, or of a stream what its first delta has
        self.assertGreaterEqual(len(choice.message.tool_calls), 1)
        if most is not None:
            self.assertLessEqual(len(choice.message.tool_calls), most)
        for call in choice.message.tool_calls:
            self.assertTrue(call.id.startswith("call_"))
            self.assertEqual(call.type, "function")
            self.assertIn(call.function.name, names)
            arguments = json.loads(call.function.arguments)
            if call.function.name == "get_weather":
                self.assertIn(arguments["city"], ["Berlin", "北京"])
                self.assertIn(arguments["days"], range(1, 31))
                self.assertEqual(set(arguments), {"city", "days"})
            else:
                self.assertEqual(arguments, {})

    def test_required(self):
        """a required call is a call, with arguments of its schema, whatever the seed"""
        client = self.client()
        for seed in range(6):
            done = client.chat.completions.create(**self.asked(tools=[WEATHER, NOW], tool_choice="required", seed=seed,
                                                               parallel_tool_calls=False))
            self.check_calls(done.choices[0], ["get_weather", "now"], most=1)

    def test_named(self):
        """a named function is the one that is called, and its answer goes on in the conversation"""
        client = self.client()
        tools = dict(tools=[WEATHER, NOW], tool_choice=dict(type="function", function=dict(name="now")))
        done = client.chat.completions.create(**self.asked(**tools, parallel_tool_calls=False, seed=1))
        self.check_calls(done.choices[0], ["now"], most=1)
        call = done.choices[0].message.tool_calls[0]
        messages = [*self.asked()["messages"], done.choices[0].message.model_dump(exclude_none=True),
                    dict(role="tool", tool_call_id=call.id, content="12:00")]
        again = client.chat.completions.create(**self.asked(**tools, messages=messages, parallel_tool_calls=False, seed=2))
        self.check_calls(again.choices[0], ["now"], most=1)
        self.assertGreater(again.usage.prompt_tokens, done.usage.prompt_tokens)

    def test_allowed(self):
        """of allowed tools only those are called"""
        allowed = dict(type="allowed_tools", allowed_tools=dict(mode="required", tools=[dict(type="function", function=dict(name="now"))]))
        done = self.client().chat.completions.create(**self.asked(tools=[WEATHER, NOW], tool_choice=allowed, seed=3,
                                                                  parallel_tool_calls=False))
        self.check_calls(done.choices[0], ["now"])

    def test_streamed_calls(self):
        """streamed calls join to whole ones, as the client's own helper does it"""
        client = self.client()
        asked = self.asked(tools=[WEATHER], tool_choice="required", seed=4, parallel_tool_calls=False)
        with client.chat.completions.stream(**asked) as stream:
            for _ in stream:
                pass
            done = stream.get_final_completion()
        self.check_calls(done.choices[0], ["get_weather"], most=1)
        deltas = [c.choices[0].delta for c in client.chat.completions.create(**asked, stream=True) if c.choices]
        calls = [call for delta in deltas for call in delta.tool_calls or []]
        self.assertEqual([call.id is not None for call in calls], [True] + [False] * (len(calls) - 1))
        self.assertEqual([call.index for call in calls], [0] * len(calls))
        self.assertGreater(len(calls), 3, "arguments come as they are written")
        self.assertEqual("".join(call.function.arguments for call in calls), done.choices[0].message.tool_calls[0].function.arguments)

    def test_schema(self):
        """an answer of a schema is valid, whole, streamed and async"""
        client = self.client()
        format = dict(type="json_schema", json_schema=dict(name="order", strict=True, schema=ORDER))

        def check(text):
            order = json.loads(text)
            self.assertEqual(list(order), ["item", "count", "tags", "note"])
            self.assertLessEqual(len(order["item"]), 12)
            self.assertIn(order["count"], range(1, 1000))
            self.assertLessEqual(set(order["tags"]), {"new", "used"})
            self.assertIn(order["note"], [None, True, False])
        for seed in range(4):
            done = client.chat.completions.create(**self.asked(response_format=format, seed=seed))
            self.assertEqual(done.choices[0].finish_reason, "stop")
            check(done.choices[0].message.content)
            streamed = client.chat.completions.create(**self.asked(response_format=format, seed=seed), stream=True)
            self.assertEqual("".join(c.choices[0].delta.content or "" for c in streamed), done.choices[0].message.content)

        async def several():
            import openai
            async with openai.AsyncOpenAI(base_url=self.url + "/v1", api_key="none") as other:
                return await asyncio.gather(*(other.chat.completions.create(**self.asked(response_format=format, seed=s, n=2))
                                              for s in range(10, 16)))
        for done in asyncio.run(several()):
            for choice in done.choices:
                check(choice.message.content)

    def test_parse(self):
        """.parse gives an object of the class that was asked for"""
        client = self.client()
        from typing import Literal
        from pydantic import BaseModel, Field

        class Weather(BaseModel):
            city: Literal["Berlin", "北京"]
            days: int = Field(ge=1, le=30)
            is_sure: bool
        done = client.chat.completions.parse(**self.asked(seed=7), response_format=Weather)
        parsed = done.choices[0].message.parsed
        self.assertIsInstance(parsed, Weather)
        self.assertIn(parsed.days, range(1, 31))

    def test_object(self):
        """json_object begins an object, and one that ends is JSON"""
        done = self.client().chat.completions.create(**self.asked(response_format=dict(type="json_object"), seed=1, max_tokens=64))
        self.assertTrue(done.choices[0].message.content.startswith("{"))
        if done.choices[0].finish_reason == "stop":
            json.loads(done.choices[0].message.content)

    def test_free(self):
        """tools that may be called, and are not, leave the answer as it is"""
        asked = self.asked(max_tokens=24, seed=5)
        plain = self.client().chat.completions.create(**asked, tools=[WEATHER], tool_choice="none")
        self.assertEqual(plain.choices[0].message.tool_calls, None)
        self.assertEqual(plain.usage.prompt_tokens, self.client().chat.completions.create(**asked).usage.prompt_tokens)
        offered = self.client().chat.completions.create(**asked, tools=[WEATHER])
        self.assertGreater(offered.usage.prompt_tokens, plain.usage.prompt_tokens)
        self.assertIn(offered.choices[0].finish_reason, ["length", "stop"])

    def test_refusals(self):
        """what cannot be enforced is refused by its field, and by its place in the schema"""
        schema = dict(type="json_schema", json_schema=dict(name="x", schema={"type": "object", "properties": {"a": {"not": {}}}}))
        self.assertIn("/properties/a/not", self.refused("response_format", response_format=schema))
        tool = dict(type="function", function=dict(name="f", parameters={"type": "object", "patternProperties": {}}))
        self.assertIn("tool f: the schema's /patternProperties", self.refused("tools", tools=[tool], tool_choice="required"))
        self.refused("tool_choice", tool_choice="required")
        self.refused("tool_choice.function.name", tools=[NOW], tool_choice=dict(type="function", function=dict(name="g")))
        self.refused("response_format", tools=[NOW], response_format=dict(type="json_object"))


if __name__ == "__main__":
    real.main()
