/** What a failure says to people. */

import { ApiError, type Failure } from '../../api';
import { words } from '../../i18n/updates/index.svelte';
import { notice } from '../../state/announcer.svelte';
import { explain } from '../../state/errors';

/** Eight groups of four digits, as the daemon writes them. */
const FINGERPRINT = /\b(?:[0-9a-f]{4} ){7}[0-9a-f]{4}\b/;

/** The stranger's key that a refusal names. */
export function fingerprintIn({ code, message }: Failure): string | null {
  return code === 'unknown_key' ? (FINGERPRINT.exec(message)?.[0] ?? null) : null;
}

/** A sentence for anything that a wish was answered with. */
export function explainWish(error: unknown, of: 'bundles' | 'backups' = 'bundles'): string {
  return (error instanceof ApiError ? words.failure(error.code, of) : null) ?? explain(error);
}

/** Sends a wish; says whether it was taken up, and tells everyone where it was not. */
export async function wish(sent: Promise<void>): Promise<boolean> {
  try {
    await sent;
    return true;
  } catch (error) {
    notice.show(explainWish(error));
    return false;
  }
}
