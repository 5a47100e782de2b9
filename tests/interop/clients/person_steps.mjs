// What a person in a room does, for Node and for browsers: ../README.md says what it is told and what it tells.
//
// `platform` is what differs: `tell(saw, facts)`, `sendFile(room, content, name, topic)`, `reliable`, the kind of data that is,
// `reasons`, the names of the reasons to leave, and what person_sound.mjs needs.

import { hear, speak } from './person_sound.mjs';

const TEXT_TOPICS = ['lk.chat', 'lk.transcription'];
const FILE_TOPIC = 'files';
const KINDS = ['standard', 'ingress', 'egress', 'sip', 'agent'];

export async function join(room, url, token, platform) {
  const { tell, reasons } = platform;
  const joined = (who) =>
    tell('joined', { who: who.identity, kind: KINDS[who.kind] ?? 'other', attributes: who.attributes });
  for (const topic of TEXT_TOPICS) {
    room.registerTextStreamHandler(topic, (reader, { identity }) => readText(reader, identity, tell));
  }
  room.registerByteStreamHandler(FILE_TOPIC, (reader, { identity }) => readFile(reader, identity, tell));
  room.on('participantConnected', joined);
  room.on('participantDisconnected', (who) => {
    tell('left', { who: who.identity, reason: reasons[who.info?.disconnectReason] ?? null });
  });
  room.on('participantAttributesChanged', (changed, who) => tell('attributes', { who: who.identity, changed }));
  room.on('dataReceived', (payload, who, kind, topic) => {
    const facts = { topic, payload: new TextDecoder().decode(payload), reliable: kind === platform.reliable };
    tell('data', { who: who?.identity ?? null, ...facts });
  });
  room.on('reconnecting', () => tell('reconnecting', {}));
  room.on('reconnected', () => tell('reconnected', {}));
  room.on('disconnected', (reason) => tell('disconnected', { reason: reasons[reason] ?? null }));
  await room.connect(url, token);
  room.localParticipant.registerRpcMethod('accept_file', async (call) => {
    tell('call', { who: call.callerIdentity, method: 'accept_file', payload: call.payload });
    return 'yes';
  });
  tell('connected', { who: room.localParticipant.identity });
  for (const who of room.remoteParticipants.values()) {
    joined(who);
  }
}

async function readText(reader, who, tell) {
  const facts = { stream: streamId(reader), who, topic: reader.info.topic };
  let text = '';
  try {
    for await (const part of reader) {
      text += part;
      tell('part', { ...facts, text: part });
    }
    tell('text', { ...facts, text, attributes: reader.info.attributes ?? {} });
  } catch (error) {
    tell('broken', { ...facts, text, why: String(error) });
  }
}

async function readFile(reader, who, tell) {
  const { topic, name, mimeType: mime } = reader.info;
  const parts = [];
  try {
    for await (const part of reader) {
      parts.push(part);
    }
  } catch (error) {
    tell('broken', { stream: streamId(reader), who, topic, why: String(error) });
    return;
  }
  const content = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    content.set(part, at);
    at += part.length;
  }
  tell('file', { who, topic, name, mime, ...(await factsOf(content)) });
}

/// One of the two packages calls it `streamId`.
const streamId = (reader) => reader.info.streamId ?? reader.info.id;

export async function perform(room, order, platform) {
  const { tell } = platform;
  const me = room.localParticipant;
  switch (order.do) {
    case 'text': {
      const info = await me.sendText(order.text, { topic: order.topic });
      tell('sent', { stream: info.streamId ?? info.id });
      break;
    }
    case 'file': {
      const content = made(order.bytes);
      await platform.sendFile(room, content, order.name, FILE_TOPIC);
      tell('sent-file', { name: order.name, ...(await factsOf(content)) });
      break;
    }
    case 'data':
      await me.publishData(new TextEncoder().encode(order.payload), { reliable: order.reliable, topic: order.topic });
      break;
    case 'speak':
      failing(order, platform, speak(room, order, platform));
      break;
    case 'hear':
      failing(order, platform, hear(room, order, platform));
      break;
    case 'call':
      try {
        const { method, payload } = order;
        tell('answer', { payload: await me.performRpc({ destinationIdentity: order.to, method, payload }) });
      } catch (error) {
        if (error.code === undefined) {
          throw error;
        }
        tell('refusal', { code: error.code, message: error.message });
      }
      break;
    default:
      throw new Error(`no such order: ${order.do}`);
  }
}

/// Tell the failure of what goes on while other orders come.
function failing(order, { tell }, work) {
  work.catch((error) => tell('failed', { do: order.do, why: String(error) }));
}

/// The content of a file that is sent.
function made(count) {
  return Uint8Array.from({ length: count }, (_, at) => (at * at) % 251);
}

async function factsOf(content) {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', content));
  const sha256 = Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return { bytes: content.length, sha256 };
}
