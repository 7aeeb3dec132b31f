/** One open chat: its tree of turns, the path shown, and the run that is writing into it. */

import { SvelteMap } from 'svelte/reactivity';
import { api, followRun, RunGone, type Chat, type ChatWithMessages, type Message, type RunEvent } from '../api';
import { locale } from '../i18n/index.svelte';
import { announcer, notice } from '../state/announcer.svelte';
import { explain } from '../state/errors';
import { history } from '../state/history.svelte';
import { children, newest, newestLeaf, pathTo } from './tree';
import { Turn } from './turn.svelte';

/** Characters of the first message that stand in for a title until the box has chosen one. */
const TITLE_CHARS = 120;

interface Run {
  id: string;
  turn: Turn;
  abort: AbortController;
}

export class Conversation {
  chat = $state<Chat | null>(null);
  readonly #turns = new SvelteMap<string, Turn>();
  #leafId = $state<string | null>(null);
  #run = $state.raw<Run | null>(null);
  readonly path: Turn[] = $derived(pathTo(this.#turns, this.#leafId));

  readonly #onCreated: (chatId: string) => void;

  /**
   * Without a chat this is a new one: its first message creates it, and `onCreated` hears its id, so
   * that the address can follow.
   */
  constructor(onCreated: (chatId: string) => void, opened?: ChatWithMessages) {
    this.#onCreated = onCreated;
    if (opened) this.#adopt(opened);
  }

  get running(): boolean {
    return this.#run !== null;
  }

  /** Versions of the same turn, oldest first. */
  versions(turn: Turn): Turn[] {
    return children(this.#turns, turn.parentId);
  }

  /** Shows another version of a turn, down to its newest leaf. */
  show(turn: Turn): void {
    this.#leafId = newestLeaf(this.#turns, turn.id);
  }

  /** Continues the path shown. Throws what the API throws: the composer keeps the text then. */
  async send(content: string): Promise<void> {
    await this.#ask(content, this.path.at(-1)?.id ?? null);
  }

  /** Asks differently: a sibling of `turn` with new words. */
  async edit(turn: Turn, content: string): Promise<void> {
    await this.#ask(content, turn.parentId);
  }

  /** Answers again: a sibling of `turn`. */
  async regenerate(turn: Turn): Promise<void> {
    if (this.#run || !this.chat) return;
    try {
      const { assistant_message, run_id } = await api.regenerate(this.chat.id, turn.id);
      this.#follow(run_id, this.#add(assistant_message));
      history.touch(this.chat);
    } catch (error) {
      notice.show(explain(error));
    }
  }

  async stop(): Promise<void> {
    if (this.#run) await api.stopRun(this.#run.id).catch((error) => notice.show(explain(error)));
  }

  /** Stops listening; the run itself goes on in the box. */
  close(): void {
    this.#run?.abort.abort();
    this.#run = null;
  }

  async #ask(content: string, parentId: string | null): Promise<void> {
    if (this.#run) return;
    const isNew = this.chat === null;
    const chat = this.chat ?? (await api.createChat());
    const { user_message, assistant_message, run_id } = await api.sendMessage(chat.id, content, parentId);
    this.chat = { ...chat, title: chat.title || content.trim().split('\n')[0]!.slice(0, TITLE_CHARS) };
    this.#add(user_message);
    this.#follow(run_id, this.#add(assistant_message));
    history.touch(this.chat);
    if (isNew) this.#onCreated(this.chat.id);
  }

  #adopt({ chat, messages, active_run }: ChatWithMessages, goneRun: string | null = null): void {
    this.chat = chat;
    this.#turns.clear();
    for (const message of messages) this.#turns.set(message.id, new Turn(message));
    this.#leafId = newest(this.#turns);
    const running = [...this.#turns.values()].find((turn) => turn.running);
    if (active_run && active_run !== goneRun && running) this.#follow(active_run, running);
  }

  #add(message: Message): Turn {
    const turn = new Turn(message);
    this.#turns.set(turn.id, turn);
    this.#leafId = turn.id;
    return turn;
  }

  async #follow(runId: string, turn: Turn): Promise<void> {
    const abort = new AbortController();
    this.#run = { id: runId, turn, abort };
    turn.rewind();
    try {
      await followRun(runId, (event) => this.#apply(turn, event), abort.signal);
    } catch (error) {
      if (abort.signal.aborted) return;
      if (error instanceof RunGone) return this.#reload(runId);
      turn.status = 'error';
      turn.error = explain(error);
    }
    if (this.#run?.turn === turn) this.#run = null;
  }

  #apply(turn: Turn, event: RunEvent): void {
    const before = turn.phase.name;
    turn.apply(event);
    if (event.type === 'title' && this.chat) {
      this.chat.title = event.title;
      history.retitle(this.chat.id, event.title);
    }
    const t = locale.t;
    if (turn.status === 'stopped') announcer.say(t.sayStopped);
    else if (turn.status === 'error') announcer.say(t.answerFailed);
    else if (event.type === 'done') announcer.say(t.sayDone);
    else if (turn.phase.name !== before && turn.phase.name === 'thinking') announcer.say(t.sayThinking);
    else if (turn.phase.name !== before && turn.phase.name === 'answering') announcer.say(t.sayAnswering);
  }

  /** The run's events are gone: what the box stored is the truth. */
  async #reload(goneRun: string): Promise<void> {
    this.#run = null;
    if (!this.chat) return;
    try {
      this.#adopt(await api.chat(this.chat.id), goneRun);
    } catch (error) {
      notice.show(explain(error));
    }
  }
}
