// The web's `fetch` over the contract's HTTP, and what the engine of componentize-js lacks beside it. Importing this file puts both in
// their places; libraries then find them.
//
// An answer streams: the server is made to wait while nobody reads `body`. Read it to its end, or cancel it, or abort the request.
import { end, open, send, write } from 'wasm-worker:agent/http@0.1.0';
import { CallFailed, Channel, step } from './steps.js';

/** A body up to this many bytes is sent in one call. */
const WHOLE_BYTES_MAX = 256 << 10;
/** Bytes of a larger one in one call. */
const PART_BYTES_MAX = 64 << 10;
/** Bytes that are written in a step before `writable` is awaited: the contract tells it beyond 64 KiB. */
const UNSENT_BYTES_MAX = 64 << 10;
/** The host may send these again, where they were lost with a worker. */
const REPEATABLE = ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'];
const STATUSES_WITHOUT_BODY = [204, 205, 304];
const EngineRequest = globalThis.Request;

/**
 * As on the web, with these differences: there are no cookies, no cache and no CORS; an answer has no `clone`. The host takes out
 * compression, adds the keys of the operator, and has time limits of its own. A host that the operator does not allow is a TypeError
 * whose `cause` has the code `not-allowed`.
 */
export async function fetch(input, init = {}) {
  const request = input instanceof EngineRequest ? input : {};
  const signal = init.signal ?? request.signal;
  signal?.throwIfAborted();
  const headers = new Headers(init.headers ?? request.headers ?? []);
  const body = await content(init.body ?? request.body ?? undefined, headers);
  signal?.throwIfAborted();
  const method = (init.method ?? request.method ?? 'GET').toUpperCase();
  const redirect = init.redirect ?? 'follow';
  const isWhole = body instanceof Uint8Array && body.length <= WHOLE_BYTES_MAX;
  if (body instanceof Uint8Array && !isWhole) headers.set('content-length', `${body.length}`);
  const call = {
    method,
    url: request.url ?? `${input}`,
    headers: [...headers],
    body: isWhole ? body : new Uint8Array(),
    timeoutMs: 0,
    followRedirects: redirect === 'follow',
    repeatable: isWhole && REPEATABLE.includes(method),
  };
  const id = isWhole ? send(call) : open(call);
  const exchange = new Exchange(id, signal);
  return exchange.over(async () => {
    // Whoever makes the body may never go on.
    const early = isWhole ? undefined : await Promise.race([exchange.upload(id, body), exchange.aborted]);
    const head = early ?? (await exchange.head());
    if (redirect === 'error' && head.status >= 300 && head.status < 400) {
      throw new TypeError(`${head.url} redirects, and redirects are errors of this request`);
    }
    return exchange.response(head, call.url);
  });
}

/** A request and its answer. */
class Exchange {
  #channel;
  #signal;
  #abort;

  constructor(id, signal) {
    this.#channel = new Channel(id);
    this.#signal = signal;
    /** Rejected by the signal. */
    this.aborted = new Promise((_, reject) => {
      this.#abort = () => {
        this.#channel.close(signal.reason);
        reject(signal.reason);
      };
    });
    this.aborted.catch(() => {});
    signal?.addEventListener('abort', this.#abort);
  }

  /** Do a part of it; where that throws, give up the whole. */
  async over(work) {
    try {
      return await work();
    } catch (error) {
      this.close();
      throw error instanceof CallFailed ? new TypeError(error.message, { cause: error }) : error;
    }
  }

  close() {
    // A signal may last longer than its requests.
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#channel.close();
  }

  /** Send the body. An answer that comes earlier ends it, and is returned. */
  async upload(id, body) {
    let [unsent, writtenIn] = [0, step];
    for await (const part of parts(body)) {
      this.#signal?.throwIfAborted();
      for (;;) {
        const event = this.#channel.tryNext() ?? (unsent > UNSENT_BYTES_MAX ? await this.#channel.next() : undefined);
        if (event === undefined) break;
        if (event.tag === 'writable') unsent = 0;
        if (event.tag === 'http-head') {
          end(id);
          return event.val;
        }
      }
      if (writtenIn !== step) [unsent, writtenIn] = [0, step];
      write(id, part);
      unsent += part.length;
    }
    end(id);
  }

  async head() {
    for (;;) {
      const { tag, val } = await this.#channel.next();
      if (tag === 'http-head') return val;
    }
  }

  response({ status, url, headers }, asked) {
    const hasBody = !STATUSES_WITHOUT_BODY.includes(status);
    if (!hasBody) this.close();
    const source = { pull: (controller) => this.#pull(controller), cancel: () => this.close() };
    const body = hasBody ? new ReadableStream(source, { highWaterMark: 0 }) : null;
    const response = new Response(body, { status, headers });
    Object.defineProperty(response, 'url', { value: url });
    Object.defineProperty(response, 'redirected', { value: url !== new URL(asked).href });
    return response;
  }

  async #pull(controller) {
    try {
      await this.over(async () => {
        for (;;) {
          const { tag, val } = await this.#channel.next();
          if (tag !== 'http-body') continue;
          if (val.bytes.length > 0) controller.enqueue(val.bytes);
          if (val.last) {
            this.close();
            controller.close();
          }
          if (val.last || val.bytes.length > 0) return;
        }
      });
    } catch (error) {
      controller.error(error);
    }
  }
}

/** The bytes of a body, or a stream of them; its type is added to the headers. */
async function content(body, headers) {
  const withType = (type, bytes) => {
    if (type && !headers.has('content-type')) headers.set('content-type', type);
    return bytes;
  };
  if (body === undefined) return new Uint8Array();
  if (body instanceof FormData) body = multipart(body);
  if (body instanceof Blob) return withType(body.type, new Uint8Array(await body.arrayBuffer()));
  if (body instanceof ArrayBuffer) return new Uint8Array(body);
  if (ArrayBuffer.isView(body)) return new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  if (body[Symbol.asyncIterator]) return body;
  const type = body instanceof URLSearchParams ? 'application/x-www-form-urlencoded' : 'text/plain';
  return withType(`${type};charset=UTF-8`, new TextEncoder().encode(`${body}`));
}

/** A form as the web writes it: section 4.10.22.7 of HTML. */
function multipart(form) {
  const boundary = `form-${crypto.randomUUID()}`;
  const lines = (text) => text.replace(/\r\n?|\n/g, '\r\n');
  const quoted = (name) => `"${name.replace(/\r/g, '%0D').replace(/\n/g, '%0A').replace(/"/g, '%22')}"`;
  const parts = [];
  for (const [name, value] of form) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name=${quoted(lines(name))}`;
    if (typeof value === 'string') {
      parts.push(`${head}\r\n\r\n${lines(value)}\r\n`);
    } else {
      const type = value.type || 'application/octet-stream';
      parts.push(`${head}; filename=${quoted(value.name)}\r\nContent-Type: ${type}\r\n\r\n`, value, '\r\n');
    }
  }
  return new Blob([...parts, `--${boundary}--\r\n`], { type: `multipart/form-data; boundary=${boundary}` });
}

/** A body in pieces that fit into a call. */
async function* parts(body) {
  for await (const chunk of body instanceof Uint8Array ? [body] : body) {
    const bytes = typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk;
    for (let at = 0; at < bytes.length; at += PART_BYTES_MAX) yield bytes.subarray(at, at + PART_BYTES_MAX);
  }
}

globalThis.fetch = fetch;

// The engine's own never comes to the end of such a body.
globalThis.Request = class Request extends EngineRequest {
  constructor(input, init) {
    if (init?.body instanceof Blob || init?.body instanceof FormData) {
      throw new TypeError('a Request cannot hold a Blob or a FormData: give it to fetch by itself');
    }
    super(input, init);
  }
};

ReadableStream.prototype[Symbol.asyncIterator] ??= async function* () {
  const reader = this.getReader();
  let isOver = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      isOver = done;
      if (done) return;
      yield value;
    }
  } catch (error) {
    isOver = true;
    throw error;
  } finally {
    if (!isOver) await reader.cancel();
    reader.releaseLock();
  }
};

// The engine's own does not throw.
AbortSignal.prototype.throwIfAborted = function () {
  if (this.aborted) throw this.reason;
};

// The engine's own waits inside of a step.
AbortSignal.timeout = (ms) => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new DOMException('The operation timed out.', 'TimeoutError')), ms);
  return controller.signal;
};

// The reason of the engine's own is no value of the program.
AbortSignal.any = (signals) => {
  const controller = new AbortController();
  const abort = ({ target }) => {
    for (const signal of signals) signal.removeEventListener('abort', abort);
    controller.abort(target.reason);
  };
  const over = signals.find((signal) => signal.aborted);
  if (over) controller.abort(over.reason);
  else for (const signal of signals) signal.addEventListener('abort', abort);
  return controller.signal;
};
