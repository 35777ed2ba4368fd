"""What a policy's networks see of an environment's observations, as data."""

from typing import Any

from parl.core.errors import SpaceError
from parl.core.spec import Box, EnvSpec, MultiDiscrete, Space
from parl.deploy.contract import Leaf, Member
from parl.deploy.team import MASK, size_of_view
from parl.envs.factory import EnvFactory
from parl.envs.jax_vector import attribute

ATARI = (  # Mnih et al. 2015, as parl/envs/adapters/atari.py has it
    {"kind": "skip", "frames": 4, "keeps": "the brighter of the last two"},
    {"kind": "grey"},
    {"kind": "resize", "height": 84, "width": 84, "filter": "area"},
    {"kind": "stack", "frames": 4, "axis": -1, "padding": "reset"},
)


def preprocessing_of(spec: EnvSpec, factory: EnvFactory | None = None) -> list[dict[str, Any]]:
    """What the environment's own observations go through before they are those of a policy.

    Known are ale: and, with a `factory`, environments that end with Gymnasium's stack of frames.
    """
    if spec.id.startswith("ale:"):
        return [dict(step) for step in ATARI]
    space = spec.observation_space
    if factory is None or factory.jax is not None or not isinstance(space, Box):
        return []
    if len(space.shape) < 2:  # a stack has an axis of its own
        return []
    from parl.envs.adapters.stacks import stack_of  # only now: it loads Gymnasium

    env: Any = factory.vector(1, 0, 0)
    try:
        found = stack_of(env.envs[0]) if hasattr(env, "envs") else None
    finally:
        env.close()
    return [] if found is None else [found]


def members_of(spec: EnvSpec, factory: EnvFactory | None = None) -> list[dict[str, Any]]:
    """How each of several agents sees and acts on its own; [] for one agent."""
    if not spec.num_agents:
        return []
    try:
        members = (
            own_members(spec, None if factory is None else factory.jax)
            if spec.native is None
            else [native_member(one) for one in spec.native["agents"]]
        )
    except SpaceError:
        return []  # spaces that Gymnasium alone flattens
    space: Any = spec.observation_space
    if any(size_of_view(member) > space["view"].shape[-1] for member in members):
        return []
    return [
        {"name": one.name, "choices": one.choices, "informed": one.informed}
        | {"parts": [each.to_json() for each in one.parts]}
        for one in members
    ]


def own_members(spec: EnvSpec, env: Any) -> list[Member]:
    """Those of an environment of ours: views and actions without padding, where it tells."""
    space: Any = spec.observation_space
    sizes = attribute(env, "views") or (space["view"].shape[-1],) * len(spec.agents)
    actions = attribute(env, "actions") or (spec.action_space,) * len(spec.agents)
    return [
        Member(name, (Leaf("obs", (), "float32", (size,), (size,)),), getattr(action, "n", 0))
        for name, size, action in zip(map(str, spec.agents), sizes, actions, strict=True)
    ]


def native_member(one: dict[str, Any]) -> Member:
    """One of PettingZoo's, or of a tuple."""
    from parl.envs.adapters.gymnasium_json import space_of  # only now: it loads Gymnasium

    leaves = native_leaves(space_of(one["observation"]), (), None)
    seen = tuple(in_view(leaf) for leaf in leaves if leaf.source[-1:] != (MASK,))
    action: Any = space_of(one["action"])
    informed = bool(one.get("informed", False))
    return Member(str(one["name"]), seen, int(getattr(action, "n", 0)), informed)


def in_view(leaf: Leaf) -> Leaf:
    """A part of an agent's view: bytes are fractions of 255, the flags of a MultiBinary numbers."""
    if leaf.dtype == "uint8":
        return leaf._replace(dtype="float32", scale=1 / 255)
    if isinstance(leaf.counts, int) and leaf.own_shape:
        return leaf._replace(dtype="float32", counts=None)
    return leaf


def leaves_of(spec: EnvSpec, agent: bool = False) -> list[Leaf]:
    """How each array that networks see is made; of one `agent` of several, without their axis."""
    if spec.native is None or "agents" in spec.native:
        leaves = own_leaves(spec.observation_space, ())
        return [of_one(leaf) for leaf in leaves if is_shown(leaf)] if agent else leaves
    from parl.envs.adapters.gymnasium_json import space_of  # only now: it loads Gymnasium
    from parl.envs.adapters.gymnasium_masks import find_mask

    space, informed = space_of(spec.native["observation"]), spec.native["informed"]
    mask = None if informed else find_mask(space, spec.action_space)
    leaves = native_leaves(space, (), mask)
    masked: Any = spec.observation_space
    if informed and not any(leaf.source for leaf in leaves):
        leaves = [leaf._replace(name="obs.observation") for leaf in leaves]
    if informed:
        shape = masked["legal"].shape
        leaves.append(Leaf("obs.legal", ("info", "action_mask"), "bool", shape, shape))
    return leaves


def name_of(path: tuple[Any, ...]) -> str:
    """The name of the array at a path."""
    return ".".join(["obs", *map(str, path)])


def own_leaves(space: Space, path: tuple[Any, ...]) -> list[Leaf]:
    """The arrays of a space of ours."""
    if isinstance(space, dict):
        return [x for key, part in space.items() for x in own_leaves(part, (*path, key))]
    counts = None if isinstance(space, Box) else counts_of(space)
    return [Leaf(name_of(path), path, space.dtype, space.shape, space.shape, 0, counts)]


def counts_of(space: Any) -> Any:
    """How many choices a space has."""
    return list(space.nvec) if isinstance(space, MultiDiscrete) else space.n


def native_leaves(space: Any, path: tuple[Any, ...], mask: Any) -> list[Leaf]:
    """The arrays of a space of Gymnasium, whose mask is at the path `mask`."""
    from parl.envs.adapters.gymnasium_spaces import convert_space, is_bright
    from parl.envs.native import parts_of

    parts = parts_of(space)
    if parts is not None:
        return [x for key, part in parts.items() for x in native_leaves(part, (*path, key), mask)]
    own_shape = tuple(space.shape or ())
    if mask is not None and path == tuple(mask):
        size = 1
        for each in own_shape:
            size *= each
        return [Leaf("obs.legal", path, "bool", (size,), own_shape)]
    seen: Any = convert_space(space)
    leaf = Leaf(name_of(path), path, seen.dtype, seen.shape, own_shape)
    if isinstance(seen, Box):
        return [leaf._replace(scale=1 / 255)] if is_bright(space) else [leaf]
    start: Any = getattr(space, "start", 0)
    shift = start.tolist() if hasattr(start, "tolist") else int(start)
    counts = space.nvec.tolist() if hasattr(space, "nvec") else int(getattr(seen, "n", 2))
    return [leaf._replace(shift=shift, counts=counts)]


def is_shown(leaf: Leaf) -> bool:
    """Whether one agent of several is shown this part."""
    return leaf.name in ("obs.view", "obs.legal")


def of_one(leaf: Leaf) -> Leaf:
    """The same part without the axis of agents."""
    return leaf._replace(shape=leaf.shape[1:], own_shape=leaf.own_shape[1:])


def choices_of(spec: EnvSpec) -> list[int]:
    """The choices that a mask of a single agent is of; none where there is no mask."""
    if not spec.has_mask or spec.num_agents is not None:
        return []
    space = spec.action_space
    return list(space.nvec) if isinstance(space, MultiDiscrete) else [space.n]  # pyright: ignore
