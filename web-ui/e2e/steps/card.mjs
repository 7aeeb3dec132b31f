// A graphics card that is lost in the middle of an answer: the answer ends, and the page says what happened.

import assert from 'node:assert/strict';

export const cardSteps = ({ url }, { page, screenshot }, { answers, idle, ask }) => [
  ['an answer whose card was lost ends all the same, and says so', async () => {
    await ask('Explain what a river is, where it comes from and where it ends.');
    await page.waitForURL(/\/c\/[^/]+$/);
    await idle();
    await answers.last().getByText(/The graphics card stopped while this was written/).waitFor();
    await screenshot('card-lost');
    assert.ok((await answers.last().locator('.prose').innerText()).length > 40, 'the answer is short');
  }],
  ['the next answer is an ordinary one', async () => {
    await ask('And what is a lake?');
    // Not the one before: the button that stops may not be there yet.
    await answers.nth(1).waitFor();
    await idle();
    await answers.last().getByText(/tokens\/s/).waitFor();
    assert.equal(await answers.last().getByText(/graphics card/).count(), 0);
  }],
  ['the box says why', async () => {
    await page.goto(`${url}/settings/status`);
    await page.getByText(/the graphics card was lost/).waitFor();
    await screenshot('card-lost-status');
  }],
];
