/** The list of chats in the side bar. */

import { api, type Chat, type SearchHit } from '../api';

const PAGE = 50;

class History {
  chats = $state<Chat[]>([]);
  loaded = $state(false);
  hasMore = $state(false);
  /** Hits of the running search; null when nothing is searched for. */
  hits = $state<SearchHit[] | null>(null);
  #searchNo = 0;

  async load(): Promise<void> {
    const { chats } = await api.chats();
    this.chats = chats;
    this.hasMore = chats.length >= PAGE;
    this.loaded = true;
  }

  async loadOlder(): Promise<void> {
    const { chats } = await api.chats(this.chats.at(-1)?.updated_at);
    const known = new Set(this.chats.map((chat) => chat.id));
    this.chats.push(...chats.filter((chat) => !known.has(chat.id)));
    this.hasMore = chats.length >= PAGE;
  }

  /** Searches titles and messages; an empty query ends the search. Late answers are dropped. */
  async search(query: string): Promise<void> {
    const searchNo = ++this.#searchNo;
    if (!query.trim()) {
      this.hits = null;
      return;
    }
    const { chats } = await api.searchChats(query.trim());
    if (searchNo === this.#searchNo) this.hits = chats;
  }

  /** Puts a new or changed chat at the top. */
  touch(chat: Chat): void {
    const rest = this.chats.filter((other) => other.id !== chat.id);
    this.chats = [{ ...chat, updated_at: Date.now() }, ...rest];
  }

  /** A title that the box chose. */
  retitle(chatId: string, title: string): void {
    const chat = this.chats.find((other) => other.id === chatId);
    if (chat) chat.title = title;
  }

  async rename(chatId: string, title: string): Promise<void> {
    await api.renameChat(chatId, title);
    this.retitle(chatId, title);
    const hit = this.hits?.find((other) => other.id === chatId);
    if (hit) hit.title = title;
  }

  async remove(chatId: string): Promise<void> {
    await api.deleteChat(chatId);
    this.chats = this.chats.filter((chat) => chat.id !== chatId);
    if (this.hits) this.hits = this.hits.filter((hit) => hit.id !== chatId);
  }

  /** Nothing of one person is left for the next. */
  clear(): void {
    this.chats = [];
    this.hits = null;
    this.loaded = false;
    this.hasMore = false;
  }
}

export const history = new History();
