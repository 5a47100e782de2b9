"""An agent of livekit-agents whose jobs do what their metadata says; tests/bench/side_by_side.rs measures it.

It joins no room: only the worker and the life of its jobs are measured.
"""

import asyncio
import sys

from livekit.agents import AgentServer, JobContext, cli

# Defaults but for the health server, which would take a fixed port on all interfaces.
server = AgentServer(host="127.0.0.1", port=0)


@server.rtc_session()
async def entrypoint(ctx: JobContext) -> None:
    match ctx.job.metadata:
        case "return":
            print(f'entered job="{ctx.job.id}"', file=sys.stderr, flush=True)
            # A return alone does not end a job here.
            ctx.shutdown()
        case "wait":
            await asyncio.Event().wait()
        case "loop":
            while True:
                pass
        case "raise":
            raise IndexError("no third word")
        case other:
            raise ValueError(f"unknown behaviour {other!r}")


if __name__ == "__main__":
    cli.run_app(server)
