// The parts of the page of updates that its steps use, and pictures of it.

import assert from 'node:assert/strict';
import { checkAxe } from './axe.mjs';

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

export function updatePartsOf({ url }, { page, screenshot }) {
  const main = page.getByRole('main');
  const button = (name) => main.getByRole('button', { name, exact: true });

  /** The whole page at once, however long. */
  async function picture(name, { width } = DESKTOP) {
    await page.setViewportSize({ width, height: 800 });
    const [height, tooWide] = await main.locator('.scroller').evaluate((scroller) => [scroller.scrollHeight + 80, scroller.scrollWidth > scroller.clientWidth]);
    assert.ok(!tooWide, `${name} scrolls sideways`);
    await page.setViewportSize({ width, height });
    // The side bar slides away on a phone.
    await page.waitForTimeout(300);
    await screenshot(name);
    await page.setViewportSize(DESKTOP);
  }

  return {
    main,
    button,
    picture,
    heading: (name) => main.getByRole('heading', { name }),
    confirm: (name) => page.getByRole('dialog').getByRole('button', { name, exact: true }).click(),
    open: () => page.goto(`${url}/settings/updates`),
    gotIt: async () => {
      await button('Got it').click();
      await button('Got it').waitFor({ state: 'detached' });
    },
    /** The same state in both languages, small and dark; axe looks at it, too. */
    async pictures(name) {
      await picture(`${name}-en`);
      await page.emulateMedia({ colorScheme: 'dark' });
      await picture(`${name}-dark`);
      await checkAxe(page, `${name}, dark`);
      await page.emulateMedia({ colorScheme: 'light' });
      await checkAxe(page, `${name}, light`);
      await page.getByRole('button', { name: /简体中文/ }).click();
      await picture(`${name}-zh`);
      await picture(`${name}-phone-zh`, PHONE);
      await page.getByRole('button', { name: /English/ }).click();
    },
  };
}
