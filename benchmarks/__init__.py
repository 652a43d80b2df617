"""Ours beside others, in speed and in what the backbones learn."""

from service.model.threads import wait_briefly

wait_briefly()  # as in xal and in the service; before anything here brings torch
