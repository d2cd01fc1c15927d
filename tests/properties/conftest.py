"""Hypothesis for this folder: no deadlines (a loaded machine is not a bug), the same examples on each run in CI."""

import os

from hypothesis import settings

settings.register_profile(
    "reputon", deadline=None, max_examples=300, derandomize=bool(os.environ.get("CI")), print_blob=True
)
settings.load_profile("reputon")
