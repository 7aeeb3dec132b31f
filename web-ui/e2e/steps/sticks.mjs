// A new box's first days: no model, a stick brings one, another a newer one, and the way back.

import assert from 'node:assert/strict';
import { NAMES } from '../sticks.mjs';
import { ANSWER_MS_MAX } from './parts.mjs';
import { updatePartsOf } from './update-parts.mjs';

/** A model is copied, opened and asked, on a machine that does other things, too. */
const INSTALL_MS_MAX = 180_000;

export const stickSteps = (target, browser, { answers, idle, ask }) => {
  const { url, key, plug } = target;
  const { page, screenshot } = browser;
  const { main, button, heading, confirm, open, gotIt } = updatePartsOf(target, browser);
  let pull = () => {};
  const installs = async (n) => {
    pull = plug(n);
    await main.getByText('Bench').first().waitFor();
    await button('Install').click();
    await heading(`${NAMES[n]}, version ${n + 1}, is installed and answers`).waitFor({ timeout: INSTALL_MS_MAX });
    await screenshot(`stick-installed-${n}`);
    await gotIt();
  };
  const answersAs = async (name) => {
    await page.goto(url);
    await page.locator('main header').getByText(name).waitFor();
    await ask('Name one fish.');
    await answers.last().getByText(/tokens\/s/).waitFor({ timeout: ANSWER_MS_MAX });
    await idle();
    assert.ok((await answers.last().locator('.prose').innerText()).length > 0);
  };
  return [
    ['a box without a model says so', async () => {
      await open();
      await main.getByText('No stick is in.').waitFor();
      await screenshot('stick-none');
    }],
    ['a stranger’s stick is refused, until the administrator believes the key', async () => {
      pull = plug(0);
      await main.getByText(/not know/).first().waitFor();
      assert.equal(await button('Install').count(), 0);
      await screenshot('stick-stranger');
      await main.locator('summary', { hasText: 'Add a key' }).click();
      await page.getByLabel('Text of the public key’s file').fill(key);
      await button('Believe this key').click();
      await button('Install').waitFor();
      pull();
      await main.getByText('No stick is in.').waitFor();
    }],
    ['the first model comes on a stick, and answers', async () => {
      await installs(0);
      await answersAs(NAMES[0]);
    }],
    ['a second stick brings the next one, without a restart', async () => {
      pull();
      await open();
      await installs(1);
      await answersAs(NAMES[1]);
    }],
    ['going back brings the first one again', async () => {
      await open();
      await button(`Go back to ${NAMES[0]}, version 1`).click();
      await confirm('Go back');
      await heading(`${NAMES[0]}, version 1, answers again`).waitFor({ timeout: INSTALL_MS_MAX });
      await gotIt();
      await answersAs(NAMES[0]);
      pull();
    }],
  ];
};
