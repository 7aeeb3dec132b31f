// axe-core over what is on the screen, WCAG 2.2 AA.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';

const axeSource = readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

export async function checkAxe(page, place) {
  // Through the debugger, which the page's policy does not bind.
  await page.evaluate(await axeSource);
  const found = await page.evaluate(async () => {
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { violations } = await window.axe.run({ runOnly: tags });
    return violations.map((v) => `${v.id}: ${v.nodes.map((node) => `${node.html} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
  });
  assert.deepEqual(found, [], place);
}
