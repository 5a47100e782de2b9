"""A worker of livekit-agents whose jobs answer texts with a model; tests/bench/rooms.rs measures it.

The model is at MODEL_URL. There is no sound. Its load is told as low, so that it takes every job; the rest are defaults.
"""

import os

from livekit.agents import Agent, AgentServer, AgentSession, JobContext, cli, inference, room_io

server = AgentServer(host="127.0.0.1", port=0, load_fnc=lambda: 0.1)


@server.rtc_session(agent_name="llm")
async def entrypoint(ctx: JobContext) -> None:
    model = inference.LLM("asked", base_url=os.environ["MODEL_URL"], api_key="devkey", api_secret="secret")
    session = AgentSession(llm=model)
    options = room_io.RoomOptions(audio_input=False, audio_output=False)
    await session.start(Agent(instructions="Answer."), room=ctx.room, room_options=options)


if __name__ == "__main__":
    cli.run_app(server)
