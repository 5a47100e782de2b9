"""A worker of livekit-agents that registers as AGENT_NAME, takes every job, and does what the job's metadata says.

tests/all/interop.rs has it register with our dispatcher. It joins no room, as there is none to join. Not `agent.py`,
which the bench measures with its defaults: this one is never full, however busy the machine, keeps few processes, and waits for
them on a slow machine too.
"""

import asyncio
import os
import sys

from livekit.agents import AgentServer, JobContext, cli

server = AgentServer(
    host="127.0.0.1",
    port=0,
    load_fnc=lambda: 0.1,
    num_idle_processes=2,
    initialize_process_timeout=300,
    shutdown_process_timeout=300,
)


@server.rtc_session(agent_name=os.environ["AGENT_NAME"])
async def entrypoint(ctx: JobContext) -> None:
    tell(ctx, "began")

    async def ended() -> None:
        tell(ctx, "ended")

    ctx.add_shutdown_callback(ended)
    match ctx.job.metadata.split():
        case [] | ["ok"]:
            # A return alone does not end a job here.
            ctx.shutdown()
        case ["sleep", seconds]:
            # It returns and goes on, as an agent in a room does: a termination waits 15 seconds for one that has not.
            asyncio.get_running_loop().call_later(float(seconds), ctx.shutdown)
        case ["raise"]:
            raise RuntimeError("as it was told")
        case ["exit", code]:
            os._exit(int(code))
        case _:
            raise ValueError(f"unknown behaviour {ctx.job.metadata!r}")


def tell(ctx: JobContext, what: str) -> None:
    print(f'{what} job="{ctx.job.id}"', file=sys.stderr, flush=True)


if __name__ == "__main__":
    cli.run_app(server)
