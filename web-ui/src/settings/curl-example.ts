/** A command that a reader can paste into a terminal to see the key work. */
export function curlExample(origin: string, key: string): string {
  return [
    `curl ${origin}/v1/chat/completions \\`,
    `  -H "Authorization: Bearer ${key}" \\`,
    '  -H "Content-Type: application/json" \\',
    `  -d '{"messages":[{"role":"user","content":"Hello"}]}'`,
  ].join('\n');
}
