#!/usr/bin/env python3
"""Records what Hugging Face transformers makes of small checkpoints, for tests/reference/.

Needs torch==2.9.1 transformers==4.57.6 safetensors numpy, and an oracle script with `load` and `record_routes`
(the project's oracle.py), whose path is given.

  record_reference.py formula ORACLE OUT_DIR               one OUT_DIR/<case>.safetensors per case below
  record_reference.py adder ORACLE MODEL_DIR PROMPTS OUT   greedy answers of MODEL_DIR to the prompts of a JSON file
  record_reference.py oracle ORACLE OUT_DIR                checkpoints of `oracle.py make` and `fp8`, each with its
                                                           reference.safetensors, for CONSORT_ORACLE_DIR (large; not kept)

Weights come from the formula in tests/support/formula_checkpoint.hpp, so that only results are stored. A file holds
ids, logits, greedy and routes as oracle.py names them, `margins` [tokens] (the smallest gap of the row, over all
layers, between the last chosen and the first refused expert or group, and between its two top logits, each over the
largest value there), and its config and fill options as metadata.
"""
import argparse, importlib.util, json, os, subprocess, sys, tempfile
import numpy as np
import torch
from safetensors.torch import save_file

SMALL = dict(
    vocab_size=160, hidden_size=128, intermediate_size=288, moe_intermediate_size=96, num_hidden_layers=4,
    num_attention_heads=4, num_key_value_heads=4, q_lora_rank=48, kv_lora_rank=32, qk_nope_head_dim=24,
    qk_rope_head_dim=16, v_head_dim=40, n_routed_experts=16, n_group=4, topk_group=2, num_experts_per_tok=4,
    n_shared_experts=1, first_k_dense_replace=1, routed_scaling_factor=2.5, norm_topk_prob=True, hidden_act="silu",
    max_position_embeddings=2560, rope_theta=10000.0, rms_norm_eps=1e-6, tie_word_embeddings=False,
    attention_bias=False)
YARN = dict(type="yarn", rope_type="yarn", factor=40.0, original_max_position_embeddings=64, beta_fast=32,
            beta_slow=1, mscale=1.0, mscale_all_dim=1.0)
V3 = dict(architectures=["DeepseekV3ForCausalLM"], model_type="deepseek_v3", rope_scaling=YARN)
V2 = dict(architectures=["DeepseekV2ForCausalLM"], model_type="deepseek_v2", scoring_func="softmax",
          topk_method="group_limited_greedy", norm_topk_prob=False, routed_scaling_factor=16.0, aux_loss_alpha=0.001,
          rope_scaling={**YARN, "mscale": 0.707, "mscale_all_dim": 0.707})
FAMILIES = {
    "v3": {**SMALL, **V3},
    "v3-plain": {**SMALL, **V3, "rope_scaling": None, "q_lora_rank": None, "n_group": 1, "topk_group": 1,
                 "rms_norm_eps": 1e-5},
    "v2": {**SMALL, **V2},
    "v2-lite": {**SMALL, **V2, "rope_scaling": None, "q_lora_rank": None, "topk_method": "greedy",
                "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "n_shared_experts": 2},
}
# Widths that are no multiples of 128, so that FP8 blocks are partial and heads lie across them.
UNEVEN = dict(hidden_size=192, intermediate_size=200, moe_intermediate_size=144, qk_nope_head_dim=40, v_head_dim=48,
              kv_lora_rank=136, num_hidden_layers=3)
FP8 = dict(quantization_config=dict(quant_method="fp8", fmt="e4m3", activation_scheme="dynamic",
                                    weight_block_size=[128, 128]))


def cases():
    for number, (family, config) in enumerate(FAMILIES.items()):
        for dtype in ("F32", "BF16", "F8_E4M3"):
            values = {**config, **(UNEVEN if dtype == "F8_E4M3" else {})}
            if dtype == "F8_E4M3":
                values.update(FP8)
            yield f"{family}-{dtype.lower()}", values, dtype, 1 + number
    yield "v3-f16", {**FAMILIES["v3"], **UNEVEN, "first_k_dense_replace": 0, "norm_topk_prob": False}, "F16", 9


def stream(seed, tensor, count):
    """The formula's s for `count` elements, by doubling: s[i + n] = a_n s[i] + c_n."""
    start = ((tensor + 1 + 1000 * seed) * 1000003) % 2**32
    out = np.array([(start * 1664525 + 1013904223) % 2**32], dtype=np.uint32)
    a, c = 1664525, 1013904223
    while len(out) < count:
        out = np.concatenate([out, out * np.uint32(a) + np.uint32(c)])
        c = (a * c + c) % 2**32
        a = (a * a) % 2**32
    return out[:count]


def tensor_list(c):
    def ffn(prefix, width):
        yield "projection", prefix + "gate_proj.weight", (width, c["hidden_size"])
        yield "projection", prefix + "up_proj.weight", (width, c["hidden_size"])
        yield "projection", prefix + "down_proj.weight", (c["hidden_size"], width)
    h, heads = c["hidden_size"], c["num_attention_heads"]
    q_rows = heads * (c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
    yield "linear", "model.embed_tokens.weight", (c["vocab_size"], h)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        attention = layer + "self_attn."
        yield "norm", layer + "input_layernorm.weight", (h,)
        if c["q_lora_rank"]:
            yield "projection", attention + "q_a_proj.weight", (c["q_lora_rank"], h)
            yield "norm", attention + "q_a_layernorm.weight", (c["q_lora_rank"],)
            yield "projection", attention + "q_b_proj.weight", (q_rows, c["q_lora_rank"])
        else:
            yield "projection", attention + "q_proj.weight", (q_rows, h)
        yield "projection", attention + "kv_a_proj_with_mqa.weight", (c["kv_lora_rank"] + c["qk_rope_head_dim"], h)
        yield "norm", attention + "kv_a_layernorm.weight", (c["kv_lora_rank"],)
        yield "projection", attention + "kv_b_proj.weight", (
            heads * (c["qk_nope_head_dim"] + c["v_head_dim"]), c["kv_lora_rank"])
        yield "projection", attention + "o_proj.weight", (h, heads * c["v_head_dim"])
        yield "norm", layer + "post_attention_layernorm.weight", (h,)
        if i < c["first_k_dense_replace"]:
            yield from ffn(layer + "mlp.", c["intermediate_size"])
            continue
        yield "gate", layer + "mlp.gate.weight", (c["n_routed_experts"], h)
        if c["model_type"] == "deepseek_v3":
            yield "bias", layer + "mlp.gate.e_score_correction_bias", (c["n_routed_experts"],)
        for e in range(c["n_routed_experts"]):
            yield from ffn(f"{layer}mlp.experts.{e}.", c["moe_intermediate_size"])
        yield from ffn(layer + "mlp.shared_experts.", c["moe_intermediate_size"] * c["n_shared_experts"])
    yield "norm", "model.norm.weight", (h,)
    yield "linear", "lm_head.weight", (c["vocab_size"], h)


def fill(config, dtype, seed, linear_gain=0.3, gate_gain=0.5, bias_gain=0.1):
    out = {}
    for t, (kind, name, shape) in enumerate(tensor_list(config)):
        s = stream(seed, t, int(np.prod(shape)))
        u = s.astype(np.float64) / 2.0**32 - 0.5
        value = {"norm": 1 + 0.2 * u, "bias": bias_gain * u, "gate": gate_gain * u}.get(kind, linear_gain * u)
        value = value.astype(np.float32)
        stored = dtype
        if kind == "bias" or (kind == "norm" and dtype != "BF16") or (kind == "gate" and dtype == "F16") or (
                dtype == "F8_E4M3" and kind != "projection"):
            stored = "F32"
        if stored == "BF16":
            bits = (value.view(np.uint32) >> 16).astype(np.uint16)
            out[name] = torch.from_numpy(bits.view(np.int16).copy()).view(torch.bfloat16).reshape(shape)
        elif stored == "F16":
            k = (s >> np.uint32(22)).astype(np.int64) - 512
            out[name] = torch.from_numpy((k / 4096.0).astype(np.float16)).reshape(shape)
        elif stored == "F8_E4M3":
            byte = (s >> np.uint32(24)).astype(np.uint8)
            byte = np.where((byte & 0x7F) == 0x7F, byte ^ 1, byte).astype(np.uint8)
            out[name] = torch.from_numpy(byte).view(torch.float8_e4m3fn).reshape(shape)
            blocks = (-(-shape[0] // 128), -(-shape[1] // 128))
            v = stream(seed, t + 100000, blocks[0] * blocks[1]).astype(np.float64) / 2.0**32 - 0.5
            out[name + "_scale_inv"] = torch.from_numpy(((1.5 + v) / 1024.0).astype(np.float32)).reshape(blocks)
        else:
            out[name] = torch.from_numpy(value).reshape(shape)
    return out


def load_oracle(path):
    spec = importlib.util.spec_from_file_location("oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gap(values, chosen):
    """Relative gap between the worst chosen and the best refused value, per row."""
    if bool(chosen.all()):
        return torch.full((values.shape[0],), float("inf"))
    low = values.masked_fill(~chosen, float("inf")).amin(-1)
    high = values.masked_fill(chosen, float("-inf")).amax(-1)
    return ((low - high) / values.abs().amax(-1)).float()


def gate_margin(gate, hidden, config):
    """The smallest relative gap of a row's choice of groups and of experts."""
    hidden = hidden.reshape(-1, hidden.shape[-1]).double()
    logits = hidden @ gate.weight.double().T
    if config.model_type == "deepseek_v3":
        choice = logits.sigmoid() + gate.e_score_correction_bias.double()
    else:
        choice = logits.softmax(-1)
    groups, kept = config.n_group, config.topk_group
    margin = torch.full((hidden.shape[0],), float("inf"))
    if getattr(config, "topk_method", "noaux_tc") == "greedy":
        groups = 1
    if groups > 1:
        by_group = choice.view(choice.shape[0], groups, -1)
        score = by_group.topk(2, -1)[0].sum(-1) if config.model_type == "deepseek_v3" else by_group.amax(-1)
        taken = torch.zeros_like(score, dtype=torch.bool).scatter(1, score.topk(kept, -1)[1], True)
        margin = torch.minimum(margin, gap(score, taken))
        choice = choice.masked_fill(~taken.repeat_interleave(choice.shape[1] // groups, 1), float("-inf"))
    chosen = torch.zeros_like(choice, dtype=torch.bool).scatter(1, choice.topk(config.num_experts_per_tok, -1)[1], True)
    allowed = choice > float("-inf")
    low = choice.masked_fill(~chosen, float("inf")).amin(-1)
    high = choice.masked_fill(chosen, float("-inf")).amax(-1)
    largest = choice.masked_fill(~allowed, 0).abs().amax(-1)
    return torch.minimum(margin, ((low - high) / largest).float())


def reference(oracle, directory, ids, new):
    model = oracle.load(directory)
    result, margins = {"ids": torch.tensor(ids)}, []
    oracle.record_routes(model, result)
    for block in model.model.layers:
        gate = getattr(block.mlp, "gate", None)
        if gate is not None:
            gate.register_forward_hook(lambda m, inputs, _: margins.append(gate_margin(m, inputs[0], model.config)))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        routes = {k: v.clone() for k, v in result.items()}
        top = logits.topk(2, -1)[0]
        margins.append((top[:, 0] - top[:, 1]) / logits.abs().amax(-1))
        margin = torch.stack(margins).amin(0)
        sequence = list(ids)
        for _ in range(new):
            sequence.append(int(model(torch.tensor([sequence])).logits[0, -1].argmax()))
    routes.update(logits=logits.clone(), margins=margin.float().contiguous(),
                  greedy=torch.tensor(sequence[len(ids):], dtype=torch.int64))
    return {k: v.to(torch.int32) if "experts" in k else v.contiguous() for k, v in routes.items()}


def formula(args):
    oracle = load_oracle(args.oracle)
    for name, config, dtype, seed in cases():
        with tempfile.TemporaryDirectory() as directory:
            save_file(fill(config, dtype, seed), os.path.join(directory, "model.safetensors"))
            json.dump(config, open(os.path.join(directory, "config.json"), "w"))
            ids = (stream(seed, 7777, 80) >> np.uint32(8)).astype(np.int64) % config["vocab_size"]
            result = reference(oracle, directory, ids.tolist(), 12)
        path = os.path.join(args.out, name + ".safetensors")
        save_file(result, path, metadata={"config": json.dumps(config), "dtype": dtype, "seed": str(seed)})
        print(f"{path}: smallest margin {result['margins'].min():.2e}, greedy {result['greedy'].tolist()}")


def adder(args):
    model = load_oracle(args.oracle).load(args.model)
    answers = []
    for question in json.load(open(args.prompts)):
        ids = list(question["prompt_ids"])
        with torch.no_grad():
            while len(ids) < len(question["prompt_ids"]) + 64 and ids[-1] != 1:
                ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        answers.append({"a": question["a"], "b": question["b"], "prompt_ids": question["prompt_ids"],
                        "ids": ids[len(question["prompt_ids"]):]})
        assert answers[-1]["ids"] == question.get("ids", answers[-1]["ids"])
    with open(args.out, "w") as out:
        out.write("[\n" + ",\n".join(json.dumps(a) for a in answers) + "\n]\n")
    print(f"{args.out}: {len(answers)} answers")


def oracle_directories(args):
    oracle = load_oracle(args.oracle)
    make = lambda *words: subprocess.run([sys.executable, args.oracle, *words], check=True)
    os.makedirs(args.out, exist_ok=True)
    for family in FAMILIES:
        for seed, dtype, sets in ((1, "bfloat16", []), (2, "float32", []),
                                  (3, "bfloat16", ["hidden_size=192", "moe_intermediate_size=144", "num_hidden_layers=6",
                                                   "n_routed_experts=32", "num_experts_per_tok=6"])):
            directory = os.path.join(args.out, f"{family}-{seed}-{dtype}")
            make("make", directory, "--family", family, "--seed", str(seed), "--dtype", dtype,
                 *(["--set", *sets] if sets else []))
            make("fp8", directory, directory + "-fp8")
            for d in (directory, directory + "-fp8"):
                ids = (stream(seed, 4242, 150) >> np.uint32(8)).astype(np.int64) % 160
                save_file(reference(oracle, d, ids.tolist(), 16), os.path.join(d, "reference.safetensors"))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("formula"); p.add_argument("oracle"); p.add_argument("out"); p.set_defaults(call=formula)
    p = commands.add_parser("adder"); p.add_argument("oracle"); p.add_argument("model"); p.add_argument("prompts")
    p.add_argument("out"); p.set_defaults(call=adder)
    p = commands.add_parser("oracle"); p.add_argument("oracle"); p.add_argument("out")
    p.set_defaults(call=oracle_directories)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
