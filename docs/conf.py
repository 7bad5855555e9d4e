"""Sphinx, for `make docs`."""

from airflow_provider_stripe_identity import __version__

project = "airflow-provider-stripe-identity"
author = "the authors of airflow-provider-stripe-identity"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
html_theme = "furo"
html_title = f"Stripe Identity for Apache Airflow {release}"
html_show_sphinx = False
exclude_patterns = ["_build"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
