#!/usr/bin/env python3
"""Records tokenizer_chat.json: conversations rendered by Jinja from the models' own chat templates. Run by hand.

usage: tokenizer_chat_record.py SHARED TEMPLATES

TEMPLATES holds one <format>.jinja per chat format, as the model repositories ship them (v3.1.jinja also gives
v3.1-thinking). SHARED/data/tokenizers has the V3 and V2 vocabularies. Needs the Python packages jinja2 (3.1) and
tokenizers (0.22.2). A row is [format, messages, add_generation_prompt, text, ids]; ids are the whole text's by the V3
vocabulary (V2's for v2), so contents hold no added tokens, except </think>, whose rows have no ids where it stays.
"""
import json
import pathlib
import random
import sys

import jinja2
import tokenizers

SEED = 20250120
ROWS_PER_FORMAT = 24
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


def main():
    shared, templates = map(pathlib.Path, sys.argv[1:3])
    data = shared / "data" / "tokenizers"
    vocabulary = {v: tokenizers.Tokenizer.from_file(str(data / f"deepseek-{v}" / "tokenizer.json")) for v in ("v3", "v2")}
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    rng = random.Random(SEED)
    rows = []
    for name in ("v2", "v3", "v3-0324", "r1", "r1-0528", "v3.1", "v3.1-thinking", "adder"):
        template = environment.from_string((templates / f"{name.removesuffix('-thinking')}.jinja").read_text())
        for _ in range(ROWS_PER_FORMAT):
            messages, prompt = conversation(rng), rng.random() < 0.8
            text = template.render(messages=messages, add_generation_prompt=prompt, thinking=name.endswith("-thinking"),
                                   bos_token=BEGIN, eos_token=END)
            stays = any("think>" in m["content"] for m in messages) and name in ("v2", "v3-0324", "v3.1", "v3.1-thinking")
            ids = None if stays else vocabulary["v2" if name == "v2" else "v3"].encode(text, add_special_tokens=False).ids
            rows.append([name, messages, prompt, text, ids])
    target = pathlib.Path(__file__).parent / "tokenizer_chat.json"
    target.write_text("[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
