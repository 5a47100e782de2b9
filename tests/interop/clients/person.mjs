// A person in a room by npm's @livekit/rtc-node.
//
//     node person.mjs URL TOKEN
//
// The package logs to standard output too: those lines have no `saw`.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as path } from 'node:path';
import { createInterface } from 'node:readline';

import {
  AudioFrame,
  AudioSource,
  AudioStream,
  DataPacketKind,
  DisconnectReason,
  LocalAudioTrack,
  Room,
  TrackPublishOptions,
  TrackSource,
  dispose,
} from '@livekit/rtc-node';

import { join, perform } from './person_steps.mjs';

const RATE = 48_000;
const FRAME = RATE / 100;

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

platform.voice = async (room) => {
  const source = new AudioSource(RATE, 1);
  const track = LocalAudioTrack.createAudioTrack('voice', source);
  const options = new TrackPublishOptions();
  options.source = TrackSource.SOURCE_MICROPHONE;
  await room.localParticipant.publishTrack(track, options);
  return {
    async play(samples) {
      const pcm = Int16Array.from(samples, (sample) => sample * 32_767);
      for (let at = 0; at < pcm.length; at += FRAME) {
        const part = pcm.slice(at, at + FRAME);
        await source.captureFrame(new AudioFrame(part, RATE, 1, part.length));
      }
      await source.waitForPlayout();
    },
  };
};

platform.heard = async function* (track) {
  for await (const { data } of new AudioStream(track, RATE, 1)) {
    yield Float32Array.from(data, (sample) => sample / 32_768);
  }
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
