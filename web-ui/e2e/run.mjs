// Drives a real browser through the page. `node e2e/run.mjs daemon|mock|card|sticks`; pictures go to test-results/.

import { openBrowser } from './browser.mjs';
import { answerSteps } from './steps/answers.mjs';
import { boxSteps } from './steps/box.mjs';
import { cardSteps } from './steps/card.mjs';
import { entrySteps } from './steps/entry.mjs';
import { historySteps } from './steps/history.mjs';
import { looksSteps } from './steps/looks.mjs';
import { mockSteps } from './steps/mock.mjs';
import { partsOf } from './steps/parts.mjs';
import { recoverySteps } from './steps/recovery.mjs';
import { stickSteps } from './steps/sticks.mjs';
import { updateSteps } from './steps/updates.mjs';
import { startTarget } from './targets.mjs';

const kind = ['mock', 'card', 'sticks'].includes(process.argv[2]) ? process.argv[2] : 'daemon';
const target = await startTarget(kind);
const browser = await openBrowser(target.url);

async function runStep(name, step) {
  const from = performance.now();
  try {
    await step();
    console.log(`ok    ${name} (${Math.round(performance.now() - from)} ms)`);
  } catch (error) {
    await browser.screenshot(`failed-${kind}`).catch(() => {});
    console.error(`FAIL  ${name}\n${error.stack}\n${browser.seen.errors.join('\n')}`);
    throw error;
  }
}

let failed = false;
try {
  // Each step leaves the page where the next begins. None but the mock's expects particular words of the model.
  const whole = [entrySteps, answerSteps, historySteps, looksSteps];
  const groups = { daemon: whole, mock: [...whole, mockSteps, updateSteps, boxSteps, recoverySteps], card: [entrySteps, cardSteps], sticks: [entrySteps, stickSteps] }[kind];
  const parts = partsOf(browser.page);
  for (const [name, step] of groups.flatMap((steps) => steps(target, browser, parts))) await runStep(name, step);
  await runStep(`no request left the box (${browser.seen.requests.length} logged)`, () => expectNothing(browser.foreign()));
  await runStep('the content security policy was never violated', () => expectNothing(browser.seen.violations));
  await runStep('no script failed', () => expectNothing(browser.seen.errors));
} catch {
  failed = true;
} finally {
  await browser.close();
  await target.close();
}
process.exit(failed ? 1 : 0);

function expectNothing(found) {
  if (found.length > 0) throw new Error(`found ${found.length}:\n${found.join('\n')}`);
}
