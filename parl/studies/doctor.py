"""What works on this machine: each check is an attempt, each failure comes with its remedy."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import parl

GOOD, NOTE, BAD = "ok", "note", "failed"
LOGS = "see ray/session_latest/logs in /tmp/parl-ray-UID, UID being your number"
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "gymnasium", "pettingzoo", "ray")
# modules of extras, the extra, and what they are for
EXTRAS = {
    "imageio_ffmpeg": ("video", "parl video to .mp4"),
    "ale_py": ("atari", "Atari games, ale:"),
    "dm_control": ("dmc", "the DeepMind Control Suite, dmc:"),
    "mpe2": ("marl", "particle environments in numpy, pz:mpe2"),
    "onnx": ("onnx", "exporting to ONNX"),
    "uvicorn": ("serve", "parl serve"),
}
FEW_BYTES = 2e9  # of disk or shared memory, below which runs are in danger


class Finding(NamedTuple):
    """The outcome of one check."""

    name: str
    state: str  # GOOD, NOTE: something is missing that not all need, or BAD
    said: str
    remedy: str = ""  # what to do; empty where nothing is to be done


def examine(ray: bool = True, speed: bool = True) -> Iterator[Finding]:
    """All findings, each as soon as it is known; `ray` and `speed` take some seconds each."""
    checks: list[Callable[[], Finding]] = [python, versions, devices, threads, compile_cache]
    checks += [memory, disk, renderers, extras]
    checks += [ray_starts] * ray + [update_speed, environment_speed] * speed
    for check in checks:
        yield attempt(check)


def attempt(check: Callable[[], Finding]) -> Finding:
    """A check's finding; one that raises has failed."""
    try:
        return check()
    except Exception as error:
        name = check.__name__.replace("_", " ")
        said = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return Finding(name, BAD, said, "run it again with --debug, or report it")


def python() -> Finding:
    """The interpreter and the system."""
    said = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", GOOD, f"PARL {parl.__version__}, {said}")


def versions() -> Finding:
    """The packages that everything needs."""
    found = {name: version_of(name) for name in PACKAGES}
    lost = [name for name, version in found.items() if not version]
    said = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
    remedy = f"pip install {' '.join(lost)}" if lost else ""
    return Finding("packages", BAD if lost else GOOD, said, remedy)


def version_of(name: str) -> str:
    """The installed version of a distribution; empty without one."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def devices() -> Finding:
    """A matrix product on each device of JAX."""
    import jax
    import jax.numpy as jnp

    found = jax.devices()
    for device in found:
        ones = jax.device_put(jnp.ones((64, 64)), device)
        if float((ones @ ones)[0, 0]) != 64:
            return Finding("devices", BAD, f"{device} multiplies wrongly", "reinstall jaxlib")
    said = ", ".join(f"{device.device_kind} ({device.platform})" for device in found)
    if found[0].platform == "cpu" and has_nvidia():
        remedy = "pip install 'parl-jax[cuda]' for the GPU of this machine"
        return Finding("devices", NOTE, f"{said}; a GPU is here that JAX does not see", remedy)
    return Finding("devices", GOOD, said)


def has_nvidia() -> bool:
    """Whether the machine has a GPU of NVIDIA."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def threads() -> Finding:
    """Processors that this process may use, and how busy they are."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    said = f"{count} processor{'s' * (count != 1)} for this process"
    flags = os.environ.get("XLA_FLAGS", "")
    said += f", XLA_FLAGS {flags}" if flags else ""
    load = os.getloadavg()[0]
    if load > 1.5 * (count or 1):
        remedy = "other programs compute here: speeds below are low for that"
        return Finding("processors", NOTE, f"{said}, load {load:.1f}", remedy)
    return Finding("processors", GOOD, said)


def compile_cache() -> Finding:
    """Compiled programs are kept from one process to the next."""
    import jax

    from parl.runs.preparation import prepare

    prepare()
    config: Any = jax.config
    if not config.jax_enable_compilation_cache:
        remedy = "unset JAX_ENABLE_COMPILATION_CACHE: every start compiles anew"
        return Finding("compile cache", NOTE, "switched off", remedy)
    place = config.jax_compilation_cache_dir
    if place is None:
        remedy = "give ~/.cache/parl to this user alone (chmod 700), or set XDG_CACHE_HOME"
        return Finding("compile cache", NOTE, "no folder that this user alone may write", remedy)
    with tempfile.NamedTemporaryFile(dir=place):
        pass  # raises where it cannot be written
    size = sum(file.stat().st_size for file in Path(place).iterdir() if file.is_file())
    return Finding("compile cache", GOOD, f"{place}, {size / 1e6:,.0f} MB")


def memory() -> Finding:
    """Memory and shared memory, which Ray's object store is in."""
    import psutil

    ram = psutil.virtual_memory()
    said = f"{ram.available / 1e9:.1f} of {ram.total / 1e9:.1f} GB free"
    shared = Path("/dev/shm")
    if shared.exists():
        free = shutil.disk_usage(shared).free
        said += f", /dev/shm {free / 1e9:.1f} GB free"
        if free < FEW_BYTES:
            remedy = "Ray's objects go to the disk: give the container --shm-size 4g"
            return Finding("memory", NOTE, said, remedy)
    return Finding("memory", GOOD, said)


def disk() -> Finding:
    """Room for runs in the working directory."""
    free = shutil.disk_usage(Path.cwd()).free
    said = f"{free / 1e9:.1f} GB free in {Path.cwd()}"
    if free < FEW_BYTES:
        return Finding("disk", NOTE, said, "make room, or train with --out on another disk")
    with tempfile.NamedTemporaryFile(dir=Path.cwd()):
        return Finding("disk", GOOD, said)


def renderers() -> Finding:
    """Which renderer of MuJoCo works, and whether ffmpeg is there; each tried in a process."""
    if importlib.util.find_spec("mujoco") is None:
        return Finding("rendering", NOTE, "MuJoCo is not installed", "pip install mujoco")
    code = (
        "import mujoco; m = mujoco.MjModel.from_xml_string('<mujoco/>'); d = mujoco.MjData(m);"
        "r = mujoco.Renderer(m, 8, 8); mujoco.mj_forward(m, d); r.update_scene(d); r.render()"
    )
    works = [name for name in ("egl", "osmesa") if succeeds(code, {"MUJOCO_GL": name})]
    if not works:
        remedy = "for pictures of MuJoCo: apt-get install libegl1 or libosmesa6"
        return Finding("rendering", NOTE, "neither EGL nor OSMesa works", remedy)
    return Finding("rendering", GOOD, f"MUJOCO_GL {' and '.join(works)} work")


def succeeds(code: str, environment: dict[str, str], timeout: float = 60) -> bool:
    """Whether Python code ends well in a process of its own."""
    try:
        command = [sys.executable, "-c", code]
        done = subprocess.run(
            command, env=os.environ | environment, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def extras() -> Finding:
    """Optional packages that are not installed, by what they are for."""
    lost = {m: told for m, told in EXTRAS.items() if importlib.util.find_spec(m) is None}
    if not lost:
        return Finding("extras", GOOD, f"{', '.join(EXTRAS)} are installed")
    said = "; ".join(f"{what} needs {module}" for module, (_, what) in lost.items())
    names = ",".join(dict.fromkeys(extra for extra, _ in lost.values()))
    return Finding("extras", NOTE, said, f"where you need it: pip install 'parl-jax[{names}]'")


def ray_starts() -> Finding:
    """A Ray cluster of one's own starts, in a process of its own, and answers."""
    code = (
        "import parl, ray, sys; parl.connect(num_cpus=1);"
        "print('address', ray.get_runtime_context().gcs_address); parl.disconnect()"
    )
    begin = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("ray", BAD, "did not start in 90 s", LOGS)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:200]
        return Finding("ray", BAD, said, LOGS)
    address = next((x.split()[1] for x in done.stdout.splitlines() if x.startswith("address")), "")
    said = f"starts in {time.monotonic() - begin:.1f} s, listens on {address}"
    if others := clusters():
        remedy = "--address auto would join it; the default starts one of its own"
        return Finding("ray", NOTE, f"{said}; another cluster runs here: {others}", remedy)
    return Finding("ray", GOOD, said)


def clusters() -> str:
    """Processes of Ray clusters that run on this machine."""
    import psutil

    heads = [p.pid for p in psutil.process_iter(["name"]) if p.info["name"] == "gcs_server"]
    return f"gcs_server {', '.join(map(str, heads))}" if heads else ""


def update_speed() -> Finding:
    """Steps a second of PPO on our CartPole, compiled beforehand: acting and learning."""
    from parl.agents.execution.fused import Fused
    from parl.runs.build import resolve
    from parl.runs.config import RunConfig
    from parl.runs.executions import make_execution

    execution = make_execution(resolve(RunConfig("ppo", "jax:CartPole-v1", steps=100_000)))
    assert isinstance(execution, Fused)
    execution.advance(1)
    begin = time.monotonic()
    execution.advance(10)
    seconds = time.monotonic() - begin
    rate = 10 * execution.steps_per_iteration / seconds
    return Finding("learning", GOOD, f"ppo on jax:CartPole-v1: {rate:,.0f} steps/s, fused")


def environment_speed() -> Finding:
    """Steps a second of one environment of Gymnasium, stepped as a run steps it."""
    from parl.envs.factory import make_factory

    env = make_factory("CartPole-v1").vector(1, 0, 0)
    env.reset()
    begin, steps = time.monotonic(), 0
    while time.monotonic() - begin < 0.5:
        env.step(np.array([steps % 2]))
        steps += 1
    env.close()
    return Finding("simulator", GOOD, f"CartPole-v1 of Gymnasium: {steps / 0.5:,.0f} steps/s")
