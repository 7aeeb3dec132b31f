/** Light, dark, or what the system says. */

import { remember, remembered } from './remember';

export type Theme = 'system' | 'light' | 'dark';
const ORDER: readonly Theme[] = ['system', 'light', 'dark'];

class ThemeState {
  #choice = $state<Theme>(initialTheme());

  get choice(): Theme {
    return this.#choice;
  }

  use(choice: Theme): void {
    this.#choice = choice;
    remember('theme', choice === 'system' ? null : choice);
    this.apply();
  }

  /** The next of system, light, dark. */
  cycle(): void {
    this.use(ORDER[(ORDER.indexOf(this.#choice) + 1) % ORDER.length] ?? 'system');
  }

  /** Tells the style sheet: `app.css` keys its colours on this attribute. */
  apply(): void {
    document.documentElement.dataset.theme = this.#choice;
  }
}

function initialTheme(): Theme {
  const saved = remembered('theme');
  return saved === 'light' || saved === 'dark' ? saved : 'system';
}

export const theme = new ThemeState();
