#!/usr/bin/env python3
"""decode.py KONTOR MODEL.gguf [-t 1] [-p 128] [-n 32] [-d 0] [-r 5]

Kontor against llama.cpp (node-llama-cpp's prebuilt binary, see peer_llama.mjs): same file, same number of threads,
alternating runs, medians and their ratio. Processor seconds are the fairer figure on a machine that does other work and
only mean something with one thread."""
import argparse, json, os, statistics, subprocess, sys


def kontor(a):
    command = [a.kontor, "model", "bench", a.model, "--device", "cpu", "-t", str(a.t), "-p", str(a.p), "-n", str(a.n), "-d", str(a.d), "-r", "1", "--json"]
    rows = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    out = {}
    for row in rows:
        name = "prefill" if row["test"].startswith("pp") else "decode"
        out[name] = {"wall": 1 / row["tokens_per_second"]["median"], "cpu": row["cpu_seconds_per_token"]}
    return out


def peer(a):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_llama.mjs")
    command = ["node", script, a.model, str(a.t), str(a.p), str(a.n), str(a.d)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kontor")
    parser.add_argument("model")
    for flag, default in (("-t", 1), ("-p", 128), ("-n", 32), ("-d", 0), ("-r", 5)):
        parser.add_argument(flag, type=int, default=default)
    a = parser.parse_args()
    results = {"kontor": [], "llama.cpp": []}
    for _ in range(a.r):
        results["kontor"].append(kontor(a))
        results["llama.cpp"].append(peer(a))
    print(f"{os.path.basename(a.model)}, {a.t} threads, depth {a.d}, {a.r} alternating runs; medians, tokens/s")
    for test in ("prefill", "decode"):
        for clock in ("wall", "cpu"):
            speeds = {name: [1 / run[test][clock] for run in runs if test in run] for name, runs in results.items()}
            if not all(speeds.values()):
                continue
            ours, theirs = (statistics.median(speeds[name]) for name in ("kontor", "llama.cpp"))
            spread = ", ".join(f"{name} {min(s):.2f}..{max(s):.2f}" for name, s in speeds.items())
            print(f"  {test:8} {clock:4}  kontor {ours:8.2f}  llama.cpp {theirs:8.2f}  ratio {ours / theirs:5.2f}   ({spread})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
