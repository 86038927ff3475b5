"""The product's settings, with `bench.projects.untrailed` in them."""

from atomsite.settings import *  # noqa: F403
from atomsite.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "bench.projects.untrailed.UntrailedConfig"]
