// Asking: answers stream, stop, branch, and survive a reload.

import assert from 'node:assert/strict';
import { ANSWER_MS_MAX, QUESTION } from './parts.mjs';

export const answerSteps = ({ thinks }, { page, screenshot }, { answers, composer, stopButton, idle, ask }) => [
  ['an answer streams in several updates', async () => {
    await ask(QUESTION);
    await page.waitForURL(/\/c\/[^/]+$/);
    if (thinks) {
      await page.getByRole('button', { name: /^Thinking/ }).waitFor();
      await screenshot('thinking-light');
    }
    await page.locator('.prose.live').waitFor({ timeout: ANSWER_MS_MAX });
    const lengths = await page.locator('.prose.live').evaluate(countUpdates);
    assert.ok(lengths >= 4, `the answer grew in ${lengths} steps only`);
    await idle();
    await page.getByText(/tokens\/s/).waitFor();
    await screenshot('answer-light');
  }],
  ['copy works on plain HTTP', async () => {
    await page.evaluate(() => Object.defineProperty(window, 'isSecureContext', { value: false }));
    await page.evaluate(() => document.addEventListener('copy', () => (window.copiedText = document.activeElement?.value), true));
    await answers.last().getByRole('button', { name: 'Copy', exact: true }).last().click();
    assert.ok((await page.evaluate(() => window.copiedText))?.length > 0, 'nothing was copied');
  }],
  ['regenerating makes a second version, and both can be shown', async () => {
    await answers.last().getByRole('button', { name: 'Answer again' }).click();
    await stopButton.waitFor();
    await idle();
    await page.getByText('2/2', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Previous version' }).click();
    await page.getByText('1/2', { exact: true }).waitFor();
    await page.getByRole('button', { name: 'Next version' }).click();
  }],
  ['stop ends the answer and keeps its words', async () => {
    await untilLongEnough(async () => {
      await ask('Write a very long story about a river, in at least eighty parts.');
      await page.locator('.prose.live').waitFor({ timeout: ANSWER_MS_MAX });
      await page.waitForTimeout(300);
      await page.keyboard.press('Escape');
      await idle();
      return appears(answers.last().getByText('Stopped.'));
    });
    assert.ok((await answers.last().locator('.prose').innerText()).length > 0);
  }],
  ['editing a question makes a branch', async () => {
    const questions = page.getByRole('article', { name: 'You' });
    await questions.last().hover();
    await questions.last().getByRole('button', { name: 'Edit' }).click();
    await page.getByRole('textbox', { name: 'Edit your message' }).fill('Write one sentence about a river.');
    await page.getByRole('button', { name: 'Send as new branch' }).click();
    await stopButton.waitFor({ timeout: 5_000 }).catch(() => {});
    await idle();
    await questions.last().getByText('2/2', { exact: true }).waitFor();
    await questions.last().getByRole('button', { name: 'Previous version' }).click();
    await answers.last().getByText('Stopped.').waitFor();
    await questions.last().getByRole('button', { name: 'Next version' }).click();
  }],
  ['a reload in the middle of an answer picks it up again', async () => {
    await untilLongEnough(async () => {
      await ask('Write a very long story about a lake, in at least eighty parts.');
      await page.locator('.prose.live').waitFor({ timeout: ANSWER_MS_MAX });
      await page.reload();
      await answers.last().waitFor();
      if ((await growth(page.locator('.prose.live'))) < 3) return false;
      const stopped = await stopButton.click({ timeout: 1_000 }).then(() => true, () => false);
      await idle();
      return stopped && appears(answers.last().getByText('Stopped.'));
    });
  }],
];

/** Asks again where a real model, which says what it likes, was done too soon for the step to mean anything. */
async function untilLongEnough(attempt) {
  for (let n = 0; n < 6; n += 1) {
    if (await attempt()) return;
  }
  assert.fail('six answers were over before anything could be done with them');
}

/** How often an answer grew while it was watched; not at all if it was over before. */
const growth = (prose) => prose.evaluate(countUpdates, undefined, { timeout: 2_000 }).catch(() => 0);

/** Whether something shows up within two seconds. */
const appears = (locator) => locator.waitFor({ timeout: 2_000 }).then(() => true, () => false);

/** Runs in the page: how often the text of an answer changed within two seconds; four times are enough. */
async function countUpdates(prose) {
  const lengths = new Set();
  await new Promise((resolve) => {
    const observer = new MutationObserver(() => {
      lengths.add(prose.textContent.length);
      if (lengths.size >= 4) done();
    });
    const done = () => {
      observer.disconnect();
      resolve();
    };
    observer.observe(prose, { childList: true, subtree: true, characterData: true });
    setTimeout(done, 2_000);
  });
  return lengths.size;
}
