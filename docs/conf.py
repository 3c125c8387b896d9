"""Settings of the documentation site: ``make docs`` builds it, warnings are errors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import generated
from sphinx.application import Sphinx

from polyprompt import __version__

project = "polyprompt"
author = "The polyprompt developers"
copyright = "The polyprompt developers, Apache-2.0"  # noqa: A001 (Sphinx's name)
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the notebook holds what it printed; a test runs it
nb_ipywidgets_js = {}
exclude_patterns = ["_build"]

autodoc_default_options = {"members": True, "show-inheritance": False, "member-order": "bysource"}
autodoc_class_signature = "separated"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
suppress_warnings = ["myst.header"]

highlight_language = "text"
html_theme = "furo"
html_title = "polyprompt"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {"font-stack": "system-ui, sans-serif"},
    "dark_css_variables": {"font-stack": "system-ui, sans-serif"},
}


def _to_pages(app: Sphinx, name: str, source: list[str]) -> None:
    """Let links to texts beside the code lead to the pages that are made of them."""
    del app
    up = "../" * name.count("/")
    for text, page in generated.BESIDE.items():
        source[0] = source[0].replace(f"]({up}../{text})", f"]({up}reference/{page}.md)")


def setup(app: Sphinx) -> None:
    """Write the pages that are made from the program itself."""
    generated.write(Path(__file__).parent / "reference")
    app.connect("source-read", _to_pages)
