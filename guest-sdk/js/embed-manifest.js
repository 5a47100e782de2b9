#!/usr/bin/env node
// Puts an `agent.toml` into a component: what the agent asks of its operator. `wasm-worker inspect` shows it.
//
// embed-manifest agent.toml agent.wasm
import { appendFileSync, readFileSync } from 'node:fs';
import { argv, exit, stderr } from 'node:process';

const [manifest, component] = argv.slice(2);
if (component === undefined) {
  stderr.write('usage: embed-manifest AGENT.TOML AGENT.WASM\n');
  exit(2);
}
const name = Buffer.from('wasm-worker:manifest');
const content = Buffer.concat([number(name.length), name, readFileSync(manifest)]);
// A custom section has the id 0.
appendFileSync(component, Buffer.concat([number(0), number(content.length), content]));

/** A number as WebAssembly writes it (LEB128). */
function number(value) {
  const bytes = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.from([...bytes, value]);
}
