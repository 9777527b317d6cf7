#!/usr/bin/env python3
"""make_moe_model.py VOCABULARY.gguf OUT.gguf [--layers N] [--experts N] [--type q4_0|q8_0]

Writes a DeepSeek-V3 model scaled down to about 1.3 GB with random weights: latent attention, a sigmoid router with expert
groups, one dense leading layer, a shared expert. For measuring how experts are read when memory is short; see
make_model.py for how weights are drawn."""
import argparse, os, random, struct, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_model import F32, TEXT, TYPES, U32, copied_vocabulary, entry, pattern


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vocabulary")
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--experts", type=int, default=128)
    parser.add_argument("--type", default="q4_0", choices=["q4_0", "q8_0"])
    a = parser.parse_args()
    width, heads, query_rank, rank, plain, rotary, value, inner, dense = 1024, 16, 384, 256, 64, 32, 64, 512, 2048
    kept, vocabulary = copied_vocabulary(a.vocabulary)
    kind = a.type
    tensors = [("token_embd.weight", "f32", (width, vocabulary)), ("output.weight", kind, (width, vocabulary)), ("output_norm.weight", "f32", (width,))]
    for layer in range(a.layers):
        p = "blk.%d." % layer
        tensors += [(p + "attn_norm.weight", "f32", (width,)), (p + "ffn_norm.weight", "f32", (width,)),
                    (p + "attn_q_a_norm.weight", "f32", (query_rank,)), (p + "attn_kv_a_norm.weight", "f32", (rank,)),
                    (p + "attn_q_a.weight", kind, (width, query_rank)), (p + "attn_q_b.weight", kind, (query_rank, heads * (plain + rotary))),
                    (p + "attn_kv_a_mqa.weight", kind, (width, rank + rotary)), (p + "attn_k_b.weight", kind, (plain, rank, heads)),
                    (p + "attn_v_b.weight", kind, (rank, value, heads)), (p + "attn_output.weight", kind, (heads * value, width))]
        if layer == 0:
            tensors += [(p + "ffn_gate.weight", kind, (width, dense)), (p + "ffn_up.weight", kind, (width, dense)), (p + "ffn_down.weight", kind, (dense, width))]
            continue
        tensors += [(p + "ffn_gate_inp.weight", "f32", (width, a.experts)), (p + "exp_probs_b.bias", "f32", (a.experts,)),
                    (p + "ffn_gate_exps.weight", kind, (width, inner, a.experts)), (p + "ffn_up_exps.weight", kind, (width, inner, a.experts)),
                    (p + "ffn_down_exps.weight", kind, (inner, width, a.experts)),
                    (p + "ffn_gate_shexp.weight", kind, (width, inner)), (p + "ffn_up_shexp.weight", kind, (width, inner)),
                    (p + "ffn_down_shexp.weight", kind, (inner, width))]

    numbers = {"block_count": a.layers, "context_length": 16384, "embedding_length": width, "feed_forward_length": dense, "attention.head_count": heads,
               "attention.head_count_kv": 1, "attention.q_lora_rank": query_rank, "attention.kv_lora_rank": rank, "rope.dimension_count": rotary,
               "attention.key_length": rank + rotary, "attention.value_length": rank, "attention.key_length_mla": plain + rotary,
               "attention.value_length_mla": value, "leading_dense_block_count": 1, "expert_count": a.experts, "expert_used_count": 8,
               "expert_feed_forward_length": inner, "expert_shared_count": 1, "expert_gating_func": 2, "expert_group_count": 8,
               "expert_group_used_count": 4}
    floats = {"rope.freq_base": 10000.0, "attention.layer_norm_rms_epsilon": 1e-6, "expert_weights_scale": 2.5}
    entries = [entry("general.architecture", TEXT, "deepseek2"), entry("general.name", TEXT, "random scaled-down DeepSeek-V3")]
    entries += [entry("deepseek2." + key, U32, value) for key, value in numbers.items()]
    entries += [entry("deepseek2." + key, F32, value) for key, value in floats.items()] + kept

    rng = random.Random(7)
    patterns = {k: pattern(k, rng) for k in {k for _, k, _ in tensors}}
    directory, offset, sizes = b"", 0, []
    for name, k, shape in tensors:
        number, values, size, _ = TYPES[k]
        elements = 1
        for n in shape:
            elements *= n
        directory += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        directory += struct.pack("<%dQ" % len(shape), *shape) + struct.pack("<IQ", number, offset)
        sizes.append(elements // values * size)
        offset += (sizes[-1] + 31) // 32 * 32
    with open(a.out, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries) + directory)
        out.write(b"\0" * (-out.tell() % 32))
        for (name, k, shape), size in zip(tensors, sizes):
            # Each tensor starts elsewhere in the pattern, so that layers and routers differ.
            block = TYPES[k][2]
            start = rng.randrange(len(patterns[k]) // block) * block
            source = struct.pack("<f", 1.0) if name.endswith("norm.weight") else patterns[k][start:] + patterns[k][:start]
            if name == "token_embd.weight":  # Large enough that different tokens take different experts.
                source = struct.pack("<%df" % (size // 4), *(rng.gauss(0, 1) for _ in range(size // 4)))
            left = size
            while left > 0:
                part = source * max(1, min(64, left // len(source)))
                left -= out.write(part[:left])
            out.write(b"\0" * (-size % 32))
    print(a.out, os.path.getsize(a.out), "bytes")


if __name__ == "__main__":
    main()
