#!/usr/bin/env python3
"""Writes a small DeepSeek checkpoint with random weights, in Hugging Face layout, with Python alone.

  make_checkpoint.py DIR [--family v3|v3-plain|v2|v2-lite] [--seed N] [--dtype bf16|f32] [--set key=value ...]
                         [--two-worlds]

Tests, benchmarks and demonstrations run on these; the numbers mean nothing, but every part of the architecture is used.
--two-worlds: token ids below vocab/2 use the first half of the experts only, the others the second half, and each half
continues with ids of its own: what shows that a lost expert hurts only the requests that need it.
SPDX-License-Identifier: Apache-2.0
"""
import argparse
import array
import json
import os
import random
import struct

SMALL_V3 = dict(
    architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", vocab_size=160, hidden_size=128,
    intermediate_size=288, moe_intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=4, q_lora_rank=48, kv_lora_rank=32, qk_nope_head_dim=24, qk_rope_head_dim=16, v_head_dim=40,
    n_routed_experts=16, n_group=4, topk_group=2, num_experts_per_tok=4, n_shared_experts=1, first_k_dense_replace=1,
    moe_layer_freq=1, routed_scaling_factor=2.5, norm_topk_prob=True, scoring_func="sigmoid", topk_method="noaux_tc",
    max_position_embeddings=4096, rope_theta=10000.0, rms_norm_eps=1e-6, tie_word_embeddings=False, hidden_act="silu",
    attention_bias=False, bos_token_id=0, eos_token_id=1, torch_dtype="bfloat16")
YARN = dict(type="yarn", factor=40.0, original_max_position_embeddings=64, beta_fast=32, beta_slow=1, mscale=1.0,
            mscale_all_dim=1.0)
V2 = dict(architectures=["DeepseekV2ForCausalLM"], model_type="deepseek_v2", scoring_func="softmax",
          norm_topk_prob=False)
FAMILIES = {
    "v3": {**SMALL_V3, "rope_scaling": YARN},
    "v3-plain": {**SMALL_V3, "rope_scaling": None, "q_lora_rank": None, "n_group": 1, "topk_group": 1},
    "v2": {**SMALL_V3, **V2, "rope_scaling": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
           "topk_method": "group_limited_greedy", "routed_scaling_factor": 16.0},
    "v2-lite": {**SMALL_V3, **V2, "rope_scaling": None, "q_lora_rank": None, "topk_method": "greedy",
                "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "n_shared_experts": 2},
}
LINEAR_DEVIATION = 0.08
GATE_DEVIATION = 0.15
WORLD = 6.0  # how far apart the two worlds lie in residual column 0; large beside the other columns


def tensors(config):
    """(name, shape, kind) in a fixed order; kind is linear, norm, gate or bias."""
    c = config
    hidden, heads, latent = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, value = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    yield "model.embed_tokens.weight", [c["vocab_size"], hidden], "linear"
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        yield p + "input_layernorm.weight", [hidden], "norm"
        if c["q_lora_rank"]:
            yield p + "self_attn.q_a_proj.weight", [c["q_lora_rank"], hidden], "linear"
            yield p + "self_attn.q_a_layernorm.weight", [c["q_lora_rank"]], "norm"
            yield p + "self_attn.q_b_proj.weight", [heads * (nope + rope), c["q_lora_rank"]], "linear"
        else:
            yield p + "self_attn.q_proj.weight", [heads * (nope + rope), hidden], "linear"
        yield p + "self_attn.kv_a_proj_with_mqa.weight", [latent + rope, hidden], "linear"
        yield p + "self_attn.kv_a_layernorm.weight", [latent], "norm"
        yield p + "self_attn.kv_b_proj.weight", [heads * (nope + value), latent], "linear"
        yield p + "self_attn.o_proj.weight", [hidden, heads * value], "linear"
        yield p + "post_attention_layernorm.weight", [hidden], "norm"
        if i < c["first_k_dense_replace"]:
            yield from ffn(p + "mlp.", hidden, c["intermediate_size"])
            continue
        yield p + "mlp.gate.weight", [c["n_routed_experts"], hidden], "gate"
        if c["topk_method"] == "noaux_tc":
            yield p + "mlp.gate.e_score_correction_bias", [c["n_routed_experts"]], "bias"
        for e in range(c["n_routed_experts"]):
            yield from ffn(p + f"mlp.experts.{e}.", hidden, c["moe_intermediate_size"])
        yield from ffn(p + "mlp.shared_experts.", hidden, c["moe_intermediate_size"] * c["n_shared_experts"])
    yield "model.norm.weight", [hidden], "norm"
    yield "lm_head.weight", [c["vocab_size"], hidden], "linear"


def ffn(prefix, hidden, inner):
    yield prefix + "gate_proj.weight", [inner, hidden], "linear"
    yield prefix + "up_proj.weight", [inner, hidden], "linear"
    yield prefix + "down_proj.weight", [hidden, inner], "linear"


def fill(shape, kind, rng):
    size = 1
    for d in shape:
        size *= d
    if kind == "norm":
        return [1 + 0.2 * rng.gauss(0, 1) for _ in range(size)]
    deviation = {"linear": LINEAR_DEVIATION, "gate": GATE_DEVIATION, "bias": 0.1}[kind]
    return [deviation * rng.gauss(0, 1) for _ in range(size)]


def separate_worlds(name, shape, values):
    """Column 0 of the residual carries which world a token is of; nothing writes to it, gates and head read it."""
    if len(shape) == 1:
        if name.endswith("layernorm.weight") and "_a_" not in name or name == "model.norm.weight":
            values[0] = 1.0
        if name.endswith("e_score_correction_bias"):
            values[:] = [0.0] * shape[0]
        return
    rows, columns = shape
    if name.endswith(("embed_tokens.weight", "gate.weight", "lm_head.weight")):
        strength = {"s": WORLD, "e": 1.0, "d": 2.0}[name.split(".")[-2][-1]]  # embed_tokens, gate, lm_head
        for r in range(rows):
            values[r * columns] = strength if r < rows // 2 else -strength
    elif name.endswith(("o_proj.weight", "down_proj.weight")):
        values[:columns] = [0.0] * columns


def encode(values, dtype):
    raw = array.array("f", values).tobytes()
    if dtype == "F32":
        return raw
    words = array.array("I", raw)
    return array.array("H", ((w + 0x7FFF + ((w >> 16) & 1)) >> 16 for w in words)).tobytes()  # nearest, ties to even


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir")
    parser.add_argument("--family", default="v3", choices=FAMILIES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--set", nargs="*", default=[])
    parser.add_argument("--two-worlds", action="store_true")
    args = parser.parse_args()
    config = dict(FAMILIES[args.family])
    for item in args.set:
        key, value = item.split("=", 1)
        config[key] = json.loads(value)
    if args.two_worlds:
        config.update(n_group=1, topk_group=1)
    rng = random.Random(args.seed)
    dtype = {"bf16": "BF16", "f32": "F32"}[args.dtype]
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name, shape, kind in tensors(config):
        values = fill(shape, kind, rng)
        if args.two_worlds:
            separate_worlds(name, shape, values)
        stored = "F32" if kind == "bias" else dtype
        blob = encode(values, stored)
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(args.dir, exist_ok=True)
    with open(os.path.join(args.dir, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for blob in blobs:
            file.write(blob)
    with open(os.path.join(args.dir, "config.json"), "w") as file:
        json.dump(config, file, indent=1)


if __name__ == "__main__":
    main()
