// A person in a room by npm's @livekit/rtc-node.
//
//     node person.mjs URL TOKEN
//
// The package logs to standard output too: those lines have no `saw`.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { createInterface } from 'node:readline';

import { DataPacketKind, DisconnectReason, Room, dispose } from '@livekit/rtc-node';

import { join, perform } from './person_steps.mjs';

const platform = {
  tell: (saw, facts) => process.stdout.write(`${JSON.stringify({ saw, ...facts })}\n`),
  reliable: DataPacketKind.KIND_RELIABLE,
  reasons: DisconnectReason,
  async sendFile(room, content, name, topic) {
    const directory = await mkdtemp(path(tmpdir(), 'person-'));
    try {
      const file = path(directory, name);
      await writeFile(file, content);
      await room.localParticipant.sendFile(file, { name, topic });
    } finally {
      await rm(directory, { recursive: true });
    }
  },
};

const [url, token] = process.argv.slice(2);
const room = new Room();
await join(room, url, token, platform);
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    await perform(room, order, platform);
  } catch (error) {
    platform.tell('failed', { do: order.do, why: String(error) });
  }
}
await room.disconnect();
await dispose();
