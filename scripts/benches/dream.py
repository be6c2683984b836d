"""Memory and time of a step of a dream, by the size of the picture.

Each figure comes from a process of its own; memory is the peak of the whole process. The picture is a
bundled photo, enlarged.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

from benches.page import conditions, table

TITLE = "Dreams of large pictures"
_CHILD = """
import json, resource, sys, time
import convlens
from convlens import catalogue
from convlens.images import read_image
from convlens.model import Model
path, layer, width, height = sys.argv[1], sys.argv[2] or None, int(sys.argv[3]), int(sys.argv[4])
model = convlens.load(path)
photo = read_image(sorted(catalogue.photos())[0]).convert("RGB").resize((width, height))
model.certificate()
before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
made = model.run("dream", [photo], layer, octaves=1, steps=1)
after = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "target": made.rows[0]["target"],
    "peak": after.ru_maxrss / 1024,
    "before": before.ru_maxrss / 1024,
    "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    "wall": time.perf_counter() - start,
}))
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="efficientnet-lite0", help="file or name (efficientnet-lite0)")
    parser.add_argument("--layer", default="", help="what is dreamt of; the default of dream")
    parser.add_argument("--sizes", default="600x400,1920x1080,3840x2160", help="width x height, several")


def run(options: argparse.Namespace) -> str:
    rows = []
    for size in options.sizes.split(","):
        print(size, file=sys.stderr)
        width, height = size.split("x")
        command = [sys.executable, "-c", _CHILD, options.model, options.layer, width, height]
        given = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
        found = json.loads(given.stdout.splitlines()[-1])
        rows.append(
            {
                "picture": size,
                "what": found["target"],
                "peak MB": f"{found['peak']:.0f}",
                "of it before": f"{found['before']:.0f}",
                "CPU s (wall)": f"{found['cpu']:.1f} ({found['wall']:.1f})",
            }
        )
    words = (
        "One step at one size, with the four passes around it that say how strong the answer is and whether "
        "a signal arrives. The peak is that of the whole process, with Python, torch and the model, which "
        "were there before."
    )
    return "\n\n".join([conditions(), words, table(rows)])
