/** Small preferences kept in this browser. A browser that forbids storage just forgets them. */

type Key = 'lang' | 'theme' | `draft.${string}`;

/** The value kept under a key, or null. */
export function remembered(key: Key): string | null {
  try {
    return localStorage.getItem(`wels.${key}`);
  } catch {
    return null;
  }
}

/** Keeps a value; null forgets it. */
export function remember(key: Key, value: string | null): void {
  try {
    if (value === null) localStorage.removeItem(`wels.${key}`);
    else localStorage.setItem(`wels.${key}`, value);
  } catch {
    // Storage is full or forbidden: the preference lasts until the tab closes.
  }
}

/** Forgets what belongs to a person rather than to the browser: unsent drafts. */
export function forgetDrafts(): void {
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith('wels.draft.')) localStorage.removeItem(key);
    }
  } catch {
    // Nothing was stored then.
  }
}
