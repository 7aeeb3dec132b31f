/** A connection to an event stream of the daemon, and the waits between two of them. */

import { failure, reach } from './http';
import { SseParser, type ServerEvent } from './sse';

type StreamPath = `/api/${string}`;

/** Waits between reconnects; the last one repeats. */
const RETRY_MS = [250, 500, 1_000, 2_000, 5_000];

/**
 * One connection's events until it ends. `onBytes` hears of every piece, also of the comments that keep it open.
 *
 * @throws ApiError, or an AbortError after `signal`
 */
export async function* readEvents(
  path: StreamPath,
  signal: AbortSignal,
  { lastId = '', onBytes = () => {} }: { lastId?: string; onBytes?: () => void } = {},
): AsyncGenerator<ServerEvent> {
  const headers: Record<string, string> = { accept: 'text/event-stream' };
  if (lastId) headers['last-event-id'] = lastId;
  const response = await reach(path, { headers, signal, credentials: 'same-origin', cache: 'no-store' });
  if (!response.ok || !response.body) throw await failure(response, path);
  const parser = new SseParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      onBytes();
      yield* parser.push(value);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Waits before the next try, the longer the more have failed; ends at once, with its reason, after `signal`. */
export function waitToRetry(failures: number, signal: AbortSignal): Promise<void> {
  const ms = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
}
