/** Follows what serves, what is on the stick and what is under way. */

import { ApiError, request } from './http';
import { readEvents, waitToRetry } from './stream';
import type { Updates } from './update-types';

const PATH = '/api/admin/updates';
/** The daemon speaks at once; whatever holds an event stream back on the way must not hide the state. */
const FIRST_MS_MAX = 5_000;
/** It sends a comment every 10 s. A box that lost its power says nothing at all, not even that it is gone. */
const SILENCE_MS_MAX = 30_000;
const ANSWER_MS_MAX = 10_000;

/**
 * Calls `onState` with the whole state, at once and on every change, across lost connections. Where the stream
 * brings nothing the state is asked for; `onLost` hears when that fails, too.
 *
 * @throws ApiError (refused for good), or an AbortError after `signal`
 */
export async function followUpdates(
  onState: (state: Updates) => void,
  onLost: (error: unknown) => void,
  signal: AbortSignal,
): Promise<never> {
  for (let failures = 0; ; failures++) {
    try {
      await stream((state) => {
        failures = 0;
        onState(state);
      }, signal);
    } catch (error) {
      rethrowFinal(error, signal);
    }
    try {
      onState(await within(ANSWER_MS_MAX, signal, ({ signal }) => request<Updates>('GET', PATH, undefined, signal)));
    } catch (error) {
      rethrowFinal(error, signal);
      onLost(error);
    }
    await waitToRetry(failures, signal);
  }
}

/** One connection, until it ends or falls silent. */
function stream(onState: (state: Updates) => void, signal: AbortSignal): Promise<void> {
  return within(FIRST_MS_MAX, signal, async (deadline) => {
    const onBytes = () => deadline.extend(SILENCE_MS_MAX);
    for await (const { data } of readEvents(`${PATH}/events`, deadline.signal, { onBytes })) {
      onState(JSON.parse(data) as Updates);
    }
  });
}

function rethrowFinal(error: unknown, signal: AbortSignal): void {
  signal.throwIfAborted();
  if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
}

interface Deadline {
  signal: AbortSignal;
  extend: (ms: number) => void;
}

/** Runs `work` with a signal that also ends after `ms`, unless that is put off. */
async function within<T>(ms: number, outer: AbortSignal, work: (deadline: Deadline) => Promise<T>): Promise<T> {
  outer.throwIfAborted();
  const inner = new AbortController();
  const end = () => inner.abort();
  outer.addEventListener('abort', end);
  let timer = setTimeout(end, ms);
  const extend = (more: number) => {
    clearTimeout(timer);
    timer = setTimeout(end, more);
  };
  try {
    return await work({ signal: inner.signal, extend });
  } finally {
    clearTimeout(timer);
    outer.removeEventListener('abort', end);
  }
}
