// The web's `WebSocket` over the contract's sockets, and the events that the engine of componentize-js lacks beside it. Importing this
// file puts them in their places; libraries then find them.
//
// What is sent waits here while the server does not take it, bounded by the memory of the job; `bufferedAmount` tells how much. What
// comes in is told at once, so the server waits for the steps of the job and for no listener that goes on later.
import { close, connect, sendBytes, sendText } from 'wasm-worker:agent/socket@0.1.0';
import { Channel, step } from './steps.js';

/** Bytes that are sent in a step before `writable` is awaited: the contract tells it beyond 64 KiB. */
const UNSENT_BYTES_MAX = 64 << 10;
/** Messages that all sockets send in one step, of 4,096 calls that it may make. */
const CALLS_MAX = 1000;
/** Longest reason of a close, in bytes (RFC 6455, section 5.5). */
const REASON_BYTES_MAX = 123;
/** The code of a connection that was lost. */
const LOST = 1006;
/** The name of a protocol is a token of HTTP. */
const TOKEN = /^[!#$%&'*+\-.^_`|~\w]+$/;

const encoder = new TextEncoder();
/** Messages that were sent in a step, by all sockets. */
const sent = { step: 0, calls: 0 };

/** An event with these facts beside its own. */
function eventWith(facts) {
  return class extends Event {
    constructor(type, init = {}) {
      super(type, init);
      for (const [name, value] of Object.entries(facts)) {
        Object.defineProperty(this, name, { value: init[name] ?? value, enumerable: true });
      }
    }
  };
}

globalThis.MessageEvent ??= class MessageEvent extends eventWith({ data: null, origin: '', lastEventId: '', source: null, ports: [] }) {};
globalThis.CloseEvent ??= class CloseEvent extends eventWith({ wasClean: false, code: 0, reason: '' }) {};
globalThis.ErrorEvent ??= class ErrorEvent extends eventWith({ message: '', filename: '', lineno: 0, colno: 0, error: undefined }) {};

/**
 * As on the web, with these differences: `options.headers` are added to the handshake, as in the package `ws`; `close()` without a code
 * is one of 1000; an `error` has a `message`, and where the host failed an `error` with its `code`, such as `not-allowed`; `close` after
 * a lost connection has the reason, where one is known.
 */
export class WebSocket extends EventTarget {
  #url;
  #id;
  #channel;
  #readyState = WebSocket.CONNECTING;
  #protocol = '';
  #binaryType = 'blob';
  /** By the names of their events. */
  #handlers = new Map();
  /** What is not given to the host yet: `size` in bytes, and `give` once it can be. */
  #queue = [];
  #queuedBytes = 0;
  /** Bytes that were given to the host in the step `#sentIn`. */
  #unsentBytes = 0;
  #sentIn = 0;
  /** Whether a later step goes on with the queue. */
  #isPaused = false;

  constructor(url, protocols = [], { headers } = {}) {
    super();
    this.#url = urlOf(url);
    this.#id = connect(this.#url.href, [...new Headers(headers)], protocolsOf(protocols), 0);
    this.#channel = new Channel(this.#id);
    this.#run();
  }

  get url() {
    return this.#url.href;
  }

  get readyState() {
    return this.#readyState;
  }

  /** The protocol that the server chose; empty: none. */
  get protocol() {
    return this.#protocol;
  }

  /** The host asks for no extensions. */
  get extensions() {
    return '';
  }

  /** Bytes that wait here, and those that were given to the host and of which it has told nothing yet. */
  get bufferedAmount() {
    const isKnown = this.#sentIn !== step && this.#unsentBytes <= UNSENT_BYTES_MAX;
    return this.#queuedBytes + (isKnown ? 0 : this.#unsentBytes);
  }

  get binaryType() {
    return this.#binaryType;
  }

  set binaryType(type) {
    if (type === 'blob' || type === 'arraybuffer') this.#binaryType = type;
  }

  send(data) {
    if (this.#readyState === WebSocket.CONNECTING) throw new DOMException('the socket is not open yet', 'InvalidStateError');
    const message = this.#message(data);
    this.#queuedBytes += message.size;
    if (this.#readyState !== WebSocket.OPEN) return;
    this.#queue.push(message);
    this.#flush();
  }

  close(code, reason = '') {
    if (code !== undefined && code !== 1000 && !(code >= 3000 && code <= 4999)) {
      throw new DOMException(`the code of a close is 1000 or from 3000 to 4999, and not ${code}`, 'InvalidAccessError');
    }
    if (encoder.encode(reason).length > REASON_BYTES_MAX) {
      throw new DOMException(`the reason of a close has at most ${REASON_BYTES_MAX} bytes`, 'SyntaxError');
    }
    if (this.#readyState >= WebSocket.CLOSING) return;
    const isOpen = this.#readyState === WebSocket.OPEN;
    this.#readyState = WebSocket.CLOSING;
    if (!isOpen) return this.#channel.close(new Error('the socket was closed before it was open'));
    this.#queue.push({ size: 0, give: () => close(this.#id, code ?? 1000, `${reason}`) });
    this.#flush();
  }

  /** A message for the queue. */
  #message(data) {
    if (data instanceof Blob) {
      const message = { size: data.size };
      data.arrayBuffer().then(
        (buffer) => {
          message.give = () => sendBytes(this.#id, new Uint8Array(buffer));
          this.#flush();
        },
        (error) => this.#channel.close(error),
      );
      return message;
    }
    if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) {
      const { buffer, byteOffset, byteLength } = ArrayBuffer.isView(data) ? data : new Uint8Array(data);
      // Whoever sends may write over it before it goes out.
      const bytes = new Uint8Array(buffer, byteOffset, byteLength).slice();
      return { size: byteLength, give: () => sendBytes(this.#id, bytes) };
    }
    const text = `${data}`;
    return { size: encoder.encode(text).length, give: () => sendText(this.#id, text) };
  }

  /** Give the queue to the host, as far as it takes it now. */
  #flush() {
    if (sent.step !== step) [sent.step, sent.calls] = [step, 0];
    while (this.#queue[0]?.give && this.#unsentBytes <= UNSENT_BYTES_MAX) {
      if (sent.calls >= CALLS_MAX) return this.#pause();
      const { size, give } = this.#queue.shift();
      if (this.#sentIn !== step) [this.#unsentBytes, this.#sentIn] = [0, step];
      this.#queuedBytes -= size;
      this.#unsentBytes += size;
      sent.calls += 1;
      give();
    }
  }

  #pause() {
    if (this.#isPaused) return;
    this.#isPaused = true;
    setTimeout(() => {
      this.#isPaused = false;
      this.#flush();
    }, 1);
  }

  /** Tell what happens, up to the end. */
  async #run() {
    try {
      for (;;) {
        const { tag, val } = await this.#channel.next();
        if (tag === 'socket-closed') return this.#end(val);
        this.#take(tag, val);
      }
    } catch (error) {
      this.#end({ code: LOST, reason: '' }, error);
    }
  }

  #take(tag, val) {
    if (tag === 'writable') {
      this.#unsentBytes = 0;
      this.#flush();
    } else if (this.#readyState === WebSocket.CONNECTING && tag === 'socket-opened') {
      this.#protocol = val.protocol;
      this.#readyState = WebSocket.OPEN;
      this.dispatchEvent(new Event('open'));
    } else if (this.#readyState === WebSocket.OPEN && (tag === 'socket-text' || tag === 'socket-bytes')) {
      const data = tag === 'socket-text' ? val.text : this.#binary(val.bytes);
      this.dispatchEvent(new MessageEvent('message', { data, origin: this.#url.origin }));
    }
  }

  #binary(bytes) {
    return this.#binaryType === 'blob' ? new Blob([bytes]) : bytes.slice().buffer;
  }

  #end({ code, reason }, error) {
    this.#readyState = WebSocket.CLOSED;
    this.#queue = [];
    const message = error?.message ?? reason;
    if (code === LOST) this.dispatchEvent(new ErrorEvent('error', { message, error }));
    this.dispatchEvent(new CloseEvent('close', { code, reason, wasClean: code !== LOST }));
  }

  static {
    ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'].forEach((name, value) => {
      for (const place of [this, this.prototype]) Object.defineProperty(place, name, { value, enumerable: true });
    });
    for (const name of ['open', 'message', 'error', 'close']) {
      Object.defineProperty(this.prototype, `on${name}`, {
        get() {
          return this.#handlers.get(name) ?? null;
        },
        set(handler) {
          const isNew = !this.#handlers.has(name);
          this.#handlers.set(name, typeof handler === 'function' ? handler : null);
          if (isNew) this.addEventListener(name, (event) => this.#handlers.get(name)?.call(this, event));
        },
        enumerable: true,
        configurable: true,
      });
    }
  }
}

function urlOf(address) {
  let url;
  try {
    url = new URL(address);
  } catch {
    throw new DOMException(`\`${address}\` is no URL`, 'SyntaxError');
  }
  // Another scheme cannot be put into the place of `http` by the property `protocol`.
  if (/^https?:$/.test(url.protocol)) url = new URL(url.href.replace('http', 'ws'));
  if (!/^wss?:$/.test(url.protocol)) throw new DOMException(`a WebSocket has no scheme \`${url.protocol}\``, 'SyntaxError');
  if (url.hash !== '' || url.href.endsWith('#')) throw new DOMException('the URL of a WebSocket has no fragment', 'SyntaxError');
  return url;
}

function protocolsOf(protocols) {
  const names = typeof protocols === 'string' ? [protocols] : [...protocols].map((name) => `${name}`);
  if (new Set(names).size !== names.length || !names.every((name) => TOKEN.test(name))) {
    throw new DOMException('protocols are words of HTTP, each once', 'SyntaxError');
  }
  return names;
}

globalThis.WebSocket = WebSocket;
