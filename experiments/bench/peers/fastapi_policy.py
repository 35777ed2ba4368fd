"""A policy on FastAPI, as its documentation has it: PYTHON fastapi_policy.py POLICY PORT."""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

import parl

policy = parl.Policy.load(sys.argv[1])
app = FastAPI()


class Request(BaseModel):
    """One observation."""

    obs: list[float]


class Response(BaseModel):
    """Its action."""

    action: int | list[float]


@app.post("/act")
async def act(request: Request) -> Response:
    action, _ = policy.act(request.obs)
    return Response(action=action.tolist())


print(f"http://127.0.0.1:{sys.argv[2]}/act", flush=True)
uvicorn.run(app, port=int(sys.argv[2]), log_level="error", access_log=False)
