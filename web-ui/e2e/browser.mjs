// A fresh Chromium that can reach nothing but the box, and that remembers everything it asked for.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const RESULTS = fileURLToPath(new URL('../test-results', import.meta.url));
const STEP_MS_MAX = 30_000;
/** Chromium itself asks its maker about forms and passwords; a page that did would stand in the request log. */
const OF_THE_BROWSER = /^(?:CONNECT|POST http:\/\/)\s*[\w.-]+\.(?:google|googleapis)\.com[:/]/;

/**
 * All traffic except loopback goes to a proxy that only writes down who asked: what the page's own log
 * could miss (preconnects, favicons, the browser itself) shows up there.
 */
async function startTrap() {
  const attempts = [];
  const server = createServer((socket) => {
    socket.once('data', (bytes) => {
      attempts.push(bytes.toString('latin1').split('\r\n')[0]);
      socket.destroy();
    });
    socket.on('error', () => {});
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { attempts, port: server.address().port, close: () => server.close() };
}

export async function openBrowser(origin) {
  await mkdir(RESULTS, { recursive: true });
  const profile = await mkdtemp(join(tmpdir(), 'wels-chromium-'));
  const trap = await startTrap();
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    locale: 'en-US',
    viewport: { width: 1280, height: 800 },
    deviceScaleFactor: Number(process.env.SCREENSHOT_SCALE ?? 1),
    args: [
      '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync', `--proxy-server=http://127.0.0.1:${trap.port}`,
    ],
  });
  context.setDefaultTimeout(STEP_MS_MAX);
  const seen = { requests: [], violations: [], errors: [] };
  context.on('request', (request) => seen.requests.push(request.url()));
  await context.exposeFunction('reportViolation', (text) => void seen.violations.push(text));
  await context.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) => {
      window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
    });
  });
  const page = context.pages()[0] ?? (await context.newPage());
  page.on('pageerror', (error) => seen.errors.push(String(error.stack ?? error)));

  return {
    page,
    seen,
    /** Requests that went, or tried to go, anywhere but the box. */
    foreign: () => [
      ...seen.requests.filter((url) => !url.startsWith(`${origin}/`) && !/^(?:blob|data):/.test(url)),
      ...trap.attempts.filter((line) => !OF_THE_BROWSER.test(line)),
    ],
    screenshot: (name) => page.screenshot({ path: join(RESULTS, `${name}.png`) }),
    async close() {
      await context.close();
      trap.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
