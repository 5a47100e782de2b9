// Sound over the contract's interface `audio`: the tracks that the agent hears, and those on which it speaks. Samples are mono and have 16
// bits. The names are those of the Rust SDK.
import * as calls from 'wasm-worker:agent/audio@0.1.0';
import { hold } from 'wasm-worker:agent/flow@0.1.0';
import { Channel, channelOfRule, now, step } from './steps.js';

/** The rate of sound where the agent names none, in samples a second. */
export const RATE = 24000;
/** Sound that waits before a writer does, and up to which it waits then. */
const MUCH_MS = 1000;
const LITTLE_MS = 500;
/** Writes of all tracks in one step, of 4,096 calls that it may make. */
const CALLS_MAX = 1000;

/** Writes in a step, by all tracks. */
const written = { step: 0, calls: 0 };

/** Hear one track of the room, by its `sid`: see the event `track-published`. */
export function subscribe(trackSid, options) {
  return new AudioStream(new Channel(calls.subscribe(trackSid, subscriptionOf(options))));
}

/** Hear each track that fits, those that are there and those that come: by default the microphones of people. */
export function follow({ participant = '', source = 'microphone', people = true } = {}, options) {
  return new AudioTracks(channelOfRule(calls.follow({ participant, source, people }, subscriptionOf(options))));
}

/** Publish a track of the agent. */
export function publish(options) {
  return new AudioSource(options);
}

/** The samples of an event `audio`. */
export function samplesOf({ pcm }) {
  return new Int16Array(pcm.slice(0, pcm.length & ~1).buffer);
}

/** All sound in frames of the host's length, 50 ms, without voice and levels, where the agent says nothing else. */
function subscriptionOf(options) {
  return {
    rate: RATE, frameMs: 0, frames: 'all', beforeMs: 0, afterMs: 0, detectVoice: false, threshold: 0, minVoiceMs: 0, minSilenceMs: 0,
    levelMs: 0, ...options,
  };
}

/** What is read by `next` or by `for await`, and given up by `close` or by the end of the loop. */
class Reader {
  /** For subclasses. */
  channel;

  constructor(channel) {
    this.channel = channel;
  }

  /** Give it up. */
  close() {
    this.channel.close();
  }

  [Symbol.asyncIterator]() {
    return {
      next: async () => {
        const value = await this.next();
        return { value, done: value === undefined };
      },
      return: async () => {
        this.close();
        return { value: undefined, done: true };
      },
    };
  }
}

/** The tracks that a rule follows. `close` ends the rule; tracks that were taken from it go on. */
export class AudioTracks extends Reader {
  /** The next track. Without a room, or once it is lost, a `CallFailed`. */
  async next() {
    const { channel, val } = await this.channel.next();
    return new AudioStream(channel, val.track);
  }

  close() {
    // Tracks that nobody has taken are not heard.
    try {
      for (let event = this.channel.tryNext(); event !== undefined; event = this.channel.tryNext()) event.channel.close();
    } catch {
      // The rule has failed.
    }
    super.close();
  }
}

/** A track that the agent hears. While the agent does not read, some seconds of sound wait; then the oldest is dropped. */
export class AudioStream extends Reader {
  /** Its facts; undefined before the first event, after `subscribe`. */
  track;
  #isOver = false;

  constructor(channel, track) {
    super(channel);
    this.track = track;
  }

  /** What is heard next: the contract's event `audio`, `audio-level`, `voice-started` or `voice-ended`; undefined once the track is gone. */
  async next() {
    while (!this.#isOver) {
      const event = await this.channel.next();
      if (event.tag === 'audio-started') this.track = event.val.track;
      else if (event.tag === 'audio-ended') this.#isOver = true;
      else return event;
    }
    return undefined;
  }
}

/** A track of the agent. One task can write while another one clears. */
export class AudioSource {
  #id;
  #channel;
  #rate;
  /** Sound that was written, without what was cleared. */
  #writtenMs = 0;
  #sinceClearMs = 0;
  /** Clears that the host has not confirmed. */
  #clearing = 0;
  /** The position that the host has told, and its time; and whether sound goes out since then. */
  #playedMs = 0;
  #atMs = 0;
  #isPlaying = false;
  #isSubscribed = false;
  /** The first byte of a sample whose second one is still to come. */
  #half;
  #marks = [];
  /** How the track ended: with an `error`, or without. */
  #end;
  /** Those who wait for the next event. */
  #waiters = new Set();

  constructor({ name = '', source = 'microphone', rate = RATE, bitsPerSecond = 0 } = {}) {
    this.#rate = rate;
    this.#id = calls.publish({ name, source, rate, bitsPerSecond });
    // The agent asks for each of its events, and holding them back would pause the sound.
    this.#channel = new Channel(this.#id, Infinity);
    this.#run();
  }

  /** Samples a second of what is written. */
  get rate() {
    return this.#rate;
  }

  /** What has been played of all that was written, in milliseconds; what was cleared does not count. */
  get positionMs() {
    const since = this.#isPlaying ? Math.max(0, now - this.#atMs) : 0;
    return Math.min(this.#playedMs + since, Math.max(this.#writtenMs, this.#playedMs));
  }

  /** Sound that waits to be played, in milliseconds. */
  get queuedMs() {
    return this.#clearing > 0 ? this.#sinceClearMs : Math.max(0, this.#writtenMs - this.positionMs);
  }

  /** Wait until somebody hears the track: what is said before is heard by nobody. */
  async waitForSubscription() {
    await this.#until(() => this.#isSubscribed);
  }

  /**
   * Play samples after all that was written before: an `Int16Array`, or little-endian bytes. Bytes may be cut within a sample: the next
   * call has the other half, unless it has samples. Waits first while more than a second of sound waits to be played.
   */
  async write(sound) {
    // Whoever writes may write over it before it goes out.
    const bytes = new Uint8Array(sound.buffer, sound.byteOffset, sound.byteLength).slice();
    const part = Math.max(1, Math.floor(this.#rate / 2)) * 2;
    for (let at = 0; at < bytes.length; at += part) {
      await this.#room();
      if (sound instanceof Int16Array) this.#half = undefined;
      this.#put(bytes.subarray(at, at + part));
    }
  }

  /** Discard what has not been played, at once: the user interrupts. */
  clear() {
    if (this.#end) return;
    calls.clear(this.#id);
    this.#clearing += 1;
    this.#sinceClearMs = 0;
    this.#half = undefined;
  }

  /** Set a mark behind everything written so far: `nextMark` tells when that has been played. */
  mark(number) {
    calls.mark(this.#id, number);
  }

  /** The next mark that was played, or `cleared` with the sound before it; undefined once the track is over. */
  async nextMark() {
    while (this.#marks.length === 0 && !this.#end) await this.#change();
    return this.#marks.shift();
  }

  /** Wait until everything written has been played or cleared. */
  async waitForPlayout() {
    // The host counts samples: half of a millisecond is no sound.
    await this.#until(() => this.#clearing === 0 && !this.#isPlaying && this.#writtenMs - this.#playedMs < 0.5);
  }

  /** Pause the playout, or continue it. */
  hold(held) {
    hold(this.#id, held);
  }

  /** Mute or unmute the track. The playout goes on. */
  mute(muted) {
    calls.mute(this.#id, muted);
  }

  /** End the track when everything written has been played, and wait for that. */
  async close() {
    if (!this.#end) calls.close(this.#id);
    while (!this.#end) await this.#change();
    if (this.#end.error) throw this.#end.error;
  }

  /** End the track at once. */
  abort() {
    const error = new Error('the track was given up');
    this.#end ??= { error };
    this.#channel.close(error);
  }

  #put(part) {
    const halves = this.#half === undefined ? 0 : 1;
    const bytes = new Uint8Array(halves + part.length);
    if (halves === 1) bytes[0] = this.#half;
    bytes.set(part, halves);
    const whole = bytes.length & ~1;
    // Undefined where no byte is left.
    this.#half = bytes[whole];
    if (whole === 0) return;
    if (written.step !== step) [written.step, written.calls] = [step, 0];
    written.calls += 1;
    calls.write(this.#id, bytes.subarray(0, whole));
    const ms = (whole / 2) * 1000 / this.#rate;
    this.#writtenMs += ms;
    this.#sinceClearMs += ms;
  }

  /** Wait until little sound waits, where much does; and for the next step, where this one has many calls. */
  async #room() {
    let limit = MUCH_MS;
    for (;;) {
      this.#throwIfOver();
      const isFull = written.step === step && written.calls >= CALLS_MAX;
      const waiting = this.queuedMs;
      if (waiting <= limit) {
        if (!isFull) return;
        await new Promise((resolve) => { setTimeout(resolve, 1); });
        continue;
      }
      limit = LITTLE_MS;
      // The clock tells it while sound goes out, and an event when that begins. Whole milliseconds, so that something is waited for.
      await this.#change(this.#isPlaying ? Math.ceil(waiting - LITTLE_MS) : undefined);
    }
  }

  async #until(isSo) {
    for (;;) {
      this.#throwIfOver();
      if (isSo()) return;
      await this.#change();
    }
  }

  #throwIfOver() {
    if (this.#end) throw this.#end.error ?? new Error('the track has ended');
  }

  /** Wait for the next event, at most for so long. */
  #change(ms) {
    return new Promise((resolve) => {
      const timer = ms === undefined ? undefined : setTimeout(() => waiter(), ms);
      const waiter = () => {
        clearTimeout(timer);
        this.#waiters.delete(waiter);
        resolve();
      };
      this.#waiters.add(waiter);
    });
  }

  /** Take in what the host tells, up to the end. */
  async #run() {
    try {
      for (let event = await this.#channel.next(); event.tag !== 'done'; event = await this.#channel.next()) {
        this.#take(event);
        for (const waiter of [...this.#waiters]) waiter();
      }
      this.#end = {};
    } catch (error) {
      this.#end ??= { error };
    }
    for (const waiter of [...this.#waiters]) waiter();
  }

  #take({ tag, val }) {
    if (tag === 'audio-subscribed') this.#isSubscribed = true;
    if (tag === 'audio-marked') this.#marks.push(val);
    if (tag !== 'audio-playout') return;
    [this.#playedMs, this.#atMs, this.#isPlaying] = [val.playedMs, val.atMs, val.state === 'playing'];
    if (val.state !== 'cleared') return;
    this.#clearing = Math.max(0, this.#clearing - 1);
    if (this.#clearing === 0) this.#writtenMs = val.playedMs + this.#sinceClearMs;
  }
}
