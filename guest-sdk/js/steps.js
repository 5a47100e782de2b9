// Runs async functions in the steps of a job. The engine runs its promises until none is ready before a step ends, so that a function
// which waits is simply continued by a later step.
import { cancel, hold } from 'wasm-worker:agent/flow@0.1.0';
import { finish, reportTasks, wake } from 'wasm-worker:agent/job@0.1.0';

/** Thrown by the wait of a task that was cancelled. */
export class Cancelled extends Error {}

/** The last event of a call was `failed`. `status` is the server's, where it answered, else 0. */
export class CallFailed extends Error {
  constructor({ code, status, message }) {
    super(message ? `${code}: ${message}` : code);
    this.code = code;
    this.status = status;
  }
}

/** Number of events of an id that may wait for the agent before the host is asked to hold the next ones back. */
const QUEUED_MAX = 64;
/** Number of events at which the host is asked to go on. */
const QUEUED_LOW = 16;

/** The time of the step, in milliseconds since 1970. */
export let now = 0;
/** Number of the step, from 1. */
export let step = 0;
/** The time for which the host's timer is set. */
let alarm;
let timerNumber = 0;
/** By number, in the order in which they were set. */
const timers = new Map();
/** Those who wait for the last event of a call, by its id. */
const calls = new Map();
/** The channels that are open, by the id of their events. */
const channels = new Map();
const events = [];
let listener;
const tasks = new Set();

/** The export `resume` of an agent whose job is the async function `main(task, info)`. It ends the job when it returns or throws. */
export function resume(main, nowMs, batch) {
  now = nowMs;
  step += 1;
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
  givenUp.clear();
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

/** The wait of a task that does not wait by a method of its own. */
const ANOTHER_PROMISE = 'a promise';

/** An async function that runs beside others: `work(task)` waits by the methods of its task. What it throws fails the job. */
export class Task {
  #stop;
  #aborting = new AbortController();
  waitsFor = ANOTHER_PROMISE;

  constructor(name, work) {
    this.name = name;
    tasks.add(this);
    this.ended = this.#run(work);
  }

  async #run(work) {
    try {
      await work(this);
    } catch (error) {
      // Libraries put errors of their own in the place of the reason of an abort.
      if (!(error instanceof Cancelled) && !this.signal.aborted) fail(error);
    } finally {
      tasks.delete(this);
    }
  }

  /** Aborted when the task is cancelled: for `fetch` and for libraries. */
  get signal() {
    return this.#aborting.signal;
  }

  /** Its wait throws `Cancelled`, now or when it next waits. What it throws from now on is no failure of the job. */
  cancel() {
    this.#aborting.abort(new Cancelled());
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
    if (this.signal.aborted) return Promise.reject(new Cancelled());
    return new Promise((resolve, reject) => {
      const over = (settle) => (value) => {
        this.#stop = undefined;
        this.waitsFor = ANOTHER_PROMISE;
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

/** The events of one id, in their order. It is open until its last event has come, or until `close`. */
export class Channel {
  #id;
  #events = [];
  #held = false;
  #waiter;
  #reason;
  #queuedMax;

  /** `queuedMax` is for a track of the agent, whose sound would pause while its events are held back: `Infinity`. */
  constructor(id, queuedMax = QUEUED_MAX) {
    this.#queuedMax = queuedMax;
    if (id === 0) throw new Error('nothing is sent in this phase of a job');
    this.#id = id;
    channels.set(id, this);
  }

  /** The next event. `failed` is thrown as `CallFailed`. One at a time waits. */
  async next() {
    if (this.#events.length === 0) {
      if (!channels.has(this.#id)) throw this.#reason;
      await new Promise((resolve, reject) => { this.#waiter = { resolve, reject }; });
    }
    return this.#take();
  }

  /** The next event, if one has come. */
  tryNext() {
    return this.#events.length > 0 ? this.#take() : undefined;
  }

  /** Give up what the id names. Whoever waits, or asks later, gets the reason. */
  close(reason = new Error('the channel is closed')) {
    this.#reason = reason;
    this.#events = [];
    if (channels.delete(this.#id)) cancel(this.#id);
    this.#waiter?.reject(reason);
    this.#waiter = undefined;
  }

  /** For `deliver` alone. */
  push(event, isLast) {
    this.#events.push(event);
    if (isLast) {
      this.#reason = new Error('the last event was read');
      channels.delete(this.#id);
    } else if (!this.#held && this.#events.length > this.#queuedMax) {
      this.#held = true;
      hold(this.#id, true);
    }
    this.#waiter?.resolve();
    this.#waiter = undefined;
  }

  #take() {
    const event = this.#events.shift();
    if (event === undefined) throw this.#reason;
    if (this.#held && this.#events.length < QUEUED_LOW) {
      this.#held = false;
      if (channels.has(this.#id)) hold(this.#id, false);
    }
    if (event.tag === 'failed') throw new CallFailed(event.val);
    return event;
  }
}

/** Number of rules that are over and of which tracks may still be on their way: the last ones. */
const RULES_OVER_MAX = 64;
/** The rules whose tracks are taken from their channels, in the order in which they began. */
const rules = new Set();
/** The tracks of rules that are over, which began in this batch. */
const givenUp = new Set();

/** The channel of a rule: an `audio-started` in it has the `channel` of its track. */
export function channelOfRule(id) {
  const over = [...rules].filter((rule) => !channels.has(rule));
  for (const rule of over.slice(0, -RULES_OVER_MAX)) rules.delete(rule);
  rules.add(id);
  return new Channel(id);
}

/** Events that are for channels alone. Those of an id that was given up are dropped. */
const OF_CHANNELS = new Set([
  'http-head', 'http-body', 'socket-opened', 'socket-text', 'socket-bytes', 'socket-closed', 'writable',
]);
const LAST = new Set(['done', 'failed', 'rpc-answer', 'socket-closed', 'stream-ended', 'audio-ended']);

function deliver(event) {
  const { tag, val } = event;
  if (tag === 'audio-started' && rules.has(val.rule)) {
    const rule = channels.get(val.rule);
    if (rule === undefined) {
      // It was on its way when the agent gave the rule up.
      givenUp.add(val.id);
      return cancel(val.id);
    }
    // The events of the track wait for whoever takes it from its rule.
    return rule.push({ ...event, channel: new Channel(val.id) }, false);
  }
  const id = typeof val === 'number' ? val : val?.id;
  const channel = channels.get(id);
  if (channel !== undefined) {
    channel.push(event, LAST.has(tag) || (tag === 'http-body' && val.last));
  } else if (OF_CHANNELS.has(tag) || givenUp.has(id)) {
    return;
  } else if (tag === 'tasks-wanted') {
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
