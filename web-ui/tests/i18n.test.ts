import { describe, expect, it } from 'vitest';
import { en } from '../src/i18n/en';
import * as format from '../src/i18n/format';
import { pickLanguage } from '../src/i18n/index.svelte';
import { zhCN } from '../src/i18n/zh-CN';

/** A dictionary's sentences, with every function called. */
function sentences(dictionary: object): [string, string][] {
  return Object.entries(dictionary).map(([key, value]) => {
    if (typeof value === 'function') return [key, value(3, 7, 9)];
    return [key, Array.isArray(value) ? value.flat().join(' ') : value];
  });
}

describe('dictionaries', () => {
  it('have the same words', () => expect(Object.keys(zhCN)).toEqual(Object.keys(en)));

  it.each(Object.keys(en) as (keyof typeof en)[])('%s has the same shape in both', (key) => {
    expect(typeof zhCN[key]).toBe(typeof en[key]);
    if (typeof en[key] === 'function') expect((zhCN[key] as () => string).length).toBe((en[key] as () => string).length);
    if (Array.isArray(en[key])) expect((zhCN[key] as []).length).toBe((en[key] as []).length);
  });

  it('are complete', () => {
    for (const [key, text] of [...sentences(en), ...sentences(zhCN)]) {
      expect(text.trim(), key).not.toBe('');
      expect(text, key).not.toMatch(/undefined|TODO|\{\w+\}/);
    }
  });

  it('speak their language', () => {
    for (const [key, text] of sentences(zhCN)) expect(text, key).toMatch(/[\u4e00-\u9fff]/);
    for (const [key, text] of sentences(en)) if (key !== 'switchLanguage') expect(text, key).not.toMatch(/[\u4e00-\u9fff]/);
  });

  it('use full-width punctuation between Chinese characters', () => {
    for (const [key, text] of sentences(zhCN)) expect(text, key).not.toMatch(/[\u4e00-\u9fff][,;!?][\u4e00-\u9fff]/);
  });

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
