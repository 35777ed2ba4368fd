"""Draws parity.json: python experiments/parity_picture.py POLICY OUT.png."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LEAST = 1e-9  # where an error of zero is drawn


def main(policy: str, out: str) -> None:
    report = json.loads((Path(policy) / "parity.json").read_text())
    forms = list(report["forms"])
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2))
    for k, case in enumerate(("recorded", "adversarial", "sampled")):
        found = [report["forms"][form].get(case, {}).get("max_error") for form in forms]
        places = [i + 0.25 * (k - 1) for i, x in enumerate(found) if x is not None]
        heights = [max(x, LEAST) for x in found if x is not None]
        axes[0].bar(places, heights, 0.25, label=case)
    axes[0].axhline(report["tolerance"], color="black", linestyle=":", label="allowed")
    axes[0].set_yscale("log")
    axes[0].set_title("largest error, of its scale")
    axes[0].legend(fontsize=7)
    wanted = report.get("jax")
    if wanted:
        told = {"jax": wanted} | {form: report["forms"][form]["returns"] for form in forms}
        means = [each["return_mean"] for each in told.values()]
        axes[1].errorbar(range(len(told)), means, [x["interval"] for x in told.values()], fmt="o")
        axes[1].set_xticks(range(len(told)), told, fontsize=8)
    axes[1].set_title("return, with 95 % interval")
    axes[2].bar(range(len(forms)), [report["forms"][form]["bytes"] / 1024 for form in forms])
    axes[2].set_yscale("log")
    axes[2].set_title("KB")
    for axis in (axes[0], axes[2]):
        axis.set_xticks(range(len(forms)), forms, fontsize=8)
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
