"""The tables of bench/run.py in Markdown, and how far what was asked for is reached."""

import statistics
import sys

MINE = "chasq"
# Those that flush what they accept; the others are peers where nothing need be durable.
DURABLE = ("Postfix", "Exim")
PEERS = ("Postfix", "Exim", "OpenSMTPD", "chasquid")


def figure(x):
    return f"{x:.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.3g}"


def median(samples, key):
    return statistics.median(s[key] for s in samples)


def cell(samples, key, key2=None):
    if not samples:
        return "-"
    values = sorted(s[key] for s in samples)
    text = figure(statistics.median(values))
    if key2:
        return f"{text} / {figure(median(samples, key2))}"
    return f"{text} ({figure(values[0])}..{figure(values[-1])})" if len(values) > 1 else text


def best(found, key, peers, most=True):
    """The best median among the peers; None when none has one."""
    values = [median(found[n], key) for n in peers if found.get(n)]
    return (max if most else min)(values) if values else None


def ratio(found, key, peers, most=True):
    """Ours as a multiple of the best peer's; None when one of the two is missing."""
    other = best(found, key, peers, most)
    return median(found[MINE], key) / other if found.get(MINE) and other else None


def table(title, names, rows):
    """rows: (text, {name: cell}). Names without a cell are left out."""
    names = [n for n in names if any(n in cells for _, cells in rows)]
    print(f"\n### {title}\n\n| | " + " | ".join(names) + " |\n|---" + "|---" * len(names) + "|")
    for text, cells in rows:
        print(f"| {text} | " + " | ".join(cells.get(n, "-") for n in names) + " |")
    sys.stdout.flush()


def races(found, names, columns, peers):
    """found: [(text, {name: samples})]; columns: (title, key, second key, whether more is better).
    Two columns more say how we stand to the best of the peers, and to bare log."""
    for title, key, key2, most in columns:
        rows = []
        for text, samples in found:
            if not samples:
                continue
            cells = {n: cell(s, key, key2) for n, s in samples.items()}
            for column, others in (("of the best peer", peers), ("of bare log", ["bare log"])):
                x = ratio(samples, key, others, most) if most is not None else None
                if x is not None:
                    cells[column] = f"**{figure(x)}**"
            rows.append((text, cells))
        table(title, [*names, "of the best peer", "of bare log"], rows)


class Goals:
    """What was asked for, and what came out."""

    def __init__(self):
        self.rows = []

    def least(self, text, value, goal):
        self._add(text, value, f"at least {figure(goal)}", value is not None and value >= goal)

    def most(self, text, value, goal):
        self._add(text, value, f"at most {figure(goal)}", value is not None and value <= goal)

    def _add(self, text, value, goal, good):
        self.rows.append((text, {"asked for": goal, "measured": "-" if value is None else figure(value),
                                 "reached": "-" if value is None else "yes" if good else "**no**"}))

    def print(self):
        if self.rows:
            table("What was asked for", ["asked for", "measured", "reached"], self.rows)
