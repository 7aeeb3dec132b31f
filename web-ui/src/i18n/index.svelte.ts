/** The language in use. Components read `locale.t.word`; a switch re-renders what it touches. */

import type { Lang } from '../api/types';
import { remember, remembered } from '../state/remember';
import { en, type Dictionary } from './en';
import * as format from './format';
import { zhCN } from './zh-CN';

export type { Dictionary };

/** Every language this page speaks. */
export const dictionaries: Record<Lang, Dictionary> = { en, 'zh-CN': zhCN };

/** The first wish that is spoken here; any Chinese counts as Simplified Chinese, all else as English. */
export function pickLanguage(wishes: readonly string[]): Lang {
  for (const wish of wishes) {
    const primary = wish.toLowerCase().split('-')[0];
    if (primary === 'zh') return 'zh-CN';
    if (primary === 'en') return 'en';
  }
  return 'en';
}

class Locale {
  #lang = $state<Lang>(initialLanguage());

  get lang(): Lang {
    return this.#lang;
  }
  get t(): Dictionary {
    return dictionaries[this.#lang];
  }
  /** The other language, for a switch between two. */
  get other(): Lang {
    return this.#lang === 'en' ? 'zh-CN' : 'en';
  }

  /** Uses a language and remembers it in this browser. */
  use(lang: Lang): void {
    this.#lang = lang;
    document.documentElement.lang = lang;
    remember('lang', lang);
  }

  count = (n: number) => format.formatCount(this.#lang, n);
  rate = (n: number) => format.formatRate(this.#lang, n);
  percent = (share: number) => format.formatPercent(this.#lang, share);
  duration = (ms: number, fractions = false) => format.formatDuration(this.#lang, ms, fractions);
  bytes = (n: number) => format.formatBytes(this.#lang, n);
  when = (at: number) => format.formatWhen(this.#lang, at);
  moment = (at: number) => format.formatMoment(this.#lang, at);
  month = (at: number) => format.formatMonth(this.#lang, at);
}

function initialLanguage(): Lang {
  const saved = remembered('lang');
  return saved === 'en' || saved === 'zh-CN' ? saved : pickLanguage(navigator.languages);
}

export const locale = new Locale();
