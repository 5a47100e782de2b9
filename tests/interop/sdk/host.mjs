// The contract's calls, which only note that they were made, and Node's loading of the JavaScript package with them.
import { register } from 'node:module';

const calls = [];
const writes = [];
let lastId = 0;
let last;

/** The calls since this was last asked, a line each. */
export const taken = () => calls.splice(0);
export const id = () => lastId;
/** The bytes of the writes since this was last asked. */
export const written = () => writes.splice(0);
/** The body of the last request, and its type. */
export const lastSent = () => [last.body, Object.fromEntries(last.headers)['content-type']];

const begin = (name) => (request) => {
  const { method, url, body, headers, repeatable } = last = request;
  lastId += 1;
  calls.push([name, lastId, method, url, body.length, repeatable ? 'repeatable' : 'once', ...headers.flat()].join(' '));
  return lastId;
};
/** The call that begins a socket. */
export const connect = (url, headers, protocols) => {
  lastId += 1;
  calls.push(['connect', lastId, url, ...headers.flat(), ...protocols].join(' '));
  return lastId;
};
const note = (name) => (...words) => { calls.push([name, ...words.map((word) => (ArrayBuffer.isView(word) ? word.length : word))].join(' ')); };

export const [send, open] = [begin('send'), begin('open')];
export const [end, cancel, hold] = ['end', 'cancel', 'hold'].map(note);
export const write = (id, bytes) => {
  writes.push([...bytes]);
  note('write')(id, bytes);
};
export const close = note('close');
export const sendBytes = (id, bytes) => { calls.push(`bytes ${id} ${bytes.length > 20 ? bytes.length : bytes.join('.')}`); };
export const sendText = (id, text) => { calls.push(`text ${id} ${text.length > 20 ? text.length : text}`); };

/** The calls that begin something about sound. */
const sound = (name, words) => (...all) => {
  lastId += 1;
  calls.push([name, lastId, ...words(...all)].join(' '));
  return lastId;
};
const heard = ({ rate, frames, detectVoice }) => [rate, frames, detectVoice];
export const subscribe = sound('subscribe', (trackSid, options) => [trackSid, ...heard(options)]);
export const follow = sound('follow', ({ participant, source, people }, options) => [participant, source, people, ...heard(options)]);
export const publish = sound('publish', ({ name, source, rate, bitsPerSecond }) => [name, source, rate, bitsPerSecond]);
export const [mark, mute, clear] = ['mark', 'mute', 'clear'].map(note);

export const wake = () => {};
export const finish = (outcome) => { calls.push(`finish ${JSON.stringify(outcome)}`); };
export const reportTasks = (tasks) => { calls.push(`tasks ${JSON.stringify(tasks)}`); };

const hooks = `export const resolve = (name, context, next) =>
  name.startsWith('wasm-worker:') ? { url: ${JSON.stringify(import.meta.url)}, shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
