#!/usr/bin/env python3
"""make_model.py VOCABULARY.gguf OUT.gguf --mix q4_k_m|q8_0|f16|q4_0 [--layers N]

Writes a model file of the shape of DeepSeek-R1-Distill-Qwen-1.5B with random weights, for measuring speed: the time of a
matrix product does not depend on the values. The vocabulary is copied from a vocabulary-only GGUF file. Blocks are drawn
once and repeated; scales are kept small so that activations stay finite. Python standard library only."""
import argparse, os, random, struct, sys

U32, F32, TEXT, ARRAY = 4, 6, 8, 9
SCALAR = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# type number, values per block, bytes per block, offsets of binary16 scales in a block
TYPES = {"f32": (0, 1, 4, ()), "f16": (1, 1, 2, ()), "q4_0": (2, 32, 18, (0,)), "q8_0": (8, 32, 34, (0,)),
         "q4_k": (12, 256, 144, (0, 2)), "q6_k": (14, 256, 210, (208,))}


def copied_vocabulary(path):
    """The encoded tokenizer.* entries of a GGUF file, and the number of tokens."""
    data = open(path, "rb").read()
    at = 4 + 4 + 8
    count, = struct.unpack_from("<Q", data, at)
    at += 8

    def skip(kind, at):
        if kind == TEXT:
            return at + 8 + struct.unpack_from("<Q", data, at)[0]
        if kind == ARRAY:
            element, n = struct.unpack_from("<IQ", data, at)
            at += 12
            if element in SCALAR:
                return at + n * SCALAR[element]
            for _ in range(n):
                at = skip(element, at)
            return at
        return at + SCALAR[kind]

    entries, tokens = [], 0
    for _ in range(count):
        start = at
        length, = struct.unpack_from("<Q", data, at)
        key = data[at + 8:at + 8 + length].decode()
        at += 8 + length
        kind, = struct.unpack_from("<I", data, at)
        if key == "tokenizer.ggml.tokens":
            tokens, = struct.unpack_from("<Q", data, at + 8)
        at = skip(kind, at + 4)
        if key.startswith("tokenizer."):
            entries.append(data[start:at])
    return entries, tokens


def entry(key, kind, value):
    key = key.encode()
    if kind == TEXT:
        payload = struct.pack("<Q", len(value)) + value.encode()
    else:
        payload = struct.pack("<I" if kind == U32 else "<f", value)
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + payload


def pattern(name, rng):
    """About one MiB of blocks with random codes and small scales."""
    _, values, size, scales = TYPES[name]
    if name in ("f16", "f32"):
        draw = [rng.gauss(0, 0.02) for _ in range(1 << 18)]
        return struct.pack("<%d%s" % (len(draw), "e" if name == "f16" else "f"), *draw)
    blocks = (1 << 20) // size
    data = bytearray(rng.randbytes(blocks * size))
    scale = {"q4_k": 0.00005, "q6_k": 0.00001, "q8_0": 0.0003, "q4_0": 0.004}[name]
    for b in range(blocks):
        for offset in scales:
            struct.pack_into("<e", data, b * size + offset, scale * rng.uniform(0.5, 1.5))
    return bytes(data)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("vocabulary")
    parser.add_argument("out")
    parser.add_argument("--mix", default="q4_k_m", choices=["q4_k_m", "q8_0", "q4_0", "f16"])
    parser.add_argument("--layers", type=int, default=28)
    a = parser.parse_args()
    width, inner, heads, kv_heads, head = 1536, 8960, 12, 2, 128
    kept, vocabulary = copied_vocabulary(a.vocabulary)
    base = "q4_k" if a.mix == "q4_k_m" else a.mix

    def kind_of(part, layer):
        """The usual recipe: half of the value and down matrices and the output get more bits."""
        if a.mix != "q4_k_m":
            return base
        if part == "output":
            return "q6_k"
        eighth = a.layers // 8
        more = layer < eighth or layer >= 7 * eighth or (layer - eighth) % 3 == 2
        return "q6_k" if part in ("attn_v", "ffn_down") and more else base

    tensors = [("token_embd.weight", base, (width, vocabulary)), ("output.weight", kind_of("output", 0), (width, vocabulary)),
               ("output_norm.weight", "f32", (width,))]
    for layer in range(a.layers):
        p = "blk.%d." % layer
        matrices = [("attn_q", width, width), ("attn_k", width, kv_heads * head), ("attn_v", width, kv_heads * head),
                    ("attn_output", width, width), ("ffn_gate", width, inner), ("ffn_up", width, inner), ("ffn_down", inner, width)]
        tensors += [(p + part + ".weight", kind_of(part, layer), (columns, rows)) for part, columns, rows in matrices]
        tensors += [(p + "attn_q.bias", "f32", (width,)), (p + "attn_k.bias", "f32", (kv_heads * head,)),
                    (p + "attn_v.bias", "f32", (kv_heads * head,)), (p + "attn_norm.weight", "f32", (width,)),
                    (p + "ffn_norm.weight", "f32", (width,))]

    file_type = {"f16": 1, "q4_0": 2, "q8_0": 7, "q4_k_m": 15}[a.mix]
    numbers = [("block_count", a.layers), ("context_length", 131072), ("embedding_length", width), ("feed_forward_length", inner),
               ("attention.head_count", heads), ("attention.head_count_kv", kv_heads)]
    entries = [entry("general.architecture", TEXT, "qwen2"), entry("general.name", TEXT, "random 1.5B " + a.mix),
               entry("general.file_type", U32, file_type)]
    entries += [entry("qwen2." + key, U32, value) for key, value in numbers]
    entries += [entry("qwen2.rope.freq_base", F32, 10000.0), entry("qwen2.attention.layer_norm_rms_epsilon", F32, 1e-6)] + kept

    directory, offset, sizes = b"", 0, []
    for name, kind, shape in tensors:
        number, values, size, _ = TYPES[kind]
        elements = 1
        for n in shape:
            elements *= n
        directory += struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", len(shape))
        directory += struct.pack("<%dQ" % len(shape), *shape) + struct.pack("<IQ", number, offset)
        sizes.append(elements // values * size)
        offset += (sizes[-1] + 31) // 32 * 32
    rng = random.Random(7)
    patterns = {kind: pattern(kind, rng) for kind in {kind for _, kind, _ in tensors}}
    with open(a.out, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(entries)) + b"".join(entries) + directory)
        out.write(b"\0" * (-out.tell() % 32))
        for (name, kind, shape), size in zip(tensors, sizes):
            source = patterns[kind]
            if name.endswith("norm.weight"):
                source = struct.pack("<f", 1.0)
            left = size
            while left > 0:
                part = source * max(1, min(64, left // len(source)))
                left -= out.write(part[:left])
            out.write(b"\0" * (-size % 32))
    print(a.out, os.path.getsize(a.out), "bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
