/** The one thing about updates that an administrator should see beside the chats. */

import type { Updates, UpdateAction } from '../api';
import { isUnderWay } from './updates.svelte';

export type News =
  | { kind: 'running'; action: UpdateAction; title: string; share: number | null }
  | { kind: 'failed' | 'done' | 'restart' }
  | { kind: 'stick'; title: string };

/** What is under way, then how it ended, then what could be done. */
export function newsOf(updates: Updates | null): News | null {
  if (!updates) return null;
  const { progress, restart_wanted, stick } = updates;
  if (progress && isUnderWay(progress)) {
    const { action, title, step, bytes_done, bytes_total } = progress;
    const share = step === 'copy' && bytes_total > 0 ? bytes_done / bytes_total : null;
    return { kind: 'running', action, title, share };
  }
  if (progress?.error) return { kind: 'failed' };
  if (restart_wanted) return { kind: 'restart' };
  if (progress) return { kind: 'done' };
  const preview = stick?.content.state === 'bundle' ? stick.content.preview : null;
  const isNew = preview?.verdict === 'install' || preview?.verdict === 'staged';
  return preview && isNew ? { kind: 'stick', title: preview.title } : null;
}
