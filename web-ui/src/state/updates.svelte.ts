/** What is installed, what is on the stick and what is under way, as far as an administrator is looking. */

import { ApiError, followUpdates, type InstalledVersion, type Updates, type UpdateProgress } from '../api';
import { session } from './session.svelte';

/** A box that was told to go and is still there has thought better of it. */
const LEAVING_MS_MAX = 60_000;

/** Whether something is being done, as opposed to nothing, or to an outcome that nobody has read yet. */
export function isUnderWay(progress: UpdateProgress | null | undefined): boolean {
  return !!progress && !progress.error && progress.step !== 'done';
}

class UpdatesState {
  /** Null until the first answer. */
  current = $state.raw<Updates | null>(null);
  /** Why `current` may be old. */
  problem = $state.raw<unknown>(null);
  /** Why the box is about to be away, from the wish until it is back. */
  leaving = $state<'restart' | 'reset' | null>(null);
  #leavingTimer: ReturnType<typeof setTimeout> | undefined;

  get isUnderWay(): boolean {
    return isUnderWay(this.current?.progress);
  }

  /** Follows while this tab is in sight: a browser keeps only six connections to a box, for all its tabs. */
  follow(): () => void {
    let abort: AbortController | null = null;
    const look = () => {
      if (document.visibilityState === 'visible') {
        if (!abort) void this.#follow((abort = new AbortController()).signal);
      } else {
        abort?.abort();
        abort = null;
      }
    };
    document.addEventListener('visibilitychange', look);
    look();
    return () => {
      document.removeEventListener('visibilitychange', look);
      abort?.abort();
      this.#forget();
    };
  }

  /** The box was told to go. */
  leave(why: 'restart' | 'reset'): void {
    this.leaving = why;
    clearTimeout(this.#leavingTimer);
    this.#leavingTimer = setTimeout(() => !this.problem && (this.leaving = null), LEAVING_MS_MAX);
  }

  async #follow(signal: AbortSignal): Promise<void> {
    try {
      await followUpdates((state) => this.#adopt(state), (error) => (this.problem = error), signal);
    } catch (error) {
      if (signal.aborted) return;
      this.problem = error;
      // No longer an administrator, or nobody owns the box any more: the page has to be another.
      if (error instanceof ApiError && error.status === 403) await session.load();
    }
  }

  #adopt(state: Updates): void {
    const before = this.current;
    this.current = state;
    if (this.problem) this.leaving = null;
    this.problem = null;
    // The chat's header names the model.
    if (before && label(before.model.current) !== label(state.model.current)) void session.load();
  }

  #forget(): void {
    clearTimeout(this.#leavingTimer);
    this.current = null;
    this.problem = null;
    this.leaving = null;
  }
}

const label = (version: InstalledVersion | null) => version && `${version.name}/${version.version}`;

export const updates = new UpdatesState();
