"""Builds the documentation: sphinx-build -W --keep-going -j auto docs docs/_build/html.

Tutorials are run when they are built, on CPUs and without a network.
"""

import os
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# compiling takes most of the tutorials' time, and tiny networks run fast enough without
FAST_TO_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FAST_TO_COMPILE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")  # tutorials share programs
os.environ["PYTHONPATH"] = os.pathsep.join([str(DOCS.parent), os.environ.get("PYTHONPATH", "")])

import docstrings  # noqa: E402
import generate  # noqa: E402

import parl  # noqa: E402

project = "PARL-JAX"
copyright = "the PARL-JAX maintainers"
version = release = parl.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute"]
generate.write_all(DOCS)

# pages
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"PARL-JAX {release}"
html_static_path = ["_static"]
html_css_files = ["parl.css"]
html_show_sourcelink = False
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True

# tutorials: run anew at each build; a cell that fails fails the build
nb_execution_mode = os.environ.get("PARL_DOCS_EXECUTION", "force")
suppress_warnings = ["myst-nb.lexer"] if nb_execution_mode == "off" else []
nb_execution_raise_on_error = True
nb_execution_timeout = 900  # of a cell, also on a machine that is busy
nb_merge_streams = True
nb_output_stderr = "remove"  # warnings of the machine that builds
nb_execution_in_temp = True

# docstrings: plain English
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}

# other languages: sphinx-build -D language=zh_CN
locale_dirs = ["locale"]
gettext_compact = False
gettext_uuid = False
gettext_location = True


def spread(app: Any, env: Any, names: list[str]) -> None:
    """Spreads the tutorials evenly among the pages: each process of -j reads pages in a row."""
    long = [name for name in names if name.startswith("tutorials/")]
    rest = [name for name in names if name not in long]
    for i, name in enumerate(long):
        rest.insert(i * len(names) // len(long), name)
    names[:] = rest


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("env-before-read-docs", spread)
    app.connect("autodoc-process-docstring", docstrings.as_rst)
