// What needs a model that can be told what to say, or more than one account: only against the mock box.

import assert from 'node:assert/strict';
import { checkAxe } from './axe.mjs';

export function mockSteps({ url }, { page, screenshot }) {
  const composer = page.getByRole('textbox', { name: 'Your message' });
  const idle = () => page.getByRole('button', { name: 'Stop' }).waitFor({ state: 'detached' });
  const ask = async (text) => {
    await page.goto(url);
    await composer.fill(text);
    await composer.press('Enter');
    await page.locator('.prose').first().waitFor();
    await idle();
  };

  return [
    ['a hostile answer does nothing', async () => {
      await ask('hostile');
      await page.getByText('The end of the attack.').waitFor();
      assert.equal(await page.evaluate(() => window.pwned), undefined);
      const prose = page.locator('.prose').first();
      assert.equal(await prose.locator('img, script, style, iframe, form, input, svg[onload], [onclick], [onerror]').count(), 0);
      const links = await prose.locator('a').evaluateAll((all) => all.map((a) => [a.href, a.rel, a.target, a.title]));
      assert.ok(links.length > 0);
      for (const [href, rel, target, title] of links) {
        assert.match(href, /^https:\/\//);
        assert.match(rel, /noopener/);
        assert.deepEqual([target, title], ['_blank', href]);
      }
      await screenshot('hostile');
    }],
    ['code is coloured, formulas are set, the thought opens', async () => {
      await ask('What is the difference between a process and a thread?');
      await page.locator('.hljs-keyword').first().waitFor();
      await page.locator('.math.display .katex').waitFor();
      const thought = page.getByRole('button', { name: /^Thought for/ });
      assert.equal(await page.getByText('address space').count(), 0, 'a folded thought is in the document');
      await thought.click();
      await page.getByText('address space').waitFor();
      await page.getByText(/tokens\/s/).click();
      await page.getByText('Seed').waitFor();
      await page.getByRole('region', { name: 'Conversation' }).evaluate((region) => (region.scrollTop = 0));
      await screenshot('thought-open');
    }],
    ['an API key is made, shown once, and revoked', async () => {
      await page.goto(`${url}/settings/keys`);
      await page.getByLabel('What is it for?').fill('Translation script');
      await page.getByRole('button', { name: 'Create key' }).click();
      await page.getByRole('heading', { name: 'Your new key' }).waitFor();
      await screenshot('keys');
      await page.reload();
      await page.getByText('Translation script').waitFor();
      assert.equal(await page.getByRole('heading', { name: 'Your new key' }).count(), 0);
      await page.getByRole('button', { name: 'Revoke' }).click();
      await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
      await page.getByText('No keys yet.').waitFor();
    }],
    ['a person is added', async () => {
      await page.goto(`${url}/settings/people`);
      await page.getByLabel('Name').fill('jonas');
      await page.getByLabel('Password', { exact: true }).fill('another quiet pond');
      await page.getByRole('button', { name: 'Add a person' }).click();
      await page.getByText('jonas').waitFor();
      await screenshot('people');
    }],
    ['the status page says that nothing left', async () => {
      await page.goto(`${url}/settings/status`);
      await page.getByText('None. Nothing left this box.').waitFor();
      await page.waitForTimeout(6_500);
      await screenshot('status');
    }],
    ...['light', 'dark'].flatMap((scheme) => accessibilitySteps(url, page, scheme)),
    ['a chat of 400 turns opens quickly and scrolls', async () => {
      const from = performance.now();
      await openLongChat(page, url);
      console.log(`      400 turns: ${Math.round(performance.now() - from)} ms to the last one on screen`);
    }],
  ];
}

/** axe-core over each page, WCAG 2.2 AA. */
function accessibilitySteps(url, page, scheme) {
  const places = ['/', '/settings/account', '/settings/keys', '/settings/people', '/settings/status', '/settings/updates', '/settings/about'];
  return [[`axe finds nothing, ${scheme}`, async () => {
    await page.emulateMedia({ colorScheme: scheme });
    for (const place of places) {
      await page.goto(url + place);
      await page.getByRole('main').getByRole('button').first().waitFor();
      await checkAxe(page, place);
    }
    await page.goto(url);
    await page.getByRole('navigation', { name: 'Chats' }).getByRole('link').first().click();
    await page.locator('.katex').first().waitFor();
    await checkAxe(page, 'a chat');
  }]];
}

/** Serves a long chat from the test itself: 200 questions, 200 answers with code and tables. */
async function openLongChat(page, url) {
  const answer = 'Words, a list:\n\n- one\n- two\n\n```python\nprint(1)\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n';
  const messages = Array.from({ length: 400 }, (_, n) => ({
    id: `m${String(n).padStart(4, '0')}`, parent_id: n === 0 ? null : `m${String(n - 1).padStart(4, '0')}`,
    role: n % 2 ? 'assistant' : 'user', content: n % 2 ? answer.repeat(4) + `End ${n}` : `Question ${n}`,
    reasoning: null, reasoning_ms: null, status: 'done', error: null, created_at: n, receipt: null,
  }));
  const chat = { id: 'long', title: 'Long', created_at: 0, updated_at: 0 };
  await page.route('**/api/chats/long', (route) => route.fulfill({ json: { chat, messages, active_run: null } }));
  await page.goto(`${url}/c/long`);
  await page.getByText('End 399').waitFor();
  const region = page.getByRole('region', { name: 'Conversation' });
  assert.ok(await page.locator('.prose:not(.plain)').count() < 20, 'far answers were rendered');
  await region.evaluate((element) => (element.scrollTop = 0));
  await page.getByText('Question 0', { exact: true }).waitFor();
}
