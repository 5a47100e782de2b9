"""A client of the dispatch API in PyPI's livekit-api: one call to a server, one line of JSON.

`dispatch.mjs` has the same verbs and prints the same; tests/all/interop.rs compares the two. Where a call gives nothing
back, the line is an empty list.
"""

import asyncio
import json
import sys

from livekit import api


async def call(client: api.LiveKitAPI, *words: str) -> list[dict]:
    match words:
        case "create", room, agent, metadata:
            request = api.CreateAgentDispatchRequest(room=room, agent_name=agent, metadata=metadata)
            return [dispatch(await client.agent_dispatch.create_dispatch(request))]
        case "list", room:
            return [dispatch(each) for each in await client.agent_dispatch.list_dispatch(room)]
        case "get", room, dispatch_id:
            found = await client.agent_dispatch.get_dispatch(dispatch_id, room)
            return [dispatch(found)] if found else []
        case "delete", room, dispatch_id:
            return [dispatch(await client.agent_dispatch.delete_dispatch(dispatch_id, room))]
        case "create-room", name:
            return [room_of(await client.room.create_room(api.CreateRoomRequest(name=name)))]
        case "create-room-with-agent", name, agent, metadata:
            agents = [api.RoomAgentDispatch(agent_name=agent, metadata=metadata)]
            return [room_of(await client.room.create_room(api.CreateRoomRequest(name=name, agents=agents)))]
        case ("rooms",):
            return [room_of(each) for each in (await client.room.list_rooms(api.ListRoomsRequest())).rooms]
        case "delete-room", room:
            await client.room.delete_room(api.DeleteRoomRequest(room=room))
            return []
        case "participants", room:
            found = await client.room.list_participants(api.ListParticipantsRequest(room=room))
            return [{"identity": each.identity, "sid": each.sid} for each in found.participants]
        case _:
            sys.exit(f"no such verb, or not its arguments: {' '.join(words)}")


def dispatch(of: api.AgentDispatch) -> dict:
    return {
        "id": of.id,
        "agent": of.agent_name,
        "room": of.room,
        "metadata": of.metadata,
        "jobs": [job(each) for each in of.state.jobs],
    }


def job(of: api.Job) -> dict:
    return {"id": of.id, "status": api.JobStatus.Name(of.state.status), "error": of.state.error}


def room_of(of: api.Room) -> dict:
    return {"name": of.name, "sid": of.sid}


async def main() -> None:
    async with api.LiveKitAPI() as client:
        try:
            print(json.dumps(await call(client, *sys.argv[1:])))
        except api.ServerError as error:
            print(json.dumps({"error": {"code": error.code, "message": error.message, "status": error.status}}))
            sys.exit(1)


asyncio.run(main())
