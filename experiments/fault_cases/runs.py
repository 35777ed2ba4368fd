"""Run directories, checkpoints, locks, signals, resume: nothing of a run is lost."""

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import parl
from fault_cases import case
from parl.cli import main
from parl.core import checkpoint

PPO = {
    "env": "jax:CartPole-v1", "hidden": (8,), "num_envs": 4, "length": 32, "minibatches": 1,
    "epochs": 1, "eval_episodes": 1, "quiet": True,
}  # fmt: skip
SAC = {
    "env": "jax:Pendulum-v1", "hidden": (8,), "batch_size": 8, "warmup": 64, "length": 8,
    "updates": 1, "capacity": 512, "eval_episodes": 1, "quiet": True,
}  # fmt: skip
FLAGS = (
    "--env jax:CartPole-v1 --hidden 8 --num-envs 4 --length 32 --minibatches 1 --epochs 1 "
    "--eval-episodes 1 --quiet"
)


def ppo(out: str, **settings: Any) -> parl.Run:
    return parl.train("ppo", out=out, **PPO | {"steps": 1024, "eval_every": 128} | settings)


def start(words: str, **options: Any) -> subprocess.Popen:
    """A command of parl in a process of its own."""
    command = [sys.executable, "-m", "parl.cli", *words.split()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def saved(out: str) -> list[int]:
    names = os.listdir(Path(out) / "checkpoints")
    return sorted(int(name) for name in names if name.isdecimal())


def logged(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]


@contextlib.contextmanager
def said_to(path: str) -> Iterator[None]:
    """What is said on stderr goes into a file."""
    with open(path, "w") as file, contextlib.redirect_stderr(file):
        yield


def refused(call: Callable[[], Any], words: str = "") -> str:
    """The one sentence of a call that is refused."""
    try:
        call()
    except parl.ParlError as error:
        assert words in str(error) and "\n" not in str(error), error
        return str(error)
    raise AssertionError("it was not refused")


def rewrite(out: str, step: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a manifest as another program might, with a checksum that is right."""
    path = Path(out) / "checkpoints" / str(step) / "manifest.json"
    content = json.loads(path.read_text())
    del content["checksum"], content["schema"]
    change(content)
    checkpoint.write_manifest(path, content)


def flip(out: str, step: int, file: str = "arrays.bin") -> None:
    path = Path(out) / "checkpoints" / str(step) / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Grid(gymnasium.Env):
    """Ends after ten steps; `broken` says where it raises."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    broken = ""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        if self.broken == "reset":
            raise KeyError("missing")
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        if self.broken == "step":
            raise KeyError("missing")
        self.time += 1
        return np.zeros(2, np.float32), 1.0, self.time >= 10, False, {}


@case("S2-failed-start", seconds=240)
def failed_start() -> None:
    """A start that fails leaves nothing, and the same --out serves again."""
    wrong = SAC | {"capacity": 4, "steps": 128}
    refused(lambda: parl.train("sac", out="d", **wrong), "replay of 4 items")
    assert not Path("d").exists()
    for broken in ("reset", "step"):
        Grid.broken = broken
        refused(lambda: ppo("d", env=Grid, steps=128), "KeyError")
        assert not Path("d").exists(), os.listdir("d")
    Grid.broken = ""
    assert ppo("d", env=Grid, steps=128).path == Path("d")
    refused(lambda: ppo("d", env=Grid, steps=128), "continue it with 'parl resume d'")
    parl.resume("d", env=Grid, quiet=True)


@case("S2-killed-start", seconds=240)
def killed_start() -> None:
    """What earlier versions left of a start that was killed is started again."""
    ppo("r", steps=128)
    shutil.rmtree("r/checkpoints")
    os.mkdir("r/checkpoints")
    for name in ("result.json", ".lock"):
        os.remove(f"r/{name}")
    Path("r/metrics.jsonl").write_text("")
    said = refused(lambda: parl.resume("r", quiet=True))
    assert "parl train" in said, said
    assert ppo("r", steps=128).result["env_steps"] == 128


@case("S3-same-second", seconds=400)
def same_second() -> None:
    """Three jobs of one second get three directories."""
    rates = ("1e-3", "3e-4", "1e-4")
    jobs = [start(f"train ppo {FLAGS} --steps 128 --learning-rate {rate}") for rate in rates]
    for job in jobs:
        said = job.communicate()[1]
        assert job.returncode == 0, said
    assert len(os.listdir("runs")) == 3, os.listdir("runs")
    rates = [
        json.loads(p.read_text())["settings"]["learning_rate"]
        for p in Path("runs").glob("*/config.json")
    ]
    assert sorted(rates) == [1e-4, 3e-4, 1e-3]


@case("S3-one-directory", seconds=400)
def one_directory() -> None:
    """Of two starts in one directory at once, one is refused."""
    jobs = [start(f"train ppo {FLAGS} --steps 4096 --out r") for _ in range(2)]
    said = [job.communicate()[1] for job in jobs]
    assert sorted(job.returncode for job in jobs) == [0, 2], said
    assert any("r is in use: process" in text or "already holds a run" in text for text in said)
    assert json.loads(Path("r/result.json").read_text())["env_steps"] == 4096


@case("S4-best", seconds=240)
def best() -> None:
    """The best and any other checkpoint can be evaluated, loaded and resumed."""
    run = ppo("r", keep=2)
    lines = logged("r")
    scores = {x["env_steps"]: x["eval/return_mean"] for x in lines if "eval/return_mean" in x}
    step = max(scores, key=lambda s: (scores[s], -s))
    assert saved("r") == sorted({896, 1024, step})
    arrays = lambda s: checkpoint.read(Path("r/checkpoints") / str(s)).under(
        "run/learner/algorithm_state"
    )
    for which, want in (("best", step), ("latest", 1024), (896, 896), ("896", 896)):
        agent = parl.load("r", checkpoint=which)
        found = checkpoint.named_leaves(agent.state.algorithm_state)
        for name, array in arrays(want).items():
            if not checkpoint.is_key(found[name]):
                assert np.array_equal(np.asarray(found[name]), array), (which, name)
        parl.evaluate("r", 1, checkpoint=which)
        assert main(["eval", "r", "--episodes", "1", "--checkpoint", str(which)]) == 0
    refused(
        lambda: parl.load("r", checkpoint=7),
        f"there are {', '.join(f'{s} (best)' if s == step else str(s) for s in saved('r'))}.",
    )
    assert main(["eval", "r", "--checkpoint", "newest"]) == 2
    before = run.result["params_sha256"]
    again = parl.resume("r", checkpoint=896, quiet=True)
    assert again.result["params_sha256"] == before
    steps = [line["env_steps"] for line in logged("r")]
    assert steps == sorted(set(steps)) and steps[-1] == 1024


SWEEP = f"""
import parl
for seed in range(3):
    try:
        parl.train("ppo", out=f"r{{seed}}", seed=seed, steps=10**8, **{PPO!r})
    except Exception:
        pass
print("end of script")
"""


@case("S8-sweep", seconds=240)
def sweep() -> None:
    """Ctrl-C and SIGTERM end a script that catches every Exception."""
    for signum, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        shutil.rmtree("r0", ignore_errors=True)
        script = subprocess.Popen(
            [sys.executable, "-c", SWEEP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        while not Path("r0/metrics.jsonl").exists() or not Path("r0/metrics.jsonl").stat().st_size:
            assert script.poll() is None
            time.sleep(0.05)
        script.send_signal(signum)
        out, err = script.communicate(timeout=60)
        assert script.returncode == code and "end of script" not in out, (script.returncode, err)
        assert saved("r0")[-1] > 0 and not Path("r1").exists()
        assert f"{signum.name}: saved at step" in err and "Traceback" not in err, err
    assert not issubclass(parl.Interrupted, Exception)


@case("S17-replay", seconds=300)
def replay() -> None:
    """Replay is in a checkpoint, in the newest only, or in none."""
    from parl.runs import checkpoints as run_checkpoints

    has = lambda out: [
        (Path(out) / "checkpoints" / str(s) / "replay.bin").exists() for s in saved(out)
    ]
    settings = SAC | {"steps": 384, "eval_every": 128}
    whole = parl.train("sac", out="yes", checkpoint_replay="yes", **settings)
    assert all(has("yes")) and len(saved("yes")) >= 3
    parl.train("sac", out="no", checkpoint_replay="no", **settings)
    assert not any(has("no"))
    run_checkpoints.LARGE = 1000
    kept = parl.train("sac", out="auto", **settings)
    metas = [checkpoint.read_meta(Path("auto/checkpoints") / str(s)) for s in saved("auto")]
    assert [bool(meta.get("replay")) for meta in metas] == [step == 384 for step in saved("auto")]
    assert kept.result["params_sha256"] == whole.result["params_sha256"]
    exact = [parl.resume(out, 512, quiet=True).result for out in ("yes", "auto")]
    assert exact[0]["params_sha256"] == exact[1]["params_sha256"]
    with said_to("said"):
        filled = parl.resume("no", 512, quiet=True).result
    assert "not bit for bit: it has no replay" in Path("said").read_text()
    assert exact[0]["updates"] - filled["updates"] == 64 // 8, "the warm-up once more"


IN_PIECES = """
import parl
from parl import run_checkpoints
from parl.core import pieces
run_checkpoints.LARGE, pieces.SIZE = 1000, 512
parl.resume("r", 10**8, quiet=True)
"""


@case("S17-incremental", seconds=300)
def incremental() -> None:
    """Of a large replay a save writes what is new, the disk holds it once, and all is exact."""
    from parl.core import pieces
    from parl.runs import checkpoints as run_checkpoints

    settings = SAC | {"steps": 1024, "eval_every": 64, "checkpoint_every": 64}
    whole = parl.train("sac", out="whole", checkpoint_replay="yes", **settings)
    run_checkpoints.LARGE, pieces.SIZE = 1000, 512
    written: list[int] = []  # bytes, by every save

    def watch(values: Any) -> None:
        files = [f.stat() for f in Path("r/replay").glob("*") if f.stat().st_ctime_ns > clock[0]]
        written.append(sum(f.st_size for f in files))
        clock[0] = time.time_ns()
        held.append(sum(f.stat().st_size for f in Path("r/replay").glob("*")))

    clock, held = [0], []
    run = parl.train("sac", out="r", on_checkpoint=watch, **settings)
    assert run.result["params_sha256"] == whole.result["params_sha256"]
    rows = checkpoint.read(Path("whole/checkpoints/1024")).under("replay")
    ring = sum(array.nbytes for array in rows.values())
    assert max(held) <= ring * 1.01, (held, ring)  # the newest checkpoint's alone
    assert 0 < max(written[-4:]) < ring / 4, (written, ring)  # 64 of 512 rows, and pieces' ends
    job = subprocess.Popen([sys.executable, "-c", IN_PIECES])
    while len([step for step in saved("r") if step > 1024]) < 3:
        assert job.poll() is None
        time.sleep(0.1)
    job.kill()
    job.communicate()
    with said_to("said"):
        parl.resume("r", saved("r")[-1] + 64, quiet=True)
    assert "no replay" not in Path("said").read_text()
    for file in list(Path("r/replay").iterdir()):
        file.write_bytes(b"\0" * file.stat().st_size)
    with said_to("said"):
        parl.resume("r", saved("r")[-1] + 128, quiet=True)
    assert "not bit for bit: it has no replay" in Path("said").read_text()


@case("A11-finished", seconds=240)
def finished() -> None:
    """A finished run is not touched by resume, unless more steps are asked for."""
    run = ppo("r")
    before = {p: p.stat().st_mtime_ns for p in Path("r").rglob("*") if p.name != ".lock"}
    again = parl.resume("r", quiet=True)
    assert again.result == json.loads(Path("r/result.json").read_text())
    assert again.result["params_sha256"] == run.result["params_sha256"]
    assert {p: p.stat().st_mtime_ns for p in Path("r").rglob("*") if p.name != ".lock"} == before
    assert parl.resume("r", 1152, quiet=True).result["env_steps"] == 1152


@case("R-keep-1", seconds=240)
def keep_1() -> None:
    """A flipped bit, stray files and the things of others do not cost the last good checkpoint."""
    ppo("r", keep=2)
    for step in saved("r"):
        if step not in (896, 1024):
            shutil.rmtree(f"r/checkpoints/{step}")
    flip("r", 1024)
    os.remove("r/result.json")
    config = json.loads(Path("r/config.json").read_text())
    Path("r/config.json").write_text(json.dumps(config | {"keep": 1}))
    Path("r/checkpoints/99999").write_text("a stray file")
    os.makedirs("r/checkpoints/.git/objects")
    job = start("resume r --steps 100000000 --quiet")
    while not any(step > 896 and step != 1024 for step in saved("r")):
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    job.kill()
    job.communicate()
    parl.evaluate("r", 1)
    assert Path("r/checkpoints/99999").is_file() and Path("r/checkpoints/.git/objects").is_dir()


@case("R-foreign-out")
def foreign_out() -> None:
    """Into a directory with the checkpoints of somebody else no run is started."""
    for name in ("7", "100", "200", ".git", ".cache", "notes"):
        os.makedirs(f"r/checkpoints/{name}")
        Path(f"r/checkpoints/{name}/x").write_text("x")
    before = sorted(Path("r").rglob("*"))
    assert main(f"train ppo {FLAGS} --steps 128 --out r".split()) == 2
    assert sorted(Path("r").rglob("*")) == before
    for name in ("7", "100", "200"):
        shutil.rmtree(f"r/checkpoints/{name}")
    assert main(f"train ppo {FLAGS} --steps 128 --out r".split()) == 0
    assert {".git", ".cache", "notes"} <= set(os.listdir("r/checkpoints"))


@case("R-eval-loop", seconds=300)
def eval_loop() -> None:
    """Reading the newest checkpoint never fails while a run with --keep 1 goes on."""
    from parl.runs.directory import RunDir

    job = start(f"train ppo {FLAGS} --steps 100000000 --eval-every 128 --keep 1 --out r")
    while not Path("r/config.json").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    run, end, reads = RunDir("r"), time.monotonic() + 20, 0
    run_id = run.config().run_id
    while time.monotonic() < end:
        run.latest(run_id)
        reads += 1
    assert job.poll() is None
    job.kill()
    job.communicate()
    assert reads > 100, reads


@case("R-alive", seconds=240)
def alive() -> None:
    """A run that is going on is not resumed, and one that was killed is."""
    job = start(f"train ppo {FLAGS} --steps 100000000 --out r")
    while not Path("r/config.json").exists():
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    refused(lambda: parl.resume("r", quiet=True), f"r is in use: process {job.pid} on ")
    job.kill()
    job.communicate()
    config = json.loads(Path("r/config.json").read_text())
    Path("r/config.json").write_text(json.dumps(config | {"steps": 1024}))
    parl.resume("r", quiet=True)


@contextlib.contextmanager
def small_disk(kilobytes: int) -> Iterator[Path]:
    """A file system of its own, or None where this user may not make one."""
    os.mkdir("disk")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", "disk"], capture_output=True
    )
    try:
        yield Path("disk") if made.returncode == 0 else None
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "-l", "disk"], check=True)


def ends_in_a_sentence(words: str, **options: Any) -> str:
    job = start(words, **options)
    said = job.communicate()[1].strip()
    assert job.returncode in (1, 2) and "Traceback" not in said, (job.returncode, said)
    return said.splitlines()[-1]


@case("R-full-disk", seconds=400)
def full_disk() -> None:
    """A full disk at any write is one sentence, and what was saved before can be read."""
    with small_disk(2000) as disk:
        if disk is None:
            return
        for free in (0, 4, 8, 40, 100):
            shutil.rmtree(disk / "r", ignore_errors=True)
            (disk / "ballast").write_bytes(b"x" * (os.statvfs(disk).f_bavail * 4096 - free * 1024))
            said = ends_in_a_sentence(
                f"train ppo {FLAGS} --steps 100000 --eval-every 128 --keep 50 --out disk/r"
            )
            assert "No space left on device" in said, said
            os.remove(disk / "ballast")
            if (disk / "r" / "config.json").exists():
                parl.evaluate(disk / "r", 1)


@case("R-read-only", seconds=240)
def read_only() -> None:
    """A read-only disk is one sentence for train and resume; eval works."""
    with small_disk(20_000) as disk:
        if disk is None:
            return
        ppo(str(disk / "r"))
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused(lambda: ppo(str(disk / "s")), "Read-only file system")
        refused(lambda: parl.resume(disk / "r", 2048, quiet=True), "Read-only file system")
        parl.evaluate(disk / "r", 1)


@case("R-file-size", seconds=400)
def file_size() -> None:
    """A limit on the size of files is one sentence wherever it strikes."""
    for limit in (100, 3000, 20_000):
        shutil.rmtree("r", ignore_errors=True)
        bound = lambda size=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        said = ends_in_a_sentence(
            f"train ppo {FLAGS} --steps 100000 --eval-every 128 --out r", preexec_fn=bound
        )
        assert "File too large" in said, said
        if Path("r/config.json").exists():
            parl.evaluate("r", 1)


def manifests() -> list[Callable[[dict[str, Any]], None]]:
    """Changes that make a manifest say what cannot be."""

    def meta(**changes: Any) -> Callable[[dict[str, Any]], None]:
        return lambda content: content["meta"].update(changes)

    def without(name: str) -> Callable[[dict[str, Any]], None]:
        return lambda content: content["meta"].pop(name)

    def entry(**changes: Any) -> Callable[[dict[str, Any]], None]:
        return lambda content: content["arrays"][3].update(changes)

    deep: Any = 0
    for _ in range(400):
        deep = [deep]
    return [
        lambda content: content.update(meta=None),
        lambda content: content.update(meta=[]),
        *(meta(best=x) for x in ("x", 3, [], [1], ["a", 1], {"a": 1}, [1, 2, 3])),
        *(meta(wall_s=x) for x in ("x", None, [], -1, float("nan"), True)),
        *(meta(compile_s=x) for x in ("x", None, {})),
        *(meta(env_steps=x) for x in ("x", None, [], 7, -1, 1024.5)),
        *(meta(run_id=x) for x in (None, [], {}, 3)),
        *(meta(budget=x) for x in ({"spent": "x"}, 3, {"spent": None})),
        *(meta(seconds=x) for x in (3, {"train": "x"}, {"train": None})),
        *(meta(due=x) for x in (3, {}, {"env_steps": 3}, [])),
        *(without(name) for name in ("best", "wall_s", "compile_s", "env_steps", "run_id")),
        meta(wall_s=deep),
        entry(name=3), entry(name=None), entry(shape=[-1]), entry(dtype="V4"), entry(dtype=">f4"),
        entry(shape=deep),
    ]  # fmt: skip


@case("R-manifest", seconds=900, slow=True)
def manifest() -> None:
    """Manifests of any content give way to the checkpoint before."""
    whole = ppo("r").result
    shutil.copytree("r", "good")
    for i, change in enumerate(manifests()):
        shutil.rmtree("r")
        shutil.copytree("good", "r")
        os.remove("r/result.json")
        rewrite("r", 1024, change)
        with said_to("said"):
            result = parl.resume("r", quiet=True).result
        said = Path("said").read_text()
        assert result["params_sha256"] == whole["params_sha256"], i
        assert "WARNING: " in said and "1024" in said and "Traceback" not in said, (i, said)


@case("R-sizes", seconds=240)
def sizes() -> None:
    """A sparse file of 64 GiB or 1 TiB takes no memory."""
    ppo("r")
    for size in (64 << 30, 1 << 40):
        with open("r/checkpoints/1024/arrays.bin", "r+b") as file:
            file.truncate(size)
        parl.evaluate("r", 1)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 << 20  # kilobytes


@case("R-nan-and-cursor", seconds=300)
def nan_and_cursor() -> None:
    """NaN parameters and a replay's cursor out of bounds, with sums that are right."""
    parl.train("sac", out="r", steps=256, **SAC | {"eval_every": 64})
    shutil.copytree("r", "good")
    path = Path("r/checkpoints/256")

    def with_array(part: str, value: Any) -> None:
        found = checkpoint.read(path)
        name = next(name for name in found.arrays if part in name)
        array = found.arrays[name].copy()
        array[...] = value
        shutil.rmtree(path)
        tree = found.arrays | {name: array}
        checkpoint.save(path, tree, found.meta, apart=("replay",))

    for part, value in (
        ("kernel", np.nan),
        ("replay/cursor", -5),
        ("replay/cursor", 10**9),
        ("replay/size", -1),
    ):
        shutil.rmtree("r")
        shutil.copytree("good", "r")
        os.remove("r/result.json")
        with_array(part, value)
        with said_to("said"):
            if value is np.nan:
                parl.evaluate("r", 1)
                refused(lambda: parl.evaluate("r", 1, checkpoint=256), "NaN")
            result = parl.resume("r", quiet=True).result
        assert "Trying the one before" in Path("said").read_text()
        good = json.loads(Path("good/result.json").read_text())
        assert result["params_sha256"] == good["params_sha256"], part


@case("R-metrics", seconds=240)
def metrics() -> None:
    """Resume mends a metrics file with lines that are no records, and of one step twice."""
    ppo("r")
    good = Path("r/metrics.jsonl").read_text().splitlines()
    wrong = ["12", "{}", '{"env_steps": null}', "nonsense", good[2], "", "[1]"]
    Path("r/metrics.jsonl").write_text("\n".join([*good[:4], *wrong, *good[4:]]) + "\n")
    parl.resume("r", 1152, quiet=True)
    steps = [line["env_steps"] for line in logged("r")]
    assert steps == sorted(set(steps)) == [128 * i for i in range(1, 10)], steps


@case("R-versions", seconds=240)
def versions() -> None:
    """Other versions than those of the run are told, and the new ones are noted."""
    ppo("r")
    config = json.loads(Path("r/config.json").read_text())
    now = dict(config["versions"])
    config["versions"]["jax"] = "0.1.2"
    Path("r/config.json").write_text(json.dumps(config))
    with said_to("said"):
        parl.resume("r", 1152, quiet=True)
    assert f"it was saved with jax 0.1.2, now {now['jax']}" in Path("said").read_text()
    assert json.loads(Path("r/config.json").read_text())["versions"] == now
    assert checkpoint.read(Path("r/checkpoints/1152")).meta["versions"] == now


@case("R-devices", seconds=300)
def devices() -> None:
    """A run of one device that goes on on two is not exact, and says so."""
    ppo("r", steps=256)
    two = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    job = start("resume r --steps 512 --quiet", env=two)
    said = job.communicate()[1]
    assert job.returncode == 0 and "it was saved on 1 x cpu, now on 2 x cpu" in said, said


@case("R-names")
def names() -> None:
    """Names that no directory can have are one sentence."""
    for name in ("a" * 256, "nul\0", "/dev/null", "/proc/nothing/here"):
        for command in (f"train ppo {FLAGS} --steps 128 --out", "resume", "eval"):
            assert main([*command.split(), name]) == 2, (command, name)
