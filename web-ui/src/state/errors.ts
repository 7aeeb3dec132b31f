/** The daemon's error codes in the reader's words. */

import { ApiError } from '../api';
import { locale } from '../i18n/index.svelte';

/** A sentence to show for anything that was thrown. */
export function explain(error: unknown): string {
  const t = locale.t;
  if (!(error instanceof ApiError)) return t.errorUnknown(error instanceof Error ? error.message : String(error));
  switch (error.code) {
    case 'offline': return t.errorOffline;
    case 'bad_code': return t.errorBadCode;
    case 'already_claimed': return t.errorAlreadyClaimed;
    case 'bad_credentials': return t.errorBadCredentials;
    case 'throttled': return t.errorThrottled(locale.duration((error.retryAfterS ?? 5) * 1_000));
    case 'no_model': return t.errorNoModel;
    case 'queue_full': return t.errorQueueFull;
    case 'run_active': return t.errorRunActive;
    case 'context_length_exceeded': return t.errorTooLong;
    case 'name_taken': return t.errorNameTaken;
    case 'weak_password': return t.errorWeakPassword;
    case 'last_admin': return t.errorLastAdmin;
    case 'forbidden': return t.errorForbidden;
    case 'not_found': return t.notFound;
    default: return t.errorUnknown(error.message);
  }
}
