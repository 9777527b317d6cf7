#!/usr/bin/env python3
"""tool_loop.py ENGINE_BENCH MODEL.gguf [-t 2] [-s 10] [-r 3] [--server LLAMA_SERVER]

A tool loop of an agent that thinks: opening prompt of 600 tokens; each step writes 40, of which 30 are thoughts that the
next prompt no longer has, then 150 of a tool's result follow. Kontor in the process against an HTTP server over
llama.cpp (peer_server.mjs) that keeps its context between requests and is handed token ids, so that it never loses its
cache to a text that is cut into other tokens. With --server it is that llama-server (llama.cpp or a fork of it), with its
prompt cache on. Same file, same threads, alternating runs; loading is not measured."""
import argparse, http.client, json, os, signal, socket, statistics, subprocess, sys, tempfile, time

OPENING, THOUGHTS, CALL, RESULT = 600, 30, 10, 150


def kontor(a):
    out = subprocess.run([a.bench, "loop", a.model, str(a.t), str(a.s)], check=True, capture_output=True, text=True).stdout
    row = json.loads(out)
    return row["seconds"], row["computed"]


def draws():
    state = 1

    def draw(n):
        nonlocal state
        ids = []
        for _ in range(n):
            state = (state * 1103515245 + 12345) % 2147483648
            ids.append(100 + state % 149000)
        return ids
    return draw


def ask(connection, path, body):
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200:
        sys.exit(f"the server answers {answer.status}: {text[:300]!r}")
    return json.loads(text)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_loaded(server, port, seconds=300):
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    sys.exit("the server does not start; try it by hand with the same file")


def server_peer(a):
    port = free_port()
    # Some versions write llama.log where they start.
    server = subprocess.Popen([os.path.abspath(a.server), "-m", os.path.abspath(a.model), "-t", str(a.t), "-tb", str(a.t), "-c", "4096", "-np", "1", "--host", "127.0.0.1", "--port", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    try:
        wait_until_loaded(server, port)
        connection = http.client.HTTPConnection("127.0.0.1", port)
        draw = draws()
        prompt, evaluated = draw(OPENING), []
        start = time.monotonic()
        for _ in range(a.s):
            answer = ask(connection, "/completion", {"prompt": prompt, "n_predict": THOUGHTS + CALL, "temperature": 0, "ignore_eos": True, "cache_prompt": True})
            if answer["timings"]["predicted_n"] != THOUGHTS + CALL:
                sys.exit(f"the server wrote {answer['timings']['predicted_n']} tokens, not {THOUGHTS + CALL}")
            evaluated.append(answer["timings"]["prompt_n"])
            # The thoughts are gone, so what stands behind them is computed again, whichever tokens it is.
            prompt = prompt + draw(CALL) + draw(RESULT)
        return time.monotonic() - start, evaluated
    finally:
        server.kill()
        server.wait()


def peer(a):
    if a.server:
        return server_peer(a)
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_server.mjs")
    server = subprocess.Popen(["node", script, a.model, str(a.t), "4096"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", port)
        draw = draws()
        prompt, evaluated = draw(OPENING), []
        start = time.monotonic()
        for _ in range(a.s):
            answer = ask(connection, "/", {"tokens": prompt, "count": THOUGHTS + CALL})
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
    parser.add_argument("--server", help="a llama-server to start as the peer")
    a = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # The server ends with us.
    ours, theirs = [], []
    for _ in range(a.r):
        seconds, computed = kontor(a)
        ours.append(seconds)
        seconds, evaluated = peer(a)
        theirs.append(seconds)
    print(f"{os.path.basename(a.model)}, {a.t} threads, {a.s} steps, {a.r} alternating runs; medians")
    print(f"  {'kontor':<12} {statistics.median(ours):7.2f} s  ({min(ours):.2f}..{max(ours):.2f})  prompt tokens computed: {computed}")
    name = os.path.basename(a.server) if a.server else "llama.cpp"
    print(f"  {name:<12} {statistics.median(theirs):7.2f} s  ({min(theirs):.2f}..{max(theirs):.2f})  prompt tokens computed: {evaluated}")
    print(f"  {'ratio':<12} {statistics.median(ours) / statistics.median(theirs):7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
