"""Under CI hypothesis draws the same examples every time: a failure there is the change's, and can be repeated."""

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
