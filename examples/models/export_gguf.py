#!/usr/bin/env python3
"""Writes a trained model as GGUF, and loads such a file back into the training code.

    python3 export_gguf.py run/model.pt pocket-invoice.gguf [--type F16|Q8_0|F32]
"""
import argparse
import os

import torch

import generate as g
import gguf
from model import Pocket
from tokenizer import Tokenizer

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
ARCH = "qwen2"


def tensors(model):
    """GGUF names and float32 arrays; the embedding also serves as output matrix (tied)."""
    c, out = model.c, {}
    d, ff = c["width"], c["ff"]
    state = {k: v.detach().float().numpy() for k, v in model.state_dict().items()}
    out["token_embd.weight"] = state["embed.weight"]
    for i in range(c["layers"]):
        s, t = f"blocks.{i}.", f"blk.{i}."
        out[t + "attn_norm.weight"] = state[s + "norm1"]
        for n, name in enumerate(("attn_q", "attn_k", "attn_v")):
            out[t + name + ".weight"] = state[s + "qkv.weight"][n * d:(n + 1) * d]
            out[t + name + ".bias"] = state[s + "qkv.bias"][n * d:(n + 1) * d]
        out[t + "attn_output.weight"] = state[s + "out.weight"]
        out[t + "ffn_norm.weight"] = state[s + "norm2"]
        out[t + "ffn_gate.weight"] = state[s + "gate_up.weight"][:ff]
        out[t + "ffn_up.weight"] = state[s + "gate_up.weight"][ff:]
        out[t + "ffn_down.weight"] = state[s + "down.weight"]
    out["output_norm.weight"] = state["norm"]
    return out


def export(model, tok, path, kind):
    c = model.c
    meta = {
        "general.architecture": ARCH, "general.name": "Kontor pocket invoice", "general.license": "Apache-2.0",
        "general.description": "Runs the invoice triage example, and nothing else. Trained from nothing on synthetic invoices.",
        "general.alignment": gguf.ALIGN, "general.file_type": {"F32": 0, "F16": 1, "Q8_0": 7}[kind],
        "general.quantization_version": 2,
        f"{ARCH}.block_count": c["layers"], f"{ARCH}.context_length": c["context"], f"{ARCH}.embedding_length": c["width"],
        f"{ARCH}.feed_forward_length": c["ff"], f"{ARCH}.attention.head_count": c["heads"],
        f"{ARCH}.attention.head_count_kv": c["heads"], f"{ARCH}.attention.layer_norm_rms_epsilon": float(c["eps"]),
        f"{ARCH}.rope.freq_base": float(c["theta"]),
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "qwen2", "tokenizer.ggml.tokens": tok.tokens,
        "tokenizer.ggml.token_type": [
            (USER_DEFINED if t in (g.THINK, g.THINK_END) else CONTROL) if t in g.SPECIALS else NORMAL for t in tok.tokens],
        "tokenizer.ggml.merges": [" ".join(m) for m in tok.merges],
        "tokenizer.ggml.bos_token_id": tok.bos, "tokenizer.ggml.eos_token_id": tok.eos, "tokenizer.ggml.padding_token_id": tok.pad,
        "tokenizer.ggml.add_bos_token": False, "tokenizer.ggml.add_eos_token": False,
        "kontor.dialect": "r1-0528",
    }
    gguf.write(path, meta, {n: (x, kind if x.ndim == 2 else "F32") for n, x in tensors(model).items()})


def load_gguf(path):
    """Returns (model, tokenizer) from nothing but the file."""
    meta, found = gguf.read(path)
    get = lambda k: meta[ARCH + "." + k]
    model = Pocket({"vocab": len(meta["tokenizer.ggml.tokens"]), "width": get("embedding_length"), "layers": get("block_count"),
                    "heads": get("attention.head_count"), "ff": get("feed_forward_length"), "theta": get("rope.freq_base"),
                    "eps": get("attention.layer_norm_rms_epsilon"), "context": get("context_length")})
    t = {k: torch.from_numpy(v) for k, v in found.items()}
    state = {"embed.weight": t["token_embd.weight"], "norm": t["output_norm.weight"]}
    for i in range(model.c["layers"]):
        s, b = f"blocks.{i}.", f"blk.{i}."
        state[s + "norm1"], state[s + "norm2"] = t[b + "attn_norm.weight"], t[b + "ffn_norm.weight"]
        state[s + "qkv.weight"] = torch.cat([t[b + f"attn_{n}.weight"] for n in "qkv"])
        state[s + "qkv.bias"] = torch.cat([t[b + f"attn_{n}.bias"] for n in "qkv"])
        state[s + "out.weight"], state[s + "down.weight"] = t[b + "attn_output.weight"], t[b + "ffn_down.weight"]
        state[s + "gate_up.weight"] = torch.cat([t[b + "ffn_gate.weight"], t[b + "ffn_up.weight"]])
    model.load_state_dict(state)
    tok = Tokenizer([m.split(" ") for m in meta["tokenizer.ggml.merges"]])
    if tok.tokens != meta["tokenizer.ggml.tokens"]:
        raise ValueError("the vocabulary does not follow from the merges")
    return model.eval(), tok


def load(path):
    """A checkpoint of train.py (with the tokenizer of this folder) or a GGUF file."""
    if path.endswith(".gguf"):
        return load_gguf(path)
    saved = torch.load(path)
    model = Pocket(saved["config"])
    model.load_state_dict(saved["weights"])
    return model.eval(), Tokenizer.load(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer.json"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("checkpoint")
    p.add_argument("file")
    p.add_argument("--type", choices=list(gguf.TYPES), default="F16")
    a = p.parse_args()
    model, tok = load(a.checkpoint)
    export(model, tok, a.file, a.type)
    print(model.size(), "parameters,", os.path.getsize(a.file), "bytes")


if __name__ == "__main__":
    main()
