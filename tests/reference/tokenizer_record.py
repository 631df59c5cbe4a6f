#!/usr/bin/env python3
"""Records the reference data of the tokenizer tests. Run by hand; the results are committed.

usage: tokenizer_record.py SHARED

SHARED holds spec/golden.json, data/tokenizers/deepseek-{v3,v2}/tokenizer.json, wikitext.{v3,v2}-ids.txt and
deepseek-v2-vocab.gguf.{inp,out}. Needs the Python package `tokenizers` (0.22.2 was used), whose answers the random
texts record.

tokenizer_vectors.json    "v3": the 95 vectors of golden.json; "v2": the 46 texts that ggml keeps for this vocabulary,
                          with the ids of tokenizer.json (the GGUF file has thirteen more added tokens)
tokenizer_random.json     random texts over awkward characters, encoded by both
tokenizer_wikitext.json   8,192 ids of one wikitext chunk, the beginning of sentence first, in both
"""
import json
import pathlib
import random
import sys

import tokenizers

SEED = 20240917
TEXT_COUNT = 300

WORDS = ["hello", "World", "don't", "we'LL", "x1", "3.14", "foo_bar(x)", "#include", "=>", "...", "???", "http://a.b/c",
         "naïve", "Straße", "Привет", "мир", "你好", "世界", "こんにちは", "カタカナ", "한국어", "ไทย", "हिन्दी", "עברית", "العربية",
         "🚀", "👩‍👩‍👧", "🇩🇪", "é", "①", "Ⅷ", "½", "१२३", "٤٥", "１２", "<think>", "</think>", "<｜User｜>", "<｜User",
         "<|EOT|>", "｜", "▁", "ſ", "'ſ", "ǅ", "ʰ", "\u0301", "\u200d", "\ufeff", "\u00ad", "\u0000", "\u001f"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\v", "\f", "\u0085", "\u00a0", "\u1680", "\u180e", "\u2003",
          "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"]


def random_text(rng):
    parts = []
    for _ in range(rng.randint(1, 14)):
        kind = rng.random()
        if kind < 0.45:
            parts.append(rng.choice(WORDS))
        elif kind < 0.8:
            parts.append(rng.choice(SPACES) * rng.choice([1, 1, 1, 2, 5]))
        elif kind < 0.9:
            parts.append(str(rng.randint(0, 10 ** rng.randint(1, 9))))
        else:  # any assigned-looking character of the lower planes, surrogates excepted
            parts.append(chr(rng.choice([rng.randint(0x20, 0x2FF), rng.randint(0x300, 0xD7FF), rng.randint(0x1F300, 0x1F6FF)])))
    return "".join(parts)


def main():
    shared = pathlib.Path(sys.argv[1])
    data = shared / "data" / "tokenizers"
    here = pathlib.Path(__file__).parent
    of = {v: tokenizers.Tokenizer.from_file(str(data / f"deepseek-{v}" / "tokenizer.json")) for v in ("v3", "v2")}

    def encode(version, text):
        return of[version].encode(text, add_special_tokens=False).ids

    golden = json.loads((shared / "spec" / "golden.json").read_text())["tokenizer_v3"]
    v3 = golden["own"] + golden["ggml_inp"]
    texts = (data / "deepseek-v2-vocab.gguf.inp").read_text().split("\n__ggml_vocab_test__\n")[:46]
    ggml_ids = [[int(i) for i in line.split()] for line in (data / "deepseek-v2-vocab.gguf.out").read_text().split("\n")[:46]]
    v2 = [[text, encode("v2", text)] for text in texts]
    differ = [text for (text, ids), ggml in zip(v2, ggml_ids) if ids != ggml]
    assert len(v2) == len(ggml_ids) == 46 and differ == ["Führer"], differ
    assert len(v3) == 95 and all(encode("v3", text) == ids for text, ids in v3)

    rng = random.Random(SEED)
    rows = [[text, encode("v3", text), encode("v2", text)] for text in (random_text(rng) for _ in range(TEXT_COUNT))]

    def read_ids(name):
        return [int(i) for i in (data / name).read_text().replace(",", " ").split()]

    wikitext = {v: read_ids(f"wikitext.{v}-ids.txt") for v in ("v3", "v2")}

    def write(name, value):
        (here / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")

    write("tokenizer_vectors.json", {"v3": v3, "v2": v2})
    write("tokenizer_random.json", rows)
    write("tokenizer_wikitext.json", wikitext)


if __name__ == "__main__":
    main()
