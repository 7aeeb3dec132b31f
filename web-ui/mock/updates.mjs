// What the mock box has installed, its stick, and what is under way: the daemon's rules as far as the page sees them.

import { Refusal } from './refusal.mjs';
import { known, RELEASE_KEY, STRANGER, stickOf } from './sticks.mjs';

const STEPS = { install: ['prepare', 'copy', 'check', 'settle', 'test', 'switch'], rollback: ['test', 'switch'], backup: ['copy', 'check'], restore: ['copy', 'check', 'switch'] };
const GIB = 1024 ** 3;
/** Ticks of a step. */
const TICKS = 20;
const LEAST_PASSPHRASE_CHARS = 12;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** What a backup was written with. */
export const PASSPHRASE = 'carp in the castle moat';

export class UpdateDesk {
  state = {
    model: {
      current: { name: 'r1-distill-7b', title: 'DeepSeek-R1-Distill-Qwen-7B', version: 3, bytes: 4_683_073_536 },
      previous: { name: 'r1-distill-7b', title: 'DeepSeek-R1-Distill-Qwen-7B', version: 2, bytes: 4_683_073_024 },
    },
    system: { current: { name: 'wels', title: 'Wels 0.1.0', version: 1, bytes: 403_701_760 }, previous: null },
    others: [], system_version: '0.1.0', restart_wanted: false, fell_back: null, abandoned: null, stick: null, progress: null,
    trust: { root: '77aa 0c1e 94d2 bb05 3f6e a871 d2c9 4e10', keys: [RELEASE_KEY] },
    appliance: true,
  };
  listeners = new Set();
  /** Until when the box does not answer at all. */
  awayUntil = 0;
  #stopped = false;
  #held = false;
  /** The system's line after the next restart. */
  #waiting = null;

  /** `tickMs` is how long a twentieth of a step takes; `onForget` empties the rest of the box. */
  constructor({ tickMs = 120, awayMs = 2_500, onForget = () => {} } = {}) {
    Object.assign(this, { tickMs, awayMs, onForget });
  }

  change(news) {
    Object.assign(this.state, news);
    for (const listener of this.listeners) listener();
  }

  /** Puts a stick in; null pulls it. */
  plug(name) {
    this.change({ stick: name && stickOf(name) });
  }

  /** Lets nothing move, as a dying stick does, until it is called with false. */
  stall(stalls) {
    this.#held = stalls;
    if (this.state.progress) this.#progress({ stalled: stalls });
  }

  install({ stick, bundle, allow_older }) {
    const preview = this.#stick(stick).content.preview;
    if (preview?.id !== bundle) throw new Refusal(409, 'another_bundle');
    if (preview.refusal && !(allow_older && preview.refusal.code === 'older')) throw new Refusal(409, preview.refusal.code);
    const finish = (error) => (error ? this.#giveUp(preview, error) : this.#adopt(preview));
    this.#work('install', preview, finish, preview.stick_bytes + preview.local_bytes);
  }

  stop() {
    this.#stopped = true;
  }

  rollBack({ kind }) {
    const { current, previous } = this.state[kind];
    if (!previous) throw new Refusal(409, 'no_previous');
    this.#work('rollback', { kind, ...previous }, () => {
      if (kind === 'system') this.#wait({ current: previous, previous: current });
      else this.change({ model: { current: previous, previous: current } });
    });
  }

  remove(name, version) {
    const { model, others } = this.state;
    const isIt = (it) => it?.name === name && String(it.version) === version;
    if (isIt(model.current)) throw new Refusal(409, 'in_use');
    if (!isIt(model.previous) && !others.some(isIt)) throw new Refusal(409, 'not_installed');
    this.change({
      model: isIt(model.previous) ? { ...model, previous: null } : model,
      others: others.filter((it) => !isIt(it)),
    });
  }

  dismiss() {
    this.change({ progress: null });
  }

  restart() {
    const system = this.#waiting;
    this.#waiting = null;
    this.#leave(() => system && this.change({ system, restart_wanted: false, system_version: system.current.title.replace('Wels ', '') }));
  }

  factoryReset() {
    this.#leave(() => this.onForget({ accounts: true }));
  }

  backUp({ stick, passphrase }) {
    const target = this.#stick(stick);
    if (passphrase.length < LEAST_PASSPHRASE_CHARS) throw new Refusal(400, 'weak_passphrase');
    const file = 'wels-backup-2026-11-26.age';
    this.#work('backup', { name: file, title: file, version: 0 }, (error) => {
      if (!error) target.backups.unshift({ file, bytes: 151_002_118, created_ms: Date.UTC(2026, 10, 26, 15, 0) });
      return error;
    }, 151_002_118);
  }

  restore({ stick, file, passphrase }) {
    this.#stick(stick);
    const wrong = passphrase !== PASSPHRASE && { code: 'wrong_passphrase', message: 'this passphrase does not open the backup' };
    this.#work('restore', { name: file, title: file, version: 0 }, (error) => {
      if (!error && wrong) return wrong;
      if (!error) this.#leave(() => this.onForget({ accounts: false }));
      return error;
    }, 148_211_340);
  }

  believe({ text }) {
    const { role, name, public_key } = parseKey(text);
    if (role === 'root') return this.change({ trust: { root: STRANGER.fingerprint, keys: this.state.trust.keys.filter((key) => key.because === 'added') } });
    if (public_key !== STRANGER.public_key) throw new Refusal(409, 'wrong_key');
    const key = { name, fingerprint: STRANGER.fingerprint, because: 'added' };
    const { stick, trust } = this.state;
    const waits = stick?.content.problem?.code === 'unknown_key';
    this.change({ trust: { ...trust, keys: [...trust.keys, key] }, stick: waits ? known(stick) : stick });
  }

  forgetKey(fingerprint) {
    const { root, keys } = this.state.trust;
    this.change({ trust: { root, keys: keys.filter((key) => key.fingerprint.replaceAll(' ', '') !== fingerprint) } });
  }

  #stick(id) {
    const { stick, progress } = this.state;
    if (progress && !progress.error && progress.step !== 'done') throw new Refusal(409, 'busy');
    if (stick?.id !== id) throw new Refusal(409, 'no_stick');
    return stick;
  }

  #progress(news) {
    this.change({ progress: { ...this.state.progress, moved_ms: Date.now(), ...news } });
  }

  /** Goes through an action's steps; `finish` says how it ended. */
  async #work(action, { kind = null, name, title, version }, finish, bytes = 0) {
    this.#stopped = false;
    const now = Date.now();
    this.change({ progress: {
      action, kind, name, title, version, step: STEPS[action][0], bytes_done: 0, bytes_total: 0, rate: null, seconds_left: null, since_ms: now,
      step_since_ms: now, moved_ms: now, stalled: false, stick_may_go: false, error: null,
    } });
    let error = null;
    for (const step of STEPS[action]) {
      const total = ['copy', 'check'].includes(step) ? bytes : 0;
      this.#progress({ step, bytes_done: 0, bytes_total: total, step_since_ms: Date.now(), stick_may_go: step !== 'prepare' && step !== 'copy' });
      error = await this.#step(step, total, name);
      if (error) break;
    }
    error = finish(error) ?? null;
    this.#progress(error ? { error } : { step: 'done', bytes_done: 0, bytes_total: 0, stick_may_go: true });
  }

  /** One step, in ticks; says what ended it early. */
  async #step(step, total, name) {
    for (let tick = 1; tick <= TICKS; tick++) {
      do await pause(this.tickMs); while (this.#held && !this.#stopped);
      if (this.#stopped) return { code: 'cancelled', message: 'stopped; what was copied is kept' };
      if (step === 'copy' && !this.state.stick) return { code: 'carrier_gone', message: '/dev/sdb1: cannot read at byte 4831838208: No such device; if the stick was pulled, put it in again: the copy goes on where it was' };
      if (step === 'test' && name === 'r1-broken') return { code: 'failed_test', message: 'the test prompt was answered with nothing but spaces' };
      const seconds_left = total ? ((TICKS - tick) * 262) / TICKS : null;
      if (total) this.#progress({ bytes_done: Math.round((total * tick) / TICKS), rate: GIB / 32, seconds_left });
    }
    return null;
  }

  #adopt({ kind, name, title, version, bytes, id }) {
    const line = { current: { name, title, version, bytes }, previous: this.state[kind].current };
    const stick = structuredClone(this.state.stick);
    const verdict = kind === 'system' ? 'staged' : 'serves';
    if (stick?.content.preview?.id === id) Object.assign(stick.content.preview, { verdict, stick_bytes: 0, seconds: null });
    this.change({ stick });
    if (kind === 'system') this.#wait(line);
    else this.change({ model: line });
    return null;
  }

  /** A system serves from the next restart on. */
  #wait(line) {
    this.#waiting = line;
    this.change({ restart_wanted: true });
  }

  #giveUp({ name, version }, error) {
    if (error.code === 'failed_test') this.change({ abandoned: { name, version, reason: error.message } });
    return error;
  }

  /** The box is away for a while. */
  #leave(then) {
    setTimeout(() => {
      this.awayUntil = Date.now() + this.awayMs;
      for (const listener of this.listeners) listener('away');
      then();
    }, this.tickMs);
  }
}

function parseKey(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refusal(409, 'wrong_key');
  }
}
