/** JSON over the daemon's own origin. Nothing here can address another host: paths start with `/api/`. */

type ApiPath = `/api/${string}`;
type Method = 'GET' | 'POST' | 'PATCH' | 'DELETE';

/** An answer that is not 2xx, or no answer at all (`status` 0, code `offline`). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** Seconds to wait before the next try, where the daemon says so. */
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** What to do when the daemon no longer knows this session. */
let onSignedOut = () => {};

/** Registers the one listener for lost sessions. */
export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

/**
 * One request. A body makes it JSON; a POST or PATCH without one sends `{}`, since the daemon takes
 * state changes only as JSON.
 *
 * @throws ApiError
 */
export async function request<T>(method: Method, path: ApiPath, body?: object, signal?: AbortSignal): Promise<T> {
  const init: RequestInit = { method, credentials: 'same-origin', redirect: 'error', signal: signal ?? null };
  if (method === 'POST' || method === 'PATCH') {
    init.headers = { 'content-type': 'application/json' };
    init.body = JSON.stringify(body ?? {});
  }
  const response = await reach(path, init);
  if (!response.ok) throw await failure(response, path);
  return (response.status === 204 ? undefined : await response.json()) as T;
}

/** `fetch`, with a lost connection as an `ApiError`. An abort stays an abort. */
export async function reach(path: ApiPath, init: RequestInit): Promise<Response> {
  try {
    return await fetch(path, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, 'offline', 'the box does not answer');
  }
}

/** Reads the daemon's error body; copes with bodies from something between here and the daemon. */
export async function failure(response: Response, path: ApiPath): Promise<ApiError> {
  const body = (await response.json().catch(() => null)) as {
    error?: { code?: string; message?: string; retry_after_s?: number };
  } | null;
  if (response.status === 401 && path !== '/api/login') onSignedOut();
  const retry = body?.error?.retry_after_s ?? Number(response.headers.get('retry-after'));
  return new ApiError(
    response.status,
    body?.error?.code ?? `http_${response.status}`,
    body?.error?.message ?? response.statusText,
    retry > 0 ? retry : null,
  );
}
