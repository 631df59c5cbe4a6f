#!/usr/bin/env python3
"""Records tokenizer_chat.json: conversations rendered by apply_chat_template with the models' own templates. By hand.

usage: tokenizer_chat_record.py SHARED TEMPLATES

TEMPLATES holds one <format>.jinja per chat format, as the model repositories ship them (v3.1.jinja also gives
v3.1-thinking). SHARED/data/tokenizers has the V3 and V2 vocabularies. Needs the Python package transformers (4.57.6).
A row is [format, messages, add_generation_prompt, text, ids, tools]; ids are the whole text's by the V3 vocabulary (V2's
for v2), so contents hold no added tokens, except </think>, whose rows have no ids where it stays. The templates pass
over `tools`: where there are any, the system text holds them as DeepSeek-V3.1's model card says, with the format's own
way of calling.
"""
import json
import pathlib
import random
import sys

import transformers

SEED = 20250120
ROWS_PER_FORMAT = 24
TOOL_ROWS_PER_FORMAT = 12
BEGIN, END = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
CONTENTS = ["Hi", "1+1=?", "and 2+2?", "Be brief.", "", " ", "\n", "ends with a space ", " starts with one", "line\n", "\n\nline",
            "你好，世界！", "🚀\n🚀", "don't", "User: x\n\nAssistant: y", "x = {'a': 1}", "12345"]
THOUGHTS = ["<think>\nadd\n</think>\n\n2", "a</think>b</think> c", "</think>", "no thought", "thought</think>\n4"]


def conversation(rng):
    messages = [{"role": rng.choice(["system", "user", "user", "assistant"]), "content": rng.choice(CONTENTS)}
                for _ in range(rng.randint(1, 6))]
    for message in messages:
        if message["role"] == "assistant" and rng.random() < 0.7:
            message["content"] = rng.choice(THOUGHTS)
    return messages


TOOLS = [
    dict(name="get_weather", description="The weather of a city", parameters={
        "type": "object", "properties": {"city": {"type": "string", "description": "such as \u5317\u4eac"},
                                         "days": {"type": "integer", "minimum": 1}}, "required": ["city"]}),
    dict(name="now", description="", parameters={}),
    dict(name="add", description="Adds: \"a, b\"", parameters={"type": "object", "properties": {
        "list": {"type": "array", "items": {"type": "number"}, "maxItems": 2500}, "exact": {"enum": [True, False, None]}}}),
]
ARGUMENTS = ['{"city": "Zürich", "days": 2}', "{}", '{"list":[1,2.5],"exact":null}', '{"q": "a \\"b\\" ```"}']
OUTPUTS = ["20 C", "[]", '{"temp": 20}', "", "two\nlines", "北京 🚀"]


def with_tools(rng):
    """A conversation in which tools are called: once, twice in a row, several at once; answered or not yet."""
    messages = [dict(role="system", content=rng.choice(CONTENTS))] if rng.random() < 0.5 else []
    for _ in range(rng.randint(1, 3)):
        messages.append(dict(role="user", content=rng.choice(CONTENTS)))
        for _ in range(rng.randint(0, 2)):
            calls = [dict(id=f"call_{i}", type="function", function=dict(name=rng.choice(TOOLS)["name"],
                                                                         arguments=rng.choice(ARGUMENTS)))
                     for i in range(rng.randint(1, 3))]
            messages.append(dict(role="assistant", content=rng.choice(["", "I look.", "<think>\nso\n</think>\n\nSee"]),
                                 tool_calls=calls))
            messages += [dict(role="tool", tool_call_id=call["id"], content=rng.choice(OUTPUTS)) for call in calls]
        if rng.random() < 0.6:
            messages.append(dict(role="assistant", content=rng.choice(THOUGHTS + CONTENTS)))
    return messages


def described(messages, tools, bare):
    """The messages with the tools behind the system's text."""
    call = ("tool_call_name<｜tool▁sep｜>tool_call_arguments" if bare
            else "function<｜tool▁sep｜>tool_call_name\n```json\ntool_call_arguments\n```")
    text = "## Tools\nYou have access to the following tools:\n\n"
    for tool in tools:
        text += f"### {tool['name']}\nDescription: {tool['description']}\n\n"
        text += f"Parameters: {json.dumps(tool['parameters'], ensure_ascii=False)}\n\n"
    text += ("IMPORTANT: ALWAYS adhere to this exact format for tool use:\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>" + call +
             "<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n\nWhere:\n"
             "- `tool_call_name` must be an exact match to one of the available tools\n"
             "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n" +
             ("- For multiple tool calls, chain them directly without separators or spaces" if bare
              else "- For multiple tool calls, separate them by a line feed"))
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    rest = [m for m in messages if m["role"] != "system"]
    return [dict(role="system", content=f"{system}\n\n{text}" if system else text)] + rest


def main():
    shared, templates = map(pathlib.Path, sys.argv[1:3])
    data = shared / "data" / "tokenizers"
    tokenizer = {v: transformers.PreTrainedTokenizerFast(tokenizer_file=str(data / f"deepseek-{v}" / "tokenizer.json"),
                                                         bos_token=BEGIN, eos_token=END) for v in ("v3", "v2")}
    rng = random.Random(SEED)
    rows = []

    def record(name, messages, prompt, tools):
        vocabulary = tokenizer["v2" if name == "v2" else "v3"]
        template = (templates / f"{name.removesuffix('-thinking')}.jinja").read_text()
        shown = described(messages, tools, name.startswith("v3.1")) if tools else messages
        text = vocabulary.apply_chat_template(shown, chat_template=template, add_generation_prompt=prompt, tokenize=False,
                                              thinking=name.endswith("-thinking"))
        stays = any("think>" in m["content"] for m in messages) and (tools is not None or name in
                                                                     ("v2", "v3-0324", "v3.1", "v3.1-thinking"))
        ids = None if stays else vocabulary.encode(text, add_special_tokens=False)
        rows.append([name, messages, prompt, text, ids, tools])

    formats = ("v2", "v3", "v3-0324", "r1", "r1-0528", "v3.1", "v3.1-thinking", "adder")
    for name in formats:
        for _ in range(ROWS_PER_FORMAT):
            record(name, conversation(rng), rng.random() < 0.8, None)
    for name in formats[1:-1]:
        for _ in range(TOOL_ROWS_PER_FORMAT):
            record(name, with_tools(rng), rng.random() < 0.8, rng.sample(TOOLS, rng.randint(0, 3)))
    target = pathlib.Path(__file__).parent / "tokenizer_chat.json"
    target.write_text("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
