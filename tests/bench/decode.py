#!/usr/bin/env python3
"""decode.py KONTOR MODEL.gguf [-t 1] [-p 128] [-n 32] [-d 0] [-r 5] [--ik LLAMA_BENCH]

Kontor against llama.cpp (node-llama-cpp's prebuilt binary, see peer_llama.mjs) and, where its llama-bench is named,
ik_llama.cpp with run-time repacking: same file, same number of threads, alternating runs, medians and their ratios.
Processor seconds are the fairer figure on a machine that does other work and only mean something with one thread;
llama-bench does not report them. With -d, Kontor also decodes with an empty cache, for what the depth costs."""
import argparse, json, os, statistics, subprocess, sys


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def kontor(a):
    depths = "0" if a.d == 0 else f"0,{a.d}"
    rows = json.loads(run([a.kontor, "model", "bench", a.model, "--device", "cpu", "-t", str(a.t), "-p", str(a.p), "-n", str(a.n), "-d", depths, "-r", "1", "--json"]))
    out = {}
    for row in rows:
        name = "prefill" if row["test"].startswith("pp") else "decode"
        if row["depth"] != a.d:
            name += " at 0"
        out[name] = {"wall": 1 / row["tokens_per_second"]["median"], "cpu": row["cpu_seconds_per_token"]}
        out["read"] = row["read_bandwidth_gb_per_second"]
    return out


def llama(a):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_llama.mjs")
    return json.loads(run(["node", script, a.model, str(a.t), str(a.p), str(a.n), str(a.d)]).splitlines()[-1])


def ik(a):
    command = [a.ik, "-m", a.model, "-t", str(a.t), "-ngl", "0", "-rtr", "1", "-r", "1", "-o", "json"]
    out = {}
    for name, wanted, test in (("prefill", a.p > 0 and a.d == 0, ["-p", str(a.p), "-n", "0"]),
                               ("decode", a.n > 0, ["-p", "0", "-n", str(a.n)] if a.d == 0 else ["-p", "0", "-n", "0", "-gp", f"{a.d},{a.n}"])):
        if wanted:
            text = run(command + test)
            out[name] = {"wall": 1 / json.loads(text[text.index("["):])[-1]["avg_ts"]}
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kontor")
    parser.add_argument("model")
    for flag, default in (("-t", 1), ("-p", 128), ("-n", 32), ("-d", 0), ("-r", 5)):
        parser.add_argument(flag, type=int, default=default)
    parser.add_argument("--ik", default=os.environ.get("KONTOR_IK_LLAMA", ""))
    a = parser.parse_args()
    programs = {"kontor": kontor, "llama.cpp": llama} | ({"ik_llama.cpp": ik} if a.ik else {})
    results = {name: [] for name in programs}
    for _ in range(a.r):
        for name, measure in programs.items():
            results[name].append(measure(a))
    reads = [one["read"] for one in results["kontor"]]
    print(f"{os.path.basename(a.model)}, {a.t} threads, depth {a.d}, {a.r} alternating runs; medians, tokens/s; memory gave {min(reads):.0f} to {max(reads):.0f} GB/s")
    for test in ("prefill", "decode"):
        for clock in ("wall", "cpu"):
            speeds = {name: [1 / one[test][clock] for one in runs if clock in one.get(test, {})] for name, runs in results.items()}
            speeds = {name: s for name, s in speeds.items() if s}
            if "kontor" not in speeds or len(speeds) < 2:
                continue
            medians = {name: statistics.median(s) for name, s in speeds.items()}
            ratio = medians["kontor"] / max(m for name, m in medians.items() if name != "kontor")
            values = "  ".join(f"{name} {m:8.2f}" for name, m in medians.items())
            spread = ", ".join(f"{name} {min(s):.2f}..{max(s):.2f}" for name, s in speeds.items())
            print(f"  {test:8} {clock:4}  {values}  ratio to the best peer {ratio:5.2f}   ({spread})")
    for clock in ("wall", "cpu"):
        pairs = [(one["decode"][clock], one["decode at 0"][clock]) for one in results["kontor"] if "decode at 0" in one]
        if pairs:
            losses = [100 * (1 - empty / deep) for deep, empty in pairs]
            print(f"  kontor behind {a.d} tokens, {clock}: {statistics.median(losses):.1f} % fewer tokens/s than with an empty cache   ({min(losses):.1f}..{max(losses):.1f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
