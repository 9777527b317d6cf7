#!/usr/bin/env python3
"""batch.py KONTOR QUANT [-t 2] [-r 3]

Decoding 1, 4 and 16 sequences at once, the R1-Distill-Qwen-1.5B shape with synthetic weights: tokens/s of all together and
their ratio to one sequence; alternating runs, medians."""
import argparse, json, statistics, subprocess, sys


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kontor")
    parser.add_argument("quant")
    parser.add_argument("-t", type=int, default=2)
    parser.add_argument("-r", type=int, default=3)
    a = parser.parse_args()
    runs = []
    for _ in range(a.r):
        command = [a.kontor, "model", "bench", "--shape", "r1-distill-qwen-1.5b", "--quant", a.quant, "--device", "cpu", "-t", str(a.t),
                   "-p", "0", "-n", "24", "-b", "1,4,16", "-r", "2", "--json"]
        runs.append({row["sequences"]: row for row in json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)})
    print(f"{a.quant}, {a.t} threads, {a.r} runs; medians")
    for sequences in runs[0]:
        wall = [run[sequences]["tokens_per_second"]["median"] for run in runs]
        times = [run[sequences]["tokens_per_second"]["median"] / run[1]["tokens_per_second"]["median"] for run in runs]
        cpu = [run[1]["cpu_seconds_per_token"] / run[sequences]["cpu_seconds_per_token"] for run in runs]
        print(f"  {sequences:3} sequences  {statistics.median(wall):8.2f} tokens/s ({min(wall):.2f}..{max(wall):.2f})   {statistics.median(times):5.2f} times one"
              f"   by processor time {statistics.median(cpu):5.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
