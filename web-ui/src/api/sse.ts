/** Server-sent events from text that arrives in arbitrary pieces (WHATWG HTML, section 9.2.6). */

export interface ServerEvent {
  /** The last id seen, this event's or an earlier one's; empty before the first. */
  id: string;
  event: string;
  data: string;
}

/** Longest line kept; the daemon's longest is one message. Beyond it the stream is not ours. */
const LINE_CHARS_MAX = 16 * 1024 * 1024;

/**
 * Feed it text, get the events completed by it. Lines end in LF, CR or CRLF, also when a CRLF is
 * split between two pieces. Comments are dropped; an unfinished event at the end is never given out.
 */
export class SseParser {
  #buffer = '';
  #id = '';
  #event = '';
  #data: string[] = [];
  #afterCr = false;

  push(text: string): ServerEvent[] {
    const events: ServerEvent[] = [];
    this.#buffer += text;
    let start = 0;
    for (;;) {
      if (this.#afterCr && start < this.#buffer.length) {
        if (this.#buffer[start] === '\n') start++;
        this.#afterCr = false;
      }
      const end = this.#buffer.slice(start).search(/[\r\n]/);
      if (end < 0) break;
      this.#afterCr = this.#buffer[start + end] === '\r';
      this.#line(this.#buffer.slice(start, start + end), events);
      start += end + 1;
    }
    this.#buffer = this.#buffer.slice(start);
    if (this.#buffer.length > LINE_CHARS_MAX) throw new RangeError('event stream line too long');
    return events;
  }

  #line(line: string, out: ServerEvent[]): void {
    if (line === '') return this.#dispatch(out);
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#event = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
  }

  #dispatch(out: ServerEvent[]): void {
    if (this.#data.length > 0) {
      out.push({ id: this.#id, event: this.#event || 'message', data: this.#data.join('\n') });
    }
    this.#event = '';
    this.#data = [];
  }
}
