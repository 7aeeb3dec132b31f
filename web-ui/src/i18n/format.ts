/** Numbers, times and sizes in the reader's language, through `Intl`. */

import type { Lang } from '../api/types';

const SECOND_MS = 1_000;
const DAY_MS = 86_400_000;

/** A whole number with the language's grouping. */
export function formatCount(lang: Lang, n: number): string {
  return new Intl.NumberFormat(lang).format(n);
}

/** A measured number to three figures at most: 7.31, 42.1, 128. */
export function formatRate(lang: Lang, n: number): string {
  return new Intl.NumberFormat(lang, { maximumSignificantDigits: n >= 100 ? 4 : 3 }).format(n);
}

/** A share from 0 to 1. */
export function formatPercent(lang: Lang, share: number): string {
  const maximumFractionDigits = share < 0.1 ? 1 : 0;
  return new Intl.NumberFormat(lang, { style: 'percent', maximumFractionDigits }).format(share);
}

function unit(lang: Lang, n: number, name: string, digits = 0): string {
  const options = { style: 'unit', unit: name, unitDisplay: 'short', maximumFractionDigits: digits } as const;
  return new Intl.NumberFormat(lang, options).format(n);
}

/** "0.8 sec", "12 sec", "2 min 5 sec", "3 hr 20 min": at most two units. */
export function formatDuration(lang: Lang, ms: number, fractions = false): string {
  const seconds = Math.max(0, ms) / SECOND_MS;
  if (seconds < 60) return unit(lang, fractions ? seconds : Math.floor(seconds), 'second', fractions && seconds < 10 ? 1 : 0);
  const parts: [string, number][] = [['day', 86_400], ['hour', 3_600], ['minute', 60], ['second', 1]];
  const first = parts.findIndex(([, size]) => seconds >= size);
  let rest = Math.floor(seconds);
  const words: string[] = [];
  for (const [name, size] of parts.slice(first, first + 2)) {
    const n = Math.floor(rest / size);
    if (n > 0) words.push(unit(lang, n, name));
    rest -= n * size;
  }
  return words.join(' ');
}

/** Binary sizes, as memory is sold: GiB shown as "GB" would mislead, so the unit is written out. */
export function formatBytes(lang: Lang, bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let power = 0;
  let n = bytes;
  while (n >= 1024 && power < units.length - 1) {
    n /= 1024;
    power++;
  }
  const digits = power === 0 || n >= 100 ? 0 : 1;
  return `${new Intl.NumberFormat(lang, { maximumFractionDigits: digits }).format(n)} ${units[power]}`;
}

/** "5 minutes ago", "yesterday", then a date. */
export function formatWhen(lang: Lang, at: number, now: number = Date.now()): string {
  const relative = new Intl.RelativeTimeFormat(lang, { numeric: 'auto' });
  const ago = Math.max(0, now - at);
  if (ago < 60_000) return relative.format(0, 'second');
  if (ago < 3_600_000) return relative.format(-Math.floor(ago / 60_000), 'minute');
  if (ago < DAY_MS) return relative.format(-Math.floor(ago / 3_600_000), 'hour');
  if (ago < 7 * DAY_MS) return relative.format(-Math.floor(ago / DAY_MS), 'day');
  return new Intl.DateTimeFormat(lang, { dateStyle: 'medium' }).format(at);
}

/** Date and time in full, for tooltips. */
export function formatMoment(lang: Lang, at: number): string {
  return new Intl.DateTimeFormat(lang, { dateStyle: 'medium', timeStyle: 'short' }).format(at);
}

/** Name of the month, with the year when it is not this one. */
export function formatMonth(lang: Lang, at: number, now: number = Date.now()): string {
  const sameYear = new Date(at).getFullYear() === new Date(now).getFullYear();
  const options: Intl.DateTimeFormatOptions = sameYear ? { month: 'long' } : { month: 'long', year: 'numeric' };
  return new Intl.DateTimeFormat(lang, options).format(at);
}
