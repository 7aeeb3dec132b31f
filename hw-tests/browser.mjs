// A real browser claims the box and gets an answer: node browser.mjs URL CODE. With the steps and tools of the page's own tests.

import assert from 'node:assert/strict';
import { openBrowser } from '../web-ui/e2e/browser.mjs';
import { entrySteps } from '../web-ui/e2e/steps/entry.mjs';
import { partsOf } from '../web-ui/e2e/steps/parts.mjs';

/** A virtual box computes every instruction in software. */
const STEP_MS_MAX = 240_000;
const ANSWER_MS_MAX = 600_000;

const [url, claimCode] = process.argv.slice(2);
const browser = await openBrowser(url);
browser.page.context().setDefaultTimeout(STEP_MS_MAX);
browser.page.context().setDefaultNavigationTimeout(STEP_MS_MAX);
const parts = partsOf(browser.page);
const steps = [
  ...entrySteps({ url, claimCode }, browser, parts),
  ['a question is answered', async () => {
    await parts.ask('What is the capital of France? Answer with one word.');
    await browser.page.waitForURL(/\/c\/[^/]+$/);
    await parts.answers.last().locator('.prose').filter({ hasText: /\w/ }).waitFor({ timeout: ANSWER_MS_MAX });
    await parts.stopButton.waitFor({ state: 'detached', timeout: ANSWER_MS_MAX });
    console.log(`it says: ${(await parts.answers.last().locator('.prose').innerText()).slice(0, 60)}`);
    await browser.screenshot('box-answer');
  }],
  ['no request left the box', async () => assert.deepEqual(browser.foreign(), [])],
  ['no script failed, and the policy held', async () => assert.deepEqual([...browser.seen.errors, ...browser.seen.violations], [])],
];
let failed = false;
try {
  for (const [name, step] of steps) {
    const from = performance.now();
    await step();
    console.log(`ok    ${name} (${Math.round(performance.now() - from)} ms)`);
  }
} catch (error) {
  failed = true;
  await browser.screenshot('failed-box').catch(() => {});
  console.error(`${error.stack}\n${browser.seen.errors.join('\n')}`);
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
