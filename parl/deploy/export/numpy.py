"""The form numpy: policy.py, the runtime in one file, which reads contract.json and weights.npz."""

import ast
from pathlib import Path

from parl.core import errors
from parl.deploy import arrays, contract, frames, policy, program, reader, shapes, team, threefry

MODULES = (errors, shapes, program, threefry, arrays, contract, reader, frames, team, policy)
KEPT = {"ParlError", "ArtefactError"}  # of parl.core.errors
HEAD = '''"""A policy that PARL exported. Beside this file lie contract.json and weights.npz.

    import policy
    actor = policy.load()
    state = actor.start()
    action, state = actor.act(observation, state)

NumPy and the standard library are enough. Nothing in the files is evaluated or unpickled.
"""
'''
TAIL = '''

def load(path: Any = None) -> Policy:
    """The policy in a directory, as it stands that of this file."""
    return Policy.load(Path(__file__).parent if path is None else path)


def load_bytes(contract: bytes, weights: bytes) -> Policy:
    """The policy with these bytes of contract.json and of weights.npz."""
    return Policy(of_bytes(Path(), contract, lambda: weights))
'''


def write(place: Path) -> str:
    """Writes the form; its file's name."""
    (place / "policy.py").write_text(source())
    return "policy.py"


def source() -> str:
    """The modules of the runtime as one, which imports nothing of PARL."""
    imports: dict[str, None] = {}  # ordered, each once
    bodies = []
    for module in MODULES:
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text())
        body = tree.body[1:]  # without the docstring
        names = aliases(body)
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                if not is_own(node):
                    imports[ast.unparse(node)] = None
            elif module is not errors or getattr(node, "name", "") in KEPT:
                bodies.append(ast.unparse(Unqualified(names).visit(node)))
    parts = [HEAD + "\n" + "\n".join(imports), *bodies]
    return "\n\n\n".join(parts) + "\n" + TAIL


def is_own(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether a statement imports something of PARL."""
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("parl.")


def aliases(body: list[ast.stmt]) -> set[str]:
    """The names under which modules of PARL are imported as a whole."""
    own = {module.__name__ for module in MODULES}
    return {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and is_own(node)
        for alias in node.names
        if f"{node.module}.{alias.name}" in own
    }


class Unqualified(ast.NodeTransformer):
    """`threefry.split` as `split`, in a file where all lies side by side."""

    def __init__(self, modules: set[str]):
        self.modules = modules

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.modules:
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        self.generic_visit(node)
        return node
