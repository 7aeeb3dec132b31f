/** What the daemon's `/api` speaks. Times are unix milliseconds, ids are strings. */

export type Lang = 'en' | 'zh-CN';
export type Role = 'admin' | 'user';

export interface User {
  id: string;
  name: string;
  role: Role;
  lang: Lang | null;
}

export interface ModelInfo {
  id: string;
  name: string;
  /** Tokens the model can hold at once. */
  context: number;
  bytes: number;
  format: string;
  source: string;
}

/** `GET /api/state`: enough to decide which page to show. */
export interface BoxState {
  claimed: boolean;
  user: User | null;
  box: { name: string; version: string };
  model: ModelInfo | null;
  /** The console shows a code for whoever has lost the password. */
  recovering: boolean;
}

export interface Chat {
  id: string;
  title: string;
  created_at: number;
  updated_at: number;
}

export interface SearchHit {
  id: string;
  title: string;
  updated_at: number;
  snippet: string;
}

/** What an answer cost; shown under it. */
export interface Receipt {
  model: string;
  n_prompt: number;
  n_cached: number;
  n_generated: number;
  queue_ms: number;
  prefill_ms: number;
  decode_ms: number;
  tok_s: number;
  seed: number;
  /** What a lossy mode left out, as a share of the experts by weight; absent where everything was computed. */
  lost?: number;
  /** The graphics card was lost meanwhile, and the processor went on. */
  card_lost?: boolean;
}

export type MessageStatus = 'done' | 'running' | 'stopped' | 'error' | 'length';

export interface Message {
  id: string;
  parent_id: string | null;
  role: 'user' | 'assistant';
  content: string;
  reasoning: string | null;
  reasoning_ms: number | null;
  status: MessageStatus;
  error: string | null;
  created_at: number;
  receipt: Receipt | null;
}

export interface ChatWithMessages {
  chat: Chat;
  messages: Message[];
  active_run: string | null;
}

/** News of one run, in order; see `runs.ts` for how they arrive. */
export type RunEvent =
  | { type: 'queue'; ahead: number }
  | { type: 'prefill'; done: number; total: number }
  | { type: 'reasoning'; text: string; ms?: number }
  | { type: 'content'; text: string }
  | { type: 'thought_end'; reasoning_ms: number }
  | { type: 'title'; title: string }
  | { type: 'done'; message: Message }
  | { type: 'error'; code: string; message: string };

export interface ApiKey {
  id: string;
  name: string;
  prefix: string;
  created_at: number;
  last_used_at: number | null;
}

/** A key right after its creation: the only time the secret is known to the page. */
export interface NewApiKey extends Omit<ApiKey, 'last_used_at'> {
  key: string;
}

export interface SessionInfo {
  id: string;
  created_at: number;
  last_seen_at: number;
  current: boolean;
  agent: string;
}

export interface UserRow {
  id: string;
  name: string;
  role: Role;
  disabled: boolean;
  created_at: number;
  last_seen_at: number | null;
}

export interface BoxStatus {
  uptime_s: number;
  engine: { running: number; waiting: number; kv_used: number; kv_total: number; tok_s: number };
  memory: { total_bytes?: number; used_bytes?: number; rss_bytes?: number };
  /** Experts read from the drive since the start; null where the model is in memory. */
  streaming: {
    hits: number;
    misses: number;
    read_bytes_s: number;
    stalled_share: number;
    in_flight: number;
    memory_bytes: number;
    failures: number;
  } | null;
  /** What the admin should know about where answers are computed. */
  notice: string | null;
  requests_total: number;
  outbound_connections: number;
}
