#!/usr/bin/env python3
"""Trains the pocket model from nothing on one CPU core.

    python3 train.py --minutes 95 --out run

A second process (with low priority) keeps drawing fresh transcripts; none is seen twice. The loss counts only what
the model has to write. Writes run/model.pt and run/tokenizer.json, every few minutes and at the end.
"""
import argparse
import json
import math
import multiprocessing
import os
import random
import time

# Must be set before torch is loaded. One thread is fastest at this size, and big blocks must stay in the process:
# returning them to the system after every step costs half of the speed.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "1073741824", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "536870912",
          "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
if __name__ == "__main__" and "MALLOC_TOP_PAD_" not in os.environ:
    import sys
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **MALLOC})

import torch
import torch.nn.functional as F

import generate as g
import tokenizer as tk
from export_gguf import load
from model import Pocket, plant_copying

# Share of the run at which a stage ends: lines per invoice, share of transcripts with a memory block, share of batches
# behind the full tool prefix (the others get a short one, which is much cheaper), tokens per step. With smaller steps
# this rate is too noisy, with larger ones there are too few of them.
STAGES = [(0.08, 2, 0.1, 0.05, 4096), (0.20, 4, 0.2, 0.10, 6144), (0.70, 4, 0.2, 0.10, 6144), (1.00, 4, 0.3, 0.30, 8192)]
# Weight of telling heads where to look. Two look at the copied value, since one is too narrow to tell 1,280 tokens apart
# reliably; between them, one looks at what stands behind the next blank or line break.
LOOK = (0.3, 0.1, 0.15)


def encode(tok, transcript, copies=()):
    """Returns (ids, mask of what the model writes, [(head, place, place to look at)])."""
    ids, mask, parts, blank = [], [], [], tok.id[tk.visible(" ")]
    for by_model, text in transcript:
        part = tok.encode(text)
        parts.append((len(ids), part, {b: n for n, b in enumerate(tok.starts(part))}))
        ids += part
        mask += [by_model] * len(part)
    look = []
    for own, place, origin, source, length in copies:
        (here, turn, at), (base, given, to) = parts[own], parts[origin]
        next_line = length < 0
        place, source, length = (len(s.encode()) for s in (
            transcript[own][1][:place], transcript[origin][1][:source], transcript[origin][1][source:source + max(0, length)]))
        for b in range(length + 1):     # up to the token behind the value, which tells that it ends
            i, j = at.get(place + b), to.get(source + b)
            if i is not None and j is not None and j < len(given) and (b == length or turn[i] == given[j]):
                look += [(head, here + i - 1, base + j) for head in ((1,) if next_line else (0, 2))]
                if given[j] == blank and j + 1 < len(given):    # what is behind the blank tells whether the value goes on
                    look.append((1, here + i - 1, base + j + 1))
    return ids, mask, look


def batch_of(rows, pad):
    T = max(len(row[0]) for row in rows)
    x, m = torch.full((len(rows), T), pad), torch.zeros((len(rows), T), dtype=torch.bool)
    for r, (ids, mask, _) in enumerate(rows):
        x[r, :len(ids)], m[r, :len(ids)] = torch.tensor(ids), torch.tensor(mask)
    return x, m


def producer(queue, progress, seed, path):
    """Endless batches of (prefix, rows) for the present stage, each of transcripts of similar length."""
    os.sched_setaffinity(0, range(os.cpu_count()))
    rng, tok = random.Random(f"train-{seed}"), tk.Tokenizer.load(path)
    pieces = [t for t in map(tok.decode, ([i] for i in range(len(g.SPECIALS) + 256, len(tok.tokens)))) if t.isalpha()]
    while True:
        _, lines, memory, full, budget = next(s for s in STAGES if progress.value < s[0] or s is STAGES[-1])
        long = rng.random() < full
        budget = budget * 3 // 2 if long else budget        # the full prefix costs the same for any number of rows
        rows = sorted((encode(tok, *g.training_transcript(rng, lines, memory, pieces)) for _ in range(80)), key=lambda r: len(r[0]))
        batches, current = [], []
        for row in rows:
            if current and len(row[0]) * (len(current) + 1) > budget:
                batches.append(current)
                current = []
            current.append(row)
        batches.append(current)
        rng.shuffle(batches)
        for b in batches:
            p = g.prefix(rng if rng.random() < 0.3 else None) if long else g.short_prefix(rng)
            queue.put((tok.encode(p), b))


def orthogonal(m, steps=5):
    """Newton-Schulz iteration of the Muon optimiser: the matrix with all singular values near one."""
    x = m / (m.norm() + 1e-7)
    flip = x.shape[0] > x.shape[1]
    x = x.t() if flip else x
    for _ in range(steps):
        a = x @ x.t()
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.t() if flip else x


class Muon:
    def __init__(self, params, momentum=0.95, decay=0.01):
        self.params, self.momentum, self.decay = params, momentum, decay
        self.state = [torch.zeros_like(p) for p, _ in params]

    @torch.no_grad()
    def step(self, lr):
        for (p, parts), m in zip(self.params, self.state):
            m.mul_(self.momentum).add_(p.grad)
            update = p.grad + self.momentum * m
            update = torch.cat([orthogonal(u) for u in update.chunk(parts)])
            p.mul_(1 - lr * self.decay).add_(update, alpha=-lr * max(1, p.shape[0] / parts / p.shape[1]) ** 0.5)
            p.grad = None


@torch.no_grad()
def forced_accuracy(model, prefix, rows, pad):
    """Share of turns and transcripts that are right token for token when every earlier token is given."""
    turns = good = whole = tokens = right = 0
    for i in range(0, len(rows), 10):
        x, m = batch_of(rows[i:i + 10], pad)
        ok = model.logits(model.hidden(x[:, :-1], prefix)).argmax(-1) == x[:, 1:]
        for o, k in zip(ok.tolist(), m[:, 1:].tolist()):
            spans, last = [], False
            for a, b in zip(o, k):
                if b and not last:
                    spans.append(True)
                if b:
                    spans[-1] &= a
                    tokens, right = tokens + 1, right + a
                last = b
            turns, good, whole = turns + len(spans), good + sum(spans), whole + all(spans)
    return {"tokens": right / tokens, "turns": good / turns, "transcripts": whole / len(rows)}


class Assistant:
    """A second process that adds its gradients to those of the main one whenever it has some ready.

    Its parameters are one or two steps old by then, which does no harm; in return nobody waits for anybody, so it may
    run with low priority on a core that others use too.
    """

    def __init__(self, model, queue, pad, nice):
        self.weights = torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone().share_memory_()
        self.gradient = torch.zeros_like(self.weights).share_memory_()
        self.count = torch.zeros(2, dtype=torch.long).share_memory_()   # tokens that counted, tokens in all
        self.ready = multiprocessing.Event()
        self.wanted = multiprocessing.Event()
        self.wanted.set()
        process = multiprocessing.Process(target=self.work, args=(model.c, queue, pad, nice), daemon=True)
        process.start()

    def work(self, config, queue, pad, nice):
        os.nice(nice)
        torch.set_num_threads(1)
        model = Pocket(config)
        while True:
            self.wanted.wait()
            self.wanted.clear()
            torch.nn.utils.vector_to_parameters(self.weights.clone(), model.parameters())
            prefix, rows = queue.get()
            model.zero_grad(set_to_none=True)
            loss, _, _, counted = loss_of(model, prefix, rows, pad)
            loss.backward()
            self.gradient.copy_(torch.cat([q.grad.reshape(-1) for q in model.parameters()]))
            self.count[0], self.count[1] = counted, sum(len(row[0]) for row in rows)
            self.ready.set()

    @torch.no_grad()
    def help(self, model, counted):
        """Mixes a finished gradient into the model's, by tokens; returns the tokens it stands for."""
        if not self.ready.is_set():
            return 0
        self.ready.clear()
        share, at = int(self.count[0]) / (int(self.count[0]) + counted), 0
        for q in model.parameters():
            q.grad.mul_(1 - share).add_(self.gradient[at:at + q.numel()].view_as(q), alpha=share)
            at += q.numel()
        tokens = int(self.count[1])
        self.wanted.set()
        return tokens

    @torch.no_grad()
    def publish(self, model):
        self.weights.copy_(torch.nn.utils.parameters_to_vector(model.parameters()))


def loss_of(model, prefix, rows, pad):
    """The loss to minimise, the loss of the tokens alone, and how many tokens that were."""
    x, m = batch_of(rows, pad)
    keep = m[:, 1:]
    look = torch.tensor([(r, *entry) for r, row in enumerate(rows) for entry in row[2]]).t()
    h, missed = model.hidden(x[:, :-1], torch.tensor(prefix), keep, look)
    loss = F.cross_entropy(model.logits(h), x[:, 1:][keep])
    missed = [missed[look[1] == head].sum() / max(1, int((look[1] == head).sum())) for head in range(len(LOOK))]
    return loss + sum(w * x for w, x in zip(LOOK, missed)), loss.detach(), [float(x) for x in missed], int(keep.sum())


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--minutes", type=float, default=95)
    p.add_argument("--out", default="run")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--config", type=json.loads, default={}, help="changes to model.CONFIG, as JSON")
    p.add_argument("--lr", type=float, default=0.02, help="of the matrices (Muon)")
    p.add_argument("--adam-lr", type=float, default=0.003, help="of embedding, norms and biases")
    p.add_argument("--steady", type=float, default=0.5, help="share of the run before the rate falls")
    p.add_argument("--start", help="continue from this model.pt or GGUF file")
    p.add_argument("--progress", type=float, default=0.0, help="with --start: share of the recipe already done")
    p.add_argument("--two", action="store_true", help="let a second process add gradients (another core)")
    p.add_argument("--nice", type=int, default=5, help="priority of that process")
    p.add_argument("--check", type=float, default=4, help="minutes between checks")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(a.seed)

    here = os.path.dirname(os.path.abspath(__file__))
    vocabulary = os.path.join(here, "tokenizer.json")
    tok = tk.Tokenizer.load(vocabulary)
    model = Pocket(dict(a.config, vocab=len(tok.tokens)))
    plant_copying(model)
    if a.start:
        model.load_state_dict(load(a.start)[0].state_dict())
    print(model.c, model.size(), "parameters", flush=True)

    matrices = [(q, 3 if n.endswith("qkv.weight") else 2 if n.endswith("gate_up.weight") else 1)
                for n, q in model.named_parameters() if q.dim() == 2 and "embed" not in n]
    others = [q for n, q in model.named_parameters() if q.dim() != 2 or "embed" in n]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)

    rng = random.Random("check")
    held = [encode(tok, *g.training_transcript(rng)) for _ in range(100)]
    full = torch.tensor(tok.encode(g.prefix()))

    queue, progress = multiprocessing.Queue(16), multiprocessing.Value("d", a.progress)
    worker = multiprocessing.Process(target=producer, args=(queue, progress, a.seed, vocabulary), daemon=True)
    worker.start()
    assistant = Assistant(model, queue, tok.pad, a.nice) if a.two else None

    average = {k: v.clone() for k, v in model.state_dict().items()}     # of the last few hundred steps

    def save():
        for name, weights in (("model.pt", model.state_dict()), ("average.pt", average)):
            path = os.path.join(a.out, name)
            torch.save({"config": model.c, "weights": weights}, path + ".new")
            os.replace(path + ".new", path)

    start, paused, step, seen, recent = time.time(), 0.0, 0, 0, []
    next_check = a.check * 60
    while True:
        spent = time.time() - start - paused
        share = a.progress + (1 - a.progress) * spent / (a.minutes * 60)
        if share >= 1:
            break
        progress.value = share
        prefix, rows = queue.get()
        total, loss, missed, counted = loss_of(model, prefix, rows, tok.pad)
        total.backward()
        if assistant:
            seen += assistant.help(model, counted)
        rate = min(1, (step + 1) / (20 if a.start else 100)) * (1 if share < a.steady else max(0.005, (1 - share) / (1 - a.steady)))
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        muon.step(a.lr * rate)
        for group in adam.param_groups:
            group["lr"] = a.adam_lr * rate
        adam.step()
        adam.zero_grad(set_to_none=True)
        with torch.no_grad():
            for k, v in model.state_dict().items():
                average[k].lerp_(v, 1 - min(0.998, step / (step + 10)))
        if assistant:
            assistant.publish(model)
        step, seen = step + 1, seen + sum(len(row[0]) for row in rows)
        recent = recent[-49:] + [(float(loss), *missed)]
        if step % 25 == 0:
            mean = [sum(r[n] for r in recent) / len(recent) for n in range(1 + len(LOOK))]
            print(f"step {step} share {share:.3f} loss {mean[0]:.4f} look {' '.join(f'{x:.4f}' for x in mean[1:])} tokens {seen / 1e6:.2f}M "
                  f"{seen / max(spent, 1):.0f}/s", flush=True)
        if spent > next_check:
            next_check, before = spent + a.check * 60, time.time()
            print("check", {k: round(v, 4) for k, v in forced_accuracy(model, full, held, tok.pad).items()}, flush=True)
            save()
            paused += time.time() - before
    save()
    print("end", forced_accuracy(model, full, held, tok.pad), flush=True)
    worker.terminate()


if __name__ == "__main__":
    main()
