/** What the text of a key's file is, as far as that can be told before the box looks at it. */

/** The daemon takes no more. */
const CHARS_MAX = 16 * 1024;

export type KeyText =
  | { kind: 'empty' | 'none' | 'long' | 'secret' }
  | { kind: 'public'; role: 'root' | 'release'; name: string };

export function readKeyText(text: string): KeyText {
  if (!text.trim()) return { kind: 'empty' };
  if (text.length > CHARS_MAX) return { kind: 'long' };
  const { role, name, public_key, secret_key } = parse(text);
  if (secret_key !== undefined) return { kind: 'secret' };
  const isKey = typeof name === 'string' && typeof public_key === 'string';
  return isKey && (role === 'root' || role === 'release') ? { kind: 'public', role, name } : { kind: 'none' };
}

function parse(text: string): Record<string, unknown> {
  try {
    return Object(JSON.parse(text)) as Record<string, unknown>;
  } catch {
    return {};
  }
}
