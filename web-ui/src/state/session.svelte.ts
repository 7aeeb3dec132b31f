/** Who is using the page, on which box, with which model. */

import { api, ApiError, whenSignedOut, type BoxState, type Lang, type User } from '../api';
import { locale } from '../i18n/index.svelte';
import { forgetDrafts } from './remember';

class Session {
  /** Null until the first answer of the box. */
  state = $state<BoxState | null>(null);
  /** Why there is no state yet. */
  error = $state<ApiError | null>(null);

  get user(): User | null {
    return this.state?.user ?? null;
  }
  get isAdmin(): boolean {
    return this.user?.role === 'admin';
  }

  /** Asks the box; the account's language, where set, wins over the browser's. */
  async load(): Promise<void> {
    whenSignedOut(() => this.#forget());
    try {
      this.adopt(await api.state());
    } catch (error) {
      this.error = error as ApiError;
    }
  }

  adopt(state: BoxState): void {
    this.error = null;
    this.state = state;
    if (state.user?.lang) locale.use(state.user.lang);
  }

  async signOut(): Promise<void> {
    await api.logout().catch(() => {});
    forgetDrafts();
    this.#forget();
  }

  /** Switches the page at once; the account follows when someone is signed in. */
  async switchLanguage(lang: Lang): Promise<void> {
    locale.use(lang);
    if (this.state?.user) {
      this.state.user.lang = lang;
      await api.updateMe({ lang });
    }
  }

  #forget(): void {
    if (this.state) this.state = { ...this.state, user: null };
  }
}

export const session = new Session();
