// A client of the dispatch API in npm's livekit-server-sdk: one call to a server, one line of JSON.
//
// `dispatch.py` has the same verbs and prints the same; tests/all/interop.rs compares the two. Where a call gives
// nothing back, the line is an empty list.

import { AgentDispatchClient, RoomAgentDispatch, RoomServiceClient, ServerError } from 'livekit-server-sdk';

// Both read the key and the secret from the environment.
const dispatches = new AgentDispatchClient(process.env.LIVEKIT_URL);
const rooms = new RoomServiceClient(process.env.LIVEKIT_URL);

const verbs = {
  create: async (room, agent, metadata) => [dispatch(await dispatches.createDispatch(room, agent, { metadata }))],
  list: async (room) => (await dispatches.listDispatch(room)).map(dispatch),
  get: async (room, id) => [await dispatches.getDispatch(id, room)].filter(Boolean).map(dispatch),
  delete: (room, id) => dispatches.deleteDispatch(id, room).then(() => []),
  'create-room': async (name) => [room(await rooms.createRoom({ name }))],
  'create-room-with-agent': async (name, agentName, metadata) => {
    const agents = [new RoomAgentDispatch({ agentName, metadata })];
    return [room(await rooms.createRoom({ name, agents }))];
  },
  rooms: async () => (await rooms.listRooms()).map(room),
  'delete-room': (name) => rooms.deleteRoom(name).then(() => []),
  participants: async (name) => (await rooms.listParticipants(name)).map(({ identity, sid }) => ({ identity, sid })),
};

const dispatch = (message) => {
  // Only so is an enum its name.
  const { id, agentName, room, metadata, state } = message.toJson({ emitDefaultValues: true });
  return { id, agent: agentName, room, metadata, jobs: (state?.jobs ?? []).map(job) };
};

const job = ({ id, state }) => ({ id, status: state?.status ?? 'JS_PENDING', error: state?.error ?? '' });

const room = ({ name, sid }) => ({ name, sid });

const [verb, ...words] = process.argv.slice(2);
if (verbs[verb]?.length !== words.length) {
  console.error(`no such verb, or not its arguments: ${[verb, ...words].join(' ')}`);
  process.exit(1);
}
try {
  console.log(JSON.stringify(await verbs[verb](...words)));
} catch (error) {
  if (!(error instanceof ServerError)) throw error;
  // There is no code where the answer is not Twirp's; the client in Python then says this.
  const { code = 'unknown', message, status } = error;
  console.log(JSON.stringify({ error: { code, message, status } }));
  process.exitCode = 1;
}
