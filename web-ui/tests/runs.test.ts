import { afterEach, describe, expect, it, vi } from 'vitest';
import { followRun, RunGone, type RunEvent } from '../src/api';

function stream(text: string): Response {
  return new Response(text, { headers: { 'content-type': 'text/event-stream' } });
}

const content = (id: number, text: string) => `id: ${id}\nevent: content\ndata: {"text":"${text}"}\n\n`;
const DONE = 'id: 9\nevent: done\ndata: {"message":{"id":"m"}}\n\n';

afterEach(() => vi.unstubAllGlobals());

function serve(...answers: (Response | Error)[]) {
  const fetched = vi.fn(async (_path: string, _init: RequestInit) => {
    const answer = answers.shift();
    if (answer instanceof Error) throw answer;
    return answer!;
  });
  vi.stubGlobal('fetch', fetched);
  return fetched;
}

const idOf = (init: RequestInit | undefined) => (init?.headers as Record<string, string>)['last-event-id'];

describe('followRun', () => {
  it('resumes after the last event when the connection breaks', async () => {
    const fetched = serve(stream(content(1, 'a') + content(2, 'b')), new TypeError('network'), stream(content(3, 'c') + DONE));
    const events: RunEvent[] = [];
    await followRun('7', (event) => events.push(event), new AbortController().signal);
    expect(events.map((event) => ('text' in event ? event.text : event.type))).toEqual(['a', 'b', 'c', 'done']);
    expect(fetched.mock.calls.map(([, init]) => idOf(init))).toEqual([undefined, '2', '2']);
  });

  it('says so when the run is forgotten', async () => {
    serve(new Response('{}', { status: 404 }));
    await expect(followRun('7', () => {}, new AbortController().signal)).rejects.toBeInstanceOf(RunGone);
  });

  it('gives up on a refusal, and tells its code', async () => {
    serve(new Response('{"error":{"code":"forbidden","message":"no"}}', { status: 403 }));
    await expect(followRun('7', () => {}, new AbortController().signal)).rejects.toMatchObject({ code: 'forbidden' });
  });

  it('ends at once when it is no longer wanted', async () => {
    serve(new TypeError('network'));
    const abort = new AbortController();
    const followed = followRun('7', () => {}, abort.signal);
    abort.abort();
    await expect(followed).rejects.toMatchObject({ name: 'AbortError' });
  });
});
