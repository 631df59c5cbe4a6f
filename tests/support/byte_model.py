"""A small model of random weights whose vocabulary is the bytes and the markers of DeepSeek-V3.1's chat format.

It says nothing of sense, so that what it writes under a grammar is the grammar's doing.
SPDX-License-Identifier: Apache-2.0
"""
import json
import os
import subprocess
import sys

MARKERS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>",
           "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>", "<｜tool▁sep｜>",
           "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"]
THINK = MARKERS.index("<think>")
FIRST_BYTE = 32
# What tells the template of V3.1 from all others; the rest of it is not looked at.
TEMPLATE = (
    "{%set ns.system_prompt=ns.system_prompt+'\\n\\n'+message['content']%}{{bos_token}}{{ns.system_prompt}}"
    "{{'<｜User｜>'+message['content']}}{{content+'<｜end▁of▁sentence｜>'}}{%set content=content.split('</think>',1)[1]%}"
    "{{'<｜tool▁output▁begin｜>'+message['content']+'<｜tool▁output▁end｜>'}}{{'<｜tool▁call▁begin｜>'+tool['function']['name']"
    "+'<｜tool▁sep｜>'+tool['function']['arguments']+'<｜tool▁call▁end｜>'}}{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}"
    "{%if add_generation_prompt and ns.is_last_user and not ns.is_tool%}{{'<｜Assistant｜>'}}{%if not thinking%}"
    "{{'</think>'}}{%else%}{{'<think>'}}{%endif%}{%endif%}")


def symbols():
    """The characters that stand for the bytes 0 to 255."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


def make(folder):
    tools = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools")
    subprocess.run([sys.executable, os.path.join(tools, "make_checkpoint.py"), folder, "--family", "v3-plain", "--seed", "5",
                    "--set", "vocab_size=288", "num_hidden_layers=2", "max_position_embeddings=2048"], check=True)
    vocabulary = {text: i for i, text in enumerate(MARKERS)}
    vocabulary |= {f"spare {i}": i for i in range(len(MARKERS), FIRST_BYTE)}
    vocabulary |= {symbol: FIRST_BYTE + byte for byte, symbol in enumerate(symbols())}
    added = [dict(id=i, content=text, special=i < 2) for i, text in enumerate(MARKERS)]
    level = dict(type="ByteLevel", add_prefix_space=False, use_regex=False)
    with open(os.path.join(folder, "tokenizer.json"), "w") as file:
        json.dump(dict(added_tokens=added, pre_tokenizer=level, decoder=dict(type="ByteLevel"),
                       model=dict(type="BPE", vocab=vocabulary, merges=[])), file)
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump(dict(bos_token=MARKERS[0], eos_token=MARKERS[1], chat_template=TEMPLATE), file)
    return folder
