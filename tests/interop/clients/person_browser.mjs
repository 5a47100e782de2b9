// A person in a room by npm's livekit-client in a headless Chromium.
//
//     node person_browser.mjs URL TOKEN [two]

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { chromium } from 'playwright-core';

const FILES = {
  '/': ['person_page.html', 'text/html'],
  '/person_steps.mjs': ['person_steps.mjs', 'text/javascript'],
  '/person_sound.mjs': ['person_sound.mjs', 'text/javascript'],
  '/livekit-client.esm.mjs': ['node_modules/livekit-client/dist/livekit-client.esm.mjs', 'text/javascript'],
};

const tell = (line) => process.stdout.write(`${line}\n`);

const server = createServer(async (request, response) => {
  const [file, type] = FILES[request.url.split('?')[0]] ?? [];
  if (file === undefined) {
    response.writeHead(404).end();
    return;
  }
  response.setHeader('content-type', type);
  response.end(await readFile(new URL(file, import.meta.url)));
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const browser = await chromium.launch({
  executablePath: '/usr/bin/chromium',
  // Chromium refuses its sandbox to root; the page is our own.
  args: ['--no-sandbox', '--allow-loopback-in-peer-connection', '--autoplay-policy=no-user-gesture-required'],
});
const page = await browser.newPage();
page.on('pageerror', (error) => process.stderr.write(`${error}\n`));
await page.exposeFunction('tell', tell);
const [url, token, connections = 'one'] = process.argv.slice(2);
await page.goto(`http://127.0.0.1:${server.address().port}/?${connections}`);
await page.waitForFunction(() => window.person !== undefined);
await page.evaluate(([url, token]) => window.person.join(url, token), [url, token]);
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  try {
    await page.evaluate((order) => window.person.perform(order), order);
  } catch (error) {
    tell(JSON.stringify({ saw: 'failed', do: order.do, why: String(error) }));
  }
}
await page.evaluate(() => window.person.leave());
await browser.close();
server.close();
