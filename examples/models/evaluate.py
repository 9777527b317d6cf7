#!/usr/bin/env python3
"""Runs a model over evaluation sets, freely and greedily, with a small ERP behind the tools.

    python3 evaluate.py pocket-invoice.gguf SET [SET...] [--limit N] [--memory] [--show N] [--free] [--verbatim]

A SET is a folder as written by "generate.py eval" (a folder without fields.csv, such as the workflow case, is measured by its
decisions alone). An invoice counts as exact when every argument of erp.match equals what the document prints, and as
right when, beyond that, the calls and the final answer carry the expected decision and reason.

To save time, the ideal transcript of each invoice is first checked in one pass: if at each of its places the model's best
token is the ideal one, greedy decoding writes exactly this transcript, and nothing has to be generated. Only the others run
freely (with --free all of them do; with --quick none, and they count as wrong).
"""
import argparse
import collections
import csv
import json
import os
import re
import time
import types

import torch

import generate as g
from export_gguf import load
from tokenizer import UNBYTE

CALL_TEXT = re.compile(re.escape(g.CALLS + g.CALL) + "function" + re.escape(g.SEP) + r"([\w.]+)\n```json\n(.*)\n```" + re.escape(g.CALL_END + g.CALLS_END), re.S)


def rows(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def cents(text):
    """4800.00, 4,800.00, 4.800,00, 4 800,00, 4'800.00 and 4800,00: the last mark in front of two digits is the point."""
    m = re.fullmatch(r"(\d[\d.,' ]*?)[.,](\d\d)", text)
    return int(re.sub(r"\D", "", m[1])) * 100 + int(m[2]) if m else None


class Erp:
    """The rules of the matching tool."""

    def __init__(self, folder):
        self.vendors, self.orders, self.seen = rows(folder, "vendors.csv"), {o["po"]: o for o in rows(folder, "purchase_orders.csv")}, {}

    def match(self, a):
        plain = lambda s: s.replace(" ", "")
        total, lines = cents(a["total"]), [cents(x["amount"]) for x in a["lines"]]
        if total is None or None in lines:
            return {"error": "amount not readable"}
        v = next((v for v in self.vendors if plain(v["vat"]) == plain(a["vat"])), None) or next(
            (v for v in self.vendors if v["name"] == a["vendor"]), None)
        done = lambda decision, reason: {"decision": decision, "reason": reason, "vendor_id": v["vendor_id"] if v else "", "amount": total}
        if v is None:
            return done("hold", "vendor_unknown")
        first = self.seen.setdefault((v["vendor_id"], a["invoice"]), a["file"])
        order = self.orders.get(a["order"])
        if first != a["file"]:
            return done("reject", "duplicate_of:" + first)
        if v["status"] == "blocked":
            return done("reject", "vendor_blocked")
        if plain(a["iban"]) != plain(v["iban"]):
            return done("hold", "iban_changed")
        if a["order"] in ("", "-"):
            return done("hold", "po_missing")
        if order is None:
            return done("hold", "po_unknown")
        if order["vendor_id"] != v["vendor_id"]:
            return done("hold", "po_vendor_mismatch")
        if order["status"] == "closed":
            return done("hold", "po_closed")
        if sum(lines) != total:
            return done("hold", "sum_mismatch:%s!=%s" % (g.money(sum(lines), "plain"), g.money(total, "plain")))
        if total > cents(order["amount"]):
            return done("hold", "amount_over_order")
        return done("needs_approval", "amount_over_5000") if total > 500000 else done("approve", "three_way_match")


class Verbatim:
    """What the runtime does with arguments that are marked as verbatim: inside a string of a call only such tokens may come
    that keep the value a part of what was said so far, from one border between words to another."""

    def __init__(self, tok):
        self.tok = tok
        self.bytes = [b"" if i < len(g.SPECIALS) else bytes(UNBYTE[c] for c in t) for i, t in enumerate(tok.tokens)]

    def start(self, source):
        self.source, self.inside, self.call, self.text = source.encode(), False, False, b""
        word = [c < 128 and chr(c).isalnum() or c >= 128 for c in self.source]
        self.border = [i == 0 or i == len(word) or not (word[i - 1] and word[i]) for i in range(len(word) + 1)]

    def places(self, value):
        """Where the value stands, behind a border."""
        out, i = [], self.source.find(value)
        while i >= 0:
            if self.border[i]:
                out.append(i)
            i = self.source.find(value, i + 1)
        return out

    def allowed(self, token):
        if not self.inside:
            return True
        rest, mark, _ = self.bytes[token].partition(b'"')
        if token < len(g.SPECIALS) or b"\\" in rest:
            return False
        value = self.value + rest
        if value[:1] == b" " or mark and value[-1:] == b" ":
            return False
        return not value or any(not mark or self.border[i + len(value)] for i in self.places(value))

    def choose(self, scores):
        for token in scores.argsort(descending=True).tolist():
            if self.allowed(token):
                break
        if self.tok.tokens[token] == g.CALLS:
            self.call = True
        for c in self.bytes[token]:
            quote = c == 34
            if self.inside and not quote:
                self.value += bytes([c])
            if self.call and quote:
                # a string behind a colon is a value, others are keys
                self.inside = not self.inside and self.text.rstrip().endswith(b":")
                self.value = b""
            self.text = self.text[-8:] + bytes([c])
        return token


class Runner:
    def __init__(self, path, verbatim=False):
        self.model, self.tok = load(path)
        self.verbatim = Verbatim(self.tok) if verbatim else None
        self.cache, self.made = self.model.new_cache(), 0
        prefix = self.tok.encode(g.prefix())
        self.model.step(torch.tensor(prefix), self.cache)
        self.start = self.cache["n"]

    def reset(self):
        self.cache["n"], self.said = self.start, ""

    def feed(self, before, message, after):
        """Marks in the message stay text, as in the runtime."""
        e, self.said = self.tok.encode, self.said + message + "\n"
        self.state = self.model.step(torch.tensor(e(before) + e(message, special=False) + e(after)), self.cache)[-1:]

    def write(self, limit=700):
        ids = []
        if self.verbatim:
            self.verbatim.start(self.said)
        while len(ids) < limit and self.cache["n"] < self.model.c["context"] - 1:
            scores = self.model.logits(self.state)[0]
            ids.append(self.verbatim.choose(scores) if self.verbatim else int(scores.argmax()))
            self.state = self.model.step(torch.tensor(ids[-1:]), self.cache)
            if ids[-1] == self.tok.eos:
                break
        self.made += len(ids)
        return self.tok.decode(ids)


def run(runner, erp, file, document, memory=""):
    """One invoice; returns (arguments of erp.match, names of all calls, final answer)."""
    runner.reset()
    runner.feed(g.USER, g.user_message(file, document, memory), g.ASSISTANT)
    first, names, answer = None, [], None
    for _ in range(6):
        text = runner.write()
        m = CALL_TEXT.search(text)
        if not m:
            try:
                answer = json.loads(text.split(g.THINK_END)[-1].replace(g.EOS, ""))
            except ValueError:
                pass
            break
        try:
            args = json.loads(m[2])
        except ValueError:
            break
        names.append(m[1])
        if m[1] == "erp.match":
            first = first or args
            try:
                out = erp.match(args)
            except (KeyError, TypeError, AttributeError):
                break
            text = answer_text(out)
        else:
            text = {"erp.pay": '{"status": "paid", "reference": "PAY-%06d"}' % (len(erp.seen)), "erp.hold": '{"status": "held"}',
                    "erp.reject": '{"status": "rejected"}'}.get(m[1], '{"error": "unknown tool"}')
        runner.feed(g.OUTS + g.OUT, text, g.OUT_END + g.OUTS_END)
    return first, names, answer


def wanted_calls(decision):
    return ["erp.match"] + {"approve": ["erp.pay"], "hold": ["erp.hold"], "reject": ["erp.reject"]}.get(decision, [])


def answer_text(out):
    """The result of a match as the model gets it, with two decimals in the amount."""
    out = dict(out)
    amount = out.pop("amount", None)
    text = json.dumps(out, ensure_ascii=False)
    return text if amount is None else text[:-1] + ', "amount": ' + g.money(amount, "plain") + "}"


def ideal(runner, erp, fields, document, memory):
    """(ids, mask of the model's own tokens) of the transcript in which everything is right."""
    a = dict(fields, lines=[dict(zip(("item", "amount"), x.rsplit("=", 1))) for x in fields["lines"].split("|")])
    order = ["file", "vendor", "vat", "invoice", "date", "order", "lines", "total", "iban"]
    out = erp.match(a)
    e, file = runner.tok.encode, a["file"]
    parts = [(False, e(g.USER) + e(g.user_message(file, document, memory), special=False) + e(g.ASSISTANT)),
             (True, e(g.THINK + g.reasoning(types.SimpleNamespace(**a)) + g.THINK_END + "\n\n" +
                      g.call("erp.match", g.dumps({k: a[k] for k in order})))),
             (False, e(g.result(answer_text(out))))]
    if out["decision"] == "approve":
        parts += [(True, e(g.call("erp.pay", '{"file": %s, "vendor_id": %s, "amount": %s, "iban": %s}' % (
            g.dumps(file), g.dumps(out["vendor_id"]), g.money(out["amount"], "plain"), g.dumps(a["iban"]))))),
            (False, e(g.result('{"status": "paid", "reference": "PAY-%06d"}' % len(erp.seen))))]
    elif out["decision"] != "needs_approval":
        parts += [(True, e(g.call("erp." + out["decision"], g.dumps({"file": file, "reason": out["reason"]})))),
                  (False, e(g.result('{"status": "%s"}' % {"hold": "held", "reject": "rejected"}[out["decision"]])))]
    parts.append((True, e(g.dumps({"file": file, "vendor": a["vendor"], "decision": out["decision"], "reason": out["reason"]}) + g.EOS)))
    return [i for _, p in parts for i in p], [own for own, p in parts for _ in p]


@torch.no_grad()
def perfect(runner, transcripts):
    """Which of the ideal transcripts the model would write itself, token for token."""
    prefix, good = torch.tensor(runner.tok.encode(g.prefix())), [False] * len(transcripts)
    order = sorted(range(len(transcripts)), key=lambda i: len(transcripts[i][0]))
    for start in range(0, len(order), 8):
        part = order[start:start + 8]
        T = max(len(transcripts[i][0]) for i in part)
        x, m = torch.full((len(part), T), runner.tok.pad), torch.zeros((len(part), T), dtype=torch.bool)
        for r, i in enumerate(part):
            ids, mask = transcripts[i]
            x[r, :len(ids)], m[r, :len(ids)] = torch.tensor(ids), torch.tensor(mask)
        keep = m[:, 1:]
        hit = torch.ones(keep.shape, dtype=torch.bool)
        hit[keep] = runner.model.logits(runner.model.hidden(x[:, :-1], prefix, keep)).argmax(-1) == x[:, 1:][keep]
        for r, i in enumerate(part):
            good[i] = bool(hit[r].all())
    return good


def measure(runner, folder, limit=None, with_memory=False, show=0, mode=""):
    expected, erp = rows(folder, "expected.csv")[:limit], Erp(folder)
    have_fields = os.path.exists(os.path.join(folder, "fields.csv"))
    fields = {r["file"]: {k: v for k, v in r.items() if k not in ("decision", "reason")} for r in rows(folder, "fields.csv")} if have_fields else {}
    documents, memories, facts = {}, {}, []
    for e in expected:
        with open(os.path.join(folder, "inbox", e["file"]), encoding="utf-8", newline="") as f:
            documents[e["file"]] = f.read()
        memories[e["file"]] = "memory:\n" + "".join("- " + m + "\n" for m in facts[-5:]) + "\n" if with_memory and facts else ""
        if have_fields:
            facts.append(g.PROMPT["memory_fact"].format(vendor=fields[e["file"]]["vendor"], **e))
    done = {}
    if have_fields and mode != "free":
        world = Erp(folder)
        done = dict(zip(documents, perfect(runner, [ideal(runner, world, fields[f], documents[f], memories[f]) for f in documents])))
    count, wrong = collections.Counter(), collections.Counter()
    began, runner.made = time.time(), 0
    for e in expected:
        file = e["file"]
        if done.get(file) or mode == "quick":
            ok = bool(done.get(file))
            count.update(n=1, exact=ok, decided=ok, right=ok)
            if ok:      # the ERP has to see it, later invoices may be duplicates
                a = fields[file]
                erp.match(dict(a, lines=[{"amount": x.rsplit("=", 1)[1]} for x in a["lines"].split("|")]))
            continue
        args, names, answer = run(runner, erp, file, documents[file], memories[file])
        bad = []
        if have_fields:
            got = dict(args or {})
            try:
                got["lines"] = "|".join(x["item"] + "=" + x["amount"] for x in got.get("lines", []))
            except (KeyError, TypeError):
                got["lines"] = None
            bad = [k for k, v in fields[file].items() if got.get(k) != v]
            wrong.update(bad)
            if show and bad:
                show -= 1
                print("--", file, {k: (fields[file][k], got.get(k)) for k in bad})
        answer = answer if isinstance(answer, dict) else {}
        decided = (answer.get("decision"), answer.get("reason")) == (e["decision"], e["reason"])
        exact, right = not bad, decided and names == wanted_calls(e["decision"]) and answer.get("file") == file and (
            not have_fields or answer.get("vendor") == fields[file]["vendor"])
        if show and not right and exact:
            show -= 1
            print("--", e, names, answer)
        count.update(n=1, exact=exact, decided=decided, right=exact and right)
    n = count["n"]
    return {"set": os.path.basename(os.path.normpath(folder)), "n": n, "exact": count["exact"] / n, "decision": count["decided"] / n,
            "right": count["right"] / n, "wrong_fields": dict(wrong), "tokens_per_s": round(runner.made / (time.time() - began))}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("sets", nargs="+")
    p.add_argument("--limit", type=int)
    p.add_argument("--memory", action="store_true", help="hand the last five decisions to the model, as recalled facts")
    p.add_argument("--show", type=int, default=0, help="print this many mistakes")
    p.add_argument("--free", dest="mode", action="store_const", const="free", default="", help="generate every invoice")
    p.add_argument("--quick", dest="mode", action="store_const", const="quick", help="generate none")
    p.add_argument("--verbatim", action="store_true", help="only parts of the conversation as arguments")
    a = p.parse_args()
    torch.set_num_threads(1)
    runner = Runner(a.model, a.verbatim)
    for s in a.sets:
        print(json.dumps(measure(runner, s, a.limit, a.memory, a.show, a.mode), ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
