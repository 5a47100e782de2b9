// A client of model servers by npm's openai: it reads orders, one JSON object a line, and answers each by one line of JSON.
//
// `client.py` takes the same orders and answers the same; tests/all/mock_models.rs compares the two. The server's URL and the
// key are in the environment variables of the SDK.

import { createInterface } from 'node:readline';
import OpenAI, { APIError } from 'openai';

const TOOLS = ['weather', 'time'].map((name) => ({
  type: 'function',
  function: {
    name,
    description: `Tell the ${name} of a city.`,
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}));
const SCHEMA = {
  type: 'object',
  properties: { said: { type: 'string' }, count: { type: 'integer' } },
  required: ['said', 'count'],
  additionalProperties: false,
};

class Client {
  constructor(order) {
    this.timeout = (order.timeout ?? 60) * 1000;
    this.openai = new OpenAI({ maxRetries: order.retries ?? 0, timeout: this.timeout });
    this.order = order;
    this.model = order.model ?? 'stand-in';
  }

  async models() {
    const models = [];
    for await (const model of this.openai.models.list()) models.push(model.id);
    return { models };
  }

  async chat() {
    const answer = await this.ask(this.messages());
    const [choice] = answer.choices;
    if (!choice) return { choices: 0 };
    const tokens = answer.usage?.total_tokens ?? null;
    return { model: answer.model, text: choice.message.content, finish: choice.finish_reason, tokens };
  }

  stream() {
    return this.read(this.messages());
  }

  // Ask with tools, tell their results, and get the answer to them.
  async tools() {
    const messages = this.messages();
    const first = await this.read(messages, { tools: TOOLS });
    const functions = first.calls.map(({ name, arguments: text }) => ({ name, arguments: text }));
    const asked = first.calls.map(({ id }, at) => ({ id, type: 'function', function: functions[at] }));
    messages.push({ role: 'assistant', tool_calls: asked });
    for (const { id, name, arguments: text } of first.calls) {
      messages.push({ role: 'tool', tool_call_id: id, content: `${name} in ${JSON.parse(text).city}` });
    }
    const second = await this.read(messages, { tools: TOOLS });
    return { calls: functions, finish: first.finish, text: second.text };
  }

  async structured() {
    const schema = { name: 'said', schema: SCHEMA, strict: true };
    const more = { response_format: { type: 'json_schema', json_schema: schema } };
    const answer = await this.ask(this.messages(), more);
    return JSON.parse(answer.choices[0].message.content);
  }

  async response() {
    const answer = await this.openai.responses.create({ model: this.model, input: this.order.text });
    return { text: answer.output_text, status: answer.status, tokens: answer.usage.total_tokens };
  }

  async response_stream() {
    let text = '';
    let last;
    const events = await this.openai.responses.create({ model: this.model, input: this.order.text, stream: true });
    for await (const event of events) {
      if (event.type === 'response.output_text.delta') text += event.delta;
      last = event;
    }
    // The SDK for Node adds `output_text` to answers that are not streamed only.
    const isWhole = last.type === 'response.completed';
    const whole = isWhole ? last.response.output.flatMap(({ content }) => content).map((part) => part.text).join('') : null;
    return { text, last: last.type, whole };
  }

  messages() {
    return [{ role: 'user', content: this.order.text }];
  }

  ask(messages, more = {}) {
    // The time-out of this SDK ends with the head of an answer.
    const signal = AbortSignal.timeout(this.timeout * 2);
    return this.openai.chat.completions.create({ model: this.model, messages, ...more }, { signal });
  }

  // Read a stream, and put its pieces together.
  async read(messages, more = {}) {
    const parts = [];
    const calls = [];
    let [finish, tokens, empty] = [null, null, 0];
    const stream = await this.ask(messages, { stream: true, stream_options: { include_usage: true }, ...more });
    for await (const chunk of stream) {
      tokens = chunk.usage?.total_tokens ?? tokens;
      const [choice] = chunk.choices;
      if (!choice) {
        empty += 1;
        continue;
      }
      finish = choice.finish_reason ?? finish;
      if (choice.delta.content) parts.push(choice.delta.content);
      for (const { index, id, function: piece } of choice.delta.tool_calls ?? []) {
        calls[index] ??= { id, name: piece.name, arguments: '' };
        calls[index].arguments += piece.arguments;
      }
    }
    const text = parts.join('');
    const shown = text.slice(0, this.order.shown ?? text.length);
    return { text: shown, length: text.length, parts: parts.length, finish, tokens, calls, empty };
  }
}

const answer = async (order) => {
  try {
    return await new Client(order)[order.do.replaceAll('-', '_')]();
  } catch (error) {
    const { status = null, code = null } = error;
    return { error: error.constructor.name, is_api_error: error instanceof APIError, status, code };
  }
};

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await answer(JSON.parse(line))));
}
