// The talker in JavaScript: see tests/interop/README.md for what it does.
//
// rolldown --config && componentize-js dist/app.js -w WIT -n agent -d http fetch-event -o agent.wasm
import OpenAI from 'openai';
import * as audio from 'wasm-worker-agent/audio.js';
import 'wasm-worker-agent/fetch.js';
import * as steps from 'wasm-worker-agent/steps.js';
import 'wasm-worker-agent/websocket.js';
import { setLogFields } from 'wasm-worker:agent/job@0.1.0';
import { closeStream, connect, openText, sendText, writeText } from 'wasm-worker:agent/room@0.1.0';
import { add } from 'wasm-worker:agent/usage@0.1.0';

const TOPIC = 'lk.chat';
// Between two parts of an answer, and before a greeting.
const PACE = 10;
const PATIENCE = 2000;
// A text that has the agent repeat a sound, and so much of it: 300 ms.
const REPEAT = 'repeat';
const [RATE, REPEATED] = [8000, 2400];
// How a text begins that the model answers, one that has a WebSocket talk, and one that sends a form.
const ASK = 'ask ';
const SOCKET = 'socket ';
const UPLOAD = 'upload ';

const checksums = [];

export function prewarm() {
  for (let value = 0; value < 256; value++) {
    let checksum = value;
    for (let bit = 0; bit < 8; bit++) checksum = (checksum >>> 1) ^ (checksum & 1 ? 0xedb88320 : 0);
    checksums.push(checksum);
  }
}

export function decide(offer) {
  if (offer.metadata === 'fail') throw new Error('a bug in decide');
  const attributes = [['language', 'javascript']];
  return { tag: 'accept', val: { identity: undefined, name: 'Talker', metadata: '', attributes } };
}

export function resume(nowMs, batch) {
  steps.resume(main, nowMs, batch);
}

async function main(task, { attributes }) {
  setLogFields([['language', 'javascript']]);
  await task.done(connect());
  const talker = new Talker(Object.fromEntries(attributes));
  for (;;) {
    const { tag, val } = await task.nextEvent();
    if (tag === 'participant-joined' && val.kind === 'standard') {
      new steps.Task(`greet ${val.identity}`, (task) => greet(task, val));
    } else if (tag === 'shutdown-requested' || (tag === 'text' && !(await talker.hear(val)))) {
      break;
    }
  }
  await talker.interrupt();
  send('Goodbye.');
}

async function greet(task, { identity, name }) {
  await task.sleep(PACE);
  let checksum = -1;
  for (const byte of new TextEncoder().encode(identity)) {
    checksum = (checksum >>> 8) ^ checksums[(checksum & 0xff) ^ byte];
  }
  send(`Welcome, ${name || identity} (${(~checksum >>> 0).toString(16).padStart(8, '0')}).`);
}

/** One conversation. */
class Talker {
  history = [];
  answer;
  silence;
  /** The client of the model. The worker adds the key. */
  #openai;
  #model;

  constructor(facts) {
    this.#openai = new OpenAI({ baseURL: facts['@setting.OPENAI_BASE_URL'], apiKey: 'of-the-worker', maxRetries: 1 });
    this.#model = facts['@setting.OPENAI_MODEL'];
  }

  /** Answer a text, or do what it says. False: say goodbye. */
  async hear(message) {
    await this.interrupt();
    switch (message.text) {
      case 'stop':
        send('Stopped.');
        break;
      case 'history':
        send(this.history.join('\n'));
        break;
      case 'dice':
        send(`dice ${Math.floor(Math.random() * 2 ** 32)}`);
        break;
      case 'fail':
        throw new Error('a bug in the agent');
      case 'bye':
        return false;
      default:
        this.history.push(`${message.info.sender}: ${message.text}`);
        this.answer = new steps.Task('answer', (task) => this.#speak(task, message));
    }
    this.silence = new steps.Task('silence', async (task) => {
      await task.sleep(PATIENCE);
      send('Anything else?');
    });
    return true;
  }

  /** Answer in parts, until interrupted. */
  async #speak(task, { info, text }) {
    const stream = openText(TOPIC, options(info.streamId));
    let said = '';
    let interrupted = true;
    try {
      for await (const part of this.#answer(task, text)) {
        writeText(stream, part);
        said += part;
      }
      interrupted = false;
    } finally {
      closeStream(stream, interrupted ? [['interrupted', 'true']] : []);
      this.history.push(`agent: ${said}${interrupted ? ' (interrupted)' : ''}`);
    }
  }

  #answer(task, text) {
    if (text.startsWith(ASK)) return this.#ask(task, text.slice(ASK.length));
    if (text.startsWith(SOCKET)) return converse(task, text.slice(SOCKET.length));
    if (text.startsWith(UPLOAD)) return upload(task, text.slice(UPLOAD.length));
    if (text === REPEAT) return repeat();
    return echo(task, text);
  }

  /** The answer of the model, as it streams. */
  async *#ask(task, question) {
    const messages = [{ role: 'user', content: question }];
    const asked = { model: this.#model, messages, stream: true, stream_options: { include_usage: true } };
    try {
      for await (const { choices, usage } of await this.#openai.chat.completions.create(asked, { signal: task.signal })) {
        if (choices[0]?.delta.content) yield choices[0].delta.content;
        if (usage) count('openai', this.#model, [['output_tokens', usage.completion_tokens]]);
      }
    } catch (error) {
      if (!task.signal.aborted) yield `The model fails: ${error.message} ${error.cause?.cause?.message ?? ''}`.trimEnd();
    }
    // The package ends a stream that is given up as if it were complete.
    task.signal.throwIfAborted();
  }

  /** End the answer and the wait for more to hear. */
  async interrupt() {
    for (const task of [this.answer, this.silence]) {
      task?.cancel();
      await task?.ended;
    }
    this.answer = this.silence = undefined;
  }
}

/** What was said, word by word. */
async function* echo(task, text) {
  let letters = 0;
  try {
    for (const part of ['You', ' said:', ...text.split(' ').map((word) => ` ${word}`), '.']) {
      letters += part.length;
      yield part;
      await task.sleep(PACE);
    }
  } finally {
    count('none', 'echo', [['letters', letters]]);
  }
}

/** What was heard on a WebSocket, up to its end. */
async function* converse(task, url) {
  const socket = new WebSocket(url, ['talk'], { headers: { 'x-talker': 'yes' } });
  socket.binaryType = 'arraybuffer';
  task.signal.addEventListener('abort', () => socket.close());
  const heard = [];
  socket.onopen = () => {
    heard.push(socket.protocol);
    socket.send('hello');
    socket.send(new Uint8Array([0, 1, 255]));
  };
  socket.onmessage = ({ data }) => {
    heard.push(typeof data === 'string' ? data : new Uint8Array(data).join(' '));
    if (data === 'close') socket.close(3000, 'done');
  };
  socket.onerror = ({ message }) => heard.push(`The socket fails: ${message}`);
  yield new Promise((resolve) => {
    socket.onclose = ({ code, reason }) => resolve([...heard, `${code} ${reason}`].join(', '));
  });
}

/** What a server says of a form with a text and a file. */
async function* upload(task, url) {
  const form = new FormData();
  form.append('text', 'one');
  form.append('file', new File(['hé\0'], 'n.txt', { type: 'text/plain' }));
  const answer = await fetch(url, { method: 'POST', body: form, signal: task.signal });
  yield `${answer.status} ${await answer.text()}`;
}

/** Say a part of what the first one says who is heard, and tell when it has been played. */
async function* repeat() {
  const tracks = audio.follow({}, { rate: RATE });
  const heard = await tracks.next();
  tracks.close();
  const samples = [];
  for await (const { tag, val } of heard) {
    if (tag === 'audio') samples.push(...audio.samplesOf(val));
    if (samples.length >= REPEATED) break;
  }
  const voice = audio.publish({ rate: RATE });
  await voice.write(new Int16Array(samples.slice(0, REPEATED)));
  voice.mark(7);
  const { mark, playedMs } = await voice.nextMark();
  await voice.close();
  yield `mark ${mark}: ${playedMs} ms of ${heard.track.participant}`;
}

function count(provider, model, counters) {
  add({ kind: 'llm', provider, model, counters });
}

function send(text) {
  sendText(TOPIC, text, options());
}

function options(replyTo = '') {
  return { destinations: [], attributes: [], streamId: '', sender: '', replyTo, repeatable: false };
}
