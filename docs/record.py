#!/usr/bin/env python3
"""record.py OUT.svg [--width COLUMNS] [--head N] [--tail N] [--title TEXT] -- COMMAND...

Runs a command on a terminal of its own and draws what it printed as an SVG picture (for the README)."""
import argparse
import html
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import fcntl

COLOURS = {30: "#6e7681", 31: "#ff7b72", 32: "#7ee787", 33: "#e3b341", 34: "#79c0ff", 35: "#d2a8ff", 36: "#76e3ea",
           37: "#e6edf3", 90: "#8b949e", 91: "#ffa198", 92: "#aff5b4", 93: "#f2cc60", 94: "#a5d6ff", 95: "#e2c5ff", 96: "#b3f0ff"}
SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")
CELL, LINE, PAD = 8.4, 18, 14


def output_of(command, columns):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
                               env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}, close_fds=True)
    os.close(slave)
    data = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        data += piece
    process.wait()
    return data.decode("utf-8", "replace")


def screen(text):
    """Lines of (style, character) cells; carriage returns and erased lines are followed."""
    lines, row, column, style = [[]], 0, 0, (None, False, False)
    at = 0
    while at < len(text):
        found = SEQUENCE.match(text, at)
        if found:
            at = found.end()
            arguments = [int(a) if a.isdigit() else 0 for a in found[1].split(";")]
            if found[2] == "m":
                for code in arguments:
                    colour, bold, dim = style
                    style = ((None, False, False) if code == 0 else (colour, True, dim) if code == 1 else (colour, bold, True) if code == 2
                             else (colour, False, False) if code == 22 else (None, bold, dim) if code == 39
                             else (code, bold, dim) if code in COLOURS else style)
            elif found[2] == "K":
                del lines[row][0 if arguments[0] == 2 else column:]
            elif found[2] == "A":
                row = max(0, row - max(1, arguments[0]))
            elif found[2] == "J":
                del lines[row + 1:]
                del lines[row][column:]
            elif found[2] == "G":
                column = max(0, arguments[0] - 1)
            continue
        c = text[at]
        at += 1
        if c == "\n":
            row += 1
            column = 0
            while len(lines) <= row:
                lines.append([])
        elif c == "\r":
            column = 0
        elif c >= " ":
            line = lines[row]
            while len(line) <= column:
                line.append(((None, False, False), " "))
            line[column] = (style, c)
            column += 1
    while lines and not lines[-1]:
        lines.pop()
    return lines


def svg(lines, columns, title):
    width, height = columns * CELL + 2 * PAD, (len(lines) + 2) * LINE + 2 * PAD
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">',
           f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>',
           '<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,\'DejaVu Sans Mono\',monospace" font-size="14" xml:space="preserve" fill="#e6edf3">',
           f'<text x="{PAD}" y="{PAD + LINE - 4}" fill="#7ee787">$ {html.escape(title)}</text>']
    for number, line in enumerate(lines, 2):
        spans, i = [], 0
        while i < len(line):
            j = i
            while j < len(line) and line[j][0] == line[i][0]:
                j += 1
            colour, bold, dim = line[i][0]
            attributes = (f' fill="{COLOURS[colour]}"' if colour else "") + (' font-weight="bold"' if bold else "") + (' opacity="0.6"' if dim else "")
            spans.append(f'<tspan x="{PAD + i * CELL:.1f}"{attributes}>{html.escape("".join(c for _, c in line[i:j]))}</tspan>')
            i = j
        out.append(f'<text y="{PAD + number * LINE - 4}">{"".join(spans)}</text>')
    return "\n".join(out + ["</g>", "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--width", type=int, default=110)
    parser.add_argument("--head", type=int, default=24, help="lines kept at the top")
    parser.add_argument("--tail", type=int, default=24, help="lines kept at the end")
    parser.add_argument("--title")
    words = sys.argv[1:]
    if "--" not in words or words[-1] == "--":
        parser.error("the command to record stands behind --")
    a = parser.parse_args(words[:words.index("--")])
    command = words[words.index("--") + 1:]
    lines = [line[:a.width] for line in screen(output_of(command, a.width))]
    if len(lines) > a.head + a.tail + 1:
        lines = lines[:a.head] + [[((90, False, False), c) for c in "  ..."]] + lines[-a.tail:]
    with open(a.out, "w", encoding="utf-8") as f:
        f.write(svg(lines, a.width, a.title or " ".join(command)))


if __name__ == "__main__":
    main()
