// LiveKit's receiver of webhooks in npm's livekit-server-sdk: a token and a body as arguments, one line of JSON.
//
// `webhook.py` prints the same; tests/all/interop.rs compares both with the post. A field that is not set is null.

import { WebhookReceiver } from 'livekit-server-sdk';

const [token, body] = process.argv.slice(2);
const receiver = new WebhookReceiver(process.env.LIVEKIT_API_KEY, process.env.LIVEKIT_API_SECRET);
try {
  const event = await receiver.receive(body, token);
  const { id, createdAt, job, room, participant, track } = event;
  const read = { event: event.event, id, createdAt: String(createdAt), job: job?.id ?? null };
  const hosted = { room: room?.name ?? null, participant: participant?.identity ?? null, track: track?.sid ?? null };
  console.log(JSON.stringify({ ...read, agent: job?.agentName ?? null, ...hosted }));
} catch (error) {
  console.log(JSON.stringify({ error: String(error) }));
  process.exitCode = 1;
}
