"""Byte-level BPE of the pocket model, in the form of a GGUF "gpt2" tokenizer with the "qwen2" pre-tokenizer.

Merges never join letters with blanks or punctuation, and digits are always single. A word therefore has the
same tokens wherever it stands, in the document as in the JSON string, which makes copying much easier to learn.

    python3 tokenizer.py OUT.json       train the vocabulary on generated transcripts
"""
import collections
import json
import random
import re
import sys
import unicodedata

import generate as g


def _category(letter):
    """The inside of a character class with all characters of a general category (the re module has no \\p)."""
    out, start, last = [], None, None
    for c in range(0x110000):
        if unicodedata.category(chr(c))[0] == letter:
            if start is None:
                start = c
            last = c
        elif start is not None:
            out.append("\\U%08x-\\U%08x" % (start, last))
            start = None
    return "".join(out)


L, N = _category("L"), _category("N")
PRETOKEN = re.compile(
    rf"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n{L}{N}]?[{L}]+|[{N}]| ?[^\s{L}{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+")
WORD = re.compile(rf"[{L}]+")
SPECIAL = re.compile("(" + "|".join(re.escape(s) for s in g.SPECIALS) + ")")


def _byte_alphabet():
    """GPT-2's printable stand-ins for the 256 bytes."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, n = {}, 0
    for b in range(256):
        if b in keep:
            table[b] = chr(b)
        else:
            table[b] = chr(256 + n)
            n += 1
    return table


BYTE = _byte_alphabet()
UNBYTE = {c: b for b, c in BYTE.items()}

# Joined in this order, before all words. Each entry is built from two entries above it or from bytes.
PUNCTUATION = [' "', '":', '",', '{"', '"}', '"},', ' {"', ' [', ' [{"', '],', '"}],', "``", "```", "\n\n", "  ", "    ", "        ",
               "                ", "--", "----", "--------", "==", "====", "..", "....", "........", "__", "____"]


def visible(text):
    return "".join(BYTE[b] for b in text.encode())


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.tokens = list(g.SPECIALS) + [BYTE[b] for b in range(256)] + [a + b for a, b in self.merges]
        self.id = {t: i for i, t in enumerate(self.tokens)}
        assert len(self.id) == len(self.tokens)
        self.bos, self.eos, self.pad = (self.id[t] for t in (g.BOS, g.EOS, g.PAD))
        self.cache = {}

    @classmethod
    def load(cls, path):
        with open(path, encoding="utf-8") as f:
            return cls(json.load(f)["merges"])

    def save(self, path):
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"merges": self.merges}, f, ensure_ascii=False, indent=0)

    def _piece(self, piece):
        ids = self.cache.get(piece)
        if ids is None:
            parts = [BYTE[b] for b in piece.encode()]
            while len(parts) > 1:
                rank, i = min((self.rank.get(p, 1 << 30), i) for i, p in enumerate(zip(parts, parts[1:])))
                if rank == 1 << 30:
                    break
                parts[i:i + 2] = [parts[i] + parts[i + 1]]
            ids = [self.id[p] for p in parts]
            if len(self.cache) < 300000:
                self.cache[piece] = ids
        return ids

    def encode(self, text, special=True):
        """special=False: markers in the text stay ordinary characters."""
        out = []
        for part in SPECIAL.split(text) if special else [text]:
            if special and part in self.id and part in g.SPECIALS:
                out.append(self.id[part])
            else:
                for piece in PRETOKEN.findall(part):
                    out.extend(self._piece(piece))
        return out

    def starts(self, ids):
        """The place of every token in the text, counted in bytes, and the end."""
        out = [0]
        for i in ids:
            out.append(out[-1] + (len(self.tokens[i].encode()) if i < len(g.SPECIALS) else len(self.tokens[i])))
        return out

    def decode(self, ids):
        out = bytearray()
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if i < len(g.SPECIALS) else bytes(UNBYTE[c] for c in t)
        return out.decode("utf-8", "replace")


def train(texts, size):
    """Frequent pairs inside words of letters, behind the fixed punctuation."""
    merges, known = [], {BYTE[b] for b in range(256)}
    for p in map(visible, PUNCTUATION):
        cut = next(i for i in range(len(p) - 1, 0, -1) if p[:i] in known and p[i:] in known)
        merges.append((p[:cut], p[cut:]))
        known.add(p)
    count = collections.Counter()
    for t in texts:
        for part in SPECIAL.split(t):
            if part not in g.SPECIALS:
                count.update(WORD.findall(part))
    words = {w: [BYTE[b] for b in w.encode()] for w in count}
    while len(g.SPECIALS) + 256 + len(merges) < size:
        pairs = collections.Counter()
        for w, n in count.items():
            s = words[w]
            for pair in zip(s, s[1:]):
                pairs[pair] += n
        (a, b), n = pairs.most_common(1)[0]
        if a + b in known:      # the same text by another pair: not a new token
            count = collections.Counter({w: c for w, c in count.items() if (a, b) not in zip(words[w], words[w][1:])})
            continue
        merges.append((a, b))
        known.add(a + b)
        for w, s in words.items():
            i = 0
            while i + 1 < len(s):
                if s[i] == a and s[i + 1] == b:
                    s[i:i + 2] = [a + b]
                i += 1
    return Tokenizer(merges)


def main():
    rng = random.Random("vocabulary")
    texts = []
    for _ in range(4000):
        texts.append("".join(t for _, t in g.training_transcript(rng)[0]))
    texts += [g.prefix()] * 60      # the fixed text in front should be short
    t = train(texts, 1280)
    t.save(sys.argv[1])
    sample = texts[:300]
    assert all(t.decode(t.encode(s)) == s for s in sample)
    print(len(t.tokens), "tokens; prefix", len(t.encode(g.prefix())), "; transcript mean", sum(len(t.encode(s)) for s in sample) / len(sample))


if __name__ == "__main__":
    main()
