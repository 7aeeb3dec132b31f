// The mock box's memory: one process, no disk, the same rules as the daemon where the page can see them.

import { randomBytes } from 'node:crypto';
import { answerTo, pieces } from './answers.mjs';
import { Refusal } from './refusal.mjs';
import { UpdateDesk } from './updates.mjs';

export const CLAIM_CODE = 'WELS-7Q3K';
export const RECOVERY_CODE = 'BACK-2N4M';
const MODEL = {
  id: 'mock-r1-7b', name: 'DeepSeek-R1-Distill-Qwen-7B', context: 32768, bytes: 4_683_073_536, format: 'GGUF Q4_K_M',
  source: 'mock',
};

export class Box {
  #nextId = 1;
  users = [];
  sessions = new Map();
  chats = new Map();
  runs = new Map();
  keys = [];
  startedAt = Date.now();
  requests = 0;
  /** The stick whose recovery code was used up. */
  #recoveredBy = null;

  constructor({ tokenMs = 12, tickMs, awayMs } = {}) {
    this.tokenMs = tokenMs;
    this.updates = new UpdateDesk({ tickMs, awayMs, onForget: (what) => this.#forget(what) });
  }

  /** After a restore everyone signs in again; after a factory reset nobody owns the box. */
  #forget({ accounts }) {
    this.sessions.clear();
    if (!accounts) return;
    this.users = [];
    this.keys = [];
    this.chats.clear();
  }

  id() {
    return String(this.#nextId++);
  }

  state(user) {
    return {
      claimed: this.users.length > 0,
      user: user ? { id: user.id, name: user.name, role: user.role, lang: user.lang } : null,
      box: { name: 'wels.local', version: '0.1.0-mock' },
      model: user ? { ...MODEL, name: this.updates.state.model.current.title } : null,
      recovering: this.#isRecovering(),
    };
  }

  #isRecovering() {
    const { stick } = this.updates.state;
    return this.users.length > 0 && Boolean(stick?.asks_recovery) && stick !== this.#recoveredBy;
  }

  recover({ code, name, password }) {
    if (!this.#isRecovering() || code !== RECOVERY_CODE) throw new Refusal(403, 'bad_code');
    if ((password ?? '').length < 8) throw new Refusal(400, 'weak_password');
    const user = this.users.find((other) => other.name === name) ?? this.addUser({ name, password, role: 'admin' });
    this.#recoveredBy = this.updates.state.stick;
    Object.assign(user, { password, role: 'admin', disabled: false });
    for (const [sid, session] of this.sessions) if (session.user === user) this.sessions.delete(sid);
    return user;
  }

  claim({ code, name, password, lang }) {
    if (this.users.length > 0) throw new Refusal(409, 'already_claimed');
    if (code !== CLAIM_CODE) throw new Refusal(403, 'bad_code');
    return this.addUser({ name, password, role: 'admin', lang });
  }

  addUser({ name, password, role, lang = null }) {
    if (this.users.some((user) => user.name === name)) throw new Refusal(409, 'name_taken');
    if ((password ?? '').length < 8) throw new Refusal(400, 'weak_password');
    const user = { id: this.id(), name, password, role, lang, disabled: false, created_at: Date.now(), last_seen_at: null };
    this.users.push(user);
    return user;
  }

  login({ name, password }) {
    const user = this.users.find((other) => other.name === name && other.password === password && !other.disabled);
    if (!user) throw new Refusal(401, 'bad_credentials');
    return user;
  }

  openSession(user, agent) {
    const sid = randomBytes(16).toString('hex');
    this.sessions.set(sid, { id: this.id(), user, agent, created_at: Date.now(), last_seen_at: Date.now() });
    return sid;
  }

  createChat(owner) {
    const now = Date.now();
    const entry = {
      owner: owner.id,
      chat: { id: this.id(), title: '', created_at: now, updated_at: now },
      messages: [],
      activeRun: null,
    };
    this.chats.set(entry.chat.id, entry);
    return entry;
  }

  chat(user, chatId) {
    const entry = this.chats.get(chatId);
    if (!entry || entry.owner !== user.id) throw new Refusal(404, 'not_found');
    return entry;
  }

  ask(entry, { content, parent_id }) {
    if (entry.activeRun) throw new Refusal(409, 'run_active');
    const question = this.#message(entry, { role: 'user', content, parent_id, status: 'done' });
    if (!entry.chat.title) entry.chat.title = content.split('\n')[0].slice(0, 60);
    return { user_message: question, ...this.answer(entry, question) };
  }

  /** Starts a run that answers a question. */
  answer(entry, question) {
    if (entry.activeRun) throw new Refusal(409, 'run_active');
    const message = this.#message(entry, { role: 'assistant', content: '', parent_id: question.id, status: 'running' });
    const run = { id: this.id(), owner: entry.owner, events: [], listeners: new Set(), stopped: false, over: false };
    this.runs.set(run.id, run);
    entry.activeRun = run.id;
    entry.chat.updated_at = Date.now();
    this.requests++;
    this.#generate(entry, run, message, answerTo(question.content));
    return { assistant_message: { ...message }, run_id: run.id };
  }

  #message(entry, fields) {
    const message = {
      id: this.id(), reasoning: null, reasoning_ms: null, error: null, created_at: Date.now(), receipt: null, ...fields,
    };
    entry.messages.push(message);
    return message;
  }

  async #generate(entry, run, message, { reasoning, content }) {
    const emit = (type, data) => {
      run.events.push({ id: run.events.length + 1, type, data });
      for (const wake of run.listeners) wake();
    };
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    const from = Date.now();
    for (const ahead of [1, 0]) {
      emit('queue', { ahead });
      await pause(this.tokenMs * 25);
    }
    for (let done = 0; done <= 512; done += 64) {
      emit('prefill', { done, total: 512 });
      await pause(this.tokenMs * 5);
    }
    const decodeFrom = Date.now();
    let generated = 0;
    const say = async (type, text) => {
      for (const piece of pieces(text)) {
        if (run.stopped) return;
        message[type] = (message[type] ?? '') + piece;
        generated++;
        emit(type, type === 'reasoning' ? { text: piece, ms: Date.now() - decodeFrom } : { text: piece });
        await pause(this.tokenMs);
      }
    };
    if (reasoning) {
      await say('reasoning', reasoning);
      message.reasoning_ms = Date.now() - decodeFrom;
      emit('thought_end', { reasoning_ms: message.reasoning_ms });
    }
    await say('content', content);
    const decode_ms = Date.now() - decodeFrom;
    message.status = run.stopped ? 'stopped' : 'done';
    message.receipt = {
      model: MODEL.id, n_prompt: 512, n_cached: 128, n_generated: generated, queue_ms: this.tokenMs * 50,
      prefill_ms: decodeFrom - from - this.tokenMs * 50, decode_ms, tok_s: (generated * 1000) / Math.max(1, decode_ms), seed: 42,
    };
    entry.activeRun = null;
    run.over = true;
    emit('done', { message: { ...message } });
    setTimeout(() => this.runs.delete(run.id), 60_000).unref();
  }
}
