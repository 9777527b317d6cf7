"""The slow parts of a training step, compiled: see fast.cpp. Without g++ the training runs in PyTorch alone (about half as fast)."""
import ctypes
import os
import subprocess
import tempfile

import torch


def _library():
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fast.cpp")
    with tempfile.TemporaryDirectory() as folder:
        target = os.path.join(folder, "fast.so")
        try:
            subprocess.run(["g++", "-std=c++20", "-O3", "-march=native", "-shared", "-fPIC",
                            "-o", target, source], check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return ctypes.CDLL(target)


_lib = _library()


def available(head_width):
    return _lib is not None and head_width == 32


def _call(name, *args):
    getattr(_lib, name)(*(ctypes.c_void_p(a.data_ptr()) if torch.is_tensor(a) else
                          ctypes.c_float(a) if isinstance(a, float) else ctypes.c_long(a) for a in args))


class Attend(torch.autograd.Function):
    """Causal attention of packed, unrotated queries, keys and values (B, T, 3, H, 32) over a prefix (P, 3, H, 32).

    Returns the attended values (B, T, H * 32) and the logarithms of the softmax sums (B, H, T).
    """

    @staticmethod
    def forward(ctx, qkv, prefix, cos, sin, heads):
        B, T, P = qkv.shape[0], qkv.shape[1], prefix.shape[0]
        qkv, prefix = qkv.contiguous(), prefix.contiguous()
        out, lse = qkv.new_empty(B, T, heads * 32), qkv.new_empty(B, heads, T)
        _call("attend_forward", qkv, prefix, cos, sin, out, lse, B, T, P, heads)
        ctx.save_for_backward(qkv, prefix, cos, sin, out, lse)
        return out, lse

    @staticmethod
    def backward(ctx, grad, grad_lse):
        qkv, prefix, cos, sin, out, lse = ctx.saved_tensors
        B, T, P = qkv.shape[0], qkv.shape[1], prefix.shape[0]
        dqkv, dprefix = torch.empty_like(qkv), torch.zeros_like(prefix)
        _call("attend_backward", qkv, prefix, cos, sin, out, lse, grad.contiguous(), grad_lse.contiguous(), dqkv, dprefix,
              B, T, P, lse.shape[1])
        return dqkv, dprefix, None, None, None


class Gate(torch.autograd.Function):
    """silu(gate) * up of (..., gate and up)."""

    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        y = x.new_empty(*x.shape[:-1], x.shape[-1] // 2)
        _call("gate_forward", x, y, y.numel() // y.shape[-1], y.shape[-1])
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, grad):
        x, = ctx.saved_tensors
        dx = torch.empty_like(x)
        _call("gate_backward", x, grad.contiguous(), dx, grad.numel() // grad.shape[-1], grad.shape[-1])
        return dx


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, eps):
        x = x.contiguous()
        y, scale = torch.empty_like(x), x.new_empty(x.shape[:-1])
        _call("norm_forward", x, weight, float(eps), y, scale, scale.numel(), x.shape[-1])
        ctx.save_for_backward(x, weight, scale)
        return y

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        dx, dweight = torch.empty_like(x), torch.empty_like(weight)
        _call("norm_backward", x, weight, scale, grad.contiguous(), dx, dweight, scale.numel(), x.shape[-1])
        return dx, dweight, None
