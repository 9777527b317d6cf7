"""Reads and writes GGUF v3 files, as much of the format as the pocket model needs."""
import struct

import numpy as np

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9
FORMAT = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TYPES = {"F32": 0, "F16": 1, "Q8_0": 8}
ALIGN = 32


def quantise_q8_0(x):
    """Blocks of 32 numbers: one half-precision scale and 32 signed bytes."""
    blocks = x.reshape(-1, 32).astype(np.float32)
    scale = np.abs(blocks).max(1) / 127
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    q = np.rint(blocks * inverse[:, None]).astype(np.int8)
    return b"".join(s.tobytes() + r.tobytes() for s, r in zip(scale.astype(np.float16), q))


def dequantise(raw, kind, count):
    if kind == 0:
        return np.frombuffer(raw, "<f4", count).copy()
    if kind == 1:
        return np.frombuffer(raw, "<f2", count).astype(np.float32)
    blocks = np.frombuffer(raw, np.uint8, count // 32 * 34).reshape(-1, 34)
    return (blocks[:, :2].copy().view("<f2").astype(np.float32) * blocks[:, 2:].view(np.int8).astype(np.float32)).ravel()


def _string(s):
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def _value(v):
    if isinstance(v, bool):
        return BOOL, struct.pack("<?", v)
    if isinstance(v, int):
        return U32, struct.pack("<I", v)
    if isinstance(v, float):
        return F32, struct.pack("<f", v)
    if isinstance(v, str):
        return STRING, _string(v)
    kind = 5 if isinstance(v[0], int) else STRING       # token types are signed in all known files
    items = [struct.pack("<i", i) if kind == 5 else _string(i) for i in v]
    return ARRAY, struct.pack("<IQ", kind, len(v)) + b"".join(items)


def write(path, metadata, tensors):
    """tensors: {name: (array, "F32" | "F16" | "Q8_0")}"""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(metadata))]
    for key, v in metadata.items():
        kind, data = _value(v)
        out += [_string(key), struct.pack("<I", kind), data]
    blobs, offset = [], 0
    for name, (x, kind) in tensors.items():
        x = np.ascontiguousarray(x, np.float32)
        blob = x.tobytes() if kind == "F32" else x.astype(np.float16).tobytes() if kind == "F16" else quantise_q8_0(x)
        shape = x.shape[::-1]                           # the fastest dimension comes first
        out += [_string(name), struct.pack("<I", len(shape)), struct.pack(f"<{len(shape)}Q", *shape), struct.pack("<IQ", TYPES[kind], offset)]
        blob += bytes(-len(blob) % ALIGN)
        blobs.append(blob)
        offset += len(blob)
    head = b"".join(out)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % ALIGN) + b"".join(blobs))


def read(path):
    """Returns (metadata, {name: float32 array})."""
    with open(path, "rb") as f:
        data = f.read()
    at = 0

    def take(fmt):
        nonlocal at
        v = struct.unpack_from(fmt, data, at)
        at += struct.calcsize(fmt)
        return v[0] if len(v) == 1 else v

    def value(kind):
        nonlocal at
        if kind == STRING:
            n = take("<Q")
            at += n
            return data[at - n:at].decode()
        if kind == ARRAY:
            inner, n = take("<IQ")
            return [value(inner) for _ in range(n)]
        return take(FORMAT[kind])

    if data[:4] != b"GGUF" or struct.unpack_from("<I", data, 4)[0] != 3:
        raise ValueError("not a GGUF v3 file: " + path)
    at = 8
    count, entries = take("<QQ")
    metadata = {}
    for _ in range(entries):
        key = value(STRING)
        metadata[key] = value(take("<I"))
    table = []
    for _ in range(count):
        name, dims = value(STRING), take("<I")
        shape = [take("<Q") for _ in range(dims)]
        table.append((name, shape[::-1], *take("<IQ")))
    base = at + -at % metadata.get("general.alignment", ALIGN)
    return metadata, {name: dequantise(data[base + offset:], kind, int(np.prod(shape))).reshape(shape) for name, shape, kind, offset in table}
