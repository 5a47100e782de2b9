// `fetch` of the JavaScript package in Node, against made events: node fetch_test.mjs GUEST-SDK/JS
import assert from 'node:assert/strict';
import { argv, exit } from 'node:process';
import { setTimeout as later } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { id, lastSent, taken } from './host.mjs';

const sdk = (file) => import(new URL(file, `${pathToFileURL(argv[2])}/`));
const { fetch } = await sdk('fetch.js');
const { resume, Task } = await sdk('steps.js');

let now = 0;
let main;
const notes = [];
const noted = () => notes.splice(0);

/** A step with these events. What was called in it. */
async function step(...batch) {
  now += 1;
  resume((task) => main(task), now, batch);
  await later(5);
  return taken();
}

/** A job that notes what this returns or throws. What was called in its first step. */
async function job(work) {
  main = async () => {
    try {
      notes.push(await work());
    } catch (error) {
      notes.push(`${error.name}: ${error.message}${error.cause ? ` (${error.cause.code})` : ''}`);
    }
    await new Promise(() => {});
  };
  return step({ tag: 'started', val: {} });
}

const url = 'http://a/x';
const head = (status = 200) => ({ tag: 'http-head', val: { id: id(), status, url, headers: [['a', 'b']] } });
const body = (text, last = false) => ({ tag: 'http-body', val: { id: id(), bytes: new TextEncoder().encode(text), last } });
const failed = (code) => ({ tag: 'failed', val: { id: id(), code, status: 0, message: 'why' } });
const writable = () => ({ tag: 'writable', val: id() });

// An answer arrives in parts.
const parts = async () => {
  const answer = await fetch(url, { method: 'post', body: 'hé' });
  for await (const part of answer.body) notes.push(new TextDecoder().decode(part));
  return [answer.status, answer.url, answer.redirected, answer.headers.get('a')].join(' ');
};
assert.deepEqual(await job(parts), [`send 1 POST ${url} 3 once content-type text/plain;charset=UTF-8`]);
assert.deepEqual([await step(head(201), body('one')), noted()], [[], ['one']]);
assert.deepEqual([await step(body('two'), body('', true)), noted()], [[], ['two', `201 ${url} false b`]]);

// Failures have the code, before an answer and in its middle.
assert.deepEqual(await job(() => fetch(url)), [`send 2 GET ${url} 0 repeatable`]);
assert.deepEqual([await step(failed('not-allowed')), noted()], [[], ['TypeError: not-allowed: why (not-allowed)']]);
const text = (options) => async () => (await fetch(url, options)).text();
await job(text());
await step(head(), body('half'));
assert.deepEqual([await step(failed('interrupted')), noted()], [[], ['TypeError: interrupted: why (interrupted)']]);

// A signal gives up, whenever it comes. What comes later is dropped.
for (const events of [() => [], () => [head(), body('x')]]) {
  const controller = new AbortController();
  await job(text({ signal: controller.signal }));
  await step(...events());
  controller.abort(new Error('enough'));
  assert.deepEqual([await step(), noted()], [[`cancel ${id()}`], ['Error: enough']]);
  assert.deepEqual([await step(body('late'), writable()), noted()], [[], []]);
  assert.deepEqual([await job(text({ signal: controller.signal })), noted()], [[], ['Error: enough']]);
}
const stuck = new AbortController();
await job(() => fetch(url, { method: 'POST', body: new ReadableStream(), signal: stuck.signal }));
stuck.abort(new Error('enough'));
assert.deepEqual([await step(), noted()], [[`cancel ${id()}`], ['Error: enough']]);
const late = () => fetch(url, { signal: AbortSignal.timeout(2) });
await job(late);
assert.deepEqual([await step(), noted()], [[], []]);
assert.deepEqual([await step(), noted()], [[`cancel ${id()}`], ['TimeoutError: The operation timed out.']]);
const [one, other] = [new AbortController(), new AbortController()];
await job(() => fetch(url, { signal: AbortSignal.any([one.signal, other.signal]) }));
other.abort(new Error('other'));
assert.deepEqual([await step(), noted()], [[`cancel ${id()}`], ['Error: other']]);
assert.equal(AbortSignal.any([one.signal, other.signal]).reason.message, 'other');

// So does the end of a loop, or of a task.
await job(async () => {
  for await (const _ of (await fetch(url)).body) return 'left';
});
assert.deepEqual([await step(head(), body('x')), noted()], [[`cancel ${id()}`], ['left']]);
let task;
await job(async () => {
  task = new Task('task', ({ signal }) => fetch(url, { signal }));
});
task.cancel();
assert.deepEqual([await step(), noted()], [[`cancel ${id()}`], [undefined]]);

// Answers without a body are over; redirects can be errors.
await job(async () => (await fetch(url)).body);
assert.deepEqual([await step(head(204)), noted()], [[`cancel ${id()}`], [null]]);
await job(() => fetch(url, { redirect: 'error' }));
await step(head(302));
assert.match(noted()[0], /redirects/);

// A large body waits for the host.
const large = await job(async () => (await fetch(url, { method: 'PUT', body: new Uint8Array(300_000) })).status);
const [at, part] = [id(), 65_536];
assert.deepEqual(large, [`open ${at} PUT ${url} 0 once content-length 300000`, `write ${at} ${part}`, `write ${at} ${part}`]);
assert.deepEqual(await step(), []);
assert.deepEqual(await step(writable()), [`write ${at} ${part}`, `write ${at} ${part}`]);
assert.deepEqual(await step(writable()), [`write ${at} 37856`, `end ${at}`]);
assert.deepEqual([await step(head(), body('', true)), noted()], [[], [200]]);

// A form is written as the web does. Node reads it as it was.
const form = new FormData();
form.append('a "b"\n', 'one\ntwo');
form.append('file', new File(['hé', new Uint8Array([0, 255])], 'n"m.txt', { type: 'text/x' }));
form.append('blob', new Blob(['z']));
await job(async () => (await fetch(url, { method: 'POST', body: form })).status);
const [sent, type] = lastSent();
const read = await new Response(sent, { headers: { 'content-type': type } }).formData();
assert.deepEqual([...read.keys()], ['a "b"\r\n', 'file', 'blob']);
assert.deepEqual([read.get('a "b"\r\n'), read.get('blob').name, read.get('blob').type], ['one\r\ntwo', 'blob', 'application/octet-stream']);
const { name, type: mime } = read.get('file');
assert.deepEqual([name, mime, Buffer.from(await read.get('file').arrayBuffer()).toString('hex')], ['n"m.txt', 'text/x', '68c3a900ff']);
for (const body of [form, new Blob(['z'])]) assert.throws(() => new Request(url, { method: 'POST', body }), TypeError);
assert.ok((await job(() => fetch(new Request(url, { method: 'POST', body: 'x' }))))[0].startsWith(`open ${id()} POST ${url} 0 once`));

// A streamed body ends where the server answers.
const endless = new ReadableStream({
  pull: (controller) => controller.enqueue(new Uint8Array(40_000)),
  cancel: () => { notes.push('source closed'); },
});
await job(text({ method: 'POST', body: endless }));
assert.deepEqual([await step(head(413), body('too much', true)), noted()], [[`end ${id()}`], ['source closed', 'too much']]);

// The host holds what nobody reads.
let answer;
await job(async () => { answer = await fetch(url); });
assert.deepEqual(await step(head(), ...Array.from({ length: 70 }, () => body('x'))), [`hold ${id()} true`]);
const reader = answer.body.getReader();
for (let read = 0; read < 60; read += 1) await reader.read();
assert.deepEqual(taken(), [`hold ${id()} false`]);

console.log('done');
exit(0);
