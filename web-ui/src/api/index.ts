/** Every call the page makes, by name. */

import { request } from './http';
import type {
  ApiKey, BoxState, BoxStatus, Chat, ChatWithMessages, Lang, Message, NewApiKey, Role, SearchHit,
  SessionInfo, User, UserRow,
} from './types';
import type { UpdateKind } from './update-types';

export { ApiError, whenSignedOut } from './http';
export { followRun, RunGone } from './runs';
export type * from './types';
export type * from './update-types';
export { followUpdates } from './updates';

const id = encodeURIComponent;

export const api = {
  state: () => request<BoxState>('GET', '/api/state'),
  claim: (code: string, name: string, password: string, lang: Lang) =>
    request<BoxState>('POST', '/api/claim', { code, name, password, lang }),
  /** A new password and the administrator's role, by the code that the console shows while a stick asks for it. */
  recover: (code: string, name: string, password: string) =>
    request<BoxState>('POST', '/api/recover', { code, name, password }),
  login: (name: string, password: string) => request<BoxState>('POST', '/api/login', { name, password }),
  logout: () => request<void>('POST', '/api/logout'),
  updateMe: (change: { lang?: Lang; name?: string; password?: { old: string; new: string } }) =>
    request<User>('PATCH', '/api/me', change),

  /** Newest first; `before` is the `updated_at` of the last one already known. */
  chats: (before?: number) =>
    request<{ chats: Chat[] }>('GET', `/api/chats?limit=50${before ? `&before=${before}` : ''}`),
  searchChats: (query: string) =>
    request<{ chats: SearchHit[] }>('GET', `/api/chats/search?q=${encodeURIComponent(query)}`),
  createChat: () => request<Chat>('POST', '/api/chats'),
  chat: (chatId: string) => request<ChatWithMessages>('GET', `/api/chats/${id(chatId)}`),
  renameChat: (chatId: string, title: string) => request<Chat>('PATCH', `/api/chats/${id(chatId)}`, { title }),
  deleteChat: (chatId: string) => request<void>('DELETE', `/api/chats/${id(chatId)}`),
  exportUrl: (chatId: string, format: 'md' | 'json') => `/api/chats/${id(chatId)}/export?format=${format}`,

  sendMessage: (chatId: string, content: string, parentId: string | null) =>
    request<{ user_message: Message; assistant_message: Message; run_id: string }>(
      'POST', `/api/chats/${id(chatId)}/messages`, { content, parent_id: parentId }),
  regenerate: (chatId: string, messageId: string) =>
    request<{ assistant_message: Message; run_id: string }>(
      'POST', `/api/chats/${id(chatId)}/regenerate`, { message_id: messageId }),
  stopRun: (runId: string) => request<void>('POST', `/api/runs/${id(runId)}/stop`),

  keys: () => request<{ keys: ApiKey[] }>('GET', '/api/keys'),
  createKey: (name: string) => request<NewApiKey>('POST', '/api/keys', { name }),
  revokeKey: (keyId: string) => request<void>('DELETE', `/api/keys/${id(keyId)}`),
  sessions: () => request<{ sessions: SessionInfo[] }>('GET', '/api/sessions'),
  endSession: (sessionId: string) => request<void>('DELETE', `/api/sessions/${id(sessionId)}`),

  users: () => request<{ users: UserRow[] }>('GET', '/api/users'),
  createUser: (name: string, password: string, role: Role) =>
    request<UserRow>('POST', '/api/users', { name, password, role }),
  updateUser: (userId: string, change: { role?: Role; password?: string; disabled?: boolean }) =>
    request<UserRow>('PATCH', `/api/users/${id(userId)}`, change),
  deleteUser: (userId: string) => request<void>('DELETE', `/api/users/${id(userId)}`),
  status: () => request<BoxStatus>('GET', '/api/admin/status'),

  /** `stick` and `bundle` are the ids of what was shown: what was agreed to is what is installed. */
  install: (stick: string, bundle: string, allowOlder: boolean) =>
    request<void>('POST', '/api/admin/updates/install', { stick, bundle, allow_older: allowOlder }),
  stopUpdate: () => request<void>('POST', '/api/admin/updates/stop'),
  rollBack: (kind: UpdateKind) => request<void>('POST', '/api/admin/updates/rollback', { kind }),
  removeVersion: (name: string, version: number) =>
    request<void>('DELETE', `/api/admin/updates/versions/${id(name)}/${version}`),
  restartBox: () => request<void>('POST', '/api/admin/updates/restart'),
  dismissUpdate: () => request<void>('POST', '/api/admin/updates/dismiss'),
  /** Believes the public key in the text of its file. */
  believeKey: (text: string) => request<void>('POST', '/api/admin/updates/keys', { text }),
  /** Fingerprints are shown in groups of four; the path has none of the spaces. */
  removeBelievedKey: (fingerprint: string) =>
    request<void>('DELETE', `/api/admin/updates/keys/${id(fingerprint.replaceAll(' ', ''))}`),
  backUp: (stick: string, passphrase: string) => request<void>('POST', '/api/admin/backup', { stick, passphrase }),
  restore: (stick: string, file: string, passphrase: string) =>
    request<void>('POST', '/api/admin/restore', { stick, file, passphrase }),
  factoryReset: (password: string) => request<void>('POST', '/api/admin/factory-reset', { password }),
};
