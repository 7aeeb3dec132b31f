import { describe, expect, it } from 'vitest';
import { toRunEvent } from '../src/api/runs';
import { SseParser, type ServerEvent } from '../src/api/sse';

const STREAM = [
  ': hello\n\n',
  'id: 1\nevent: queue\ndata: {"ahead":2}\n\n',
  'id: 2\r\nevent: content\r\ndata: {"text":"鲶鱼 🐟"}\r\n\r\n',
  'id: 3\revent: content\rdata: one\rdata: two\r\r',
  'data:no space\ndata:  two spaces\n\n',
  'event: unfinished without data\n\n',
  'retry: 10\nunknown: x\ndata\n\n',
  'id: 4\ndata: last, never ended',
].join('');

const EVENTS: ServerEvent[] = [
  { id: '1', event: 'queue', data: '{"ahead":2}' },
  { id: '2', event: 'content', data: '{"text":"鲶鱼 🐟"}' },
  { id: '3', event: 'content', data: 'one\ntwo' },
  { id: '3', event: 'message', data: 'no space\n two spaces' },
  { id: '3', event: 'message', data: '' },
];

function parse(pieces: Iterable<string>): ServerEvent[] {
  const parser = new SseParser();
  return [...pieces].flatMap((piece) => parser.push(piece));
}

describe('SseParser', () => {
  it('reads a whole stream', () => expect(parse([STREAM])).toEqual(EVENTS));

  it('reads it split at every single place', () => {
    for (let at = 0; at <= STREAM.length; at++) {
      expect(parse([STREAM.slice(0, at), STREAM.slice(at)]), `split at ${at}`).toEqual(EVENTS);
    }
  });

  it('reads it one character at a time', () => expect(parse(STREAM.split(''))).toEqual(EVENTS));

  it('reads bytes split inside a character, behind a TextDecoder', () => {
    const bytes = new TextEncoder().encode(STREAM);
    const decoder = new TextDecoder();
    const pieces = Array.from(bytes, (_, n) => decoder.decode(bytes.subarray(n, n + 1), { stream: true }));
    expect(parse(pieces)).toEqual(EVENTS);
  });

  it('refuses a line without end', () => {
    const parser = new SseParser();
    const piece = 'x'.repeat(1024 * 1024);
    expect(() => { for (let n = 0; n < 20; n++) parser.push(piece); }).toThrow(RangeError);
  });
});

describe('toRunEvent', () => {
  it('skips what this page does not know', () => {
    expect(toRunEvent({ id: '1', event: 'weather', data: '{}' })).toBeNull();
    expect(toRunEvent({ id: '1', event: 'content', data: '{"text":' })).toBeNull();
  });

  it('is named by the event field alone', () => {
    expect(toRunEvent({ id: '1', event: 'queue', data: '{"ahead":1}' })).toEqual({ type: 'queue', ahead: 1 });
  });
});
