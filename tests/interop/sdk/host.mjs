// The contract's calls, which only note that they were made, and Node's loading of the JavaScript package with them.
import { register } from 'node:module';

const calls = [];
let lastId = 0;

/** The calls since this was last asked, a line each. */
export const taken = () => calls.splice(0);
export const id = () => lastId;

const begin = (name) => ({ method, url, body, headers, repeatable }) => {
  lastId += 1;
  calls.push([name, lastId, method, url, body.length, repeatable ? 'repeatable' : 'once', ...headers.flat()].join(' '));
  return lastId;
};
const note = (name) => (...words) => { calls.push([name, ...words.map((word) => word?.length ?? word)].join(' ')); };

export const [send, open] = [begin('send'), begin('open')];
export const [write, end, cancel, hold] = ['write', 'end', 'cancel', 'hold'].map(note);
export const wake = () => {};
export const finish = (outcome) => { calls.push(`finish ${JSON.stringify(outcome)}`); };
export const reportTasks = (tasks) => { calls.push(`tasks ${JSON.stringify(tasks)}`); };

const hooks = `export const resolve = (name, context, next) =>
  name.startsWith('wasm-worker:') ? { url: ${JSON.stringify(import.meta.url)}, shortCircuit: true } : next(name, context);`;
register(`data:text/javascript,${encodeURIComponent(hooks)}`);
