"""Run the road and other systems' programs in turn, and print each one's median items/s with its ratio to the road.

./shopfloor … is called for the road; each peer is a shell command whose last line of stdout is JSON with `items_per_s`:

python benchmarks/side_by_side.py --runs 3 --peer 'taskiq=python run_taskiq.py --items 1200 --workers 2' …
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def last_line(command: str) -> dict[str, float]:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        raise SystemExit(f"{command}: exit {done.returncode}\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(lines[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--shopfloor", default=str(ROOT / "shopfloor"))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND")
    given = parser.parse_args()
    road = f"{given.shopfloor} benchmark road --items {given.items} --workers {given.workers} --singles 50 --idle-seconds 10 --json --mode "
    commands = {"shopfloor strict": road + "strict", "shopfloor fused": road + "fused"}
    commands |= dict(peer.split("=", 1) for peer in given.peer)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(given.runs):
        for name, command in commands.items():
            runs[name].append(last_line(command))
            print(f"{name}: {runs[name][-1]['items_per_s']} items/s", file=sys.stderr)
    base = statistics.median(run["items_per_s"] for run in runs["shopfloor strict"])
    print("| system | items/s, median | min | max | strict road is × |")
    print("|---|---|---|---|---|")
    for name, found in runs.items():
        rates = sorted(run["items_per_s"] for run in found)
        print(f"| {name} | {statistics.median(rates):.0f} | {rates[0]:.0f} | {rates[-1]:.0f} | {base / statistics.median(rates):.1f} |")
    for name in ("shopfloor strict", "shopfloor fused"):
        print(name, json.dumps(runs[name]))


if __name__ == "__main__":
    main()
