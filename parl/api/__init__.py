"""The Python interface: train, resume, evaluate, load, and what leaves a run."""

from parl.api.deploying import distill as distill
from parl.api.deploying import export as export
from parl.api.deploying import record as record
from parl.api.deploying import submit as submit
from parl.api.loading import evaluate as evaluate
from parl.api.loading import kept_config as kept_config
from parl.api.loading import load as load
from parl.api.training import Run as Run
from parl.api.training import resume as resume
from parl.api.training import train as train
from parl.face import Agent as Agent
from parl.runs.preparation import prepare as prepare
