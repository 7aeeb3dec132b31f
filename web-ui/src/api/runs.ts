/** Follows one run's events across lost connections and page reloads. */

import { ApiError } from './http';
import type { ServerEvent } from './sse';
import { readEvents, waitToRetry } from './stream';
import type { RunEvent } from './types';

/** The daemon has forgotten the run (it keeps a finished one for a minute): reload the chat instead. */
export class RunGone extends Error {}

/**
 * Calls `onEvent` for each event until `done` or `error` arrives. The first connection replays the run
 * from its beginning; later ones resume after the last id seen.
 *
 * @throws RunGone, ApiError (refused for good), or an AbortError after `signal`
 */
export async function followRun(
  runId: string,
  onEvent: (event: RunEvent) => void,
  signal: AbortSignal,
): Promise<void> {
  const path = `/api/runs/${encodeURIComponent(runId)}/events` as const;
  let lastId = '';
  for (let failures = 0; ; failures++) {
    try {
      for await (const event of readEvents(path, signal, { lastId })) {
        failures = 0;
        lastId = event.id || lastId;
        const parsed = toRunEvent(event);
        if (!parsed) continue;
        onEvent(parsed);
        if (parsed.type === 'done' || parsed.type === 'error') return;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ApiError && error.status === 404) throw new RunGone();
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
    }
    await waitToRetry(failures, signal);
  }
}

const KNOWN = new Set(['queue', 'prefill', 'reasoning', 'content', 'thought_end', 'title', 'done', 'error']);

/** Unknown events and broken JSON are skipped: a newer daemon may say more than this page knows. */
export function toRunEvent(event: ServerEvent): RunEvent | null {
  if (!KNOWN.has(event.event)) return null;
  try {
    return { type: event.event, ...JSON.parse(event.data) } as RunEvent;
  } catch {
    return null;
  }
}
