// A stand-in for the daemon: the API of the contract, and dist with the daemon's own headers, so that the
// content security policy is in force while developing, too.

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Box, CLAIM_CODE } from './box.mjs';
import { Refusal } from './refusal.mjs';
import { ROUTES } from './routes.mjs';

export const CONTENT_SECURITY_POLICY = [
  "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "font-src 'self'",
  "connect-src 'self'", "form-action 'none'", "base-uri 'none'", "frame-ancestors 'none'",
  "require-trusted-types-for 'script'", 'trusted-types svelte-trusted-html dompurify',
].join('; ');

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const TYPES = {
  '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.woff2': 'font/woff2',
};
const BODY_BYTES_MAX = 4 * 1024 * 1024;
/** Keep an event stream open. */
const COMMENT_MS = 10_000;

/** Listens on 127.0.0.1; port 0 picks a free one. `desk` is where sticks are put in. */
export async function startMock({ port = 0, ...pace } = {}) {
  const box = new Box(pace);
  const server = createServer((request, response) => {
    if (Date.now() < box.updates.awayUntil) return request.destroy();
    handle(box, request, response).catch((error) => refuse(response, error));
  });
  await new Promise((resolve) => server.listen(port, '127.0.0.1', resolve));
  const close = () => { server.closeAllConnections(); server.close(); };
  return { url: `http://127.0.0.1:${server.address().port}`, claimCode: CLAIM_CODE, desk: box.updates, close };
}

async function handle(box, request, response) {
  const url = new URL(request.url, 'http://box');
  if (!url.pathname.startsWith('/api/')) return serveFile(url.pathname, response);
  const sid = /(?:^|; )sid=([0-9a-f]+)/.exec(request.headers.cookie ?? '')?.[1];
  const session = box.sessions.get(sid);
  if (session) session.last_seen_at = session.user.last_seen_at = Date.now();
  const user = session?.user ?? null;
  if (box.users.length === 0 && !['/api/state', '/api/claim'].includes(url.pathname)) throw new Refusal(403, 'unclaimed');
  const events = /^\/api\/runs\/(\w+)\/events$/.exec(url.pathname);
  if (events) return streamEvents(box, user, events[1], request, response);
  if (url.pathname === '/api/admin/updates/events') return streamUpdates(box.updates, user, response);
  const exported = /^\/api\/chats\/(\w+)\/export$/.exec(url.pathname);
  if (exported) return exportChat(box.chat(user, exported[1]), response);

  const { handler, id, version } = route(request.method, url.pathname, user);
  const signIn = (signedIn) => {
    response.setHeader('set-cookie', `sid=${box.openSession(signedIn, request.headers['user-agent'] ?? '')}; HttpOnly; SameSite=Strict; Path=/`);
    return box.state(signedIn);
  };
  const body = ['POST', 'PATCH'].includes(request.method) ? await readJson(request) : {};
  sendJson(response, handler({ box, user, sid, id, version, body, signIn, query: url.searchParams }));
}

function route(method, path, user) {
  for (const [wanted, pattern, handler, who] of ROUTES) {
    const match = new RegExp(`^${pattern.replace(':id', '(?<id>[\\w.-]+)').replace(':version', '(?<version>\\d+)')}$`).exec(path);
    if (wanted !== method || !match) continue;
    if (who !== 'anyone' && !user) throw new Refusal(401, 'unauthorized');
    if (who === 'admin' && user.role !== 'admin') throw new Refusal(403, 'forbidden');
    return { handler, ...match.groups };
  }
  throw new Refusal(404, 'not_found');
}

async function readJson(request) {
  let text = '';
  for await (const piece of request) {
    text += piece;
    if (text.length > BODY_BYTES_MAX) throw new Refusal(413, 'too_large');
  }
  return JSON.parse(text);
}

function sendJson(response, value) {
  if (value === undefined) return response.writeHead(204).end();
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function refuse(response, error) {
  if (response.headersSent) return response.destroy();
  const { status = 500, code = 'internal', facts = {} } = error;
  if (status === 500) console.error(error);
  response.writeHead(status, { 'content-type': 'application/json' })
    .end(JSON.stringify({ error: { code, message: error.message, ...facts } }));
}

/** Replays what the run has said, then follows it. */
function streamEvents(box, user, runId, request, response) {
  const run = box.runs.get(runId);
  if (!user || !run || run.owner !== user.id) throw new Refusal(404, 'not_found');
  let next = Number(request.headers['last-event-id'] ?? 0);
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const wake = () => {
    for (; next < run.events.length; next++) {
      const { id, type, data } = run.events[next];
      response.write(`id: ${id}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`);
    }
    if (run.over && run.events.at(-1)?.type === 'done') response.end();
  };
  run.listeners.add(wake);
  request.on('close', () => run.listeners.delete(wake));
  wake();
}

/** The whole state, at once and on every change. */
function streamUpdates(desk, user, response) {
  if (!user) throw new Refusal(401, 'unauthorized');
  if (user.role !== 'admin') throw new Refusal(403, 'forbidden');
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const tell = (news) => (news === 'away' ? response.destroy() : response.write(`data: ${JSON.stringify(desk.state)}\n\n`));
  const comments = setInterval(() => response.write(':\n\n'), COMMENT_MS);
  desk.listeners.add(tell);
  response.on('close', () => {
    clearInterval(comments);
    desk.listeners.delete(tell);
  });
  tell();
}

function exportChat({ chat, messages }, response) {
  response.writeHead(200, { 'content-type': 'text/markdown; charset=utf-8', 'content-disposition': 'attachment; filename="chat.md"' });
  response.end(`# ${chat.title}\n\n${messages.map((message) => message.content).join('\n\n---\n\n')}\n`);
}

async function serveFile(path, response) {
  const name = normalize(path).replace(/^\/+/, '');
  const file = extname(name) ? name : 'index.html';
  const bytes = await readFile(join(DIST, file)).catch(() => null);
  if (!bytes) throw new Refusal(404, 'not_found');
  response.writeHead(200, {
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    'cache-control': file === 'index.html' ? 'no-cache' : 'public, max-age=31536000, immutable',
    'content-security-policy': CONTENT_SECURITY_POLICY,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
  }).end(bytes);
}
