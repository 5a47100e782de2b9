// Runs async functions in the steps of a job. The engine runs its promises until none is ready before a step ends, so that a function
// which waits is simply continued by a later step.
import { cancel } from 'wasm-worker:agent/flow@0.1.0';
import { finish, reportTasks, wake } from 'wasm-worker:agent/job@0.1.0';

/** Thrown by the wait of a task that was cancelled. */
export class Cancelled extends Error {}

/** The last event of a call was `failed`. */
export class CallFailed extends Error {
  constructor({ code, message }) {
    super(message ? `${code}: ${message}` : code);
    this.code = code;
  }
}

let now = 0;
/** The time for which the host's timer is set. */
let alarm;
let timerNumber = 0;
/** By number, in the order in which they were set. */
const timers = new Map();
/** Those who wait for the last event of a call, by its id. */
const calls = new Map();
const events = [];
let listener;
const tasks = new Set();

/** The export `resume` of an agent whose job is the async function `main(task, info)`. It ends the job when it returns or throws. */
export function resume(main, nowMs, batch) {
  now = nowMs;
  if (alarm <= now) alarm = undefined;
  for (const event of batch) {
    if (event.tag === 'started') {
      new Task('main', async (task) => {
        await main(task, event.val);
        finish({ tag: 'ok', val: undefined });
      });
    } else {
      deliver(event);
    }
  }
  const due = [...timers].filter(([, timer]) => timer.due <= now).sort(([, one], [, other]) => one.due - other.due);
  for (const [number, { action, every }] of due) {
    // One that fired before may have cleared it.
    if (!timers.has(number)) continue;
    if (every === undefined) timers.delete(number);
    else timers.get(number).due = now + every;
    action();
  }
  setAlarm();
}

/** An async function that runs beside others: `work(task)` waits by the methods of its task. What it throws fails the job. */
export class Task {
  #stop;
  #cancelled = false;
  waitsFor = 'nothing';

  constructor(name, work) {
    this.name = name;
    tasks.add(this);
    this.ended = this.#run(work);
  }

  async #run(work) {
    try {
      await work(this);
    } catch (error) {
      if (!(error instanceof Cancelled)) fail(error);
    } finally {
      tasks.delete(this);
    }
  }

  /** Its wait throws `Cancelled`, now or when it next waits. */
  cancel() {
    this.#cancelled = true;
    this.#stop?.();
  }

  sleep(ms) {
    return this.#wait('sleep', (resolve) => {
      const timer = setTimeout(resolve, ms);
      return () => clearTimeout(timer);
    });
  }

  /** The last event of a call: what it says. */
  done(id) {
    return this.#wait('done', (resolve, reject) => {
      calls.set(id, { resolve, reject });
      return () => {
        calls.delete(id);
        cancel(id);
      };
    });
  }

  /** The next event that no call waits for. One task at a time listens. */
  async nextEvent() {
    while (events.length === 0) {
      await this.#wait('nextEvent', (resolve) => {
        listener = resolve;
        return () => { listener = undefined; };
      });
    }
    return events.shift();
  }

  /** `begin` returns how to give up. */
  #wait(name, begin) {
    if (this.#cancelled) return Promise.reject(new Cancelled());
    return new Promise((resolve, reject) => {
      const over = (settle) => (value) => {
        this.#stop = undefined;
        this.waitsFor = 'nothing';
        settle(value);
      };
      this.waitsFor = name;
      const undo = begin(over(resolve), over(reject));
      this.#stop = () => {
        undo();
        over(reject)(new Cancelled());
      };
    });
  }
}

function deliver(event) {
  const { tag, val } = event;
  if (tag === 'tasks-wanted') {
    reportTasks([...tasks].map(({ name, waitsFor }) => ({ name, waitsFor })));
  } else if (tag === 'done' || tag === 'failed' || tag === 'rpc-answer') {
    const call = calls.get(val.id);
    calls.delete(val.id);
    if (tag !== 'failed') call?.resolve(val);
    else if (call) call.reject(new CallFailed(val));
    else console.error(`call ${val.id} failed: ${val.code} ${val.message}`);
  } else {
    events.push(event);
    listener?.();
    listener = undefined;
  }
}

function fail(error) {
  const [place] = /[^/@\s]+:\d+(?=:\d+)/.exec(error?.stack) ?? [];
  console.error(`${error}\n${error?.stack ?? ''}`);
  finish({ tag: 'err', val: place ? `${error} (${place})` : `${error}` });
}

// The engine's own timers wait inside of a step.
globalThis.setTimeout = (action, ms = 0, ...words) => setTimer(() => action(...words), ms);
globalThis.setInterval = (action, ms = 0, ...words) => setTimer(() => action(...words), ms, Math.max(1, ms));
globalThis.clearTimeout = globalThis.clearInterval = (number) => {
  if (timers.delete(number)) setAlarm();
};

function setTimer(action, ms, every) {
  timerNumber += 1;
  timers.set(timerNumber, { due: now + Math.max(0, ms), action, every });
  setAlarm();
  return timerNumber;
}

function setAlarm() {
  let first;
  for (const { due } of timers.values()) if (!(first <= due)) first = due;
  if (first === alarm) return;
  alarm = first;
  wake(first === undefined ? undefined : Math.ceil(Math.max(0, first - now)));
}
