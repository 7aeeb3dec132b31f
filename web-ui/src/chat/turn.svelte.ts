/** One message as the page holds it: every field that an answer changes while it runs is reactive. */

import type { Message, MessageStatus, Receipt, RunEvent } from '../api';
import type { Node } from './tree';

/** What a running answer is doing, before and while there is text. */
export type Phase =
  | { name: 'waiting' }
  | { name: 'queued'; ahead: number }
  | { name: 'reading'; share: number }
  | { name: 'thinking' }
  | { name: 'answering' };

export class Turn implements Node {
  readonly id: string;
  readonly parentId: string | null;
  readonly role: 'user' | 'assistant';
  readonly createdAt: number;
  content = $state('');
  reasoning = $state<string | null>(null);
  reasoningMs = $state<number | null>(null);
  status = $state<MessageStatus>('done');
  error = $state<string | null>(null);
  receipt = $state.raw<Receipt | null>(null);
  phase = $state.raw<Phase>({ name: 'waiting' });
  /** When the thought began, on this browser's clock. */
  thoughtFrom = $state<number | null>(null);

  constructor(message: Message) {
    this.id = message.id;
    this.parentId = message.parent_id;
    this.role = message.role;
    this.createdAt = message.created_at;
    this.settle(message);
  }

  get running(): boolean {
    return this.status === 'running';
  }

  /** Takes over the stored message: the last word on everything. */
  settle(message: Message): void {
    this.content = message.content;
    this.reasoning = message.reasoning;
    this.reasoningMs = message.reasoning_ms;
    this.status = message.status;
    this.error = message.error;
    this.receipt = message.receipt;
  }

  /** Back to empty: the run's events are about to be replayed from the first. */
  rewind(): void {
    this.content = '';
    this.reasoning = null;
    this.reasoningMs = null;
    this.thoughtFrom = null;
    this.phase = { name: 'waiting' };
  }

  /** Applies one event of this message's run. */
  apply(event: RunEvent, now: number = Date.now()): void {
    switch (event.type) {
      case 'queue':
        this.phase = { name: 'queued', ahead: event.ahead };
        break;
      case 'prefill':
        this.phase = { name: 'reading', share: event.total > 0 ? event.done / event.total : 0 };
        break;
      case 'reasoning':
        this.thoughtFrom ??= now - (event.ms ?? 0);
        this.reasoning = (this.reasoning ?? '') + event.text;
        if (this.phase.name !== 'thinking') this.phase = { name: 'thinking' };
        break;
      case 'thought_end':
        this.reasoningMs = event.reasoning_ms;
        this.phase = { name: 'answering' };
        break;
      case 'content':
        this.content += event.text;
        if (this.phase.name !== 'answering') this.phase = { name: 'answering' };
        break;
      case 'done':
        this.settle(event.message);
        break;
      case 'error':
        this.status = 'error';
        this.error = event.message;
        break;
      case 'title':
        break;
    }
  }
}
