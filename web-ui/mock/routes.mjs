// The contract of `/api`, route by route, over a Box.

import { randomBytes } from 'node:crypto';
import { Refusal } from './refusal.mjs';

const publicUser = ({ id, name, role, lang }) => ({ id, name, role, lang });
const userRow = ({ id, name, role, disabled, created_at, last_seen_at }) =>
  ({ id, name, role, disabled, created_at, last_seen_at });

const OPEN = [
  ['GET', '/api/state', ({ box, user }) => box.state(user)],
  ['POST', '/api/claim', ({ box, body, signIn }) => signIn(box.claim(body))],
  ['POST', '/api/recover', ({ box, body, signIn }) => signIn(box.recover(body))],
  ['POST', '/api/login', ({ box, body, signIn }) => signIn(box.login(body))],
];

const ACCOUNT = [
  ['POST', '/api/logout', ({ box, sid }) => void box.sessions.delete(sid)],
  ['PATCH', '/api/me', ({ user, body }) => {
    if (body.password && body.password.old !== user.password) throw new Refusal(403, 'bad_credentials');
    if (body.password) user.password = body.password.new;
    if (body.name) user.name = body.name;
    if (body.lang) user.lang = body.lang;
    return publicUser(user);
  }],
  ['GET', '/api/keys', ({ box, user }) => ({
    keys: box.keys.filter((key) => key.owner === user.id).map(({ owner, key, ...shown }) => ({ ...shown, last_used_at: null })),
  })],
  ['POST', '/api/keys', ({ box, user, body }) => {
    const id = box.id();
    const key = { id, owner: user.id, name: body.name, prefix: `wels_${id}`, created_at: Date.now(), key: `wels_${id}_${randomBytes(24).toString('base64url')}` };
    box.keys.unshift(key);
    return key;
  }],
  ['DELETE', '/api/keys/:id', ({ box, id }) => void (box.keys = box.keys.filter((key) => key.id !== id))],
  ['GET', '/api/sessions', ({ box, user, sid }) => ({
    sessions: [...box.sessions].filter(([, session]) => session.user === user).map(([key, session]) => ({
      id: session.id, created_at: session.created_at, last_seen_at: session.last_seen_at, agent: session.agent, current: key === sid,
    })),
  })],
  ['DELETE', '/api/sessions/:id', ({ box, id }) => {
    for (const [sid, session] of box.sessions) if (session.id === id) box.sessions.delete(sid);
  }],
];

const CHATS = [
  ['GET', '/api/chats', ({ box, user, query }) => {
    const before = Number(query.get('before') ?? Infinity);
    const chats = [...box.chats.values()].filter((entry) => entry.owner === user.id).map((entry) => entry.chat);
    return { chats: chats.filter((chat) => chat.updated_at < before).sort((a, b) => b.updated_at - a.updated_at).slice(0, 50) };
  }],
  ['GET', '/api/chats/search', ({ box, user, query }) => {
    const needle = query.get('q').toLowerCase();
    const hits = [];
    for (const { owner, chat, messages } of box.chats.values()) {
      const found = messages.find((message) => message.content.toLowerCase().includes(needle));
      if (owner !== user.id || (!found && !chat.title.toLowerCase().includes(needle))) continue;
      const at = found ? Math.max(0, found.content.toLowerCase().indexOf(needle) - 20) : 0;
      hits.push({ id: chat.id, title: chat.title, updated_at: chat.updated_at, snippet: found?.content.slice(at, at + 90) ?? '' });
    }
    return { chats: hits };
  }],
  ['POST', '/api/chats', ({ box, user }) => box.createChat(user).chat],
  ['GET', '/api/chats/:id', ({ box, user, id }) => {
    const { chat, messages, activeRun } = box.chat(user, id);
    return { chat, messages, active_run: activeRun };
  }],
  ['PATCH', '/api/chats/:id', ({ box, user, id, body }) => Object.assign(box.chat(user, id).chat, { title: body.title })],
  ['DELETE', '/api/chats/:id', ({ box, user, id }) => void (box.chat(user, id), box.chats.delete(id))],
  ['POST', '/api/chats/:id/messages', ({ box, user, id, body }) => box.ask(box.chat(user, id), body)],
  ['POST', '/api/chats/:id/regenerate', ({ box, user, id, body }) => {
    const entry = box.chat(user, id);
    const old = entry.messages.find((message) => message.id === body.message_id);
    return box.answer(entry, entry.messages.find((message) => message.id === old?.parent_id));
  }],
  ['POST', '/api/runs/:id/stop', ({ box, id }) => void (box.runs.has(id) && (box.runs.get(id).stopped = true))],
];

const ADMIN = [
  ['GET', '/api/users', ({ box }) => ({ users: box.users.map(userRow) })],
  ['POST', '/api/users', ({ box, body }) => userRow(box.addUser(body))],
  ['PATCH', '/api/users/:id', ({ box, id, body }) => userRow(Object.assign(box.users.find((user) => user.id === id), body))],
  ['DELETE', '/api/users/:id', ({ box, id }) => void (box.users = box.users.filter((user) => user.id !== id))],
  ['GET', '/api/admin/status', ({ box }) => {
    const running = [...box.runs.values()].filter((run) => !run.over).length;
    return {
      uptime_s: Math.floor((Date.now() - box.startedAt) / 1000),
      engine: { running, waiting: 0, kv_used: 118, kv_total: 512, tok_s: 40 + 6 * Math.sin(Date.now() / 4000) },
      memory: { total_bytes: 67_435_032_576, used_bytes: 9_126_805_504, rss_bytes: 5_100_000_000 },
      requests_total: box.requests,
      outbound_connections: 0,
    };
  }],
];

const UPDATES = [
  ['GET', '/api/admin/updates', ({ box }) => box.updates.state],
  ['POST', '/api/admin/updates/install', ({ box, body }) => void box.updates.install(body)],
  ['POST', '/api/admin/updates/stop', ({ box }) => void box.updates.stop()],
  ['POST', '/api/admin/updates/rollback', ({ box, body }) => void box.updates.rollBack(body)],
  ['DELETE', '/api/admin/updates/versions/:id/:version', ({ box, id, version }) => void box.updates.remove(id, version)],
  ['POST', '/api/admin/updates/restart', ({ box }) => void box.updates.restart()],
  ['POST', '/api/admin/updates/dismiss', ({ box }) => void box.updates.dismiss()],
  ['POST', '/api/admin/updates/keys', ({ box, body }) => void box.updates.believe(body)],
  ['DELETE', '/api/admin/updates/keys/:id', ({ box, id }) => void box.updates.forgetKey(id)],
  ['POST', '/api/admin/backup', ({ box, body }) => void box.updates.backUp(body)],
  ['POST', '/api/admin/restore', ({ box, body }) => void box.updates.restore(body)],
  ['POST', '/api/admin/factory-reset', ({ box, user, body }) => {
    if (body.password !== user.password) throw new Refusal(403, 'bad_credentials');
    box.updates.factoryReset();
  }],
];

/** Rows of [method, path, handler, who may]. */
export const ROUTES = [
  ...OPEN.map((route) => [...route, 'anyone']),
  ...ACCOUNT.map((route) => [...route, 'user']),
  ...CHATS.map((route) => [...route, 'user']),
  ...[...ADMIN, ...UPDATES].map((route) => [...route, 'admin']),
];
