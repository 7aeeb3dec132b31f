/** Follows one run's events across lost connections and page reloads. */

import { ApiError, failure, reach } from './http';
import { SseParser, type ServerEvent } from './sse';
import type { RunEvent } from './types';

/** Waits between reconnects; the last one repeats. */
const RETRY_MS = [250, 500, 1_000, 2_000, 5_000];

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
  let lastId = '';
  for (let failures = 0; ; failures++) {
    try {
      for await (const event of connect(runId, lastId, signal)) {
        failures = 0;
        lastId = event.id || lastId;
        const parsed = toRunEvent(event);
        if (!parsed) continue;
        onEvent(parsed);
        if (parsed.type === 'done' || parsed.type === 'error') return;
      }
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof RunGone) throw error;
      if (error instanceof ApiError && error.status >= 400 && error.status < 500) throw error;
    }
    await sleep(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 1_000, signal);
  }
}

async function* connect(runId: string, lastId: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
  const path = `/api/runs/${encodeURIComponent(runId)}/events` as const;
  const headers: Record<string, string> = { accept: 'text/event-stream' };
  if (lastId) headers['last-event-id'] = lastId;
  const response = await reach(path, { headers, signal, credentials: 'same-origin', cache: 'no-store' });
  if (response.status === 404) throw new RunGone();
  if (!response.ok || !response.body) throw await failure(response, path);
  const parser = new SseParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {});
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

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
