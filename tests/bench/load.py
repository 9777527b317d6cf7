#!/usr/bin/env python3
"""load.py KONTOR MODEL.gguf [-t 2] [-r 5]

From start to first token with the file in the page cache: Kontor's whole process against llama.cpp inside node (loading and
one token; node's own start is not counted), alternating runs, medians. Then Kontor's peak memory beyond the file's size,
which is about that of the weights."""
import argparse, os, statistics, subprocess, sys, time


def measure(command):
    """Wall and processor seconds and peak memory (bytes) of a process, and what it printed."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"{command[0]} failed")
    return {"wall": time.monotonic() - start, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss * 1024}, text


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kontor")
    parser.add_argument("model")
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-r", type=int, default=5)
    a = parser.parse_args()
    with open(a.model, "rb") as file:  # Into the page cache.
        while file.read(1 << 24):
            pass
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_load.mjs")
    ours, theirs = [], []
    for _ in range(a.r):
        ours.append(measure([a.kontor, "model", "generate", a.model, "--device", "cpu", "--threads", str(a.t), "--prompt", "the", "-n", "1"])[0])
        result, text = measure(["node", script, a.model, str(a.t)])
        seconds, processor = map(float, text.splitlines()[-1].split())
        theirs.append({"wall": seconds, "cpu": processor})
    print(f"{os.path.basename(a.model)}, {a.t} threads, {a.r} alternating runs; medians, seconds to the first token")
    for clock in ("wall", "cpu"):
        k, p = ([run[clock] for run in runs] for runs in (ours, theirs))
        print(f"  {clock:4}  kontor {statistics.median(k):.2f} ({min(k):.2f}..{max(k):.2f})  llama.cpp {statistics.median(p):.2f} ({min(p):.2f}..{max(p):.2f})"
              f"  ratio {statistics.median(k) / statistics.median(p):.2f}")
    peak = max(run["peak"] for run in ours)
    print(f"  peak memory {peak / 1e6:.0f} MB, the file's size {(peak - os.path.getsize(a.model)) / 1e6:+.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
