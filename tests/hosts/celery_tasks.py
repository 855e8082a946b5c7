"""A Celery application whose task calls an agent. Its broker is a folder."""

import os
from pathlib import Path

from celery import Celery
from strands.handlers.callback_handler import PrintingCallbackHandler

from helpers import make_agent, says
from strands_token_telemetry import TokenUsageHook

folder = Path(os.environ["CELERY_FOLDER"])
app = Celery("celery_tasks", broker="filesystem://", backend=folder.as_uri())
app.conf.worker_redirect_stdouts = bool(os.environ["CELERY_REDIRECTED"])
app.conf.broker_transport_options = {
    "data_folder_in": f"{folder}/queue",
    "data_folder_out": f"{folder}/queue",
    "control_folder": f"{folder}/control",
    "polling_interval": 0.1,
}
hook = TokenUsageHook()


@app.task
def ask(prompt):
    agent = make_agent(says(), hooks=[hook], callback_handler=PrintingCallbackHandler())
    return str(agent(prompt))
