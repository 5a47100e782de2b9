// `WebSocket` of the JavaScript package in Node, against made events: node websocket_test.mjs GUEST-SDK/JS
import assert from 'node:assert/strict';
import { argv, exit } from 'node:process';
import { setTimeout as later } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { id, taken } from './host.mjs';

const sdk = (file) => import(new URL(file, `${pathToFileURL(argv[2])}/`));
const { WebSocket } = await sdk('websocket.js');
const { resume } = await sdk('steps.js');
assert.equal(globalThis.WebSocket, WebSocket);

let now = 0;
const notes = [];
const noted = () => notes.splice(0);

/** A step with these events. What was called in it. */
async function step(...batch) {
  now += 1;
  resume(() => new Promise(() => {}), now, batch);
  await later(5);
  return taken();
}

const url = 'wss://a/x';
const event = (tag, facts) => ({ tag, val: { id: id(), ...facts } });
const opened = (protocol = '') => event('socket-opened', { protocol, headers: [] });
const text = (text) => event('socket-text', { text });
const bytes = (...bytes) => event('socket-bytes', { bytes: new Uint8Array([9, ...bytes]).subarray(1) });
const closed = (code, reason = '') => event('socket-closed', { code, reason });
const writable = () => ({ tag: 'writable', val: id() });

/** A socket that notes its events. */
function socket(...words) {
  const socket = new WebSocket(...words);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => notes.push(`open ${socket.readyState}`);
  socket.onmessage = ({ data }) => notes.push(data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data);
  socket.onerror = ({ message, error }) => notes.push(`error ${message}${error?.code ? ` (${error.code} ${error.status})` : ''}`);
  socket.onclose = ({ code, reason, wasClean }) => notes.push(`close ${socket.readyState} ${code} ${reason} ${wasClean}`);
  return socket;
}

/** One that is open, in a step of its own. */
async function open() {
  const one = socket(url);
  await step(opened());
  taken();
  noted();
  return one;
}

await step({ tag: 'started', val: {} });

// Messages in both directions, and the server's close.
const first = socket('https://a/x?y', ['one', 'two'], { headers: { 'X-A': 'b' } });
assert.deepEqual(taken(), ['connect 1 wss://a/x?y x-a b one two']);
assert.deepEqual([first.readyState, first.protocol, first.url, first.extensions], [0, '', 'wss://a/x?y', '']);
assert.throws(() => first.send('early'), { name: 'InvalidStateError' });
assert.deepEqual([await step(opened('two')), noted()], [[], ['open 1']]);
first.send('hé');
first.send(new Uint16Array([1, 2]).subarray(1));
first.send(new Uint8Array([1, 2, 3]).buffer);
first.send({ toString: () => 'other' });
assert.deepEqual(taken(), ['text 1 hé', 'bytes 1 2.0', 'bytes 1 1.2.3', 'text 1 other']);
assert.deepEqual([first.protocol, first.bufferedAmount], ['two', 13]);
const listener = ({ data, origin }) => notes.push(`${origin} ${data}`);
first.addEventListener('message', listener);
assert.deepEqual([await step(text('one'), bytes(1, 2)), first.bufferedAmount], [[], 0]);
assert.deepEqual(noted(), ['one', 'wss://a one', [1, 2], 'wss://a [object ArrayBuffer]']);
first.removeEventListener('message', listener);
first.onmessage = null;
assert.deepEqual([await step(text('nobody'), closed(4001, 'why')), noted()], [[], ['close 3 4001 why true']]);
first.send('late');
first.close();
assert.deepEqual([taken(), first.bufferedAmount, first.onmessage], [[], 4, null]);

// The agent's close goes out after what was sent. Messages that come later are dropped.
const second = await open();
second.send('last');
second.close(3000, 'done');
assert.deepEqual([taken(), second.readyState], [['text 2 last', 'close 2 3000 done'], 2]);
second.close();
assert.deepEqual([await step(text('late'), closed(3000, 'done')), noted()], [[], ['close 3 3000 done true']]);
(await open()).close();
assert.deepEqual(taken(), [`close ${id()} 1000 `]);

// Connections that are refused, lost or given up.
socket(url);
const refused = event('failed', { code: 'refused', status: 401, message: 'why' });
assert.deepEqual([await step(refused), noted()], [[`connect ${id()} ${url}`], ['error refused: why (refused 401)', 'close 3 1006  false']]);
await open();
assert.deepEqual([await step(closed(1006, 'gone')), noted()], [[], ['error gone', 'close 3 1006 gone false']]);
await open();
const broken = event('failed', { code: 'interrupted', status: 0, message: '' });
assert.deepEqual([await step(text('one'), broken), noted()], [[], ['one', 'error interrupted (interrupted 0)', 'close 3 1006  false']]);
const hasty = socket(url);
taken();
hasty.close();
assert.deepEqual([taken(), hasty.readyState, noted()], [[`cancel ${id()}`], 2, []]);
assert.deepEqual([await step(opened()), noted()], [[], ['error the socket was closed before it was open', 'close 3 1006  false']]);

// What the web refuses.
const refuses = (name, ...words) => assert.throws(() => new WebSocket(...words), { name }, words.join(' '));
for (const bad of ['no url', 'ftp://a/', 'wss://a/#part', 'wss://a/#']) refuses('SyntaxError', bad);
for (const bad of ['', 'a b', 'a,b', ['a', 'a'], ['é']]) refuses('SyntaxError', url, bad);
refuses('TypeError', url, [], { headers: { 'a b': 'c' } });
assert.deepEqual(taken(), []);
const strict = await open();
for (const code of [1001, 2999, 5000, NaN]) assert.throws(() => strict.close(code), { name: 'InvalidAccessError' });
assert.throws(() => strict.close(1000, 'é'.repeat(62)), { name: 'SyntaxError' });
assert.deepEqual([strict.readyState, taken()], [1, []]);
strict.binaryType = 'nonsense';
assert.equal(strict.binaryType, 'arraybuffer');

// Blobs keep their place, in both directions.
strict.binaryType = 'blob';
let blob;
strict.onmessage = ({ data }) => { blob = data; };
strict.send(new Blob(['hé']));
strict.send('after');
strict.close();
assert.deepEqual([taken(), strict.bufferedAmount], [[], 8]);
assert.deepEqual(await step(), [`bytes ${id()} 104.195.169`, `text ${id()} after`, `close ${id()} 1000 `]);
const other = await open();
other.binaryType = 'blob';
other.onmessage = ({ data }) => { blob = data; };
await step(bytes(104, 105));
assert.equal(await blob.text(), 'hi');

// Much that is sent waits for the host, and the close behind it.
const busy = await open();
const part = new Uint8Array(40_000);
for (let sent = 0; sent < 5; sent += 1) busy.send(part);
const small = new Uint8Array([1]);
busy.send(small);
small[0] = 2;
busy.close();
const given = `bytes ${id()} 40000`;
assert.deepEqual([taken(), busy.bufferedAmount], [[given, given], 200_001]);
assert.deepEqual([await step(), busy.bufferedAmount], [[], 200_001]);
assert.deepEqual([await step(writable()), busy.bufferedAmount], [[given, given], 120_001]);
assert.deepEqual(await step(writable()), [given, `bytes ${id()} 1`, `close ${id()} 1000 `]);
assert.deepEqual([await step(closed(1000)), noted(), busy.bufferedAmount], [[], ['close 3 1000  true'], 0]);

// Many messages are sent in several steps, of all sockets together.
const [many, more] = [await open(), await open()];
for (let sent = 0; sent < 1200; sent += 1) many.send('x');
more.send('y');
assert.deepEqual([taken().length, many.bufferedAmount], [1000, 1200]);
assert.deepEqual([(await step()).length, many.bufferedAmount], [201, 200]);

for (let sent = 0; sent < 3000; sent += 1) more.send('x');
await step(closed(1006));
assert.deepEqual([await step(), noted()], [[], ['error ', 'close 3 1006  false']]);

// The host is not asked to hold anything back: whoever listens is told at once.
const flood = await open();
assert.deepEqual(await step(...Array.from({ length: 64 }, () => text('x'))), []);
assert.deepEqual([noted().length, flood.readyState], [64, 1]);

console.log('done');
exit(0);
