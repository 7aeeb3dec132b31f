import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en';
import * as format from '../src/i18n/format';
import { pickLanguage } from '../src/i18n/index.svelte';
import * as updatesEn from '../src/i18n/updates/en';
import * as updatesZhCN from '../src/i18n/updates/zh-CN';
import { zhCN } from '../src/i18n/zh-CN';

/** Every dictionary of the page, in both languages. */
const PAIRS: [string, Record<string, unknown>, Record<string, unknown>][] = [
  ['the page', en, zhCN],
  ['updates', updatesEn.en, updatesZhCN.zhCN],
  ['failures', updatesEn.failures, updatesZhCN.failures],
  ['failures of backups', updatesEn.backupFailures, updatesZhCN.backupFailures],
];

/** A dictionary's sentences, with every function called. */
function sentences(dictionary: object): [string, string][] {
  return Object.entries(dictionary).map(([key, value]) => {
    if (typeof value === 'function') return [key, value(3, 7, 9)];
    return [key, Array.isArray(value) ? value.flat().join(' ') : value];
  });
}

describe.each(PAIRS)('dictionaries of %s', (_, english, chinese) => {
  it('have the same words', () => expect(Object.keys(chinese)).toEqual(Object.keys(english)));

  it.each(Object.keys(english))('%s has the same shape in both', (key) => {
    expect(typeof chinese[key]).toBe(typeof english[key]);
    if (typeof english[key] === 'function') expect((chinese[key] as () => string).length).toBe(english[key].length);
    if (Array.isArray(english[key])) expect((chinese[key] as []).length).toBe(english[key].length);
  });

  it('are complete', () => {
    for (const [key, text] of [...sentences(english), ...sentences(chinese)]) {
      expect(text.trim(), key).not.toBe('');
      expect(text, key).not.toMatch(/undefined|TODO|\{\w+\}/);
    }
  });

  it('speak their language', () => {
    for (const [key, text] of sentences(chinese)) expect(text, key).toMatch(/[\u4e00-\u9fff]/);
    for (const [key, text] of sentences(english)) if (key !== 'switchLanguage') expect(text, key).not.toMatch(/[\u4e00-\u9fff]/);
  });

  it('use full-width punctuation between Chinese characters', () => {
    for (const [key, text] of sentences(chinese)) expect(text, key).not.toMatch(/[\u4e00-\u9fff][,;!?][\u4e00-\u9fff]/);
  });
});

describe('dictionaries', () => {
  it('count in words', () => {
    expect(en.queueAhead(1)).toBe('1 request is ahead of you.');
    expect(en.queueAhead(2)).toBe('2 requests are ahead of you.');
    expect(zhCN.queueAhead(2)).toBe('前面还有 2 个请求。');
  });
});

describe('pickLanguage', () => {
  it.each([
    [['zh-TW', 'en'], 'zh-CN'], [['fr', 'zh'], 'zh-CN'], [['de-DE', 'en-US', 'zh'], 'en'], [[], 'en'], [['fr'], 'en'],
  ])('%j', (wishes, lang) => expect(pickLanguage(wishes)).toBe(lang));
});

describe('format', () => {
  it('durations', () => {
    expect(format.formatDuration('en', 12_400)).toBe('12 sec');
    expect(format.formatDuration('en', 740, true)).toBe('0.7 sec');
    expect(format.formatDuration('en', 125_000)).toBe('2 min 5 sec');
    expect(format.formatDuration('en', 3 * 86_400_000 + 3_600_000)).toBe('3 days 1 hr');
    expect(format.formatDuration('zh-CN', 125_000)).toBe('2分钟 5秒');
    expect(format.formatDuration('en', -5)).toBe('0 sec');
  });

  it('sizes', () => {
    expect(format.formatBytes('en', 512)).toBe('512 B');
    expect(format.formatBytes('en', 4_683_073_536)).toBe('4.4 GiB');
  });

  it('moments', () => {
    const now = Date.UTC(2026, 4, 20, 12);
    expect(format.formatWhen('en', now - 5 * 60_000, now)).toBe('5 minutes ago');
    expect(format.formatWhen('zh-CN', now - 86_400_000, now)).toBe('昨天');
  });
});
