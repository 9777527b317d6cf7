#!/usr/bin/env python3
"""tool_loop.py ENGINE_BENCH MODEL.gguf [-t 2] [-s 10] [-r 3]

A tool loop of an agent that thinks: opening prompt of 600 tokens; each step writes 40, of which 30 are thoughts that the
next prompt no longer has, then 150 of a tool's result follow. Kontor in the process against an HTTP server over
llama.cpp (peer_server.mjs) that keeps its context between requests and is handed token ids, so that it never loses its
cache to a text that is cut into other tokens. Same file, same threads, alternating runs; loading is not measured."""
import argparse, http.client, json, os, statistics, subprocess, sys, time

OPENING, THOUGHTS, CALL, RESULT = 600, 30, 10, 150


def kontor(a):
    out = subprocess.run([a.bench, "loop", a.model, str(a.t), str(a.s)], check=True, capture_output=True, text=True).stdout
    row = json.loads(out)
    return row["seconds"], row["computed"]


def peer(a):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_server.mjs")
    server = subprocess.Popen(["node", script, a.model, str(a.t), "4096"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", port)
        state = 1

        def draw(n):
            nonlocal state
            ids = []
            for _ in range(n):
                state = (state * 1103515245 + 12345) % 2147483648
                ids.append(100 + state % 149000)
            return ids

        prompt, evaluated = draw(OPENING), []
        start = time.monotonic()
        for _ in range(a.s):
            connection.request("POST", "/", json.dumps({"tokens": prompt, "count": THOUGHTS + CALL}))
            answer = json.loads(connection.getresponse().read())
            evaluated.append(answer["evaluated"])
            prompt = prompt + answer["tokens"][THOUGHTS:] + draw(RESULT)
        return time.monotonic() - start, evaluated
    finally:
        server.kill()
        server.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("model")
    for flag, default in (("-t", 2), ("-s", 10), ("-r", 3)):
        parser.add_argument(flag, type=int, default=default)
    a = parser.parse_args()
    ours, theirs = [], []
    for _ in range(a.r):
        seconds, computed = kontor(a)
        ours.append(seconds)
        seconds, evaluated = peer(a)
        theirs.append(seconds)
    print(f"{os.path.basename(a.model)}, {a.t} threads, {a.s} steps, {a.r} alternating runs; medians")
    print(f"  kontor    {statistics.median(ours):7.2f} s  ({min(ours):.2f}..{max(ours):.2f})  prompt tokens computed: {computed}")
    print(f"  llama.cpp {statistics.median(theirs):7.2f} s  ({min(theirs):.2f}..{max(theirs):.2f})  prompt tokens computed: {evaluated}")
    print(f"  ratio     {statistics.median(ours) / statistics.median(theirs):7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
