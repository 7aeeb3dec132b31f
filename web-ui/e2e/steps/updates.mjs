// Sticks and installations, and how they end: only against the mock box, whose sticks a step can plug in.

import assert from 'node:assert/strict';
import { DESKTOP, PHONE, updatePartsOf } from './update-parts.mjs';

export function updateSteps(target, browser) {
  const parts = updatePartsOf(target, browser);
  return [...stickSteps(target, browser, parts), ...installSteps(target, browser, parts), ...endSteps(target, browser, parts)];
}

/** A stick is seen. */
function stickSteps({ url, desk }, { page, screenshot }, { main, button, open, pictures }) {
  return [
    ['without a stick the page says how one shows up', async () => {
      await open();
      await main.getByText('No stick is in.').waitFor();
      await main.getByText('DeepSeek-R1-Distill-Qwen-7B · version 3').waitFor();
      await pictures('updates-none');
    }],
    ['a stick with a new model is noticed beside the chats', async () => {
      await page.goto(url);
      await page.getByRole('textbox', { name: 'Your message' }).waitFor();
      desk.plug('reading');
      desk.plug('model');
      const news = page.getByRole('link', { name: 'New on the stick: DeepSeek-R1-Distill-Qwen-14B' });
      await news.waitFor();
      await screenshot('news-stick');
      await page.setViewportSize(PHONE);
      await page.waitForTimeout(300);
      await screenshot('news-stick-phone');
      await news.click();
      await page.setViewportSize(DESKTOP);
      await button('Install').waitFor();
    }],
    ['the preview says who signed it, how large and how long', async () => {
      for (const words of ['Wels releases 2026 (on the publisher’s list)', '8.2 GiB', '4 min 22 sec', '9.1 GiB needed, 61 GiB free']) {
        await main.getByRole('definition').getByText(words, { exact: true }).waitFor();
      }
      await pictures('updates-preview');
    }],
  ];
}

/** From the one button to the new model, and back. */
function installSteps({ url, desk }, { page, screenshot }, { main, button, heading, confirm, open, gotIt, picture, pictures }) {
  return [
    ['an installation is followed, while chats go on', async () => {
      // Slow enough for a busy machine to see each step.
      desk.tickMs = 100;
      await button('Install').click();
      await main.getByText('Copying from the stick').waitFor();
      await main.getByText(/Leave the stick in\./).waitFor();
      desk.stall(true);
      await main.getByText(/Nothing has moved/).waitFor();
      await pictures('updates-stalled');
      desk.stall(false);
      await page.goto(url);
      await page.getByRole('link', { name: /^Installing DeepSeek-R1-Distill-Qwen-14B/ }).waitFor();
      await screenshot('news-running');
      await page.getByRole('textbox', { name: 'Your message' }).fill('Name one fish.');
      await page.keyboard.press('Enter');
      await page.locator('.prose').first().waitFor();
      await page.getByRole('link', { name: /^Installing/ }).click();
      await main.getByText('The stick may be pulled out now.').waitFor();
      desk.tickMs = 20;
      await picture('updates-running-en');
      desk.plug(null);
      await heading('DeepSeek-R1-Distill-Qwen-14B, version 4, is installed and answers').waitFor();
      await main.getByText('Before it: DeepSeek-R1-Distill-Qwen-7B, version 3').waitFor();
      await picture('updates-done-en');
      await gotIt();
      await page.getByRole('link', { name: 'Back to chats' }).click();
      await page.locator('main header').getByText('DeepSeek-R1-Distill-Qwen-14B').waitFor();
    }],
    ['the same stick again has nothing to do', async () => {
      await open();
      desk.plug('serves');
      await main.getByText('This is what serves already').waitFor();
      assert.equal(await button('Install').count(), 0);
    }],
    ['going back asks first', async () => {
      await main.getByRole('button', { name: 'Go back to DeepSeek-R1-Distill-Qwen-7B, version 3' }).click();
      await screenshot('updates-go-back');
      await confirm('Go back');
      await heading('DeepSeek-R1-Distill-Qwen-7B, version 3, answers again').waitFor();
      await gotIt();
    }],
    ['what is not wanted any more makes room', async () => {
      await main.getByText(/^Versions that could be removed/).click();
      await screenshot('updates-spare');
      await main.getByRole('button', { name: /^Remove DeepSeek-R1-Distill-Qwen-14B/ }).click();
      await confirm('Remove');
      await main.getByText(/^Versions that could be removed/).waitFor({ state: 'detached' });
      assert.equal(await button('Go back').count(), 0);
    }],
  ];
}

/** What does not end well, and what is not begun. */
function endSteps({ desk }, { screenshot }, { main, button, heading, confirm, gotIt, picture, pictures }) {
  return [
    ['a pulled stick ends the copy in words, and so does a wish to stop', async () => {
      desk.tickMs = 100;
      desk.plug('model');
      await button('Install').click();
      await main.getByText('Copying from the stick').waitFor();
      desk.plug(null);
      await main.getByText(/The stick stopped answering/).waitFor();
      await gotIt();
      desk.plug('resumed');
      await main.getByText('An earlier try has copied 5.7 GiB.').waitFor();
      await button('Install').click();
      await button('Stop').click();
      await heading('The installation was stopped').waitFor();
      await gotIt();
      desk.tickMs = 20;
    }],
    ['a version that fails its test is given up, and the page says why', async () => {
      desk.plug('broken');
      await button('Install').click();
      await heading('R1, a broken build, version 9, was not installed').waitFor();
      await main.getByText('r1-broken, version 9, failed its test and was given up.').waitFor();
      await pictures('updates-failed');
      await gotIt();
    }],
    ['an older version wants to be insisted on', async () => {
      desk.plug('older');
      await button('Install the older version…').click();
      await screenshot('updates-older');
      await confirm('Install it anyway');
      await heading(/version 3, is installed and answers/).waitFor();
      await gotIt();
    }],
    ['refusals are in words: no room, altered, and one that the page does not know', async () => {
      desk.plug('full');
      await main.getByText('There is not enough room on the box for it.').waitFor();
      await picture('updates-full-en');
      desk.plug('altered');
      await main.getByText(/^The signature is wrong/).waitFor();
      desk.plug('odd');
      await main.getByText('a sentence that only the box knows').waitFor();
      desk.plug('failed');
      await main.getByText('This very version failed its test before.').waitFor();
    }],
  ];
}
