import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError, followUpdates, type Updates } from '../src/api';

type Answer = Response | Error | 'never';
const state = (system_version: string) => ({ system_version }) as Updates;
const event = (version: string) => `data: ${JSON.stringify(state(version))}\n\n`;
const json = (version: string) => new Response(JSON.stringify(state(version)));

/** A stream whose pieces come at given milliseconds; it stays open after the last. */
function open(...pieces: [number, string][]): Response {
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    start: (controller) => pieces.forEach(([ms, text]) => setTimeout(() => controller.enqueue(encoder.encode(text)), ms)),
  });
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
}

/** Answers to the stream and to plain requests, in their order; the last one repeats. */
function serve(streams: Answer[], asked: Answer[]) {
  const calls: string[] = [];
  vi.stubGlobal('fetch', vi.fn((path: string, { signal }: RequestInit) => {
    calls.push(path.endsWith('/events') ? 'stream' : 'ask');
    const answers = path.endsWith('/events') ? streams : asked;
    const answer = answers.length > 1 ? answers.shift()! : answers[0]!;
    return new Promise<Response>((resolve, reject) => {
      signal?.addEventListener('abort', () => reject(signal.reason));
      if (answer instanceof Error) reject(answer);
      else if (answer !== 'never') resolve(cut(answer, signal!));
    });
  }));
  return calls;
}

/** A response that breaks when its request is aborted, as the browser's does. */
function cut(response: Response, signal: AbortSignal): Response {
  if (!response.headers.get('content-type')?.includes('event-stream')) return response;
  const reader = response.body!.getReader();
  const body = new ReadableStream({
    start: (controller) => signal.addEventListener('abort', () => controller.error(signal.reason)),
    pull: async (controller) => {
      const { done, value } = await reader.read();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
  return new Response(body, { headers: response.headers });
}

function follow() {
  const heard: string[] = [];
  const abort = new AbortController();
  const onState = (news: Updates) => heard.push(news.system_version);
  const end = followUpdates(onState, () => heard.push('lost'), abort.signal).catch((error: unknown) => error);
  return { heard, abort, end };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe('followUpdates', () => {
  it('gives out each state as it comes', async () => {
    serve([open([0, event('1')], [900, event('2')])], ['never']);
    const { heard } = follow();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(heard).toEqual(['1', '2']);
  });

  it('asks where the stream breaks, then follows again', async () => {
    const calls = serve([new TypeError('network'), open([0, event('2')])], [json('1')]);
    const { heard } = follow();
    await vi.advanceTimersByTimeAsync(500);
    expect(calls).toEqual(['stream', 'ask', 'stream']);
    expect(heard).toEqual(['1', '2']);
  });

  it('asks where something on the way holds the stream back', async () => {
    serve([open()], [json('1')]);
    const { heard } = follow();
    await vi.advanceTimersByTimeAsync(5_100);
    expect(heard).toEqual(['1']);
  });

  it('keeps a quiet stream as long as comments come', async () => {
    const comments = [1, 2, 3, 4, 5].map((n): [number, string] => [n * 10_000, ': still here\n\n']);
    const calls = serve([open([0, event('1')], ...comments)], [json('asked')]);
    follow();
    await vi.advanceTimersByTimeAsync(55_000);
    expect(calls).toEqual(['stream']);
  });

  it('notices a box that fell silent, and says so until it is back', async () => {
    const calls = serve([open([0, event('1')]), 'never'], ['never', json('2')]);
    const { heard } = follow();
    await vi.advanceTimersByTimeAsync(30_000);
    expect(calls).toEqual(['stream', 'ask']);
    await vi.advanceTimersByTimeAsync(10_300);
    expect(heard).toEqual(['1', 'lost']);
    await vi.advanceTimersByTimeAsync(6_000);
    expect(heard).toEqual(['1', 'lost', '2']);
  });

  it('gives up on a refusal', async () => {
    serve([new Response('{"error":{"code":"forbidden"}}', { status: 403 })], ['never']);
    const error = await follow().end;
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ code: 'forbidden' });
  });

  it('ends when it is no longer wanted', async () => {
    serve([open([0, event('1')])], ['never']);
    const { abort, end } = follow();
    await vi.advanceTimersByTimeAsync(100);
    abort.abort();
    expect(await end).toMatchObject({ name: 'AbortError' });
  });
});
