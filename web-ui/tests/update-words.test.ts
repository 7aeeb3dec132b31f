import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { ApiError, type Preview, type Updates, type UpdateProgress } from '../src/api';
import { backupFailures, en, failures } from '../src/i18n/updates/en';
import { words } from '../src/i18n/updates/index.svelte';
import { explainWish, fingerprintIn } from '../src/settings/updates/failures';
import { canStop, headline, stepNumber, stepWords } from '../src/settings/updates/progress-words';
import { readKeyText } from '../src/settings/updates/public-key';
import { newsOf } from '../src/state/update-news';

const FINGERPRINT = '3b0e d7a9 15c2 88f4 6e1d b3a0 29c7 f05a';
const SPOKEN = { t: en, count: String };

const idle = (news: Partial<Updates> = {}): Updates => ({
  model: { current: null, previous: null },
  system: { current: { name: 'wels', title: 'Wels', version: 1, bytes: 1 }, previous: null },
  others: [], system_version: '0.1.0', restart_wanted: false, fell_back: null, abandoned: null, stick: null, progress: null,
  trust: { root: null, keys: [] }, appliance: true, ...news,
});
const progress = (news: Partial<UpdateProgress> = {}): UpdateProgress => ({
  action: 'install', kind: 'model', name: 'r1', title: 'R1', version: 4, step: 'copy', bytes_done: 1, bytes_total: 4, rate: null, seconds_left: null,
  since_ms: 0, step_since_ms: 0, moved_ms: 0, stalled: false, stick_may_go: false, error: null, ...news,
});
const stick = (news: Partial<Preview>): Updates['stick'] => ({
  id: '1', device: 'sdb', label: '', size_bytes: 1, writable: false, backups: [],
  content: { state: 'bundle', preview: { kind: 'model', name: 'r1', title: 'R1', verdict: 'install', ...news } as Preview },
});

/** The codes that a crate's errors have, out of its source, as far as there is such a crate. */
function codesIn(...paths: string[]): string[] {
  const sources = paths.filter((path) => existsSync(path)).map((path) => readFileSync(path, 'utf8'));
  return sources.flatMap((source) => [...source.matchAll(/Self::[^\n]*=> "([a-z_]+)",/g)].map(([, code]) => code!));
}

describe('failures', () => {
  it('have a sentence for every code of the daemon', () => {
    const bundles = codesIn('../daemon/update/src/error.rs', '../daemon/update/src/system/problem.rs');
    expect(bundles.length).toBeGreaterThan(20);
    expect(bundles.filter((code) => words.failure(code) === null)).toEqual([]);
    const backups = codesIn('../daemon/backup/src/error.rs');
    expect(backups.filter((code) => words.failure(code, 'backups') === null)).toEqual([]);
  });

  it('speak of backups where it is about one', () => {
    expect(words.failure('damaged', 'backups')).toBe(backupFailures.damaged);
    expect(words.failure('damaged')).toBe(failures.damaged);
    expect(words.failure('io', 'backups')).toBe(failures.io);
  });

  it('of unknown codes are the daemon’s own words', () => {
    expect(words.failure('from_the_future')).toBeNull();
    expect(words.failure('constructor')).toBeNull();
    expect(explainWish(new ApiError(409, 'from_the_future', 'so it is'))).toContain('so it is');
    expect(explainWish(new ApiError(409, 'busy', 'x'))).toBe(failures.busy);
  });

  it('name the stranger’s key', () => {
    const message = `/dev/sdb1: signed by a key this box doesn't know: ${FINGERPRINT}; if it is yours, …`;
    expect(fingerprintIn({ code: 'unknown_key', message })).toBe(FINGERPRINT);
    expect(fingerprintIn({ code: 'unknown_key', message: 'dead beef' })).toBeNull();
    expect(fingerprintIn({ code: 'io', message })).toBeNull();
  });
});

describe('progress', () => {
  it('says what is done, and how it ended', () => {
    const say = (news: Partial<UpdateProgress>) => headline(progress(news), SPOKEN);
    expect(say({})).toBe('Installing R1, version 4');
    expect(say({ step: 'done' })).toBe('R1, version 4, is installed and answers');
    expect(say({ step: 'done', kind: 'system', title: 'Wels' })).toBe('Wels, version 4, is in place');
    expect(say({ error: { code: 'damaged', message: '' } })).toBe('R1, version 4, was not installed');
    expect(say({ error: { code: 'cancelled', message: '' } })).toBe('The installation was stopped');
    expect(say({ action: 'restore', error: { code: 'cancelled', message: '' } })).toBe('The backup was not restored: all is as it was');
    expect(say({ action: 'rollback', step: 'done' })).toBe('R1, version 4, answers again');
  });

  it('counts an installation’s steps, and says a backup’s in its own words', () => {
    expect(stepNumber(progress(), SPOKEN)).toBe('Step 2 of 6');
    expect(stepNumber(progress({ action: 'backup' }), SPOKEN)).toBeNull();
    expect(stepWords(progress(), en)).toBe('Copying from the stick');
    expect(stepWords(progress({ action: 'backup', kind: null }), en)).toBe('Writing to the stick');
    expect(stepWords(progress({ step: 'test', kind: 'system' }), en)).toBe('Trying it out');
  });

  it('can be stopped as long as only bytes were copied', () => {
    expect(canStop(progress())).toBe(true);
    expect(canStop(progress({ step: 'switch' }))).toBe(false);
    expect(canStop(progress({ action: 'rollback', step: 'prepare' }))).toBe(false);
  });
});

describe('newsOf', () => {
  it.each([
    ['nothing', idle(), null],
    ['nothing where nobody has looked', null, null],
    ['a stick with something new', idle({ stick: stick({}) }), { kind: 'stick', title: 'R1' }],
    ['no stick with what serves', idle({ stick: stick({ verdict: 'serves' }) }), null],
    ['no stick that is refused', idle({ stick: stick({ verdict: null }) }), null],
    ['what is copied, and how far', idle({ progress: progress() }), { kind: 'running', action: 'install', title: 'R1', share: 0.25 }],
    ['a test without a share', idle({ progress: progress({ step: 'test' }) }), { kind: 'running', action: 'install', title: 'R1', share: null }],
    ['a failure', idle({ progress: progress({ error: { code: 'io', message: '' } }), stick: stick({}) }), { kind: 'failed' }],
    ['an outcome before the stick', idle({ progress: progress({ step: 'done' }), stick: stick({}) }), { kind: 'done' }],
    ['a restart that is wanted', idle({ restart_wanted: true, progress: progress({ step: 'done' }) }), { kind: 'restart' }],
  ])('tells %s', (_, updates, news) => expect(newsOf(updates)).toEqual(news));
});

describe('readKeyText', () => {
  const key = (fields: object) => readKeyText(JSON.stringify({ role: 'release', name: 'Ada', public_key: 'ab', ...fields }));

  it('tells keys from what is none', () => {
    expect(key({})).toEqual({ kind: 'public', role: 'release', name: 'Ada' });
    expect(key({ role: 'root' })).toEqual({ kind: 'public', role: 'root', name: 'Ada' });
    expect(key({ role: 'admin' })).toEqual({ kind: 'none' });
    expect(key({ name: 7 })).toEqual({ kind: 'none' });
    for (const text of ['null', '7', '[]', '{', 'ssh-ed25519 AAAA']) expect(readKeyText(text)).toEqual({ kind: 'none' });
    expect(readKeyText('  \n')).toEqual({ kind: 'empty' });
    expect(readKeyText(' '.repeat(20_000) + '{}')).toEqual({ kind: 'long' });
  });

  it('never takes a secret one', () => expect(key({ secret_key: 'cd' })).toEqual({ kind: 'secret' }));
});
