"""The Celery peer, at its defaults: Redis as the broker and as the store of results."""

import os

from celery import Celery

from bench.projects.command import run_true

app = Celery("bench", broker=os.environ["PEER_REDIS_URL"], backend=os.environ["PEER_REDIS_URL"])
task = app.task(name="bench.run_true")(run_true)
