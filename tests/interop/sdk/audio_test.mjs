// Sound of the JavaScript package in Node, against made events: node audio_test.mjs GUEST-SDK/JS
import assert from 'node:assert/strict';
import { argv, exit } from 'node:process';
import { setTimeout as later } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { id, taken, written } from './host.mjs';

const sdk = (file) => import(new URL(file, `${pathToFileURL(argv[2])}/`));
const audio = await sdk('audio.js');
const { Task, resume } = await sdk('steps.js');

let now = 0;
const notes = [];
const noted = () => notes.splice(0);

/** A step at this time with these events. What was called in it. */
async function step(at, ...batch) {
  now = at;
  resume(() => new Promise(() => {}), now, batch);
  await later(5);
  return taken();
}

/** Note what this returns or throws, and what was called at once. */
async function note(work) {
  work().then((value) => notes.push(value), (error) => notes.push(`${error.code ?? error.message}`));
  await later(5);
  return taken();
}

const of = (tag, id, facts) => ({ tag, val: { id, ...facts } });
const started = (id, rule) => of('audio-started', id, { rule, track: { sid: 'TR', participant: 'ann' } });
const frame = (id) => of('audio', id, { atMs: 0, concealedMs: 0, droppedMs: 0, pcm: new Uint8Array([9, 1, 0, 255, 255]).subarray(1) });
const failed = (id, code) => of('failed', id, { code, status: 0, message: 'why' });
const playout = (id, state, playedMs, atMs) => of('audio-playout', id, { state, playedMs, atMs });
const marked = (id, mark, cleared = false) => of('audio-marked', id, { mark, cleared, playedMs: 0, atMs: 0 });

await step(0, { tag: 'started', val: {} });

async function read(heard) {
  for await (const { tag, val } of heard) notes.push(tag === 'audio' ? [...audio.samplesOf(val)] : tag);
  return heard.track?.participant;
}

// A followed track is heard from its first frame on, also where it ends before somebody takes it.
let people;
assert.deepEqual(await note(async () => {
  people = audio.follow();
  for (;;) {
    const heard = await people.next();
    new Task('listen', async () => notes.push(await read(heard)));
  }
}), ['follow 1  microphone true 24000 all false']);
await step(1, started(2, 1), frame(2), of('voice-started', 2, { atMs: 0 }), of('audio-ended', 2), started(3, 1));
assert.deepEqual(noted(), [[1, -1], 'voice-started', 'ann']);
assert.deepEqual([await step(2, frame(3), failed(1, 'not-joined')), noted()], [[], [[1, -1], 'not-joined']]);

// Tracks that nobody has taken are given up with their rule, and one that is left with its loop.
people = audio.follow({ participant: 'ann', source: '', people: false }, { rate: 8000, frames: 'voiced', detectVoice: true });
assert.deepEqual(taken(), ['follow 2 ann  false 8000 voiced true']);
await step(3, started(4, 2), started(5, 2));
const one = await people.next();
people.close();
assert.deepEqual(taken(), ['cancel 5', 'cancel 2']);
// One that was on its way, too, with all that the batch has of it.
assert.deepEqual(await step(3, started(6, 2), frame(6), of('voice-started', 6, { atMs: 0 }), of('audio-ended', 6)), ['cancel 6']);
await note(() => new Task('main', async (task) => notes.push((await task.nextEvent()).tag)).ended);
assert.deepEqual([await step(3, of('dtmf', 0)), noted()], [[], ['dtmf', undefined]]);
assert.deepEqual(await note(async () => { for await (const { tag } of one) return tag; }), []);
assert.deepEqual([await step(4, frame(4)), noted()], [['cancel 4'], ['audio']]);

// One track by its sid.
const heard = audio.subscribe('TR', { rate: 16000 });
assert.deepEqual([taken(), heard.track], [['subscribe 3 TR 16000 all false'], undefined]);
await note(() => read(heard));
await step(5, of('audio-started', 3, { rule: 0, track: { participant: 'bob' } }), frame(3), of('audio-ended', 3));
assert.deepEqual(noted(), [[1, -1], 'bob']);
await note(() => read(audio.subscribe('TX')));
assert.deepEqual([await step(6, failed(id(), 'refused')), noted()], [[], ['refused']]);

// A writer is a second ahead of what is played.
const voice = audio.publish({ rate: 8000 });
assert.deepEqual(taken(), ['publish 5  microphone 8000 0']);
const seconds = (count) => new Int16Array(8000 * count);
await step(10);
const half = 'write 5 8000';
assert.deepEqual(await note(() => voice.write(seconds(3))), [half, half, half]);
assert.equal(voice.queuedMs, 1500);
assert.deepEqual(await step(10, playout(5, 'playing', 0, 10)), []);
assert.deepEqual([await step(1010), voice.positionMs], [[half, half], 1000]);
assert.deepEqual([await step(2010), noted()], [[half], [undefined]]);
await note(() => voice.waitForPlayout());
assert.deepEqual([await step(3010, playout(5, 'drained', 3000, 3010)), noted()], [[], [undefined]]);
assert.deepEqual([voice.positionMs, voice.queuedMs], [3000, 0]);

// Clear discards what waits, and frees the writer. Bytes may be cut within a sample.
await note(() => voice.write(seconds(2)));
await step(3010, playout(5, 'playing', 3000, 3010));
voice.clear();
assert.deepEqual([taken(), voice.queuedMs], [['clear 5'], 0]);
assert.deepEqual([await step(3110, playout(5, 'cleared', 3100, 3110)), noted()], [[half], [undefined]]);
assert.deepEqual([voice.positionMs, voice.queuedMs], [3100, 500]);
await note(async () => { for (const part of [[1], [2, 3, 4], [], [5], [6, 7]]) await voice.write(new Uint8Array(part)); });
// What is cleared, or followed by whole samples, is not completed.
voice.clear();
await note(async () => { for (const part of [Uint8Array.of(8, 9, 10), Int16Array.of(11), Uint8Array.of(12, 13)]) await voice.write(part); });
assert.deepEqual(noted(), [undefined, undefined]);
assert.deepEqual(written().slice(-5), [[1, 2, 3, 4], [5, 6], [8, 9], [11, 0], [12, 13]]);
await step(3120, playout(5, 'cleared', 3100, 3120), playout(5, 'drained', 3100.375, 3121));

// The sum of 120 of these parts is a little more than a second, by the rounding of floats: the writer waits for no time that is over.
const fine = audio.publish({ rate: 12000 });
taken();
await note(async () => { for (let count = 0; count < 121; count += 1) await fine.write(new Int16Array(100)); });
await step(4000, playout(id(), 'playing', 0, 4000));
assert.deepEqual([await step(4500), await step(4501), noted()], [[], [`write ${id()} 200`], [undefined]]);
fine.abort();
assert.deepEqual([taken(), await note(() => fine.write(seconds(1))), noted()], [[`cancel ${id()}`], [], ['the track was given up']]);

// Marks, in their order, also before the end; the first listener; many small writes in several steps.
voice.mark(7);
assert.deepEqual(taken(), ['mark 5 7']);
for (let count = 0; count < 2; count += 1) await note(async () => (await voice.nextMark())?.mark);
await step(4600, marked(5, 7));
assert.deepEqual(noted(), [7]);
await step(4601, marked(5, 8, true), marked(5, 9));
assert.deepEqual([noted(), (await voice.nextMark()).mark], [[8], 9]);
await note(() => voice.waitForSubscription());
assert.deepEqual([noted(), await step(4602, { tag: 'audio-subscribed', val: 5 }), noted()], [[], [], [undefined]]);
assert.equal((await note(async () => { for (let count = 0; count < 1500; count += 1) await voice.write(new Int16Array(1)); })).length, 1000);
assert.equal((await step(4604)).length, 500);
voice.hold(true);
voice.mute(true);
assert.deepEqual([taken(), noted()], [['hold 5 true', 'mute 5 true'], [undefined]]);

// Its end.
assert.deepEqual(await note(() => voice.close()), ['close 5']);
assert.deepEqual([await step(4700, marked(5, 1), of('done', 5, { value: '' })), noted()], [[], [undefined]]);
assert.deepEqual([(await voice.nextMark()).mark, await voice.nextMark()], [1, undefined]);
assert.deepEqual([await note(() => voice.write(seconds(1))), noted()], [[], ['the track has ended']]);
// Of many rules that are over only the last ones are known.
const first = id() + 1;
for (let count = 0; count < 100; count += 1) audio.follow().close();
taken();
assert.deepEqual(await step(4750, started(700, id()), started(701, id() - 60), started(702, first)), ['cancel 700', 'cancel 701']);
const lost = audio.publish();
taken();
await note(() => lost.waitForPlayout().then(() => lost.waitForSubscription()));
assert.deepEqual([await step(4800, failed(id(), 'not-joined')), noted()], [[], ['not-joined']]);
await note(() => lost.close());
assert.deepEqual(noted(), ['not-joined']);

console.log('done');
exit(0);
