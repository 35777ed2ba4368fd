"""The Kubernetes file and the Slurm script of docs/cluster.md, as far as that needs no cluster.

SCHEMA is what KubeRay's ray.io/v1 RayJob and Kubernetes' pods demand of the fields that are used
there; a field that it does not name is an error.
"""

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from parl.cli.cluster import ClusterJoinFlags, ClusterStartFlags
from parl.cli.flags import parse
from parl.cli.train import TrainFlags, read_command

PAGE = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?")
RESOURCES = {"cpu": QUANTITY, "memory": QUANTITY}
CONTAINER = {
    "name": NAME,
    "image": str,
    "env": [{"name": str, "value": str}],
    "resources": {"requests": RESOURCES, "limits": RESOURCES},
    "volumeMounts": [{"name": NAME, "mountPath": str}],
}
POD = {
    "containers": [CONTAINER],
    "volumes": [{"name": NAME, "persistentVolumeClaim": {"claimName": NAME}}],
}
SCHEMA = {
    "apiVersion": re.compile("ray.io/v1"),
    "kind": re.compile("RayJob"),
    "metadata": {"name": NAME},
    "spec": {
        "entrypoint": str,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "rayClusterSpec": {
            "rayVersion": str,
            "enableInTreeAutoscaling": bool,
            "authOptions": {"mode": re.compile("token|disabled")},
            "headGroupSpec": {"rayStartParams": {"num-cpus": str}, "template": {"spec": POD}},
            "workerGroupSpecs": [
                {
                    "groupName": NAME,
                    "replicas": int,
                    "minReplicas": int,
                    "maxReplicas": int,
                    "rayStartParams": {"num-cpus": str},
                    "template": {"spec": POD},
                }
            ],
        },
    },
}  # fmt: skip


def odd(value: Any, schema: Any, at: str = "") -> list[str]:
    """What in a value does not fit a schema."""
    if isinstance(schema, dict):
        if not isinstance(value, dict):
            return [f"{at} is no mapping"]
        unknown = [f"{at}.{name} is unknown" for name in value.keys() - schema.keys()]
        known = [odd(value[k], schema[k], f"{at}.{k}") for k in value.keys() & schema.keys()]
        return unknown + [each for found in known for each in found]
    if isinstance(schema, list):
        if not isinstance(value, list):
            return [f"{at} is no list"]
        return [x for i, item in enumerate(value) for x in odd(item, schema[0], f"{at}[{i}]")]
    if isinstance(schema, re.Pattern):
        fits = isinstance(value, str) and schema.fullmatch(value) is not None
        return [] if fits else [f"{at} is {value!r}"]
    return [] if type(value) is schema else [f"{at} is {value!r}"]


def block(kind: str, holds: str) -> str:
    """The block of code of a kind that holds some words."""
    (found,) = [x for x in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if holds in x]
    return found


def flags_of(line: str) -> TrainFlags:
    """The flags of a line `parl train ...`. Raises ConfigError for unknown ones."""
    words = shlex.split(line)
    assert words[:2] == ["parl", "train"]
    return read_command("train", words[2:], TrainFlags).flags


def test_the_kubernetes_file_fits_the_schema() -> None:
    job = yaml.safe_load(block("yaml", "RayJob"))
    assert odd(job, SCHEMA) == []
    spec = job["spec"]["rayClusterSpec"]
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for container in pod["containers"]:
            assert {"name", "image"} <= container.keys()
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes
    (workers,) = spec["workerGroupSpecs"]
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]
    flags = flags_of(job["spec"]["entrypoint"])
    cpus = int(workers["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"])
    assert (flags.min_actors, flags.actors) == (8, 64) and flags.address == "auto"
    assert flags.min_actors <= workers["minReplicas"] * cpus
    assert flags.actors <= workers["maxReplicas"] * cpus


def test_what_does_not_fit_is_seen() -> None:
    text = block("yaml", "RayJob").replace("maxReplicas: 16", "maxReplicas: sixteen")
    job = yaml.safe_load(text.replace("entrypoint:", "entryPoint:"))
    assert odd(job, SCHEMA) == [
        ".spec.entryPoint is unknown",
        ".spec.rayClusterSpec.workerGroupSpecs[0].maxReplicas is 'sixteen'",
    ]


def test_the_slurm_script_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bash reads it, and each command of ours takes its flags."""
    script = block("sh", "#SBATCH")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    values = {"ip": "10.0.0.7", "port": "20001", "actors": "46", "SLURM_JOB_ID": "7"}
    joined = re.sub(r"\$\(\(.*?\)\)", "14", script.replace("\\\n", " "))
    text = re.sub(r"\$\{?(\w+)\}?", lambda m: values.get(m[1], "16"), joined)
    commands = [x.strip().rstrip("&") for x in re.findall(r"parl (?:cluster|train) [^\n|]*", text)]
    started, joins, train = (
        [x for x in commands if x.startswith(f"parl {verb} ")]
        for verb in ("cluster start", "cluster join", "train")
    )
    assert len(started) == len(joins) == len(train) == 1
    flags = parse(ClusterStartFlags, shlex.split(started[0])[3:], "")
    assert (flags.host, flags.port, flags.num_cpus) == ("10.0.0.7", 20_001, 14)
    flags = parse(ClusterJoinFlags, shlex.split(joins[0])[3:], "")
    assert (flags.address, flags.num_cpus, flags.keep) == ("10.0.0.7:20001", 16, True)
    trained = flags_of(train[0])
    assert (trained.min_actors, trained.actors) == (8, 46)
    assert str(trained.out) == "runs/7" and trained.address == "10.0.0.7:20001"
