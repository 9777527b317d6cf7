#!/usr/bin/env python3
"""Validates a GGUF file from end to end, with nothing but the file: reads it, expands the weights, tokenizes a fresh
invoice with the tokenizer inside, and lets the model run the whole task greedily.

    python3 check.py pocket-invoice.gguf [--count 5] [--seed 1] [--against run/model.pt]

Prints one line per invoice and ends with status 1 if one of them is not right. --against also compares every
token with the float32 checkpoint.
"""
import argparse
import random
import sys

import torch

import generate as g
from evaluate import Runner


def follow(runner, transcript):
    """Replays a transcript; returns what the model writes at each of its turns, up to the first difference."""
    runner.reset()
    written = []
    for by_model, text in transcript:
        if not by_model:
            runner.feed(text, "", "")
            continue
        written.append(runner.write())
        if written[-1] != text:
            break
    return written


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file")
    p.add_argument("--count", type=int, default=5)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--against", help="a checkpoint of train.py")
    a = p.parse_args()
    torch.set_num_threads(1)
    runner = Runner(a.file)
    other = Runner(a.against) if a.against else None
    d = g.Draw(random.Random(f"file check {a.seed}"))
    good = same = 0
    for _ in range(a.count):
        inv, document = g.make_document(d)
        transcript = g.transcript(d, inv, document, d.file())
        wanted, written = [t for by_model, t in transcript if by_model], follow(runner, transcript)
        ok = written == wanted
        good += ok
        print("ok   " if ok else "WRONG", inv.invoice, "|", inv.vendor, "|", inv.total, flush=True)
        if not ok:
            print("  wanted", wanted[len(written) - 1], "\n  wrote ", written[-1])
        if other:
            same += follow(other, transcript) == written
    print(f"{good} of {a.count} right" + (f", {same} the same as {a.against}" if other else ""))
    sys.exit(good != a.count)


if __name__ == "__main__":
    main()
