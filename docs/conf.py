"""How Sphinx writes the documentation: `make docs`, or `python -m sphinx docs build/docs`.

Nothing is loaded from the network, neither by the build nor by its pages.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "_ext"))

import stnls  # noqa: E402 - the extensions come first

project = "stnls"
author = "the stnls authors"
version = release = stnls.__version__
language = "en"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "returned_values",
]
exclude_patterns = ["_ext", "_static"]

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

# Words in single backquotes are names of this library where there is such a name, else plain code.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"inherited-members": "Module", "exclude-members": "extra_repr, options"}
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["math.css"]
html_title = f"stnls {version}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
