/** The words of the page of updates in the language in use; the page alone loads them. */

import type { Lang } from '../../api/types';
import { locale } from '../index.svelte';
import * as en from './en';
import * as zhCN from './zh-CN';

/** Every language this page speaks. */
export const updateDictionaries: Record<Lang, en.UpdateWords> = { en: en.en, 'zh-CN': zhCN.zhCN };
/** What codes say: of bundles, and of backups where that differs. */
export const failureSentences: Record<Lang, { bundles: Record<string, string>; backups: Record<string, string> }> = {
  en: { bundles: en.failures, backups: { ...en.failures, ...en.backupFailures } },
  'zh-CN': { bundles: zhCN.failures, backups: { ...zhCN.failures, ...zhCN.backupFailures } },
};

export const words = {
  get t(): en.UpdateWords {
    return updateDictionaries[locale.lang];
  },
  /** What a failure's code says; null for one that this page does not know. */
  failure(code: string, of: 'bundles' | 'backups' = 'bundles'): string | null {
    const known = failureSentences[locale.lang][of];
    return Object.hasOwn(known, code) ? known[code]! : null;
  },
};
