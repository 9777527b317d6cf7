"""The pocket model: a small transformer of the qwen2 architecture, with a training-time attention for one CPU core."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import fast

CONFIG = {"vocab": 1280, "width": 160, "layers": 4, "heads": 5, "ff": 448, "theta": 1000000.0, "eps": 1e-5, "context": 4096}


class Attend(torch.autograd.Function):
    """Causal attention of queries (B, H, T, D) over a prefix shared by the batch and over their own keys.

    Works on one sequence and a block of queries at a time: the score matrices then stay in the processor's cache,
    keys behind the block are never touched, and nothing but one number per query is kept for the backward pass: the
    logarithm of its softmax sum, which is also returned.
    """
    BLOCK = 64

    @staticmethod
    def forward(ctx, q, k, v, pk, pv):
        B, H, T, D = q.shape
        P, C = pk.shape[1], Attend.BLOCK
        out, lse = torch.empty_like(q), q.new_empty(B, H, T, 1)
        future = torch.full((C, C), float("-inf")).triu(1)
        for b in range(B):
            kt, vb = torch.cat((pk, k[b]), 1).transpose(1, 2), torch.cat((pv, v[b]), 1)
            for i in range(0, T, C):
                j = min(i + C, T)
                s = torch.bmm(q[b, :, i:j], kt[:, :, :P + j])
                s[:, :, P + i:].add_(future[:j - i, :j - i])
                top = s.amax(-1, keepdim=True)
                s.sub_(top).exp_()
                total = s.sum(-1, keepdim=True)
                out[b, :, i:j] = torch.bmm(s, vb[:, :P + j]).div_(total)
                lse[b, :, i:j] = total.log_().add_(top)
        ctx.save_for_backward(q, k, v, pk, pv, out, lse)
        return out, lse

    @staticmethod
    def backward(ctx, grad, grad_lse):
        q, k, v, pk, pv, out, lse = ctx.saved_tensors
        B, H, T, D = q.shape
        P, C = pk.shape[1], Attend.BLOCK
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        dpk, dpv = torch.zeros_like(pk), torch.zeros_like(pv)
        delta = (grad * out).sum(-1, keepdim=True) - grad_lse
        future = torch.full((C, C), float("-inf")).triu(1)
        for b in range(B):
            kb, vb = torch.cat((pk, k[b]), 1), torch.cat((pv, v[b]), 1)
            kt, vt = kb.transpose(1, 2), vb.transpose(1, 2)
            dkb, dvb = torch.zeros_like(kb), torch.zeros_like(vb)
            for i in range(0, T, C):
                j = min(i + C, T)
                n, qb, gb = P + j, q[b, :, i:j], grad[b, :, i:j]
                s = torch.bmm(qb, kt[:, :, :n])
                s[:, :, P + i:].add_(future[:j - i, :j - i])
                s.sub_(lse[b, :, i:j]).exp_()
                dvb[:, :n].add_(torch.bmm(s.transpose(1, 2), gb))
                s.mul_(torch.bmm(gb, vt[:, :, :n]).sub_(delta[b, :, i:j]))
                dq[b, :, i:j] = torch.bmm(s, kb[:, :n])
                dkb[:, :n].add_(torch.bmm(s.transpose(1, 2), qb))
            dpk += dkb[:, :P]
            dpv += dvb[:, :P]
            dk[b], dv[b] = dkb[:, P:], dvb[:, P:]
        return dq, dk, dv, dpk, dpv


def rms_norm(x, weight, eps):
    if x.requires_grad and fast.available(32):
        return fast.Norm.apply(x, weight, eps)
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        d, self.heads, self.eps = c["width"], c["heads"], c["eps"]
        self.norm1, self.norm2 = nn.Parameter(torch.ones(d)), nn.Parameter(torch.ones(d))
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d, bias=False)
        self.gate_up, self.down = nn.Linear(d, 2 * c["ff"], bias=False), nn.Linear(c["ff"], d, bias=False)
        for w in (self.qkv.weight, self.gate_up.weight):
            nn.init.normal_(w, std=0.02)
        for w in (self.out.weight, self.down.weight):
            nn.init.normal_(w, std=0.02 / math.sqrt(2 * c["layers"]))
        nn.init.zeros_(self.qkv.bias)

    def project(self, x, cos, sin):
        B, T, d = x.shape
        q, k, v = self.qkv(rms_norm(x, self.norm1, self.eps)).view(B, T, 3 * self.heads, -1).transpose(1, 2).chunk(3, 1)
        scale = q.shape[-1] ** -0.5
        return rotate(q, cos * scale, sin * scale), rotate(k, cos, sin), v

    @staticmethod
    def join(attended):
        B, H, T, D = attended.shape
        return attended.transpose(1, 2).reshape(B, T, H * D)

    def finish(self, x, attended):
        x = x + self.out(attended)
        x2 = self.gate_up(rms_norm(x, self.norm2, self.eps))
        if x2.requires_grad and fast.available(32):
            return x + self.down(fast.Gate.apply(x2))
        gate, up = x2.chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Pocket(nn.Module):
    def __init__(self, config=None):
        super().__init__()
        self.c = c = dict(CONFIG, **(config or {}))
        self.embed = nn.Embedding(c["vocab"], c["width"])
        nn.init.normal_(self.embed.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c["layers"]))
        self.norm = nn.Parameter(torch.ones(c["width"]))
        half = c["width"] // c["heads"] // 2
        freq = c["theta"] ** (-torch.arange(half).float() / half)
        angle = torch.arange(c["context"]).float()[:, None] * freq
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def hidden(self, x, prefix, keep=None, look=None):
        """States of the sequences x (B, T) behind one prefix (P) that all of them share.

        With a mask keep (B, T) only the states at those places, as one list: the last block then does less work.
        With look, four vectors (row, head, place, place to look at), returns also how much of their attention the heads of
        the last block give to these places, each as its negative logarithm.
        """
        P, T = len(prefix), x.shape[1]
        p, x = self.embed(prefix[None]), self.embed(x)
        cos, sin = self.cos[:P + T], self.sin[:P + T]
        if fast.available(2 * cos.shape[1]):
            return self.hidden_fast(p, x, cos, sin, keep, look)
        empty = None
        for block in self.blocks:
            pq, pk, pv = block.project(p, cos[:P], sin[:P])
            q, k, v = block.project(x, cos[P:], sin[P:])
            if empty is None:
                empty = pk.new_zeros(pk.shape[1], 0, pk.shape[3])
            attended, lse = Attend.apply(q, k, v, pk[0], pv[0])
            attended = block.join(attended)
            if block is not self.blocks[-1]:
                x = block.finish(x, attended)
                p = block.finish(p, block.join(Attend.apply(pq, pk, pv, empty, empty)[0]))
            else:
                x = block.finish(x, attended) if keep is None else block.finish(x[keep], attended[keep])
        x = rms_norm(x, self.norm, self.c["eps"])
        if look is None:
            return x
        row, head, place, target = look
        return x, lse[row, head, place, 0] - (q[row, head, place] * k[row, head, target]).sum(-1)

    def hidden_fast(self, p, x, cos, sin, keep, look):
        """The same with compiled attention."""
        P, H = p.shape[1], self.c["heads"]
        for block in self.blocks:
            last = block is self.blocks[-1]
            pqkv = block.qkv(rms_norm(p, block.norm1, block.eps))
            qkv = block.qkv(rms_norm(x, block.norm1, block.eps))
            attended, lse = fast.Attend.apply(qkv, pqkv[0], cos, sin, H)
            if not last:
                x = block.finish(x, attended)
                p = block.finish(p, fast.Attend.apply(pqkv, pqkv[0, :0], cos, sin, H)[0])
            else:
                x = block.finish(x, attended) if keep is None else block.finish(x[keep], attended[keep])
        x = rms_norm(x, self.norm, self.c["eps"])
        if look is None:
            return x
        row, head, place, target = look
        heads = qkv.view(*qkv.shape[:2], 3, H, -1)
        q = rotate(heads[row, place, 0, head], cos[P + place], sin[P + place])
        k = rotate(heads[row, target, 1, head], cos[P + target], sin[P + target])
        return x, lse[row, head, place] - (q * k).sum(-1) * q.shape[-1] ** -0.5

    def logits(self, h):
        return F.linear(h, self.embed.weight)

    @torch.no_grad()
    def step(self, x, cache):
        """Appends the tokens x (T) to a cache from new_cache() and returns their states; for decoding and checking."""
        n, T, x = cache["n"], len(x), self.embed(x[None])
        cos, sin = self.cos[n:n + T], self.sin[n:n + T]
        for block, k, v in zip(self.blocks, cache["k"], cache["v"]):
            q, k[:, n:n + T], v[:, n:n + T] = (t[0] for t in block.project(x, cos, sin))
            s = torch.bmm(q, k[:, :n + T].transpose(1, 2))
            if T > 1:
                s += torch.full((T, n + T), float("-inf")).triu(n + 1)
            x = block.finish(x, block.join(torch.bmm(torch.softmax(s, -1), v[:, :n + T])[None]))
        cache["n"] = n + T
        return rms_norm(x[0], self.norm, self.c["eps"])

    def new_cache(self, size=None):
        shape = (self.c["layers"], self.c["heads"], size or self.c["context"], self.c["width"] // self.c["heads"])
        return {"n": 0, "k": torch.empty(shape), "v": torch.empty(shape)}

    def size(self):
        return sum(p.numel() for p in self.parameters())


@torch.no_grad()
def plant_copying(m, seed=0):
    """Starts the model with heads that copy: every head of block 0 looks a fixed number of tokens back (possible with
    the q/k biases and rotary positions alone) and stores what it sees; two heads of block 1 compare the last tokens
    with those in front of every earlier token and read that token. Training refines the heads; without this
    start the phase before copying appears is several times longer.
    """
    c = m.c
    d, H = c["width"], c["heads"]
    hd, half = d // H, d // H // 2
    g = torch.Generator().manual_seed(seed)
    basis = lambda n, rows: torch.linalg.qr(torch.randn(n, n, generator=g))[0][:rows]
    freq = c["theta"] ** (-torch.arange(half).float() / half)
    slow = [i for i in range(half) if freq[i] < 0.003]      # pairs that hardly turn over a transcript: content
    index = slow + [i + half for i in slow]
    r, scale = len(index), float(m.embed.weight.std()) * math.sqrt(d)
    b0, b1 = m.blocks[0], m.blocks[1]
    rows = lambda part, h: slice(part * d + h * hd, part * d + (h + 1) * hd)

    fast = (freq > 0.02).float()
    sharp = math.sqrt(6 * math.sqrt(hd) / float((fast * (1 - torch.cos(freq))).sum()))
    read, space = basis(d, r), basis(d, d)
    store = []
    heads = min(H, 4, d // r)
    for h in range(heads):
        q, k, v, back = rows(0, h), rows(1, h), rows(2, h), h + 1
        b0.qkv.weight[q] *= 0.1
        b0.qkv.weight[k] *= 0.1
        b0.qkv.bias[k] = torch.cat((fast * sharp, torch.zeros(half)))
        b0.qkv.bias[q] = torch.cat((fast * sharp * torch.cos(freq * back), -fast * sharp * torch.sin(freq * back)))
        value = torch.zeros(hd, d)
        value[:r] = read
        b0.qkv.weight[v] = value
        slot = space[h * r:(h + 1) * r]
        write = torch.zeros(d, hd)
        write[:, :r] = slot.t() * (scale / math.sqrt(r))
        b0.out.weight[:, h * hd:(h + 1) * hd] = write
        store.append(slot)

    s = 2.5
    for h in range(min(H, 2)):
        query, key = torch.zeros(hd, d), torch.zeros(hd, d)
        if h == 0:          # this token = the one before
            query[index], key[index] = s * read, s * store[0]
        else:               # the same for the last two or three tokens, in fewer dimensions each
            pairs = [(read, store[0]), (store[0], store[1])] + ([(store[1], store[2])] if heads > 2 else [])
            for n, (a, b) in enumerate(pairs):
                part = index[n * r // len(pairs):(n + 1) * r // len(pairs)]
                mix = basis(r, len(part))
                query[part], key[part] = s * mix @ a, s * mix @ b
        b1.qkv.weight[rows(0, h)], b1.qkv.weight[rows(1, h)] = query, key
        copy = basis(d, hd)
        b1.qkv.weight[rows(2, h)] = copy
        b1.out.weight[:, h * hd:(h + 1) * hd] = copy.t() * (3 * scale / math.sqrt(hd))
